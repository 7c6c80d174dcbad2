"""The commands: showing the policy in force, and reading the policy file again."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.addons.view import View
from mitmproxy.exceptions import CommandError
from mitmproxy.test import tflow
from mitmproxy.types import CommandTypes

from egress_policy import default_addons
from egress_policy.management.exit_views import Pushed
from egress_policy.proxy.addons import console
from egress_policy.proxy.addons.console import EgressConsole
from egress_policy.version import VERSION
from tests.helpers.clients import http_get, plain_client, session
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin
from tests.helpers.scene import egress, part, write_policy
from tests.management.test_members import fail, pick, policy

EXITS = [{"name": name, "host": "192.0.2.1", "password": "s3cret"} for name in ("one", "two")]


def status(mitm: Mitm) -> dict[str, str]:
    heading, *rows = mitm.master.commands.execute("egress.status")
    assert heading == ["name", "value"]
    return {str(name): str(value) for name, value in rows}


async def test_status_says_what_is_in_force(tmp_path: Path) -> None:
    rules = [{"hosts": ["a.test"], "use": "one"}]
    async with egress(tmp_path, proxies=EXITS, rules=rules, default="refuse") as mitm:
        assert status(mitm) == {
            "state": "in force",
            "policy": f"egress policy {VERSION}: {tmp_path / 'policy.yaml'}, "
            "2 proxies, 1 rule, default refuse",
            "default": "refuse",
            "proxies": "one, two",
            "last reload": "good",
            "registry": "none",
            "circuits": "0 open, 0 half-open",
            "page": "none",
        }


async def test_status_without_a_policy_file(tmp_path: Path) -> None:
    async with Mitm(tmp_path, *default_addons()) as mitm:
        told = status(mitm)
        assert "no policy file, 0 proxies, 0 rules, default direct" in told["policy"]
        assert told["proxies"] == "none"


async def test_status_says_why_nothing_is_in_force(tmp_path: Path) -> None:
    mitm = Mitm(tmp_path, *default_addons(), expect_errors=True, egress_default="maybe")
    async with mitm:
        told = status(mitm)
        assert "egress_default" in told["state"]
        assert told["default"] == "refuse"


async def test_exits_are_listed_with_what_is_not_as_expected(tmp_path: Path) -> None:
    proxies = [{**EXITS[0], "exit_family": "ipv6"}, EXITS[1]]
    async with egress(tmp_path, proxies=proxies) as mitm:
        management = part(EgressConsole).management
        await management.exits.push([Pushed("one", "198.51.100.9")])
        head, one, two = mitm.master.commands.execute("egress.exits")
        assert head == ["proxy", "exit", "verdict"]
        assert one[:2] == ["one", "ipv4 198.51.100.9"]
        assert one[2].startswith("unknown, seen 20")
        assert one[2].endswith(", a target saw an IPv4 address, and exit_family is ipv6")
        assert two == ["two", "", "unknown"]


async def test_reload_takes_an_edit_at_once(tmp_path: Path) -> None:
    async with egress(tmp_path, default="direct") as mitm:
        write_policy(tmp_path / "policy.yaml", proxies=EXITS, default="refuse")
        mitm.master.commands.execute("egress.reload")
        await mitm.wait_for_log("Egress: the policy file is read again")
        assert status(mitm)["default"] == "refuse"
        assert status(mitm)["proxies"] == "one, two"


async def test_reload_of_a_broken_file_says_where_and_keeps_the_last_good_policy(
    tmp_path: Path,
) -> None:
    async with egress(tmp_path, default="direct") as mitm:
        (tmp_path / "policy.yaml").write_text("version: 1\nproxys: []\n")
        mitm.master.commands.execute("egress.reload")
        await mitm.wait_for_log(r"Egress: .*policy\.yaml:2: proxys: unknown key")
        assert status(mitm)["default"] == "direct"
        assert status(mitm)["state"] == "in force"
        assert "policy.yaml:2: proxys: unknown key" in status(mitm)["last reload"]
        write_policy(tmp_path / "policy.yaml", default="refuse")
        mitm.master.commands.execute("egress.reload")
        await mitm.wait_for_log("Egress: the policy file is read again")
        assert status(mitm)["last reload"] == "good"


async def test_reload_without_a_policy_file_says_so(tmp_path: Path) -> None:
    async with Mitm(tmp_path, *default_addons()) as mitm:
        with pytest.raises(CommandError, match="egress_policy names no file"):
            mitm.master.commands.execute("egress.reload")


async def test_commands_show_no_secret(tmp_path: Path) -> None:
    async with egress(tmp_path, proxies=EXITS) as mitm:
        for command in ("status", "proxy.list", "rules", "explain http://x.test/"):
            assert "s3cret" not in str(mitm.master.commands.execute(f"egress.{command}"))
        mitm.master.commands.execute(f"egress.export {tmp_path / 'out.txt'}")
        assert "s3cret" not in (tmp_path / "out.txt").read_text()


NAMED = [
    *("proxy.edit", "proxy.remove", "proxy.enable", "proxy.disable", "proxy.test", "proxy.reset")
]


@pytest.mark.parametrize("command", NAMED)
async def test_names_of_proxies_are_completed(command: str, tmp_path: Path) -> None:
    async with egress(tmp_path, proxies=EXITS) as mitm:
        commands = mitm.master.commands
        parsed, _ = commands.parse_partial(f"egress.{command} o")
        kind = CommandTypes.get(parsed[-1].type)
        assert kind
        assert kind.completion(commands, parsed[-1].type, "o") == ["one", "two"]


async def test_uses_are_completed(tmp_path: Path) -> None:
    async with egress(tmp_path, **policy()) as mitm:
        names = ["home-1", "home-2", "home-3", "homes", "direct", "refuse", "clear"]
        assert mitm.master.commands.execute("egress.use.names") == names
        mitm.master.addons.add(View())
        with pytest.raises(CommandError, match="Invalid choice"):
            mitm.master.commands.call_strings("egress.use", ["@all", "nobody"])


def test_types_of_arguments_are_stated_innermost() -> None:
    """From Python 3.14 on, they are lost in any other place."""
    tree = ast.parse(inspect.getsource(console))
    functions = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    wrappers = [[ast.unparse(one) for one in function.decorator_list] for function in functions]
    stated = [names for names in wrappers if any("command.argument" in name for name in names)]
    assert len(stated) == len(NAMED) + 2  # one names a pool, one anything to use
    assert all(names[-1].startswith("command.argument(") for names in stated)


# --- the registry


def registry(folder: Path, **options: Any) -> Mitm:
    return Mitm(folder, *default_addons(), egress_registry=str(folder / "egress.db"), **options)


async def run(mitm: Mitm, command: str, said: str) -> None:
    mitm.master.commands.execute(command)
    await mitm.wait_for_log(said)


def listed(mitm: Mitm) -> dict[str, list[str]]:
    _, *rows = mitm.master.commands.execute("egress.proxy.list")
    return {str(row[0]): [str(cell) for cell in row[1:]] for row in rows}


async def test_registry_is_kept_by_commands(tmp_path: Path) -> None:
    async with registry(tmp_path) as mitm:
        await run(mitm, "egress.proxy.add one 'socks5://192.0.2.1:1080'", "added one")
        assert listed(mitm)["one"] == ["socks5 192.0.2.1 port 1080, auto", "active, closed"]
        await run(mitm, "egress.proxy.edit one family ipv4", "changed family of one")
        await run(mitm, "egress.proxy.edit one port 99", "changed port of one")
        await run(mitm, "egress.proxy.edit one max_connections 5", "changed max_connections of one")
        await run(
            mitm,
            'egress.proxy.edit one exit_in "192.0.2.1 198.51.100.0/24"',
            "changed exit_in of one",
        )
        await run(mitm, "egress.proxy.edit one exit_enforce true", "changed exit_enforce of one")
        assert listed(mitm)["one"][0] == "socks5 192.0.2.1 port 99, ipv4"
        await run(mitm, "egress.proxy.edit one family ipv6", "contradicts IPv4 literal host")
        await run(mitm, "egress.proxy.disable one", "one is inactive")
        assert listed(mitm)["one"][1] == "inactive, unusable"
        await run(mitm, "egress.proxy.enable one", "one is active; egress.undo takes it back")
        await run(mitm, "egress.undo", "taken back: one: active")
        assert listed(mitm)["one"][1] == "inactive, unusable"
        await run(mitm, "egress.undo", "taken back: one: inactive")
        await run(mitm, "egress.undo", "nothing to undo")
        assert mitm.master.commands.execute("egress.proxy.names") == ["one"]
        await run(mitm, "egress.proxy.remove one", "removed one")
        assert listed(mitm) == {}


@pytest.mark.parametrize(
    "command",
    [
        "egress.proxy.add two 'http://u:s3cret@192.0.2.1:8080'",
        "egress.proxy.add two u:s3cret@192.0.2.1:8080",
        "egress.proxy.edit one password s3cret",
    ],
)
async def test_password_is_not_taken_from_the_prompt(tmp_path: Path, command: str) -> None:
    async with registry(tmp_path) as mitm:
        await run(mitm, "egress.proxy.add one 'http://192.0.2.1:1'", "added one")
        with pytest.raises(CommandError, match="password_file") as told:
            mitm.master.commands.execute(command)
        assert "s3cret" not in str(told.value) + mitm.text
        assert list(listed(mitm)) == ["one"]


async def test_password_is_taken_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.touch(0o600)
    file.write_text("s3cret\n")
    async with registry(tmp_path) as mitm:
        await run(mitm, f"egress.proxy.add one socks5://u@192.0.2.1:1080 {file}", "added one")
        assert kept_password(mitm) == "s3cret"
        monkeypatch.setenv("ONE_PASSWORD", "other")
        await run(mitm, "egress.proxy.edit one password_env ONE_PASSWORD", "changed password")
        assert kept_password(mitm) == "other"
        with pytest.raises(CommandError, match="one file"):
            mitm.master.commands.execute(f"egress.proxy.add two http://h.test:1 {file} {file}")
        file.chmod(0o644)
        with pytest.raises(CommandError, match="can be read by others"):
            mitm.master.commands.execute(f"egress.proxy.edit one password_file {file}")
        with pytest.raises(CommandError, match="cannot be read: No such file"):
            mitm.master.commands.execute(f"egress.proxy.edit one password_file {file}.none")
        assert "s3cret" not in mitm.text


def kept_password(mitm: Mitm) -> str:
    (proxy,) = part(EgressConsole).management.router.snapshot.proxies.values()
    return str(proxy.password.get_secret_value())


async def test_list_is_imported_and_its_errors_are_reported(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("192.0.2.1:1080\nnonsense\n")
    async with registry(tmp_path) as mitm:
        said = (
            "1 proxy created, 0 skipped, 1 failed; 1 line names no type: taken as socks5; line 2: "
        )
        await run(mitm, f"egress.import {tmp_path / 'list.txt'}", said)
        assert list(listed(mitm)) == ["192.0.2.1:1080"]
        with pytest.raises(CommandError, match="cannot be read"):
            mitm.master.commands.execute(f"egress.import {tmp_path / 'none'}")


async def test_proxy_is_tested_through_its_hop(tmp_path: Path) -> None:
    async with registry(tmp_path) as mitm:
        await run(mitm, "egress.proxy.add one 'http://127.0.0.1:1'", "added one")
        await run(mitm, "egress.proxy.test one", "one: .*refused")
        assert re.search("test: .*refused", listed(mitm)["one"][1])
        with pytest.raises(CommandError, match="Invalid choice"):
            mitm.master.commands.execute("egress.proxy.test nobody")


def use(mitm: Mitm, *how: object) -> None:
    mitm.master.commands.call("egress.use", mitm.flows, *how)


async def test_flows_are_given_another_way_out_and_undo_takes_that_back(tmp_path: Path) -> None:
    async with registry(tmp_path) as mitm, Origin() as origin:
        await run(mitm, "egress.proxy.add one 'http://127.0.0.1:1'", "added one")
        assert (await http_get(mitm.port, origin.url())).status == 200
        use(mitm, "one")
        await mitm.wait_for_log(
            r"127.0.0.1: one \(host:127.0.0.1\), was direct \(default\); "
            "for all clients, until it is cleared. egress.undo takes it back"
        )
        assert (await http_get(mitm.port, origin.url())).status == 503
        assert mitm.http_flows[-1].metadata["egress.rule"] == "host:127.0.0.1"
        use(mitm, "direct")
        await mitm.wait_for_log(r"direct \(use:127.0.0.1\), was one")
        assert (await http_get(mitm.port, origin.url())).status == 200
        use(mitm, "refuse")
        await mitm.wait_for_log(r"refuse \(use:127.0.0.1\), was direct")
        assert (await http_get(mitm.port, origin.url())).status == 503
        use(mitm, "clear")
        await mitm.wait_for_log(r"direct \(default\), was refuse .*the other rules decide again")
        assert (await http_get(mitm.port, origin.url())).status == 200
        await run(mitm, "egress.undo", "taken back: 127.0.0.1: clear")
        await run(mitm, "egress.undo", "taken back: 127.0.0.1: refuse")
        await run(mitm, "egress.undo", "taken back: 127.0.0.1: direct")
        assert (await http_get(mitm.port, origin.url())).status == 503


async def test_several_hosts_are_changed_only_by_who_says_how_many(tmp_path: Path) -> None:
    async with registry(tmp_path, egress_default="refuse") as mitm:
        for number in range(7):
            await http_get(mitm.port, f"http://h{number}.test/")
        ask = r"^Add 7 to change 7 hosts: h0.test, .*, h4.test, \.\.\.$"
        for count in ((), (6,), (7, 7)):
            with pytest.raises(CommandError, match=ask):
                use(mitm, "direct", *count)
        rules = mitm.master.commands.execute("egress.rules")
        assert len(rules) == 1
        use(mitm, "direct", 7)
        await mitm.wait_for_log("h4.test: .*. 2 hosts more. egress.undo takes it back")
        assert len(mitm.master.commands.execute("egress.rules")) == 8
        await run(mitm, "egress.undo", "taken back: 7 hosts: direct")
        with pytest.raises(CommandError, match="no HTTP flow"):
            mitm.master.commands.call("egress.use", [], "direct")


async def test_question_shows_a_host_of_a_saved_flow_without_controlling_the_terminal(
    tmp_path: Path,
) -> None:
    flows = [tflow.tflow(), tflow.tflow()]
    flows[0].request.data.host = "\x1b[2J\u202e"
    async with registry(tmp_path) as mitm:
        with pytest.raises(CommandError) as raised:
            mitm.master.commands.call("egress.use", flows, "direct")
    assert str(raised.value) == "Add 2 to change 2 hosts: \\x1b[2J\\u202e, address"


async def test_use_says_which_earlier_rule_overrules_what_was_set(tmp_path: Path) -> None:
    rules = [{"name": "mine", "filter": "~m GET & ~u mine", "use": "direct"}]
    registry_ = str(tmp_path / "egress.db")
    async with egress(tmp_path, rules=rules, egress_registry=registry_) as mitm, Origin() as origin:
        await run(mitm, "egress.proxy.add one 'http://127.0.0.1:1'", "added one")
        assert (await http_get(mitm.port, origin.url() + "mine")).status == 200
        use(mitm, "one")
        await mitm.wait_for_log(
            r"127.0.0.1: direct \(mine\) as before, because rule mine comes first"
        )
        assert (await http_get(mitm.port, origin.url() + "mine")).status == 200
        assert (await http_get(mitm.port, origin.url())).status == 503


async def test_flow_in_focus_is_explained(tmp_path: Path) -> None:
    rules = [{"name": "mine", "filter": "~u mine", "use": "direct"}]
    view = View()
    mitm = egress(tmp_path, rules=rules, default="refuse")
    async with mitm, Origin() as origin:
        mitm.master.addons.add(view)
        execute = mitm.master.commands.execute
        with pytest.raises(CommandError, match="One flow is expected, and @focus names 0"):
            execute("egress.explain @focus")
        assert (await http_get(mitm.port, origin.url() + "mine")).status == 200
        [flow] = await mitm.wait_for_flows(1)
        view.add([flow])
        head, took, *rows = execute("egress.explain @focus")
        assert head == ["rule", "verdict", "why"]
        assert took[:2] == ["this flow", "direct"]
        assert rows[0][:2] == ["mine", "matched"]


async def test_explain_and_rules_are_tables(tmp_path: Path) -> None:
    rules = [{"name": "r", "hosts": ["a.test"], "use": "one"}]
    async with egress(tmp_path, proxies=EXITS, rules=rules) as mitm:
        assert mitm.master.commands.execute("egress.rules")[1] == [
            *("r", "a.test", "one, policy file")
        ]
        rows = mitm.master.commands.execute("egress.explain http://a.test/")
        assert ["r", "matched", "rule r (hosts) matches"] in rows
        with pytest.raises(CommandError):
            mitm.master.commands.execute("egress.explain nonsense")
        many = [{"hosts": [f"n{number}.test"], "use": "one"} for number in range(300)]
        write_policy(tmp_path / "policy.yaml", proxies=EXITS, rules=many)
        await mitm.wait_for_log("reloaded")
        rows = mitm.master.commands.execute("egress.explain http://n150.test/")
        assert ["...", "not matched", "100 rules before these"] in rows
        assert ["...", "not reached", "101 rules more"] in rows


async def test_members_of_a_pool_and_a_reset(tmp_path: Path) -> None:
    async with egress(tmp_path, **policy()) as mitm:
        execute = mitm.master.commands.execute
        management = part(EgressConsole).management
        fail(management, "home-2")
        pick(management)
        head, one, two, three = execute("egress.pool.status homes")
        assert head == ["proxy", "state", "use"]
        assert one == ["home-1", "active, closed", "0 open, share 100% (due 50%)"]
        assert two[:2] == ["home-2", "active, open"]
        assert two[2].startswith("0 open, share 0% (due 0%); 3 x connect_refused; tried in ")
        assert three[2] == "0 open, share 0% (due 50%)"
        assert listed(mitm)["home-2"][1].startswith("active, open")
        assert status(mitm)["circuits"] == "1 open, 0 half-open"
        rows = execute("egress.explain http://a.test/")
        assert any(row[0] == "home-2" and "open: 3 x connect_refused" in row[2] for row in rows)
        assert "nothing is picked here" in rows[-1][2]
        assert execute("egress.proxy.reset home-2") == "home-2 is closed, was open"
        assert execute("egress.proxy.reset home-2") == "home-2 is closed"
        assert execute("egress.pool.names") == ["homes"]
        for command in ("pool.status nowhere", "proxy.reset nobody"):
            with pytest.raises(CommandError, match="Invalid choice"):
                execute(f"egress.{command}")


async def test_connections_are_cut(tmp_path: Path) -> None:
    async with (
        registry(tmp_path) as mitm,
        Origin() as origin,
        session(mitm.port, origin.url()) as client,
    ):
        assert (await client.get("/")).status == 200
        await run(mitm, "egress.cut nowhere", "Egress: 0 connections are cut")
        await run(mitm, "egress.cut all", "Egress: 1 connection is cut")


async def test_dashboard_without_an_api_says_so(tmp_path: Path) -> None:
    async with registry(tmp_path) as mitm:
        with pytest.raises(CommandError, match="egress_listen is empty"):
            mitm.master.commands.execute("egress.dashboard")


async def test_page_is_opened_by_a_file_that_others_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody on the machine can see the arguments of a browser's command."""
    started: list[str] = []

    def start(url: str) -> bool:
        started.append(url)
        return True

    monkeypatch.setattr("mitmproxy.tools.web.webaddons.open_browser", start)
    async with registry(tmp_path, egress_listen="127.0.0.1:0") as mitm:
        shown = mitm.master.commands.execute("egress.dashboard")
        page = status(mitm)["page"]
        assert shown.startswith("opened")
        (url,) = started
        file = Path(url.removeprefix("file://"))
        found = re.search(rf"{page}#([\w-]{{40,}})", file.read_text())
        assert found
        assert file.stat().st_mode & 0o077 == 0
        for seen in (url, shown, mitm.text):
            assert found[1] not in seen
    assert not file.exists()


