"""The policy in force: options at start and at run time, the policy file and its edits, life
cycle."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import ctx, hooks, optmanager, platform
from mitmproxy.addons.core import Core
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.exceptions import OptionsError
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import HttpStream
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy

from egress_policy import default_addons
from egress_policy.management.in_force import PolicyInForce
from egress_policy.management.management import Management
from egress_policy.proxy import seams
from egress_policy.proxy.addons import config
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.clients import Wire, http_get, socks5
from tests.helpers.knocking import Knocking, doors
from tests.helpers.mitm import SCRIPT, Mitm
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.origin import Origin, TcpEcho
from tests.helpers.proxies import Socks5Proxy
from tests.helpers.scene import egress, write_policy
from tests.helpers.server import LabServer

BROKEN = "version: 1\nrules:\n  - hosts: [origin.test]\n    yuse: direct\n"
NEEDS_REQUEST = {"filter": "~m POST", "use": "refuse"}


def in_force(mitm: Mitm) -> PolicyInForce:
    addon = find(EgressConfig)
    assert addon
    return addon.management.in_force


async def get(mitm: Mitm, origin: Origin) -> int:
    return (await http_get(mitm.port, origin.url())).status


async def echoes(tunnel: Wire) -> bool:
    await tunnel.send(b"ping")
    return await tunnel.receive(4) == b"ping"


# --- the policy file and its edits


async def test_an_edit_is_taken_and_a_broken_one_keeps_the_last_good_policy(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    async with Origin() as origin, egress(tmp_path, default="direct") as mitm:
        assert await get(mitm, origin) == 200
        policy.write_text(BROKEN)
        await mitm.wait_for_log("not reloaded")
        assert await get(mitm, origin) == 200
        assert f"{policy}:4: rules[0].yuse: unknown key" in in_force(mitm).file_error
        write_policy(policy, default="refuse")
        await mitm.wait_for_log("Egress policy reloaded: .*default refuse")
        assert await get(mitm, origin) == 503
        assert in_force(mitm).file_error == ""
    (warning,) = mitm.warnings  # one for all the looks at the broken file
    assert f"{policy}:4: rules[0].yuse" in warning


async def test_a_policy_file_that_goes_leaves_its_policy_and_may_come_back(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    async with Origin() as origin, egress(tmp_path, default="refuse") as mitm:
        policy.unlink()
        await mitm.wait_for_log("policy file is gone")
        assert await get(mitm, origin) == 503
        assert "gone" in in_force(mitm).file_error
        write_policy(policy, default="direct")
        await mitm.wait_for_log("Egress policy reloaded")
        assert await get(mitm, origin) == 200
    assert len(mitm.warnings) == 1


async def test_an_edit_during_the_start_is_not_missed(tmp_path: Path) -> None:
    policy = write_policy(tmp_path / "policy.yaml", default="direct")

    class Edits:
        """Comes before the other addons, so it runs when they have read the file but do not run
        yet."""

        def running(self) -> None:
            write_policy(policy, default="refuse")

    given = (*default_addons(), Edits())  # the last of these is the first in the chain
    async with Origin() as origin, Mitm(tmp_path, *given, egress_policy=str(policy)) as mitm:
        await mitm.wait_for_log("Egress policy reloaded")
        assert await get(mitm, origin) == 503


async def test_an_edited_proxy_loses_its_connections_and_no_other(tmp_path: Path) -> None:
    async with TcpEcho() as echo, Socks5Proxy() as one, Socks5Proxy() as two:
        resolve = {"one.test": echo.address, "two.test": echo.address}
        one.resolve = two.resolve = resolve

        def stated(**edit: Any) -> dict[str, Any]:
            entries = {"one": {"port": one.port, **edit}, "two": {"port": two.port}}
            common = {"type": "socks5", "host": "127.0.0.1"}
            return {
                "proxies": [{"name": name, **common, **entries[name]} for name in entries],
                "rules": [{"hosts": [f"{name}.test"], "use": name} for name in entries],
            }

        async with (
            egress(tmp_path, mode=["socks5"], **stated()) as mitm,
            socks5(mitm.port, "one.test", 80) as by_one,
            socks5(mitm.port, "two.test", 80) as by_two,
        ):
            for tunnel in (by_one, by_two):
                assert await echoes(tunnel)
            write_policy(tmp_path / "policy.yaml", **stated(notes="only words"))
            await mitm.wait_for_log("Egress policy reloaded")
            assert await echoes(by_one)
            write_policy(tmp_path / "policy.yaml", **stated(username="u", password="p"))
            assert await by_one.closed() == b""
            assert await echoes(by_two)


# --- options at run time


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("egress_default", "nope", "egress_default.*direct.*refuse"),
        ("egress_dns", ["not a server"], "egress_dns: .*192.0.2.53"),
        ("egress_dns_timeout_ms", 0, "egress_dns_timeout_ms.*1 to 60000"),
        ("egress_registry", "mysql://host/name", "egress_registry.*postgresql"),
        ("egress_listen", "nowhere", "egress_listen.*127.0.0.1:20128"),
        ("egress_policy", "missing.yaml", "missing.yaml.*read"),
        ("egress_policy", "broken.yaml", "broken.yaml:4: rules\\[0\\].yuse"),
        ("upstream_auth", "user:secret", "upstream_auth.*username and password"),
    ],
)
async def test_a_bad_value_is_rejected_and_the_old_one_stays_in_force(
    tmp_path: Path, option: str, value: object, words: str
) -> None:
    (tmp_path / "broken.yaml").write_text(BROKEN)
    if option == "egress_policy":
        value = str(tmp_path / str(value))
    async with Origin() as origin, egress(tmp_path, default="direct") as mitm:
        old = getattr(mitm.options, option)
        with pytest.raises(OptionsError, match=words):
            mitm.options.update(**{option: value})
        assert getattr(mitm.options, option) == old
        assert in_force(mitm).problem == ""
        assert await get(mitm, origin) == 200


async def test_good_values_are_taken_at_once(tmp_path: Path) -> None:
    async with Origin() as origin, Socks5Proxy() as proxy:
        (tmp_path / "socks.yaml").write_text(
            json.dumps(
                {
                    "version": 1,
                    "rules": [{"use": {"type": "socks5", "host": "127.0.0.1", "port": proxy.port}}],
                }
            )
        )
        async with egress(tmp_path) as mitm:
            assert await get(mitm, origin) == 200
            mitm.options.update(egress_default="refuse")
            assert await get(mitm, origin) == 503
            mitm.options.update(egress_policy=str(tmp_path / "socks.yaml"))
            assert await get(mitm, origin) == 200
            assert proxy.accepted == 1
            mitm.options.update(egress_socks5=False)
            answer = await http_get(mitm.port, origin.url())
            assert answer.json["reason"] == "socks5_disabled"
            mitm.options.update(egress_policy="", egress_default="direct")
            assert await get(mitm, origin) == 200
    assert proxy.accepted == 1


async def test_another_policy_file_is_watched_from_then_on(tmp_path: Path) -> None:
    other = write_policy(tmp_path / "other.yaml", default="direct")
    async with Origin() as origin, egress(tmp_path, default="direct") as mitm:
        mitm.options.update(egress_policy=str(other))
        write_policy(tmp_path / "policy.yaml", default="refuse")  # nobody looks any more
        write_policy(other, rules=[{"name": "new", "use": "direct"}])
        await mitm.wait_for_log("Egress policy reloaded: .*other.yaml")
        assert await get(mitm, origin) == 200
        assert mitm.http_flows[-1].metadata["egress.rule"] == "new"


async def test_a_value_that_another_addon_rejects_is_taken_back(tmp_path: Path) -> None:
    class Picky:
        picky = False

        def configure(self, updated: set[str]) -> None:
            if self.picky and "egress_default" in updated:
                self.picky = False
                raise OptionsError("not with me")

    picky = Picky()
    async with Origin() as origin, Mitm(tmp_path, picky, *default_addons()) as mitm:
        picky.picky = True
        with pytest.raises(OptionsError, match="not with me"):
            mitm.options.update(egress_default="refuse")
        assert not picky.picky
        assert await get(mitm, origin) == 200


async def test_a_rule_that_needs_the_request_makes_connections_lazy(tmp_path: Path) -> None:
    async with Origin() as origin, egress(tmp_path, rules=[NEEDS_REQUEST]) as mitm:
        await mitm.wait_for_log("a rule needs the request, so connection_strategy is now lazy")
        assert mitm.options.connection_strategy == "lazy"
        mitm.options.update(connection_strategy="eager")
        assert mitm.options.connection_strategy == "lazy"
        assert await get(mitm, origin) == 200


async def test_an_edit_that_needs_the_request_makes_connections_lazy(tmp_path: Path) -> None:
    async with egress(tmp_path) as mitm:
        mitm.options.update(connection_strategy="lazy")
        mitm.options.update(connection_strategy="eager")
        assert mitm.options.connection_strategy == "eager"
        write_policy(tmp_path / "policy.yaml", rules=[NEEDS_REQUEST])
        await mitm.wait_for_log("Egress policy reloaded")
        assert mitm.options.connection_strategy == "lazy"


# --- a master of one's own, or a script, goes on after an error at start: closed (I11)


def stranger(name: str) -> Any:
    return SimpleNamespace(name=name)


class Rejects:
    """Rejects an option of the policy when it is ``declared``, or when it is ``set``."""

    def __init__(self, when: str) -> None:
        self.when = when

    def configure(self, updated: set[str]) -> None:
        is_set = "egress_default" in updated and ctx.options.egress_default == "refuse"
        if is_set or (self.when == "declared" and "egress_default" in updated):
            raise OptionsError("not with me")


WRONG: dict[str, dict[str, Any]] = {
    "a bad value": {"egress_default": "nope"},
    "a value that cannot be parsed": {"egress_dns_timeout_ms": "abc"},
    "a misspelt name": {"egress_defualt": "refuse"},
    "no such policy file": {"egress_policy": "missing.yaml"},
    "upstream_auth": {"upstream_auth": "user:secret"},
    "no place to listen": {"egress_listen": "nowhere"},
    "no such registry": {"egress_registry": "mysql://host/name"},
}
BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "an unknown mitmproxy": lambda patch: patch.setattr(seams, "check", lambda: "not supported"),
    "a check that breaks": lambda patch: patch.setattr(seams, "check", 5),
    "a seam that breaks": lambda patch: patch.setattr(seams, "install", 5),
    "load": lambda patch: patch.setattr(config, "OPTIONS", [5]),
    "configure": lambda patch: patch.setattr(config, "parse_settings", 5),
    "opening": lambda patch: patch.setattr(Management, "open", 5),
    "putting in force": lambda patch: patch.setattr(Management, "take", 5),
}


@asynccontextmanager
async def shut(
    folder: Path, *given: object, **options: Any
) -> AsyncIterator[tuple[Mitm, LabServer]]:
    """A mitmproxy that starts with a fault. No client gets out, in any mode, from before it listens
    until it ends, also if another option is changed."""
    async with Origin() as origin:
        all_doors = doors(origin)
        options |= {"mode": [door.mode for door in all_doors], "expect_errors": True}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(platform, "original_addr", lambda _: origin.address)
            async with Knocking(all_doors), Mitm(folder, *given, **options) as mitm:
                await Knocking(all_doors).once()
                yield mitm, origin
                with suppress(OptionsError, KeyError):
                    mitm.options.update(egress_socks5=False)
                await Knocking(all_doors).once()
        assert origin.accepted == 0


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("as_script", [False, True], ids=["embedded", "script"])
async def test_what_could_not_be_enforced_at_start_refuses_everything(
    tmp_path: Path, wrong: str, as_script: bool
) -> None:
    options = WRONG[wrong]
    given = () if as_script else default_addons()
    scripts = [str(SCRIPT)] if as_script else []
    async with shut(tmp_path, *given, scripts=scripts, **options) as (mitm, origin):
        assert mitm.errors
        assert next(iter(options)) in in_force(mitm).problem or "missing.yaml" in mitm.text
        for scheme in ("http", "https"):
            url = f"{scheme}://{origin.authority}/"
            assert (await http_get(mitm.ports[3], url, ca=mitm.ca_cert)).status == 503


@pytest.mark.parametrize("what", BREAKS)
async def test_whatever_breaks_on_the_way_to_a_policy_nothing_leaves(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    BREAKS[what](monkeypatch)
    async with shut(tmp_path, scripts=[str(SCRIPT)]) as (mitm, _):
        assert mitm.errors


@pytest.mark.parametrize("when", ["declared", "set"])
async def test_addons_that_another_rejects_refuse_everything(tmp_path: Path, when: str) -> None:
    rejects, scripts = Rejects(when), [str(SCRIPT)]
    async with shut(tmp_path, rejects, scripts=scripts, egress_default="refuse") as (mitm, _):
        assert any("not with me" in error for error in mitm.errors)


@pytest.mark.parametrize("value", ["refuse", "direct"])
async def test_a_bad_value_for_an_option_of_another_script_does_not_stop_the_addon(
    tmp_path: Path, value: str
) -> None:
    other = tmp_path / "other.py"
    other.write_text("def load(loader): loader.add_option('egg_count', int, 1, 'of another')\n")
    options: dict[str, Any] = {
        "scripts": [str(other), str(SCRIPT)],
        "egg_count": optmanager._UnconvertedStrings(["many"]),
        "egress_default": value,
    }
    async with Origin() as origin, Mitm(tmp_path, expect_errors=True, **options) as mitm:
        assert any("Bad value for egg_count" in error for error in mitm.errors)
        assert await get(mitm, origin) == (200 if value == "direct" else 503)


OURS = ["guard", "config", "select", "recorder", "api", "console"]


@pytest.mark.parametrize("names", [[name] for name in OURS] + [OURS], ids="+".join)
async def test_a_foreign_addon_with_our_name_does_not_keep_the_policy_out(
    tmp_path: Path, names: list[str]
) -> None:
    strangers = [stranger(f"egress{name}") for name in names]
    policy = write_policy(tmp_path / "policy.yaml", default="refuse")
    options: dict[str, Any] = {"scripts": [str(SCRIPT)], "egress_policy": str(policy)}
    mitm = Mitm(tmp_path / "conf", *strangers, **options)
    async with Origin() as origin, mitm:
        assert await get(mitm, origin) == 503
        write_policy(policy, default="direct")
        await mitm.wait_for_log("Egress policy reloaded")
        assert await get(mitm, origin) == 200
        assert [type(one).__name__ for one in mitm.master.addons.chain].count("EgressGuard") == 1
        mitm.options.update(scripts=[])  # it can be removed as well
        assert await get(mitm, origin) == 503
    assert origin.accepted == 1


async def test_an_option_that_is_misspelt_after_the_set_up_is_noticed_before_anybody_is_let_in(
    tmp_path: Path,
) -> None:
    class Late:
        """An embedding program that sets up a master: the addons already have their options."""

        def configure(self, updated: set[str]) -> None:
            ctx.options.deferred["egress_defualt"] = "refuse"

    async with shut(tmp_path, *default_addons(), Late()) as (mitm, _):
        assert any("Unknown option egress_defualt" in error for error in mitm.errors)


async def test_an_option_that_is_misspelt_within_a_change_is_not_forgotten_with_the_change(
    tmp_path: Path,
) -> None:
    class Rejects:
        def configure(self, updated: set[str]) -> None:
            if ctx.options.egress_default == "refuse" and "egress_default" in updated:
                ctx.options.deferred["egress_defualt"] = "refuse"
                ctx.options.update(showhost=True)
                raise OptionsError("no")

    mitm = Mitm(tmp_path / "conf", *default_addons(), expect_errors=True)
    async with Origin() as origin, mitm:
        mitm.master.addons.add(Rejects())
        assert await get(mitm, origin) == 200
        with pytest.raises(OptionsError):
            mitm.options.update(egress_default="refuse")
        assert await get(mitm, origin) == 503
        assert "Unknown option egress_defualt" in in_force(mitm).problem


async def test_a_policy_that_was_broken_at_start_is_taken_once_it_is_good(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(BROKEN)
    mitm = Mitm(tmp_path / "conf", *default_addons(), expect_errors=True, egress_policy=str(policy))
    async with Origin() as origin, mitm:
        assert await get(mitm, origin) == 503
        write_policy(policy, default="direct")
        await mitm.wait_for_log("Egress policy reloaded")
        assert await get(mitm, origin) == 200
        assert in_force(mitm).problem == ""


# --- a master of one's own may have few addons


async def test_a_master_without_the_option_upstream_auth_takes_the_policy(tmp_path: Path) -> None:
    master = Master(Options(confdir=str(tmp_path), listen_host="127.0.0.1", listen_port=0))
    servers, started = Proxyserver(), asyncio.Event()

    class Started:
        def running(self) -> None:
            started.set()

    manager = master.addons
    manager.add(Core(), servers, NextLayer(), *default_addons(), Started())
    master.options.update(egress_registry="", egress_listen="", egress_default="refuse")
    running = asyncio.create_task(master.run())
    async with Origin() as origin:
        await started.wait()
        (server,) = servers.servers
        answer = await http_get(server.listen_addrs[0][1], origin.url())
        assert answer.status == 503
        assert answer.headers["x-egress-error"] == "EGRESS_REFUSED"
    await servers.servers.update([])
    master.shutdown()
    await running
    assert origin.accepted == 0


# --- life cycle


def tasks_of_ours() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "egress" in task.get_name()]


def add(mitm: Mitm, addons: list[Any]) -> None:
    """What mitmproxy does with a script that is loaded while it runs."""
    manager = mitm.master.addons
    manager.add(*addons)
    for hook in (hooks.ConfigureHook(set(mitm.options.keys())), hooks.RunningHook()):
        for addon in addons:
            manager.invoke_addon_sync(addon, hook)


async def remove(mitm: Mitm, addons: list[Any]) -> None:
    for addon in addons:
        mitm.master.addons.remove(addon)
    await asyncio.wait([*tasks_of_ours(), asyncio.create_task(asyncio.sleep(0))], timeout=10)
    assert tasks_of_ours() == []


async def test_addons_that_are_removed_leave_no_task_and_no_way_out(tmp_path: Path) -> None:
    addons = default_addons()
    policy = write_policy(tmp_path / "policy.yaml", default="direct")
    async with Origin() as origin, Mitm(tmp_path, *addons, egress_policy=str(policy)) as mitm:
        assert await get(mitm, origin) == 200
        assert tasks_of_ours()
        await remove(mitm, addons)
        assert await get(mitm, origin) == 503
    assert len(origin.requests) == 1


@pytest.mark.parametrize("same", [False, True], ids=["new ones", "the same ones"])
async def test_addons_work_when_they_are_added_again(tmp_path: Path, same: bool) -> None:
    addons = default_addons()
    policy = write_policy(tmp_path / "policy.yaml", default="direct")
    async with Origin() as origin, Mitm(tmp_path, *addons, egress_policy=str(policy)) as mitm:
        await remove(mitm, addons)
        write_policy(policy, rules=[{"name": "new", "use": "direct"}])
        add(mitm, addons if same else default_addons())
        assert await get(mitm, origin) == 200
        assert mitm.http_flows[-1].metadata["egress.rule"] == "new"
        write_policy(policy, default="refuse")
        await mitm.wait_for_log("Egress policy reloaded")
        assert await get(mitm, origin) == 503


async def test_a_part_that_raises_does_not_keep_the_others_from_running_or_ending(
    tmp_path: Path,
) -> None:
    class Part:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def running(self) -> None:
            self.calls.append("running")
            raise ValueError("a part fails")

        def done(self) -> None:
            self.calls.append("done")
            raise ValueError("a part fails")

    addons, parts = default_addons(), (Part(), Part())
    addons[0].parts = parts
    policy = write_policy(tmp_path / "policy.yaml", default="direct")
    mitm = Mitm(tmp_path, *addons, egress_policy=str(policy), expect_errors=True)
    async with Origin() as origin, mitm:
        assert await get(mitm, origin) == 200
        await remove(mitm, addons)
    assert [part.calls for part in parts] == [["running", "done"]] * 2


async def test_a_question_to_dns_does_not_outlive_the_addons(tmp_path: Path) -> None:
    addons = default_addons()
    policy = write_policy(tmp_path / "policy.yaml", rules=[{"use": "direct", "family": "ipv4"}])
    async with Nameserver({("origin.test", "A"): Reply(silent=True)}) as nameserver:
        options: dict[str, Any] = {
            "egress_policy": str(policy),
            "egress_hosts_file": "",
            "egress_dns": [nameserver.address],
            "egress_dns_timeout_ms": 60_000,
        }
        async with Mitm(tmp_path, *addons, **options) as mitm:
            waiting = asyncio.create_task(http_get(mitm.port, "http://origin.test/"))
            await nameserver.arrived.wait()
            await remove(mitm, addons)
            assert (await waiting).status == 503


async def test_a_master_that_ends_leaves_no_task(tmp_path: Path) -> None:
    async with egress(tmp_path) as mitm:
        assert tasks_of_ours()
        mitm.options.update(egress_dns_timeout_ms=100)
    assert tasks_of_ours() == []


async def test_mitmproxys_own_functions_are_back_after_each_master(tmp_path: Path) -> None:
    def functions() -> list[Any]:
        return [HttpUpstreamProxy.__dict__["make"], HttpStream.__dict__["make_server_connection"]]

    own = functions()
    for _ in range(2):
        async with Origin() as origin, egress(tmp_path) as mitm:
            assert not any(one is other for one, other in zip(functions(), own, strict=True))
            assert await get(mitm, origin) == 200
        assert functions() == own
    async with Origin() as origin, Mitm(tmp_path / "stock") as mitm:
        assert await get(mitm, origin) == 200
