"""A kind that has a name and nothing special: all that it needs is a description."""

from collections.abc import Iterator
from functools import partial

import pytest
from sqlalchemy import text

from egress_policy.errors import Conflict, InvalidEntry, NotFound
from egress_policy.registry import kinds
from egress_policy.registry.registry import Edit, Registry
from tests.helpers.registry import KEY
from tests.helpers.tags import TAGS, Tag, TagTable


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry.open(":memory:", KEY)
    with registry._database.write() as connection:
        TAGS.create(connection)
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, TagTable))
    yield registry
    registry.close()


def tags(edit: Edit) -> TagTable:
    found = edit.tables["tags"]
    assert isinstance(found, TagTable)
    return found


def test_entries_are_created_changed_and_deleted(registry: Registry) -> None:
    with registry.edit() as edit:
        old = tags(edit).create({"name": "old"})
        new = tags(edit).create({"name": "new", "color": "red"})
    assert registry.load().entries["tags"] == (new, old)
    assert (old.value, old.raw["color"]) == (Tag(name="old"), "grey")
    with registry.edit() as edit:
        changed = tags(edit).update(old.id, {"color": "blue"}, old.etag)
        tags(edit).delete(new.id)
    assert changed.value == Tag(name="old", color="blue")
    assert changed.etag != old.etag
    assert registry.load().entries["tags"] == (changed,)


def test_entries_that_cannot_be_are_named(registry: Registry) -> None:
    with registry.edit() as edit:
        made = tags(edit).create({"name": "one"})
        tags(edit).create({"name": "two"})
        for fields in ({"name": "two"}, {"name": ""}, {"colour": "red"}, {"color": "Red"}):
            create = partial(tags(edit).create, {"name": "new", **fields})
            for write in (create, partial(tags(edit).update, made.id, fields)):
                with pytest.raises(InvalidEntry) as caught:
                    write()
                assert [caught.value.field] == list(fields)
        with pytest.raises(NotFound, match="There is no such tag"):
            tags(edit).update("gone", {})
        with pytest.raises(Conflict):
            tags(edit).delete(made.id, if_match="0")
        left = tags(edit).all()
    assert [entry.name for entry in left] == ["one", "two"]
    assert registry.load().entries["tags"] == tuple(left)


def test_only_what_changed_is_read_again_and_what_is_wrong_is_a_problem(
    registry: Registry,
) -> None:
    with registry.edit() as edit:
        one, two = (tags(edit).create({"name": name}) for name in ("one", "two"))
    state = registry.load()
    with registry._database.write() as connection:
        connection.execute(text("UPDATE tags SET color = '?', revision = 7 WHERE name = 'two'"))
    kept, edited = registry.load(state).entries["tags"]
    assert kept is state.entries["tags"][0]
    assert kept == one
    assert edited.id == two.id
    assert edited.problem.startswith("color: ")
    assert registry.load().entries["tags"] == (kept, edited)