async def test_link_is_shown_where_no_browser_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    open_browser = "mitmproxy.tools.web.webaddons.open_browser"
    monkeypatch.setattr(open_browser, started.append)
    async with registry(tmp_path, egress_listen="127.0.0.1:0") as mitm:
        shown = mitm.master.commands.execute("egress.dashboard")
        assert not Path(started[0].removeprefix("file://")).exists()
        async with plain_client() as client:
            page, _, word = shown.partition("#")
            assert page == status(mitm)["page"]
            opened = await client.post(f"{page}api/v1/session", json={"link": word})
            assert opened.status_code == 200
        assert word not in mitm.text


async def test_link_is_shown_where_no_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    async with registry(tmp_path, egress_listen="127.0.0.1:0") as mitm:
        shown = mitm.master.commands.execute("egress.dashboard")
        assert shown.startswith(status(mitm)["page"] + "#")
        assert "No such file" in shown


async def test_without_a_registry_changes_are_refused_with_a_reason(tmp_path: Path) -> None:
    async with Mitm(tmp_path, *default_addons()) as mitm:
        await run(mitm, "egress.proxy.add one 'http://192.0.2.1:1'", "egress_registry is empty")


async def test_proxy_without_a_type_is_not_added(tmp_path: Path) -> None:
    async with registry(tmp_path) as mitm:
        with pytest.raises(CommandError, match=r"socks5://192\.0\.2\.1:8080"):
            mitm.master.commands.execute("egress.proxy.add one 192.0.2.1:8080")


async def test_no_stored_text_controls_a_terminal(tmp_path: Path) -> None:
    """In tables, alerts and errors: a name and a region that turn the direction and hide."""
    listing = tmp_path / "list.csv"
    name = "x\u202ey\u200b"
    listing.write_text(f"name,host,port,type\n{name},192.0.2.1,1,http\n{name},192.0.2.1,2,http\n")
    async with registry(tmp_path) as mitm:
        said = "2 created|1 proxy created, 1 skipped, 1 failed; line 3: .*x..202ey..200b"
        await run(mitm, f"egress.import {listing}", said)
        assert list(listed(mitm)) == ["x\\u202ey\\u200b"]
        assert mitm.master.commands.execute("egress.proxy.names") == [name]
        await run(mitm, f"egress.proxy.disable {name}", "is inactive")
        assert not set(mitm.text) & set("\u202e\u200b")
