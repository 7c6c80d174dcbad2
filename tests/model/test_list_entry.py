import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.model.list_entry import ProxyEntry, field_from_text, read_object


def test_entry_is_a_read_only_mapping_that_hides_its_password() -> None:
    entry = ProxyEntry({"host": "h", "port": 80, "password": "hunter2"})
    assert entry == {"host": "h", "port": 80, "password": "hunter2"}
    assert len(entry) == 3
    assert not entry.assumes_type
    assert not entry.lacks_password
    assert "hunter2" not in f"{entry} {entry!r}"
    assert "password" not in repr(ProxyEntry({"host": "h"}))
    with pytest.raises(TypeError):
        entry["host"] = "other"  # type: ignore[index]


def test_object_states_what_it_has() -> None:
    entry = read_object({"type": "http", "host": "h", "notes": "", "target_family": None})
    assert entry == {"type": "http", "host": "h", "notes": ""}
    assert not entry.assumes_type


def test_type_that_is_not_named_is_assumed() -> None:
    assert read_object({"host": "h"}) == {"host": "h"}
    assert read_object({"host": "h"}, "https") == {"host": "h", "type": "https"}
    assert read_object({"host": "h"}).assumes_type
    assert read_object({"host": "h"}, "https").assumes_type


def test_type_is_read_as_in_lines() -> None:
    for type_, read in (("socks5h", "socks5"), ("HTTP", "http"), ("socks4", "socks4")):
        assert read_object({"host": "h", "type": type_})["type"] == read


@pytest.mark.parametrize("is_set", [True, False])
def test_password_that_was_left_out_is_known(is_set: bool) -> None:
    entry = read_object({"host": "h", "password": {"set": is_set}})
    assert "password" not in entry
    assert entry.lacks_password == is_set


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ([], ""),
        ("h", ""),
        (None, ""),
        ({"host": None}, "host"),
        ({"host": "h", "family": None}, "family"),
        ({"host": "h", "password": {"set": "yes"}}, "password"),
        ({"host": "h", "password": {}}, "password"),
        ({"host": "h", "port": 1.5}, "port"),
        ({"host": "h", "notes": ["a"]}, "notes"),
        ({"host": "h", "exit_in": [7]}, "exit_in"),
        ({"host": "h", "exit_in": {}}, "exit_in"),
        ({"host": "h", "exit_in": None}, "exit_in"),
    ],
)
def test_object_may_only_hold_texts_and_numbers(item: object, field: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        read_object(item)
    assert caught.value.field == field


def test_expected_exit_is_read_as_the_api_shows_it() -> None:
    stated = {"host": "h", "exit_in": ["192.0.2.0/24"], "exit_enforce": True, "exit_family": None}
    assert read_object(stated) == {"host": "h", "exit_in": ["192.0.2.0/24"], "exit_enforce": True}


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("port", "80", 80),
        ("port", "eighty", "eighty"),
        ("port", "٣", "٣"),
        ("max_connections", "5", 5),
        ("max_connections", "9" * 5000, "9" * 5000),
        ("exit_in", "192.0.2.0/24, 2001:db8::/32", ["192.0.2.0/24", "2001:db8::/32"]),
        ("exit_in", "", []),
        ("tags", "eu, fast", ["eu", "fast"]),
        ("exit_enforce", "True", True),
        ("exit_enforce", "yes", "yes"),
        ("notes", "80", "80"),
    ],
)
def test_field_is_read_from_text(field: str, text: str, value: object) -> None:
    assert field_from_text(field, text) == value
