import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from egress_policy.errors import InvalidEntry
from egress_policy.model.list_entry import ProxyEntry
from egress_policy.model.proxy import Proxy, ProxyType
from egress_policy.model.proxy_list import ListResult, parse_proxy_list
from tests.helpers.conformance import load_list
from tests.model.test_text import UNSEEN


def entries(text: str, default_type: ProxyType | None = None) -> dict[int, ListResult]:
    return dict(parse_proxy_list(text, default_type).entries)


def good(text: str, default_type: ProxyType | None = None) -> dict[int, ProxyEntry]:
    found = entries(text, default_type).items()
    return {number: one for number, one in found if isinstance(one, ProxyEntry)}


def problem(text: str, number: int = 1) -> InvalidEntry:
    found = entries(text)[number]
    assert isinstance(found, InvalidEntry)
    return found


# -- text


def test_header_gives_the_type_of_the_lines_after_it() -> None:
    text = "\ufeffa:1\r\nHTTP\n\nb:2\n# https\nc|c|3\nsocks5://d:4\n bad.example \nhttps\ne:5:u:p"
    assert list(entries(text)) == list(range(1, 11))
    assert {number: (one["host"], one["type"]) for number, one in good(text).items()} == {
        1: ("a", "socks5"),
        4: ("b", "http"),
        6: ("c", "https"),
        7: ("d", "socks5"),
        10: ("e", "https"),
    }
    assert [number for number, one in entries(text).items() if one is None] == [2, 3, 5, 9]
    assert problem(text, 8).field == "port"
    assert parse_proxy_list(text).unit == "line"


def test_lines_below_a_heading_that_is_not_spoken_here_have_no_type() -> None:
    text = load_list("sections")
    types = {number: one["type"] for number, one in good(text).items()}
    assert types == {2: "http", 7: "socks5", 9: "socks5"}
    for number in (3, 4, 5):
        assert problem(text, number).field == "type"
    assert "line 3" in str(problem(text, 5))
    named = ("http://h:1", "n|h|2|||https", '{"host": "h", "type": "http"}')
    assert list(good("\n".join(("SOCKS4", *named)))) == [2, 3, 4]


def test_heading_with_a_hidden_character_is_none_and_gives_no_type() -> None:
    text = "a:1\nhttp\u200b\nb:1"
    assert "character 5 is hidden" in str(problem(text, 2))
    assert problem(text, 3).field == "type"


def test_session_in_the_password_is_part_of_the_entry() -> None:
    passwords = {one["password"] for one in good(load_list("sessions-in-the-password")).values()}
    assert len(passwords) == 3


def test_default_type_is_for_what_names_none() -> None:
    assert {one["type"] for one in good("a:1\nb:1:u:p", "https").values()} == {"https"}
    assert {one["type"] for one in good("host,port\na,1\n", "https").values()} == {"https"}
    assert {one["type"] for one in good('[{"host": "a"}]', "https").values()} == {"https"}


# -- CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_known_by_its_columns(delimiter: str) -> None:
    rows = (
        ("Name", '"HOST"', "port", "username", "password", "type"),
        ("one", "a.example", "80", "u", '"p""w,;\t\n x"', "SOCKS5h"),
        ("", "", "", "", "", ""),
        ("", "b.example", "81", "", "'=1", ""),
    )
    text = "\ufeff\r\n" + "".join(f"{delimiter.join(row)}\r\n" for row in rows)
    found = good(text)
    assert list(found) == [3, 6]
    fields = {"name": "one", "host": "a.example", "port": 80, "username": "u", "type": "socks5"}
    assert found[3] == {**fields, "password": 'p"w,;\t\n x'}
    assert found[6] == {"host": "b.example", "port": 81, "password": "=1", "type": "socks5"}
    assert (found[3].assumes_type, found[6].assumes_type) == (False, True)


def test_password_that_was_left_out_of_csv_is_known() -> None:
    text = "host,port,password_set\na,1,true\nb,1,FALSE\nc,1,\nd,1,yes"
    assert [one.lacks_password for one in good(text).values()] == [True, False, False]
    assert problem(text, 5).field == "password_set"


@pytest.mark.parametrize(
    ("text", "number", "field"),
    [
        ("host,port,colour\na,1,red", 1, ""),
        ("host,port,host\na,1,b", 1, ""),
        ("host,port,type\na,1,hunter2", 2, "type"),
        ("host,port\na,hunter2", 2, "port"),
        ("host,port\na", 2, ""),
        ("host,port\na,1,hunter2", 2, ""),
        ('host,port\na,1\n"hunter2"x,1\nb,1', 3, ""),
    ],
)
def test_error_in_csv_names_the_row_and_quotes_no_cell(text: str, number: int, field: str) -> None:
    assert problem(text, number).field == field
    assert "hunter2" not in str(problem(text, number))


