"""Imports and exports: what becomes of each line, and that exports come back as they went."""

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from egress_policy.errors import InvalidEntry
from egress_policy.management.export import Format, export_proxies
from egress_policy.management.standing import Standing, closed_snapshot
from egress_policy.management.transfer import Transfer
from egress_policy.management.views import ImportLine
from egress_policy.model.proxy import DEFAULT_PORTS, Proxy
from egress_policy.model.proxy_line import parse_proxy_lines
from egress_policy.model.rule import RESERVED
from egress_policy.net.resolver import DnsResolver
from egress_policy.service import EgressService
from egress_policy.store.errors import RegistryUnavailable
from tests.helpers.conformance import load
from tests.helpers.filters import compile_word
from tests.helpers.scene import write_policy
from tests.store.test_omniroute import OLDEST, Storage

SECRET = "s3cret"


@pytest.fixture
async def standing(tmp_path: Path) -> AsyncIterator[Standing]:
    """An empty registry beside a policy file with one proxy and one pool."""
    made = Standing(EgressService(closed_snapshot(), DnsResolver()), compile_word)
    proxies = [{"name": "filed", "host": "filed.example"}]
    pools = [{"name": "pool", "members": ["filed"]}]
    made.open_file(write_policy(tmp_path / "policy.yaml", proxies=proxies, pools=pools))
    made.open_registry(":memory:", tmp_path, {})
    made.barred = ""
    made.put_in_force()
    yield made
    if closing := made.stop():
        await closing


def stored(standing: Standing) -> dict[str, Proxy]:
    assert standing.state
    return {one.name: one.proxy for one in standing.state.proxies if one.proxy}


def outcomes(results: tuple[ImportLine, ...]) -> list[tuple[int, str, str, str]]:
    return [(one.line, one.outcome, one.name, one.field) for one in results]


@pytest.mark.parametrize("vector", load("import_lines"), ids=lambda vector: vector["in"])
async def test_lines_come_to_what_the_vectors_say(
    standing: Standing, vector: dict[str, Any]
) -> None:
    report = await Transfer(standing).import_text(vector["in"])
    if "error" in vector:
        (line,) = report.results
        assert line.outcome == "failed"
        assert vector["error"] in f"{line.field} {line.message}".lower()
    elif vector["out"] is None:
        assert (report.created, report.failed) == (0, 0)
        assert stored(standing) == {}
    else:
        (proxy,) = stored(standing).values()
        password = proxy.password.get_secret_value()
        fields = {**proxy.model_dump(), "password": password}
        assert fields | vector["out"] == fields


async def test_each_line_is_told_what_became_of_it(standing: Standing) -> None:
    report = await Transfer(standing).import_text(
        "\n".join(
            (
                "# a comment",
                "http",
                f"one.example:8080:u:{SECRET}",
                "https://two.example#two",
                "nonsense",
                f"http://u:{SECRET}@three.example/?{SECRET}=1",
                "socks5://four.example#pool",
                "ONE.example.:8080:u:other",
                "http://filed.example:8080#again",
                "one.example:8080",
                "http://[2001:db8::1]:8080",
            )
        )
    )
    assert outcomes(report.results) == [
        (1, "skipped", "", ""),
        (2, "skipped", "", ""),
        (3, "created", "one.example:8080", ""),
        (4, "created", "two", ""),
        (5, "failed", "", "port"),
        (6, "failed", "", "query"),
        (7, "failed", "pool", "name"),
        (8, "skipped", "one.example:8080", ""),
        (9, "skipped", "filed", ""),
        (10, "created", "one.example:8080 (2)", ""),
        (11, "created", "[2001:db8::1]:8080", ""),
    ]
    assert (report.created, report.skipped, report.failed) == (4, 4, 3)
    assert SECRET not in report.model_dump_json()
    assert "those of this proxy" in report.results[7].message
    proxies = stored(standing)
    ids = {one.id for one in (standing.state.proxies if standing.state else ())}
    assert {line.id for line in report.results if line.outcome == "created"} == ids
    assert proxies["one.example:8080"].password.get_secret_value() == SECRET
    assert proxies["one.example:8080"].type == "http"
    assert "two" in standing.snapshot.proxies


async def test_dry_run_says_the_same_and_keeps_nothing(standing: Standing) -> None:
    transfer, text = Transfer(standing), "one.example:1080\none.example:1080\nbad\n"
    tried = await transfer.import_text(text, dry_run=True)
    assert stored(standing) == {}
    done = await transfer.import_text(text)
    assert tried.dry_run
    assert outcomes(tried.results) == outcomes(done.results)
    assert (done.created, done.skipped, done.failed) == (1, 1, 1)


