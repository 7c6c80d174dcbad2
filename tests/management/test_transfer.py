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

from egress_policy.dns.resolver import DnsResolver
from egress_policy.errors import InvalidEntry, RegistryUnavailable
from egress_policy.management.export import Format, export_proxies
from egress_policy.management.import_report import ImportLine, messages_of
from egress_policy.management.in_force import PolicyInForce, closed_snapshot
from egress_policy.management.transfer import Transfer, read_list
from egress_policy.management.upkeep import Upkeep
from egress_policy.model.list_entry import ProxyEntry
from egress_policy.model.proxy import DEFAULT_PORTS, Proxy
from egress_policy.model.proxy_list import parse_proxy_list
from egress_policy.model.rule import RESERVED
from egress_policy.model.text import first_hidden
from egress_policy.policy_file.clash import is_clash
from egress_policy.router import EgressRouter
from tests.helpers.conformance import load, load_list
from tests.helpers.filters import compile_word
from tests.helpers.management import put_in_force
from tests.helpers.registry import statements
from tests.helpers.scene import write_policy
from tests.registry.test_omniroute import OLDEST, Storage

SECRET = "s3cret"


@pytest.fixture
async def upkeep(tmp_path: Path) -> AsyncIterator[Upkeep]:
    """An empty registry beside a policy file with one proxy and one pool."""
    router = EgressRouter(closed_snapshot(), DnsResolver())
    made = Upkeep(PolicyInForce(router, compile_word))
    proxies = [{"name": "filed", "host": "filed.example"}]
    pools = [{"name": "pool", "members": ["filed"]}]
    policy = write_policy(tmp_path / "policy.yaml", proxies=proxies, pools=pools)
    put_in_force(made, tmp_path, policy)
    yield made
    if closing := made.stop():
        await closing


def stored(upkeep: Upkeep) -> dict[str, Proxy]:
    assert upkeep.in_force.state
    return {one.name: one.proxy for one in upkeep.in_force.state.proxies if one.proxy}


async def test_long_list_takes_few_statements(upkeep: Upkeep) -> None:
    def lines(password: str) -> str:
        way_out = (f"192.0.{number // 250}.{number % 250}:1080" for number in range(600))
        return "\n".join(f"socks5://u:{password}@{one}#{one}" for one in way_out)

    for password, outcome in (("old", "created"), ("new", "updated"), ("new", "skipped")):
        with statements() as made:
            report = await Transfer(upkeep).import_text(lines(password), update=True)
        assert getattr(report, outcome) == 600
        assert len(made) < 50
    assert {one.password.get_secret_value() for one in stored(upkeep).values()} == {"new"}


def outcomes(results: tuple[ImportLine, ...]) -> list[tuple[int, str, str, str]]:
    return [(one.line, one.outcome, one.name, one.field) for one in results]


@pytest.mark.parametrize("vector", load("import_lines"), ids=lambda vector: vector["in"])
async def test_lines_come_to_what_the_vectors_say(upkeep: Upkeep, vector: dict[str, Any]) -> None:
    report = await Transfer(upkeep).import_text(vector["in"])
    if "error" in vector:
        (line,) = report.results
        assert line.outcome == "failed"
        assert vector["error"] in f"{line.field} {line.message}".lower()
    elif vector["out"] is None:
        assert (report.created, report.failed) == (0, 0)
        assert stored(upkeep) == {}
    else:
        (proxy,) = stored(upkeep).values()
        password = proxy.password.get_secret_value()
        fields = {**proxy.model_dump(), "password": password}
        assert fields | vector["out"] == fields


