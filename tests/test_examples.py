"""Every example does what its first lines say.

A policy is loaded unchanged, and then run with only its proxies' addresses changed to those of the
lab (``moved``). Programs are started as a user starts them. ``examples/test_*.py`` are tests
themselves and are collected with all others.
"""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from egress_policy.cli import main
from egress_policy.policy_file.yaml_lines import parse_yaml
from tests.helpers.certs import authority
from tests.helpers.clients import http_get, session
from tests.helpers.lab import refusal_in, zone
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy, LabProxy, Socks5Proxy
from tests.helpers.scene import egress

FOLDER = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.name for path in FOLDER.glob("[!_.]*"))
WWW = "http://www.example.com/"
COVERED: set[str] = set()


@pytest.fixture(autouse=True)
def _passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("V6_EXIT", "ALICE", "BOB"):
        monkeypatch.setenv(f"{name}_PASSWORD", f"of {name}")


def shows[T](name: str) -> Callable[[T], T]:
    """Marks the tests that show an example at work."""
    COVERED.add(name)
    return lambda test: test


def moved(name: str, **places: LabProxy) -> dict[str, Any]:
    """An example's policy with its proxies in the lab. Only literals and ports are replaced."""
    policy: dict[str, Any] = parse_yaml((FOLDER / name).read_text()).data  # type: ignore[assignment]
    del policy["version"]
    for proxy in policy.get("proxies", []):
        place = places[proxy["name"].replace("-", "_")]
        proxy["port"] = place.port
        if "example.com" not in proxy["host"]:
            proxy["host"] = place.host
    return policy


def behind(origin: Origin) -> dict[str, tuple[str, int]]:
    """How a proxy of the lab resolves the targets of the examples."""
    return {"www.example.com": origin.address}


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".yaml")])
def test_policies_are_good_as_they_stand(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(FOLDER / name)]) == 0
    out = capsys.readouterr().out
    assert "good." in out
    assert "note:" not in out
    assert "password:" not in (FOLDER / name).read_text()


@shows("pinned_socks5.yaml")
async def test_pinned_socks5_is_reached_over_ipv6_with_its_password(tmp_path: Path) -> None:
    login = ("alice", "of V6_EXIT")
    async with (
        Origin() as origin,
        Socks5Proxy(host="::1", credentials=login, resolve=behind(origin)) as proxy,
        Nameserver(zone("proxy.example.com")) as dns,
        egress(tmp_path, dns=dns.port, **moved("pinned_socks5.yaml", v6_exit=proxy)) as mitm,
    ):
        assert (await http_get(mitm.port, WWW)).status == 200
    assert proxy.families == [6]
    assert proxy.targets == ["www.example.com:80"]
    assert proxy.requests[0].credentials == login
    assert set(dns.queries) == {("proxy.example.com", "AAAA")}


@shows("pinned_socks5.yaml")
async def test_pinned_socks5_without_ipv6_is_refused(tmp_path: Path) -> None:
    async with (
        Socks5Proxy() as proxy,
        Nameserver({("proxy.example.com", "A"): ["127.0.0.1"]}) as dns,
        egress(tmp_path, dns=dns.port, **moved("pinned_socks5.yaml", v6_exit=proxy)) as mitm,
    ):
        assert refusal_in(await http_get(mitm.port, WWW))["reason"] == "no_record"
    assert proxy.accepted == 0