async def test_items_are_fields_and_fail_by_themselves(standing: Standing) -> None:
    items: list[Any] = [
        {"name": "a", "host": "a.example", "family": "ipv6", "notes": "", "target_family": None},
        {"host": "B.example", "type": "socks5"},
        {"name": "c", "host": "c.example", "family": "IPv6", "password": SECRET},
        {"name": "d", "host": "192.0.2.1", "family": "ipv6"},
        {"name": "e", "host": "e.example", "secret": SECRET},
        [SECRET],
        {"name": "direct", "host": "f.example"},
        {},
    ]
    report = await Transfer(standing).import_items(items)
    assert outcomes(report.results) == [
        (1, "created", "a", ""),
        (2, "created", "b.example:1080", ""),
        (3, "failed", "", "family"),
        (4, "failed", "", "family"),
        (5, "failed", "", "secret"),
        (6, "failed", "", ""),
        (7, "failed", "direct", "name"),
        (8, "failed", "", "host"),
    ]
    assert SECRET not in report.model_dump_json()
    assert stored(standing)["a"].family == "ipv6"


async def test_names_are_numbered_behind_one_gateway(standing: Standing) -> None:
    transfer = Transfer(standing)
    lines = [f"{'g' * 60}.{'h' * 60}.example:1080:user-{n}:{SECRET}" for n in range(300)]
    await transfer.import_text("\n".join(lines[:2]))
    report = await transfer.import_text("\n".join(lines))
    assert (report.created, report.skipped) == (298, 2)
    names = list(stored(standing))
    assert len(names) == 300
    assert max(map(len, names)) <= 120


async def test_without_a_registry_nothing_is_imported(tmp_path: Path) -> None:
    made = Standing(EgressService(closed_snapshot(), DnsResolver()), compile_word)
    with pytest.raises(RegistryUnavailable):
        await Transfer(made).import_text("a.example:1080")
    assert Transfer(made).export("text").startswith("#")


# -- exports

ALL = (
    Proxy(name="plain", host="a.example", username="u", password=SecretStr(SECRET)),
    Proxy(name="é @#%/|", type="socks5", host="2001:db8::1", family="ipv6"),
    Proxy(name="off", host="off.example", status="inactive", region="eu", notes="=1\nx"),
    Proxy(name="pinned", host="b.example", target_family="ipv4", plain_http="connect"),
)


@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_no_password_leaves_unless_asked_for(form: Format) -> None:
    assert SECRET not in export_proxies(ALL, form, secrets=False)
    assert SECRET in export_proxies(ALL, form, secrets=True)


def test_text_keeps_as_a_comment_what_an_import_would_undo() -> None:
    lines = export_proxies(ALL, "text", secrets=True).splitlines()
    assert lines[1:3] == [
        f"http://u:{SECRET}@a.example:8080#plain",
        "socks5://[2001:db8::1]:1080?family=ipv6#%C3%A9%20%40%23%25%2F%7C",
    ]
    assert lines[3].startswith("# not as a line, status inactive: http://off.example")
    assert lines[4].startswith("# not as a line, target_family ipv4, plain_http connect: http://b")


def test_csv_has_a_row_each_and_no_formula() -> None:
    names = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\uff1d1", "fine")
    proxies = [Proxy(name=name, host="a.example", notes=f"\t{name}") for name in names]
    rows = list(csv.DictReader(io.StringIO(export_proxies(proxies, "csv", secrets=False))))
    assert [row["name"] for row in rows] == [*(f"'{name}" for name in names[:5]), "fine"]
    assert not any(cell.lstrip()[:1] in "=+-@" for row in rows for cell in row.values() if cell)
    assert "password" not in rows[0]
    (row,) = csv.DictReader(io.StringIO(export_proxies(ALL[2:3], "csv", secrets=True)))
    assert (row["status"], row["notes"], row["target_family"]) == ("inactive", "'=1\nx", "")


async def test_export_has_the_proxies_of_file_and_registry(standing: Standing) -> None:
    transfer = Transfer(standing)
    await transfer.import_items([{"name": "mine", "host": "mine.example"}])
    items = json.loads(transfer.export("json"))["items"]
    assert [item["name"] for item in items] == ["filed", "mine"]
    again = await transfer.import_items(items)
    assert again.skipped == 2


TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)
FIELDS = st.fixed_dictionaries(
    {"name": TEXTS.filter(str.strip), "type": st.sampled_from(list(DEFAULT_PORTS))},
    optional={
        "host": st.sampled_from(["a.example", "xn--bcher-kva.example", "b_c.example"]),
        "port": st.integers(1, 65535),
        "username": TEXTS,
        "password": TEXTS,
        "family": st.sampled_from(["auto", "ipv4", "ipv6"]),
        "region": TEXTS,
        "notes": TEXTS,
        "status": st.sampled_from(["active", "inactive"]),
        "target_family": st.sampled_from([None, "ipv4"]),
        "plain_http": st.sampled_from(["forward", "connect"]),
    },
)


