import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from egress_policy.policy_file import yaml_lines
from egress_policy.policy_file.yaml_lines import YamlProblem, parse_yaml


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
        ('a: "\\ud800"', 1, "surrogate|Unicode"),
        ("[" * 500, 1, "nested too deeply"),
        ("!!set a", 1, "date or a tag"),
        ("a: 1\nb: !!int x", 2, "date or a tag"),
        ("a: 1\nb: *x", 2, "alias has no anchor"),
        ("a: &a\n  <<: *a", 2, "repeats the value that contains it"),
        ("a: &a\n- [*a]", 2, "repeats the value that contains it"),
        ("%YAML 1.1\n---\na: yes", 1, "read as YAML 1.2"),
        ("a: 1\nb: ! 5", 2, "date or a tag"),
        ("a: 1\n! <<: {b: 1}", 2, "date or a tag"),
        ("a:\n  <<: [5]", 2, "needs a mapping or a list"),
        ("a: x\u2028y", 1, "line separators"),
        ('{"a": 1,\n "a": 2}', 2, "duplicate key"),
        ("a: " + "9" * 5000, 1, "number"),
        ('[{"a \rb"', 2, "expected|end of stream"),
    ],
)
def test_problem_says_where(text: str, line: int, message: str) -> None:
    with pytest.raises(YamlProblem, match=message) as caught:
        parse_yaml(text)
    assert caught.value.line == line


@pytest.mark.parametrize("text", ["a: [127.0.0.1, ::1]", "b: 1\na: [::]", "a: {b: ::1}"])
def test_error_says_that_a_bare_ipv6_address_needs_quotes(text: str) -> None:
    with pytest.raises(YamlProblem, match="needs quotes"):
        parse_yaml(text)
    assert parse_yaml("a: ::1").data == {"a": "::1"}
    assert parse_yaml("a:\n  - ::1\n  - '::'").data == {"a": ["::1", "::"]}


def test_duplicate_key_is_named() -> None:
    with pytest.raises(YamlProblem) as caught:
        parse_yaml("password: hunter2\npassword: hunter3")
    assert caught.value.key == "password"


def test_aliases_of_aliases_cost_nothing() -> None:
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.text(alphabet="ab:-[]{},&*!|>'\"%@#?\n <=1.~\\x"))
def test_nothing_but_a_problem_is_raised(text: str) -> None:
    with contextlib.suppress(YamlProblem):
        parse_yaml(text)


@pytest.fixture(params=["CLoader", "Loader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(yaml, request.param):
        pytest.skip("PyYAML has no libyaml here")
    monkeypatch.setattr(yaml_lines, "_LOADER", getattr(yaml, request.param))


def by_ruamel(text: str) -> tuple[object, dict[tuple[str | int, ...], int]] | None:
    """The result of another YAML 1.2 reader for a text, with its lines; ``None`` for a problem."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = YAML(typ="rt", pure=True).load(text)
            return YAML(typ="safe", pure=True).load(text), dict(_lines(tree, ()))
    except Exception:  # noqa: BLE001 -- what it raises is not defined
        return None


def _lines(node: Any, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    keys = node if isinstance(node, CommentedMap) else range(len(node)) if _is_list(node) else ()
    for key in keys:
        if key in (node.lc.data or ()):
            yield (*place, key), node.lc.data[key][0] + 1
            yield from _lines(node[key], (*place, key))


def _is_list(node: object) -> bool:
    return isinstance(node, CommentedSeq)


_SCALARS = st.sampled_from(
    (
        *("a", "b-c", "-a", "a-", "~x", "0.0.0.0", "::", "p:1", "'q'", '"d\\n"', "''", "'it''s'"),
        *("1", "-2", "+3", "007", "0x1F", "0o17", "0b11", "1_000", "1:30", "12:30:45"),
        *("1.5", "-.5", "1e3", "1.e-2", ".inf", "-.INF", ".nan"),
        *("true", "False", "TRUE", "tRue", "yes", "no", "on", "off", "null", "~", "Null"),
    )
)


def _block(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Nested block style: inner values begin on the next line and are indented further."""

    def nested(texts: list[str], mark: Callable[[int], str]) -> str:
        return "".join(
            f"\n{mark(n)}" + (text.replace("\n", "\n  ") if "\n" in text else f" {text}")
            for n, text in enumerate(texts)
        )

    lists = st.lists(inner, min_size=1, max_size=4)
    return lists.map(lambda texts: nested(texts, lambda _: "-")) | lists.map(
        lambda texts: nested(texts, lambda n: f"k{n}:")
    )


_flow = st.recursive(
    _SCALARS.filter(lambda text: ":" not in text),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda texts: f"[{', '.join(texts)}]")
        | st.lists(inner, max_size=4).map(
            lambda texts: "{" + ", ".join(f"k{n}: {text}" for n, text in enumerate(texts)) + "}"
        )
    ),
    max_leaves=6,
)
_documents = st.recursive(_SCALARS | _flow, _block, max_leaves=10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_documents)
def test_is_read_as_yaml_1_2_is(text: str) -> None:
    expected = by_ruamel(text)
    assume(expected is not None)
    assert expected is not None
    document = parse_yaml(text)
    assert repr(document.data) == repr(expected[0])
    for place, line in expected[1].items():
        assert document.line(place) == line


_PIECES = (
    *('{"a": 1', '"b": ', "[", "]", "}", ",", "1", "-0", "1.5", "1e3", "007", "null", "true"),
    *('"x"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\n"', '"a": 2', ":", " ", "\n", "\t", "NaN", "é"),
    *("# c", "*a", "&a ", "'q'", "<<", '"<<": ', '"/"', '"\\/"', "\x85", "\u2028", "yes", "- "),
)
_json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_json_values) | st.dictionaries(st.text(), _json_values), st.booleans())
def test_json_comes_back(value: Any, ascii_only: bool) -> None:
    assert parse_yaml(json.dumps(value, ensure_ascii=ascii_only)).data == value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(), min_size=1), st.booleans())
def test_json_that_is_no_yaml_has_its_lines(texts: list[str], ascii_only: bool) -> None:
    texts = ["\x7f\u2028", "\N{GLOBE WITH MERIDIANS}", "\\ud83d", *texts]
    document = parse_yaml(json.dumps({"rules": texts}, ensure_ascii=ascii_only, indent=2))
    assert [document.line(("rules", n)) for n in range(len(texts))] == [*range(3, len(texts) + 3)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(_PIECES)).map("".join))
def test_every_problem_has_a_line_of_the_text(text: str) -> None:
    problems = []
    try:
        parse_yaml(text)
    except YamlProblem as problem:
        problems.append(problem)
    assert all(1 <= problem.line <= max(1, len(text.splitlines())) for problem in problems)


def test_what_must_be_escaped_is_what_is_not_in_the_printed_set() -> None:
    """``c-printable`` of YAML 1.2 (chapter 5.1) without what ends a line in YAML 1.1 alone."""
    printed = (
        *(range(0x20, 0x7F), range(0xA0, 0x2028), range(0x202A, 0xD800), range(0xE000, 0xFFFE)),
        *(range(0x10000, 0x110000), map(ord, "\t\n\r")),
    )
    characters = map(chr, range(0x110000))
    escaped = {ord(one) for one in yaml_lines._NOT_PRINTED.findall("".join(characters))}
    assert escaped == set(range(0x110000)).difference(*printed)