# -- JSON


@pytest.mark.parametrize("text", ['[{"host": "a"}, 5]', '{"items": [{"host": "a"}, 5]}', "[\n]"])
def test_json_is_a_list_of_objects(text: str) -> None:
    listed = parse_proxy_list(f"\ufeff \n{text}")
    found = dict(listed.entries)
    assert listed.unit == "item"
    if found:
        assert good(text) == {1: {"host": "a"}}
        assert isinstance(found[2], InvalidEntry)
        assert listed.total == 2


@pytest.mark.parametrize(
    "text",
    [
        '[{"host": "hunter2"',
        '{"items": {}}',
        '[{"host": "a", "host": "b"}]',
        '{\n"host": "a"}',
        '{"items": [' + "9" * 5000 + "]}",
        "[{" + '"a":[' * 10_000,
    ],
)
def test_bad_json_is_one_error(text: str) -> None:
    (found,) = entries(text).values()
    assert isinstance(found, InvalidEntry)
    assert "hunter2" not in str(found)


def test_objects_line_by_line_are_lines() -> None:
    text = f"{json.dumps({'host': 'a', 'port': 1})}\n\n{json.dumps({'host': 'b', 'port': 2})}\n"
    listed = parse_proxy_list(text)
    assert listed.unit == "line"
    assert list(good(text)) == [1, 3]


# -- all forms

PLACE = {"type": "http", "host": "h.example", "port": "80", "username": "u", "password": "p"}


def in_all_forms(fields: dict[str, str]) -> tuple[str, str, str]:
    """The same fields as a line, a row and an item."""
    rows = io.StringIO(newline="")
    csv.writer(rows, quoting=csv.QUOTE_ALL).writerows((fields, fields.values()))
    line = "{type}://{username}:{password}@{host}:{port}".format(**fields)
    return line, rows.getvalue(), json.dumps([{**fields, "port": int(fields["port"])}])


def is_taken(text: str) -> bool:
    (found,) = (one for one in entries(text).values() if one is not None)
    try:
        return isinstance(found, ProxyEntry) and bool(Proxy.model_validate({**found, "name": "n"}))
    except ValidationError:
        return False


@pytest.mark.parametrize("field", ["host", "username", "password"])
@pytest.mark.parametrize("character", [one for one in UNSEEN if one != "\n"], ids=ascii)
def test_hidden_character_is_refused_in_every_form(field: str, character: str) -> None:
    assert all(map(is_taken, in_all_forms(PLACE)))
    for text in (f"a{character}b", f"b{character}", f"{character}b"):
        shown = [is_taken(form) for form in in_all_forms({**PLACE, field: text})]
        assert shown == [False, False, False]


@pytest.mark.parametrize("type_", ["HTTP", "https", "Socks5", "socks5h", "SOCKS5H", "socks4", "x"])
def test_every_form_reads_types_the_same_way(type_: str) -> None:
    taken = [is_taken(form) for form in in_all_forms({**PLACE, "type": type_})]
    assert taken == [type_ not in ("socks4", "x")] * 3


# -- anything

pieces = st.sampled_from(
    ['{"host":', "SOCKS4", "# http", "://", '"a"', "}", "[", "]", "host,port", "\n", '"', ",", "80"]
)
texts = st.text() | st.text('ab.:@|[]#?/12 \nht tp{}",;') | st.lists(pieces).map("".join)


@given(texts, st.sampled_from(["", "host,port\n", '{"items": [', "[{", "SOCKS4\n", "http\n"]))
def test_any_text_gives_entries_or_invalid_entries(text: str, before: str) -> None:
    for found in entries(before + text).values():
        assert found is None or isinstance(found, ProxyEntry | InvalidEntry)


@given(st.lists(st.sampled_from(["http", "SOCKS4", "[socks5]", "h:1", "https://h:1", "", "x y"])))
def test_no_line_has_the_type_of_another_section(lines: list[str]) -> None:
    section: str | None = "socks5"
    found = entries("\n".join(lines))
    for number, line in enumerate(lines, 1):
        section = {"http": "http", "SOCKS4": None, "[socks5]": "socks5"}.get(line, section)
        if line == "h:1":
            one = found[number]
            assert one["type"] == section if isinstance(one, ProxyEntry) else section is None
