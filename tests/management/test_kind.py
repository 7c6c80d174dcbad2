"""A kind that describes itself: no other module has to know it for lists and changes."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import cast, override

import pytest

from egress_policy.errors import Conflict, InvalidEntry, NotFound
from egress_policy.management.kind import Kind, Row
from egress_policy.management.views import Entry, entry_fields
from egress_policy.registry import kinds
from egress_policy.registry.records import StoredEntry
from tests.helpers.management import managed
from tests.helpers.tags import TAGS, Tag, TagTable


class TagView(Entry):
    name: str
    color: str


class Tags(Kind[TagView]):
    noun, plural, model, view = "tag", "tags", Tag, TagView

    @override
    def _rows(self) -> Iterable[Row[TagView]]:
        for stored in self._in_force.stored.entries.get("tags", ()):
            entry = cast(StoredEntry[Tag], stored)
            yield Row(entry.id, entry.name, partial(self._view, entry))

    def _view(self, stored: StoredEntry[Tag]) -> TagView:
        assert stored.value
        return TagView(**entry_fields(stored), **stored.value.model_dump())


async def test_a_new_kind_is_listed_shown_and_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managed(tmp_path, registry=":memory:") as management:
        registry = management.in_force.registry
        assert registry
        with registry._database.write() as connection:
            TAGS.create(connection)
        monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, TagTable))
        tags = Tags(management.upkeep)

        made = await tags.create({"name": "home"})
        assert tags.show("home") == tags.show(made.id) == made
        assert made.color == "grey"
        changed = await tags.update("home", {"color": "red"}, made.etag)
        assert tags.list().items == (changed,)
        with pytest.raises(InvalidEntry):
            await tags.create({"name": "home"})
        with pytest.raises(InvalidEntry, match="nothing names a tag"):
            tags.usage("home")
        with pytest.raises(Conflict):
            await tags.delete("home", if_match=made.etag)
        await tags.delete("home")
        with pytest.raises(NotFound, match="There is no such tag"):
            tags.show("home")