@shows("two_exits_by_path.yaml")
@pytest.mark.parametrize("secure", [False, True])
async def test_uploads_leave_by_another_exit_on_one_connection(
    tmp_path: Path, secure: bool
) -> None:
    tls = authority().server_context("www.example.com") if secure else None
    async with (
        Origin(tls=tls) as origin,
        HttpProxy(resolve=behind(origin)) as wide,
        HttpProxy(host="::1", resolve=behind(origin)) as cheap,
        egress(tmp_path, **moved("two_exits_by_path.yaml", wide=wide, cheap=cheap)) as mitm,
    ):
        await mitm.wait_for_log("connection_strategy is now lazy")
        base = f"http{'s' if secure else ''}://www.example.com"
        async with session(mitm.port, base, mitm.ca_cert) as through:
            for method, path in (
                ("GET", "/a"),
                ("POST", "/upload/b"),
                ("GET", "/upload/c"),
                ("POST", "/d?then=/upload/"),
                ("POST", "/upload/e"),
            ):
                assert (await through.request(method, path, body=b"x")).status == 200
        answer = await http_get(mitm.port, "http://other.example.com/")
        assert refusal_in(answer)["reason"] == "default"
        exits = [(flow.request.path, flow.metadata.get("egress.proxy")) for flow in mitm.http_flows]
    assert exits[:5] == [
        ("/a", "cheap"),
        ("/upload/b", "wide"),
        ("/upload/c", "cheap"),
        ("/d?then=/upload/", "cheap"),
        ("/upload/e", "wide"),
    ]
    assert (set(wide.families), set(cheap.families)) == ({4}, {6})
    assert {request["path"] for request in origin.requests} == {path for path, _ in exits[:5]}


@shows("direct_ipv6_only.yaml")
async def test_direct_goes_over_ipv6_or_not_at_all(tmp_path: Path) -> None:
    names = {**zone("both.example.com"), ("four.example.com", "A"): ["127.0.0.1"]}
    async with (
        Origin(host="::1") as origin,
        Nameserver(names) as dns,
        egress(tmp_path, dns=dns.port, **moved("direct_ipv6_only.yaml")) as mitm,
    ):
        assert (await http_get(mitm.port, origin.url("both.example.com"))).status == 200
        assert (await http_get(mitm.port, origin.url("[::1]"))).status == 200
        for name, reason in (
            ("four.example.com", "no_record"),
            ("127.0.0.1", "literal_contradiction"),
        ):
            answer = await http_get(mitm.port, origin.url(name))
            assert refusal_in(answer)["reason"] == reason
    assert origin.families == [6, 6]
    assert {kind for _, kind in dns.queries} == {"AAAA"}


@shows("account_exits.yaml")
async def test_each_account_has_its_exit_and_others_have_none(tmp_path: Path) -> None:
    alice, bob = ("alice", "of ALICE"), ("bob", "of BOB")
    async with (
        Origin() as origin,
        HttpProxy(credentials=alice, resolve=behind(origin)) as a,
        HttpProxy(credentials=bob, resolve=behind(origin)) as b,
        egress(tmp_path, **moved("account_exits.yaml", exit_a=a, exit_b=b)) as mitm,
        session(mitm.port, "http://www.example.com") as through,
    ):
        for account in ("alice", "bob", "alice"):
            answer = await through.get("/", [("X-Account", account)])
            assert answer.status == 200
        for headers in ([("X-Account", "alice2")], [("Not-X-Account", "alice")], []):
            answer = await through.get("/", headers)
            assert refusal_in(answer)["reason"] == "default"
    assert [request.credentials for request in a.requests] == [alice, alice]
    assert [request.credentials for request in b.requests] == [bob]


@asynccontextmanager
async def three_homes(origin: Origin) -> AsyncIterator[dict[str, LabProxy]]:
    async with (
        Socks5Proxy(resolve=behind(origin)) as one,
        Socks5Proxy(resolve=behind(origin)) as two,
        Socks5Proxy(resolve=behind(origin)) as three,
    ):
        yield {"home_1": one, "home_2": two, "home_3": three}


@shows("pool_round_robin.yaml")
async def test_exits_of_a_pool_take_turns(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        three_homes(origin) as homes,
        egress(tmp_path, **moved("pool_round_robin.yaml", **homes)) as mitm,
    ):
        for _ in range(6):
            assert (await http_get(mitm.port, WWW)).status == 200
    assert [home.accepted for home in homes.values()] == [2, 2, 2]


@shows("pool_round_robin.yaml")
async def test_open_connection_stays_with_its_exit(tmp_path: Path) -> None:
    tls = authority().server_context("www.example.com")
    async with (
        Origin(tls=tls) as origin,
        three_homes(origin) as homes,
        egress(tmp_path, **moved("pool_round_robin.yaml", **homes)) as mitm,
        session(mitm.port, "https://www.example.com", mitm.ca_cert) as through,
    ):
        for _ in range(3):
            assert (await through.get("/")).status == 200
    assert [home.accepted for home in homes.values()] == [1, 0, 0]