async def test_each_line_has_an_outcome(upkeep: Upkeep) -> None:
    report = await Transfer(upkeep).import_text(
        "\n".join(
            (
                "# a comment",
                "http",
                f"one.example:8080:u:{SECRET}",
                "https://two.example#two",
                "no-port.example",
                f"http://u:{SECRET}@three.example/?{SECRET}=1",
                "socks5://four.example#pool",
                f"ONE.example.:8080:u:{SECRET}",
                "http://filed.example:8080",
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
    assert report.results[7].message == "it is there already"
    proxies = stored(upkeep)
    ids = {one.id for one in (upkeep.in_force.state.proxies if upkeep.in_force.state else ())}
    assert {line.id for line in report.results if line.outcome == "created"} == ids
    assert proxies["one.example:8080"].password.get_secret_value() == SECRET
    assert proxies["one.example:8080"].type == "http"
    assert "two" in upkeep.in_force.snapshot.proxies


async def test_each_line_has_its_type_and_whether_it_is_assumed(upkeep: Upkeep) -> None:
    text = "a.example:1\nhttps://b.example\nhttp\nc.example:1\nnonsense\nd.example:1"
    report = await Transfer(upkeep).import_text(text, default_type="https")
    assert [(line.type, line.assumes_type) for line in report.results] == [
        ("https", True),
        ("https", False),
        (None, False),
        ("http", True),
        (None, False),
        (None, False),
    ]
    report = await Transfer(upkeep).import_items([{"host": "e.example"}])
    assert [(line.type, line.assumes_type) for line in report.results] == [("http", True)]


# -- which of two proxies are the same

HTTP: dict[str, Any] = {"name": "one", "type": "http", "host": "h.example", "port": 1}
OTHERS: dict[str, Any] = {
    "type": "https",
    "host": "i.example",
    "port": 2,
    "family": "ipv6",
    "username": "u",
    "password": "p",
    "target_family": "ipv4",
    "plain_http": "connect",
    "status": "inactive",
}


async def test_sessions_in_the_password_are_proxies_of_their_own(upkeep: Upkeep) -> None:
    text = load_list("sessions-in-the-password")
    report = await Transfer(upkeep).import_text(text)
    passwords = {proxy.password.get_secret_value() for proxy in stored(upkeep).values()}
    assert (report.created, len(passwords)) == (3, 3)
    again = await Transfer(upkeep).import_text(text)
    assert (again.created, again.skipped) == (0, 4)


@pytest.mark.parametrize("field", OTHERS)
@pytest.mark.parametrize("named", [True, False])
async def test_proxy_that_differs_in_one_field_is_another(
    upkeep: Upkeep, field: str, named: bool
) -> None:
    """In both orders, in one list and after another."""
    items = [HTTP, {**HTTP, "name": "two", field: OTHERS[field]}]
    if not named:
        items = [{key: value for key, value in item.items() if key != "name"} for item in items]
    may_have_changed = not named and field in ("username", "password")
    for some in ([items[0]], [items[1]], items, items[::-1]):
        await Transfer(upkeep).import_items(some)
        is_one = some == [items[0]] or (some == [items[1]] and may_have_changed)
        assert len(stored(upkeep)) == (1 if is_one else 2)
    values = {getattr(proxy, field) for proxy in stored(upkeep).values()}
    assert len(values) == 2


async def test_proxies_that_differ_in_their_names_alone_are_two(upkeep: Upkeep) -> None:
    items = [HTTP, {**HTTP, "name": "two"}]
    report = await Transfer(upkeep).import_items(items)
    assert (report.created, list(stored(upkeep))) == (2, ["one", "two"])


async def test_other_credentials_are_reported_and_taken_by_an_update(
    upkeep: Upkeep,
) -> None:
    transfer = Transfer(upkeep)
    await transfer.import_text("http://u:old@h.example:1#one")
    text = f"http://v:{SECRET}@h.example:1#one"
    told = await transfer.import_text(text)
    assert outcomes(told.results) == [(1, "differs", "one", "username")]
    message = "differs from proxy 'one' only in its username and password: an update takes it"
    assert told.results[0].message == message
    assert (told.differs, told.failed, told.skipped) == (1, 0, 0)
    assert stored(upkeep)["one"].username == "u"
    tried = await transfer.import_text(text, update=True, dry_run=True)
    assert stored(upkeep)["one"].username == "u"
    taken = await transfer.import_text(text, update=True)
    assert outcomes(tried.results) == outcomes(taken.results) == [(1, "updated", "one", "")]
    assert stored(upkeep)["one"].username == "v"
    assert stored(upkeep)["one"].password.get_secret_value() == SECRET
    again = await transfer.import_text(text, update=True)
    assert outcomes(again.results) == [(1, "skipped", "one", "")]


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("h.example:1:u:new", "password"),
        ("h.example:1:v:new", "username and password"),
        ("h.example:1:v:old", "username"),
        ("h.example:1", "username and password"),
        ("h.example:1:u:new\n\nh.example:1:u:new", "password"),
        ('{"type": "socks5", "host": "H.example", "port": 1, "username": "u"}', "password"),
    ],
)
async def test_line_without_a_name_that_may_bring_other_credentials_is_reported(
    upkeep: Upkeep, line: str, fields: str, update: bool
) -> None:
    transfer = Transfer(upkeep)
    await transfer.import_text("h.example:1:u:old")
    before = stored(upkeep)
    report = await transfer.import_text(line, update=update)
    told = [one for one in report.results if one.outcome != "skipped"]
    assert {one.outcome for one in told} == {"differs"}
    assert told[0].name == "h.example:1"
    assert told[0].message.startswith(
        f"differs from proxy 'h.example:1' only in its {fields}: give"
    )
    assert stored(upkeep) == before


async def test_sessions_are_added_where_several_stand_in_a_list_or_are_there(
    upkeep: Upkeep,
) -> None:
    transfer = Transfer(upkeep)
    lines = [f"h.example:1:u:session-{number}" for number in range(5)]
    for some, there in ((lines[:1], 1), (lines[:2], 2), (lines[2:4], 4), (lines[4:], 5)):
        report = await transfer.import_text("\n".join(some), update=True)
        assert (report.differs, report.failed, len(stored(upkeep))) == (0, 0, there)


async def test_line_without_a_name_that_lacks_its_password_is_there_already(
    upkeep: Upkeep,
) -> None:
    transfer = Transfer(upkeep)
    await transfer.import_text("h.example:1:u:old")
    rows = "host,port,username,password_set\nh.example,1,{},true"
    kept = await transfer.import_text(rows.format("u"), update=True)
    assert [one.outcome for one in kept.results] == ["skipped", "skipped"]
    assert "stays as it is" in kept.results[1].message
    assert (await transfer.import_text(rows.format("v"))).differs == 1
    assert stored(upkeep)["h.example:1"].password.get_secret_value() == "old"


async def test_update_takes_region_and_notes_too_and_nothing_else(upkeep: Upkeep) -> None:
    transfer = Transfer(upkeep)
    await transfer.import_items([{**HTTP, "family": "ipv6", "notes": "old", "region": "eu"}])
    items = [{**HTTP, "family": "ipv6", "notes": "new"}]
    assert (await transfer.import_items(items)).differs == 1
    assert (await transfer.import_items(items, update=True)).updated == 1
    proxy = stored(upkeep)["one"]
    assert (proxy.notes, proxy.region, proxy.family) == ("new", "eu", "ipv6")
    report = await transfer.import_items([HTTP], update=True)
    assert outcomes(report.results) == [(1, "failed", "one", "name")]
    assert "differs in family" in report.results[0].message
    assert stored(upkeep)["one"] == proxy


async def test_line_without_credentials_removes_none(upkeep: Upkeep) -> None:
    transfer = Transfer(upkeep)
    await transfer.import_text(f"http://u:{SECRET}@h.example:1#one")
    for line in ("http://h.example:1#one", "http://u@h.example:1#one"):
        report = await transfer.import_text(line, update=True)
        assert report.skipped == 1
        assert "keeps its" in report.results[0].message
    assert stored(upkeep)["one"].password.get_secret_value() == SECRET


async def test_password_that_is_kept_goes_to_no_other_proxy(upkeep: Upkeep) -> None:
    transfer = Transfer(upkeep)
    lacking = {"type": "http", "host": "evil.example", "username": "u", "password": {"set": True}}
    for name in ("unnamed", "one"):
        await transfer.import_text(f"http://u:{SECRET}@h.example:1#{name}")
    for item in ({**lacking, "name": "one"}, {**lacking, "name": ""}, lacking):
        await transfer.import_items([item], update=True)
    with_secret = [one for one in stored(upkeep).values() if one.password.get_secret_value()]
    assert {one.host for one in with_secret} == {"h.example"}


async def test_duplicate_name_in_a_list_is_reported(upkeep: Upkeep) -> None:
    lines = ["http://u:a@h.example:1#one", "http://u:b@h.example:1#one", "http://h.example:1#one"]
    for update in (False, True):
        report = await Transfer(upkeep).import_text("\n".join(lines), update=update)
        assert [line.outcome for line in report.results][1:] == ["failed", "failed"]
        assert "stands earlier in this list" in report.results[1].message
        assert stored(upkeep)["one"].password.get_secret_value() == "a"


async def test_proxy_of_the_policy_file_is_not_updated(upkeep: Upkeep) -> None:
    report = await Transfer(upkeep).import_text("http://u:p@filed.example#filed", update=True)
    assert outcomes(report.results) == [(1, "failed", "filed", "username")]
    assert "policy file" in report.results[0].message


async def test_dry_run_says_the_same_and_keeps_nothing(upkeep: Upkeep) -> None:
    transfer, text = Transfer(upkeep), "one.example:1080\none.example:1080\nbad\n"
    tried = await transfer.import_text(text, dry_run=True)
    assert stored(upkeep) == {}
    done = await transfer.import_text(text)
    assert tried.dry_run
    assert outcomes(tried.results) == outcomes(done.results)
    assert (done.created, done.skipped, done.failed) == (1, 1, 1)


async def test_items_are_fields_and_fail_by_themselves(upkeep: Upkeep) -> None:
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
    report = await Transfer(upkeep).import_items(items)
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
    assert stored(upkeep)["a"].family == "ipv6"


async def test_names_are_numbered_behind_one_gateway(upkeep: Upkeep) -> None:
    transfer = Transfer(upkeep)
    lines = [f"{'g' * 60}.{'h' * 60}.example:1080:user-{n}:{SECRET}" for n in range(300)]
    await transfer.import_text("\n".join(lines[:2]))
    report = await transfer.import_text("\n".join(lines))
    assert (report.created, report.skipped) == (298, 2)
    names = list(stored(upkeep))
    assert len(names) == 300
    assert max(map(len, names)) <= 120


async def test_without_a_registry_nothing_is_imported(tmp_path: Path) -> None:
    router = EgressRouter(closed_snapshot(), DnsResolver())
    made = Upkeep(PolicyInForce(router, compile_word))
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


def test_text_has_a_url_each_or_what_a_url_cannot_say_as_json() -> None:
    lines = export_proxies(ALL, "text", secrets=True).splitlines()
    assert lines[1:3] == [
        f"http://u:{SECRET}@a.example:8080#plain",
        "socks5://[2001:db8::1]:1080?family=ipv6#%C3%A9%20%40%23%25%2F%7C",
    ]
    place = {"type": "http", "port": 8080}
    off = {"name": "off", "host": "off.example", "status": "inactive", "region": "eu"}
    assert json.loads(lines[3]) == {**place, **off, "notes": "=1\nx"}
    pinned = {"name": "pinned", "host": "b.example", "target_family": "ipv4"}
    assert json.loads(lines[4]) == {**place, **pinned, "plain_http": "connect"}


@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_export_without_passwords_says_so(form: Format) -> None:
    exported = export_proxies(ALL, form, secrets=False)
    entries = [one for _, one in parse_proxy_list(exported).entries if isinstance(one, ProxyEntry)]
    assert [one.lacks_password for one in entries] == [True, False, False, False]


@pytest.mark.parametrize("form", ["text", "json"])
def test_text_and_json_are_ascii(form: Format) -> None:
    noted = Proxy(name="\u202eé", host="a.example", notes="\x85\v\u200b", region="\u2066")
    assert export_proxies([noted], form, secrets=True).isascii()


def test_csv_has_a_row_each_and_no_formula() -> None:
    names = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\uff1d1", "fine")
    proxies = [Proxy(name=name, host="a.example", notes=f"\t{name}") for name in names]
    rows = list(csv.DictReader(io.StringIO(export_proxies(proxies, "csv", secrets=False))))
    assert [row["name"] for row in rows] == [*(f"'{name}" for name in names[:5]), "fine"]
    assert not any(cell.lstrip()[:1] in "=+-@" for row in rows for cell in row.values() if cell)
    assert "password" not in rows[0]
    (row,) = csv.DictReader(io.StringIO(export_proxies(ALL[2:3], "csv", secrets=True)))
    assert (row["status"], row["notes"], row["target_family"]) == ("inactive", "'=1\nx", "")


@pytest.mark.parametrize("proxies", [ALL, ALL[:1], []])
def test_json_is_one_document_however_it_is_pieced_together(proxies: list[Proxy]) -> None:
    text = export_proxies(proxies, "json", secrets=True)
    document = json.loads(text)
    assert len(document["items"]) == len(proxies)
    if proxies:
        assert text == json.dumps(document, indent=1) + "\n"


async def test_export_has_the_proxies_of_file_and_registry(upkeep: Upkeep) -> None:
    transfer = Transfer(upkeep)
    await transfer.import_items([{"name": "mine", "host": "mine.example"}])
    items = json.loads(transfer.export("json"))["items"]
    assert [item["name"] for item in items] == ["filed", "mine"]
    again = await transfer.import_items(items)
    assert again.skipped == 2


FORMATS: tuple[Format, ...] = ("text", "csv", "json")
CHARACTERS = st.sampled_from("=+-@'\";,|#{}[]:%/ \u200b\ufeff\u202e\uff1d") | st.characters(
    exclude_categories=("Cc", "Cs")
)
PINS = st.sampled_from(["ipv6", "IPV4", "family=ipv6", "n?family=ipv6", "n|ipv6", "n#ipv6", "8080"])
TEXTS = st.text(CHARACTERS, max_size=12) | PINS
ACCOUNTS = TEXTS.map(lambda text: "".join(one for one in text if first_hidden(one) is None))
HIDDEN_SPACE = st.sampled_from("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029")
NOTES = st.text(HIDDEN_SPACE | CHARACTERS, max_size=12)
FIELDS = st.fixed_dictionaries(
    {"name": TEXTS.filter(str.strip), "type": st.sampled_from(list(DEFAULT_PORTS))},
    optional={
        "host": st.sampled_from(["a.example", "b.example", "xn--bcher-kva.example", "2001:db8::1"]),
        "port": st.integers(1, 65535),
        "username": ACCOUNTS,
        "password": ACCOUNTS,
        "family": st.sampled_from(["auto", "ipv4", "ipv6"]),
        "region": TEXTS,
        "notes": NOTES,
        "status": st.sampled_from(["active", "inactive"]),
        "target_family": st.sampled_from([None, "ipv4"]),
        "plain_http": st.sampled_from(["forward", "connect"]),
        "health": st.sampled_from(["watch", "ignore"]),
        "max_connections": st.integers(0, 1_000_000),
        "exit_family": st.sampled_from([None, "ipv6"]),
        "exit_in": st.lists(st.sampled_from(["2001:db8::/32", "::1", "2001:db8:1::7"]), max_size=3),
        "exit_enforce": st.booleans(),
        "tags": st.lists(TEXTS, max_size=3),
    },
)


def proxies_of(stated: list[dict[str, Any]]) -> list[Proxy]:
    """Those of the fields that make a proxy of a name that may be given, each name once."""
    made: dict[str, Proxy] = {}
    for fields in stated:
        try:
            proxy = Proxy.model_validate({"host": "a.example", **fields})
        except ValidationError:
            continue
        if proxy.name.casefold() not in RESERVED:
            made.setdefault(proxy.name, proxy)
    return list(made.values())


def without_password(proxy: Proxy) -> Proxy | None:
    """``None`` for one that cannot be without."""
    try:
        fields = {**proxy.model_dump(), "password": ""}
        return Proxy.model_validate(fields)
    except ValidationError:
        return None


@given(st.lists(FIELDS, max_size=8).map(proxies_of), st.sampled_from(FORMATS))
def test_all_of_every_proxy_is_read_again(proxies: list[Proxy], form: Format) -> None:
    exported = export_proxies(proxies, form, secrets=True)
    found = [one for _, one in parse_proxy_list(exported).entries if one is not None]
    entries = [one for one in found if isinstance(one, ProxyEntry)]
    assert found == entries
    assert [Proxy.model_validate(dict(one)) for one in entries] == proxies


@given(st.lists(FIELDS, max_size=8).map(proxies_of), st.booleans())
def test_what_clash_can_say_of_a_proxy_is_read_again(proxies: list[Proxy], secrets: bool) -> None:
    text = export_proxies(proxies, "clash", secrets=secrets)
    assert not proxies or is_clash(text) or "[]" in text
    said = [
        one
        for one in proxies
        if one.status == "active" and not one.target_family and not one.exit_enforce
    ]
    found = (
        [one for _, one in read_list(text).entries if isinstance(one, ProxyEntry)] if said else []
    )
    assert len(found) == len(said)
    for entry, proxy in zip(found, said, strict=True):
        for field in ("name", "type", "host", "port", "family"):
            assert entry[field] == getattr(proxy, field)
        assert entry.get("username", "") == proxy.username
        password = proxy.password.get_secret_value()
        assert entry.get("password", "") == (password if secrets else "")
        assert entry.lacks_password is bool(password and not secrets)


def test_clash_names_what_it_leaves_out() -> None:
    text = export_proxies(ALL, "clash", secrets=False)
    assert SECRET not in text
    assert '# "off" is left out: it is inactive' in text
    assert '# "pinned" is left out: it has a target family' in text
    assert export_proxies([], "clash", secrets=False) == "proxies:\n  []\n"


async def test_clash_is_imported_and_the_rest_is_told(upkeep: Upkeep) -> None:
    items = [
        {"name": "a", "type": "socks5", "server": "a.example", "port": 1080},
        {"name": "b", "type": "vmess", "server": "b.example", "port": 443},
        {"name": "c", "type": "http", "server": "c.example", "ip-version": "ipv4-prefer"},
    ]
    report = await Transfer(upkeep).import_text(json.dumps({"proxies": items}))
    assert (report.created, report.skipped, report.failed) == (2, 1, 0)
    assert [one.outcome for one in report.results] == ["created", "skipped", "created"]
    assert report.results[1].message == "the type vmess is left out: there are http and socks5 here"
    assert "prefers IPv4 there" in report.results[2].message


@pytest.mark.parametrize("form", FORMATS)
async def test_update_takes_another_limit_and_exit(upkeep: Upkeep, form: Format) -> None:
    transfer = Transfer(upkeep)
    await transfer.import_items([{"name": "dc", "host": "dc.example", "type": "http"}])
    exits = {"exit_in": ["192.0.2.0/24", "198.51.100.7"], "exit_enforce": True}
    fields = {"max_connections": 20, "health": "ignore", "exit_family": "ipv4", **exits}
    fields["tags"] = ["eu", "fast"]
    other = Proxy.model_validate({"name": "dc", "host": "dc.example", **fields})
    listed = export_proxies([other], form, secrets=True)
    [line] = [one for one in (await transfer.import_text(listed)).results if one.name]
    assert (line.outcome, "health" in line.message) == ("differs", True)
    await transfer.import_text(listed, update=True)
    assert stored(upkeep)["dc"] == other


async def empty() -> Upkeep:
    router = EgressRouter(closed_snapshot(), DnsResolver())
    made = Upkeep(PolicyInForce(router, compile_word))
    put_in_force(made, Path("unused"))
    return made


@settings(max_examples=12)
@given(
    st.lists(FIELDS, min_size=4, max_size=30).map(proxies_of),
    st.sampled_from(FORMATS),
    st.booleans(),
)
async def test_export_comes_back_as_it_went(
    proxies: list[Proxy], form: Format, secrets: bool
) -> None:
    made = await empty()
    transfer = Transfer(made)
    exported = export_proxies(proxies, form, secrets=secrets)
    report = await transfer.import_text(exported)
    expected = {one.name: one if secrets else without_password(one) for one in proxies}
    assert stored(made) == {name: one for name, one in expected.items() if one}
    assert report.failed == len([one for one in expected.values() if one is None])
    if not secrets:
        told = [one.lines for one in messages_of(report) if "not in this file" in one.text]
        lacking = [one for one in proxies if one.password.get_secret_value() and expected[one.name]]
        assert sum(map(len, told)) == len(lacking)
    # The same again changes nothing, and what is there already keeps its password.
    again = await transfer.import_text(exported, update=True)
    assert (again.created, again.updated, again.failed) == (0, 0, report.failed)
    if secrets:
        again = await transfer.import_text(transfer.export(form), update=True)
        assert (again.created, again.updated, again.failed) == (0, 0, 0)
        assert stored(made) == expected
    if closing := made.stop():
        await closing


# -- another system's file


async def test_other_systems_proxies_keep_their_ids(upkeep: Upkeep, tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST)
    storage.proxy("one", name="filed", username="u", password=SECRET)
    storage.proxy("two", name="dc", type="ftp")
    storage.assign("one", "global")
    storage.assign("one", "provider", "x")
    path, transfer = storage.close(), Transfer(upkeep)
    tried = await transfer.import_omniroute(path, dry_run=True)
    assert stored(upkeep) == {}
    report = await transfer.import_omniroute(path)
    assert tried.model_copy(update={"dry_run": False}) == report
    assert (report.created, report.assigned) == (1, 1)
    assert [note.what for note in report.changed] == ["proxy filed"]
    assert [note.what for note in report.skipped] == ["proxy dc", "assignment provider x"]
    assert SECRET not in report.model_dump_json()
    assert upkeep.in_force.state
    assert [(one.id, one.name) for one in upkeep.in_force.state.proxies] == [("one", "filed (2)")]
    assert [one.proxy_id for one in upkeep.in_force.state.assignments] == ["one"]
    again = await transfer.import_omniroute(path)
    assert (again.created, again.assigned) == (0, 1)
    assert "id is used" in again.skipped[-1].why


async def test_assignment_that_is_here_is_not_overwritten(upkeep: Upkeep, tmp_path: Path) -> None:
    mine = await upkeep.change(
        lambda edit: edit.proxies.create({"name": "mine", "host": "mine.example"})
    )
    await upkeep.change(lambda edit: edit.assignments.put("global", None, mine.id))
    storage = Storage(tmp_path, OLDEST)
    storage.proxy("one")
    storage.assign("one", "global")
    report = await Transfer(upkeep).import_omniroute(storage.close())
    assert (report.created, report.assigned) == (1, 0)
    assert upkeep.in_force.state
    assert [one.proxy_id for one in upkeep.in_force.state.assignments] == [mine.id]


async def test_file_that_is_none_of_that_system_is_named(upkeep: Upkeep, tmp_path: Path) -> None:
    with pytest.raises(InvalidEntry) as caught:
        await Transfer(upkeep).import_omniroute(tmp_path / "none.sqlite")
    assert caught.value.field == "path"