def proxies_of(stated: list[dict[str, Any]]) -> list[Proxy]:
    """Those of the fields that make a proxy, each of another host."""
    made = []
    for number, fields in enumerate(stated):
        host = f"h{number}.{fields.get('host', 'a.example')}"
        try:
            made.append(Proxy.model_validate({**fields, "host": host}))
        except ValidationError:
            continue
    return made


@given(st.lists(FIELDS, max_size=8).map(proxies_of))
def test_json_that_is_exported_says_all_of_every_proxy(proxies: list[Proxy]) -> None:
    items = json.loads(export_proxies(proxies, "json", secrets=True))["items"]
    assert [Proxy.model_validate(item) for item in items] == proxies


@given(st.lists(FIELDS, max_size=8).map(proxies_of))
def test_text_that_is_exported_says_what_a_url_can(proxies: list[Proxy]) -> None:
    expected = [
        proxy.model_copy(update={"region": "", "notes": ""})
        for proxy in proxies
        if (proxy.status, proxy.target_family, proxy.plain_http) == ("active", None, "forward")
    ]
    found = []
    for _, entry in parse_proxy_lines(export_proxies(proxies, "text", secrets=True)):
        assert not isinstance(entry, InvalidEntry), entry
        if entry is not None:
            found.append(Proxy.model_validate(dict(entry)))
    assert found == expected


def _name(fields: dict[str, Any]) -> str:
    return str(fields["name"]).strip()


@settings(max_examples=4)
@given(st.lists(FIELDS, min_size=10, max_size=60, unique_by=_name))
async def test_export_comes_back_as_it_went(stated: list[dict[str, Any]]) -> None:
    made = Standing(EgressService(closed_snapshot(), DnsResolver()), compile_word)
    made.open_file(None)
    made.open_registry(":memory:", Path("unused"), {"EGRESS_KEY": "a" * 64})
    transfer = Transfer(made)
    proxies = [one for one in proxies_of(stated) if one.name.casefold() not in RESERVED]
    items = json.loads(export_proxies(proxies, "json", secrets=True))["items"]
    report = await transfer.import_items(items)
    assert report.created == len(proxies), report.results
    assert stored(made) == {one.name: one for one in proxies}
    exported = json.loads(transfer.export("json", secrets=True))["items"]
    assert sorted(map(json.dumps, exported)) == sorted(map(json.dumps, items))
    if closing := made.stop():
        await closing


# -- another system's file


async def test_other_systems_proxies_keep_their_ids(standing: Standing, tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST)
    storage.proxy("one", name="filed", username="u", password=SECRET)
    storage.proxy("two", name="dc", type="ftp")
    storage.assign("one", "global")
    storage.assign("one", "provider", "x")
    path, transfer = storage.close(), Transfer(standing)
    tried = await transfer.import_omniroute(path, dry_run=True)
    assert stored(standing) == {}
    report = await transfer.import_omniroute(path)
    assert tried.model_copy(update={"dry_run": False}) == report
    assert (report.created, report.assigned) == (1, 1)
    assert [note.what for note in report.changed] == ["proxy filed"]
    assert [note.what for note in report.skipped] == ["proxy dc", "assignment provider x"]
    assert SECRET not in report.model_dump_json()
    assert standing.state
    assert [(one.id, one.name) for one in standing.state.proxies] == [("one", "filed (2)")]
    assert [one.proxy_id for one in standing.state.assignments] == ["one"]
    again = await transfer.import_omniroute(path)
    assert (again.created, again.assigned) == (0, 1)
    assert "id is used" in again.skipped[-1].why


async def test_assignment_that_is_here_is_not_overwritten(
    standing: Standing, tmp_path: Path
) -> None:
    mine = await standing.change(
        lambda registry: registry.create_proxy({"name": "mine", "host": "mine.example"})
    )
    await standing.change(lambda registry: registry.assign("global", None, mine.id))
    storage = Storage(tmp_path, OLDEST)
    storage.proxy("one")
    storage.assign("one", "global")
    report = await Transfer(standing).import_omniroute(storage.close())
    assert (report.created, report.assigned) == (1, 0)
    assert standing.state
    assert [one.proxy_id for one in standing.state.assignments] == [mine.id]


async def test_file_that_is_none_of_that_system_is_named(
    standing: Standing, tmp_path: Path
) -> None:
    with pytest.raises(InvalidEntry) as caught:
        await Transfer(standing).import_omniroute(tmp_path / "none.sqlite")
    assert caught.value.field == "path"