@shows("pool_round_robin.yaml")
async def test_exit_that_fails_is_not_replaced_by_direct(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        Socks5Proxy() as nowhere,  # to which no name is known
        egress(
            tmp_path,
            **moved("pool_round_robin.yaml", home_1=nowhere, home_2=nowhere, home_3=nowhere),
        ) as mitm,
    ):
        refusal = refusal_in(await http_get(mitm.port, WWW))
        assert (refusal["proxy"], refusal["reason"]) == ("home-1", "handshake_failed")
    assert origin.accepted == 0


@asynccontextmanager
async def program(name: str, *arguments: str, home: Path) -> AsyncIterator[asyncio.StreamReader]:
    """The output of an example program, line by line; its home directory is ``home``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", str(FOLDER / name), *arguments),
        stdout=PIPE,
        stderr=STDOUT,
        env={**os.environ, "HOME": str(home)},
    )
    assert process.stdout
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(output: asyncio.StreamReader, pattern: str) -> re.Match[str]:
    """The next line that matches; raises EOFError if the program ends without it."""
    async with asyncio.timeout(20):
        while line := (await output.readline()).decode():
            if match := re.search(pattern, line):
                return match
    raise EOFError(pattern)


@shows("embed.py")
async def test_embedded_policy_decides_and_reports(tmp_path: Path) -> None:
    policy = str(FOLDER / "direct_ipv6_only.yaml")
    async with (
        Origin(host="::1") as origin,
        program("embed.py", policy, "0", home=tmp_path) as output,
    ):
        port = int((await line_with(output, r"listening at \S*:(\d+)\b"))[1])
        assert (await http_get(port, origin.url())).status == 200
        await line_with(output, r"^http://.*'egress.peer_family': 'ipv6'")
        answer = await http_get(port, "http://127.0.0.1/")
        assert refusal_in(answer)["reason"] == "literal_contradiction"
        await line_with(output, "^http://127.0.0.1/ .*'egress.reason': 'literal_contradiction'")


@shows("embed.py")
async def test_embedded_policy_that_is_bad_does_not_start(tmp_path: Path) -> None:
    async with program("embed.py", str(tmp_path / "none.yaml"), "0", home=tmp_path) as output:
        await line_with(output, "none.yaml")
        with pytest.raises(EOFError):
            await line_with(output, "listening at")


@shows("read_a_refusal.py")
@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://refused.example.com/", "refused by the egress policy: EGRESS_REFUSED, .*rule"),
        ("https://refused.example.com/", "refused by the egress policy: EGRESS_REFUSED, .*rule"),
        ("http://127.0.0.1:ORIGIN/status/503", "^status 503$"),
        ("http://127.0.0.1:ORIGIN/x?y", "^status 200$"),
    ],
)
async def test_client_tells_a_refusal_from_a_503(tmp_path: Path, url: str, line: str) -> None:
    rules = [{"hosts": ["refused.example.com"], "use": "refuse"}]
    async with Origin() as origin, egress(tmp_path, rules=rules) as mitm:
        at = f"http://127.0.0.1:{mitm.port}"
        url = url.replace("ORIGIN", str(origin.port))
        async with program("read_a_refusal.py", at, url, home=tmp_path) as output:
            await line_with(output, line)


def test_every_example_is_shown_at_work(pytestconfig: pytest.Config) -> None:
    tests = {name for name in NAMES if name.startswith("test_")}
    assert tests
    assert "examples" in pytestconfig.getini("testpaths")
    assert COVERED | tests == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_says_what_it_shows_and_how_to_run_it(name: str) -> None:
    text = (FOLDER / name).read_text()
    if name.endswith(".py"):
        head = text.split('"""')[1].splitlines()
    else:
        head = text.partition("\nversion:")[0].splitlines()
        assert all(line.startswith("#") for line in head)
    said = [line.strip("# ") for line in head if line.strip("# ")]
    assert 2 <= len(said) <= 5
    assert any(f"examples/{name}" in line for line in said)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_in_the_readme(name: str) -> None:
    readme = (FOLDER.parent / "README.md").read_text()
    assert f"examples/{name}" in readme
