import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.store import yaml_lines
from egress_policy.store.yaml_lines import YamlProblem, parse_yaml


def test_values_are_plain() -> None:
    text = """
a: &x true
b: 0x10
c: 1.5
d: 'quoted'
e: |
  block
f: [*x, null, 1_000, yes, 010]
g: {<<: {h: 1}, i: 2}
"""
    data = parse_yaml(text).data
    assert data == {
        "a": True,
        "b": 16,
        "c": 1.5,
        "d": "quoted",
        "e": "block\n",
        "f": [True, None, 1000, "yes", 10],
        "g": {"h": 1, "i": 2},
    }
    assert isinstance(data, dict)
    for value in data.values():
        assert type(value) in (bool, int, float, str, list, dict)


def test_json_is_yaml() -> None:
    text = '{"version": 1,\n "rules": [\n  {"use": "direct"}]}'
    document = parse_yaml(text)
    assert document.data == {"version": 1, "rules": [{"use": "direct"}]}
    assert document.line(("rules", 0, "use")) == 3


def test_line_is_that_of_the_deepest_part_there_is() -> None:
    document = parse_yaml("version: 1\nrules:\n  - use: a\n    ports:\n      - 1\n      - 2\n")
    assert document.line(("rules", 0, "ports", 1)) == 6
    assert document.line(("rules", 0, "hosts")) == 3
    assert document.line(("rules", 7)) == 2
    assert document.line(("nothing",)) == 1
    assert parse_yaml("5").line(("rules", 0)) == 1


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "duplicate key"),
        ("a:\n  - {b: 1, b: 2}", 2, "duplicate key"),
        ("a: 1\nb: [", 2, "expected"),
        ("a: 1\n--- \nb: 1", 2, "document"),
        ("a: 1\nb: \x07", 2, "control characters"),
        ("a:\n  b: 2020-01-01", 2, "date or a tag"),
        ("a: !secret x", 1, "date or a tag"),
        ("a: 1\n5: 1", 2, "key must be a text"),
        ('a: "\\ud800"', 1, "surrogate"),
        ("[" * 500, 1, "nested too deeply"),
        ("!!set a", 1, "not YAML"),
    ],
)
def test_problem_says_where(text: str, line: int, message: str) -> None:
    with pytest.raises(YamlProblem, match=message) as caught:
        parse_yaml(text)
    assert caught.value.line == line


def test_duplicate_key_is_named() -> None:
    with pytest.raises(YamlProblem) as caught:
        parse_yaml("password: hunter2\npassword: hunter3")
    assert caught.value.key == "password"


def test_aliases_are_converted_once_even_in_a_circle() -> None:
    data = parse_yaml("&a [*a, *a]").data
    assert isinstance(data, list)
    assert data[0] is data
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 40))
    assert isinstance(parse_yaml(f"l0: &l0 x\n{levels}").data, dict)


@pytest.mark.parametrize(
    "text",
    ["a: *{}", "a: !{} x", "a: '{}", "a: {} : b: c", "{}: 1\n{}: 2", "%{} x", "a: @{}", "&{"],
)
def test_problem_quotes_no_value(text: str) -> None:
    with pytest.raises(YamlProblem) as caught:
        parse_yaml(text.replace("{}", "hunter2"))
    assert "hunter2" not in str(caught.value)


@given(st.text() | st.text(alphabet="ab:-[]{},&*!|>'\"%@#?\n <=1.~\\x"))
def test_nothing_but_a_problem_is_raised(text: str) -> None:
    with contextlib.suppress(YamlProblem):
        parse_yaml(text)


_JSON_PIECES = (
    *('{"a": 1', '"b": ', "[", "]", "}", ",", "1", "-0", "1.5", "1e3", "007", "null", "true"),
    *('"x"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\n"', '"a": 2', ":", " ", "\n", "\t", "NaN", "é"),
    *("# c", "*a", "&a ", "'q'", "<<", '"<<": ', '"/"', '"\\/"', "\x85", "\u2028", "yes"),
)
_json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def reading(read: Any, text: str) -> tuple[object, object]:
    try:
        return repr(read(text).data), 0
    except YamlProblem as problem:
        return str(problem), problem.line


@given(
    st.builds(json.dumps, _json_values, ensure_ascii=st.booleans(), indent=st.none() | st.just(2))
    | st.lists(st.sampled_from(_JSON_PIECES)).map(lambda pieces: "{" + "".join(pieces))
    | st.lists(st.sampled_from(_JSON_PIECES)).map(lambda pieces: "[" + "".join(pieces) + "]")
)
def test_json_is_read_as_the_yaml_that_it_is(text: str) -> None:
    assert reading(parse_yaml, text) == reading(yaml_lines._parse_slowly, text)


def test_good_json_is_read_without_the_slow_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml_lines, "_parse_slowly")
    assert parse_yaml('{"version": 1,\n "rules": [{"use": "direct"}]}\n').data == {
        "version": 1,
        "rules": [{"use": "direct"}],
    }
