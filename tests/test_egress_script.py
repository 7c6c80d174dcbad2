"""The script as users start it: it says when it cannot enforce, and closes when it breaks or
disappears."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from egress_policy.requirements import REQUIRED
from egress_policy.version import VERSION
from tests.helpers.clients import ConnectRefused, Session, connect, http_get, session
from tests.helpers.knocking import TRANSPARENT, Knocking, doors
from tests.helpers.mitm import SCRIPT, Mitmdump
from tests.helpers.origin import Origin, TcpEcho, tls_context
from tests.helpers.scene import write_policy

MAIN = "from mitmproxy.tools.main import {0}; {0}()"
TERMINAL = """
import os, pty, termios, threading
ours, theirs = pty.openpty()
termios.tcsetwinsize(theirs, (24, 80))
os.dup2(theirs, 0), os.dup2(theirs, 1)
def drain():
    while os.read(ours, 65536): pass
threading.Thread(target=drain, daemon=True).start()
"""
TRACEBACK_OF_OURS = re.compile(r'File ".*egress_policy')
"""mitmproxy itself may leave some if it ends while clients are connected."""
MISTYPED = "version: 1\nproxies:\n  - name: exit\n    host: proxy.test\n    prot: 8080\n"


class Tool(Mitmdump):
    """mitmdump, mitmweb or mitmproxy (on a terminal of its own). ``before`` runs in it first."""

    def __init__(self, tool: str, confdir: Path, *args: str, before: str = "", **rest: Any) -> None:
        if tool == "mitmweb":
            rest |= {"web_open_browser": False, "web_port": 0}
        super().__init__(confdir, *args, **rest)
        terminal = TERMINAL if tool == "mitmproxy" else ""
        start = self._command.index("-c") + 1
        self._command[start] = "\n".join((terminal, before, MAIN.format(tool)))


async def fails(folder: Path, tool: str, before: str = "", *args: str, **options: Any) -> str:
    """The output of a start that must fail: with status 1, and nothing leaves before its end.

    Clients knock at listeners of all kinds as soon as there are any.
    """
    async with Origin() as origin:
        all_doors = doors(origin)
        mode = [door.mode for door in all_doors]
        before = TRANSPARENT.format(origin.address) + before
        async with Knocking(all_doors) as knocking:
            # Where mitmproxy runs in a test it names its tasks by it, parameters included.
            env = {name: text for name, text in os.environ.items() if "PYTEST" not in name}
            started = Tool(tool, folder, *args, before=before, mode=mode, env=env, **options)
            status, output = await started.run_to_exit()
        assert status == 1
        assert knocking.opened == {door.port for door in all_doors}
        assert origin.accepted == 0
    assert f"egress policy {VERSION}" not in output  # the line that says what is in force
    return output


# --- a start that cannot be honoured

IN_EVERY_TOOL: list[tuple[dict[str, object], list[str]]] = [
    ({"egress_polcy": "policy.yaml"}, ["Unknown option egress_polcy", "egress_policy"]),
    ({"egress_default": "maybe"}, ["egress_default", "direct", "refuse"]),
    ({"egress_dns_timeout_ms": "soon"}, ["egress_dns_timeout_ms", "1 to 60000"]),
    ({"egress_policy": "mistyped.yaml"}, ["mistyped.yaml:5: proxies[0].prot: unknown key"]),
    ({"upstream_auth": "user:secret"}, ["upstream_auth", "policy file"]),
]
IN_MITMDUMP: list[tuple[dict[str, object], list[str]]] = [
    ({"egress_dns": ["192.0.2.53", "no server"]}, ["egress_dns", "tls://192.0.2.53"]),
    ({"egress_dns_timeout_ms": "0"}, ["egress_dns_timeout_ms", "1 to 60000"]),
    ({"egress_socks5": "maybe"}, ["egress_socks5", "true", "false"]),
    ({"egress_default": ["direct", "refuse"]}, ["egress_default", "direct or refuse"]),
    ({"egress_policy": "missing.yaml"}, ["missing.yaml", "cannot be read"]),
    ({"egress_registry": "mysql://db.test/egress"}, ["egress_registry", "postgresql+psycopg://"]),
    ({"egress_registry": "/proc/nowhere/egress.db"}, ["egress_registry", "cannot be used"]),
    ({"egress_listen": "127.0.0.1:99999"}, ["egress_listen", "0 to 65535"]),
]


def slow(*values: Any) -> Any:
    """A case that needs one more process for what other cases show as well."""
    return pytest.param(*values, marks=pytest.mark.e2e)


@pytest.mark.parametrize(
    ("tool", "options", "words"),
    [
        *[("mitmdump", *one) for one in IN_EVERY_TOOL],
        *[slow("mitmdump", *one) for one in IN_MITMDUMP],
        *[slow(tool, *one) for tool in ("mitmproxy", "mitmweb") for one in IN_EVERY_TOOL],
    ],
    ids=str,
)
async def test_what_cannot_be_enforced_ends_with_status_1_and_says_why(
    tmp_path: Path, tool: str, options: dict[str, Any], words: list[str]
) -> None:
    (tmp_path / "mistyped.yaml").write_text(MISTYPED)
    if name := options.get("egress_policy"):
        options = {"egress_policy": str(tmp_path / name)}
    output = await fails(tmp_path / "conf", tool, **options)
    for word in words:
        assert word in output
    assert not TRACEBACK_OF_OURS.search(output)
    assert "user:secret" not in output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("egress_dns_timeout_ms: soon", ["egress_dns_timeout_ms", "1 to 60000"]),
        slow("egress_socks5: 'no'", ["egress_socks5", "bool"]),
        slow("egress_dns: 192.0.2.53", ["egress_dns", "tls://192.0.2.53"]),
        slow("egress_default: [refuse]", ["egress_default", "direct or refuse"]),
        slow("egress_defualt: refuse", ["Unknown option egress_defualt", "egress_default"]),
    ],
)
async def test_a_bad_option_in_config_yaml_ends_with_status_1_too(
    tmp_path: Path, line: str, words: list[str]
) -> None:
    (tmp_path / "config.yaml").write_text(line + "\n")
    output = await fails(tmp_path, "mitmdump")
    for word in words:
        assert word in output
    assert not TRACEBACK_OF_OURS.search(output)


@pytest.mark.parametrize("version", [slow("11.1.3"), "12.1.2", slow("14.0.0")])
async def test_an_unsupported_mitmproxy_is_named(tmp_path: Path, version: str) -> None:
    before = f"from mitmproxy import version; version.VERSION = {version!r}"
    output = await fails(tmp_path, "mitmdump", before)
    assert f"mitmproxy {version} is not supported" in output
    assert "12.2" in output


@pytest.mark.parametrize("module", ["pydantic", slow("dns")])
async def test_a_missing_dependency_is_named_with_what_to_install(
    tmp_path: Path, module: str
) -> None:
    output = await fails(tmp_path, "mitmdump", f"import sys; sys.modules[{module!r}] = None")
    assert "The egress policy cannot start" in output
    assert module in output
    assert "-m pip install dnspython 'pydantic>=2.11'" in output


@pytest.mark.parametrize("module", [slow("sqlalchemy"), slow("alembic")])
async def test_a_missing_package_of_the_registry_is_named_with_what_to_install(
    tmp_path: Path, module: str
) -> None:
    before = f"import sys; sys.modules[{module!r}] = None"
    place = str(tmp_path / "egress.db")
    run = Tool("mitmdump", tmp_path, before=before, egress_registry=place)
    status, output = await run.run_to_exit()
    assert status == 1
    assert "egress_registry: " in output
    assert f"-m pip install '{REQUIRED[module]}'" in output
    assert "or leave it empty to do without a registry" in output
    assert "Traceback" not in output


async def test_a_nameserver_that_needs_an_extra_is_named_with_what_to_install(
    tmp_path: Path,
) -> None:
    before = "import dns.query; dns.query.have_doh = False"
    doh = "https://dns.example:443/dns-query"
    output = await fails(tmp_path, "mitmdump", before, egress_dns=doh)
    assert f"egress_dns: Nameserver {doh} needs an extra" in output
    assert "pip install 'mitmproxy-egress-policy[doh]'" in output


BROKEN_ON_THE_WAY = [
    # what is no longer there in a mitmproxy to come
    "from mitmproxy.proxy.layers.http import HttpStream; del HttpStream.check_killed",
    "import egress_policy.proxy.addons.config as c; c.OPTIONS = None",
    "import egress_policy.proxy.addons.config as c; c.parse_settings = None",
]


@pytest.mark.e2e
@pytest.mark.parametrize("before", BROKEN_ON_THE_WAY)
async def test_an_exception_on_the_way_to_a_policy_ends_the_start_too(
    tmp_path: Path, before: str
) -> None:
    path = f"import sys; sys.path.append({str(SCRIPT.parent)!r})\n"
    await fails(tmp_path, "mitmdump", path + before)


@pytest.mark.e2e
async def test_a_bad_value_for_another_script_is_said_and_ends_the_start(tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("def load(loader): loader.add_option('other', int, 1, 'of another')\n")
    scripts = ("-s", str(other), "-s", str(SCRIPT))
    output = await fails(
        tmp_path / "conf",
        "mitmdump",
        "",
        *scripts,
        script=None,
        other="many",
        egress_default="refuse",
    )
    assert "Bad value for other" in output


# --- a good start


async def test_one_line_at_start_says_what_is_in_force(tmp_path: Path) -> None:
    policy = write_policy(
        tmp_path / "policy.yaml",
        proxies=[{"name": name, "host": "192.0.2.1"} for name in ("one", "two")],
        rules=[{"hosts": ["a.test"], "use": "one"}],
        default="refuse",
    )
    async with Mitmdump(tmp_path / "conf", egress_policy=policy) as mitmdump:
        line = f"egress policy {VERSION}: {policy}, 2 proxies, 1 rule, default refuse"
        await mitmdump.wait_for_log("egress policy ")
        assert [one for one in mitmdump.lines if "egress" in one and "Loading" not in one] == [
            one for one in mitmdump.lines if line in one
        ]
        assert mitmdump.output.count(line) == 1


async def test_options_of_config_yaml_are_taken(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("egress_default: refuse\negress_socks5: false\n")
    async with Origin() as origin, Mitmdump(tmp_path) as mitmdump:
        await mitmdump.wait_for_log("no policy file, 0 proxies, 0 rules, default refuse")
        assert (await http_get(mitmdump.port, origin.url())).status == 503
    assert origin.accepted == 0


@pytest.mark.parametrize("tool", [slow("mitmproxy"), slow("mitmweb")])
async def test_the_other_tools_start_with_it_too(tmp_path: Path, tool: str) -> None:
    saved = tmp_path / "policy.log"
    # mitmproxy's own screen hides the log, so that it is written down from within.
    before = (
        "import logging\n"
        f"handler = logging.FileHandler({str(saved)!r})\n"
        "handler.addFilter(lambda one: 'egress policy' in one.getMessage())\n"
        "handler.emit = lambda one, emit=handler.emit: (emit(one), os.write(2, b'started\\n'))\n"
        "logging.getLogger().addHandler(handler)\n"
    )
    started = Tool(tool, tmp_path / "conf", before="import os\n" + before)
    await started._launch()
    try:
        await started.wait_for_log("started")
    finally:
        await started._end()
    assert f"egress policy {VERSION}: no policy file" in saved.read_text()


# --- hot reload of the script


class Clients:
    """Kept connections and new ones to one HTTP and one HTTPS origin, and a raw tunnel."""

    def __init__(self, port: int, ca: Path, plain: Origin, secure: Origin, echo: TcpEcho) -> None:
        self.port, self.ca = port, ca
        self.plain, self.secure, self.echo = plain, secure, echo

    async def new(self) -> list[int]:
        """Statuses of new connections: plain, through CONNECT, and of a bare CONNECT."""
        plain = await http_get(self.port, self.plain.url())
        secure = await http_get(self.port, self.secure.url("localhost"), ca=self.ca)
        return [plain.status, secure.status, await self.tunnel()]

    async def tunnel(self) -> int:
        try:
            async with connect(self.port, *self.echo.address) as tunnel:
                await tunnel.send(b"ping")
                return 200 if await tunnel.receive(4) == b"ping" else 0
        except ConnectRefused as error:
            return error.answer.status

    async def kept(self, *sessions: Session) -> list[int]:
        return [(await one.get("/kept")).status for one in sessions]

    def reached(self) -> tuple[int, ...]:
        """How many requests and bytes have reached the origins."""
        return len(self.plain.requests), len(self.secure.requests), len(self.echo.received)


async def test_a_script_that_breaks_or_goes_refuses_everything(tmp_path: Path) -> None:
    script = tmp_path / "egress.py"
    shutil.copy(SCRIPT, script)
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    async with (
        Origin() as plain,
        Origin(tls=tls_context("http/1.1")) as secure,
        TcpEcho() as echo,
        Mitmdump(tmp_path / "conf", script=script, env=env) as mitmdump,
    ):
        await mitmdump.wait_for_log("default direct")
        ca = mitmdump.ca_cert
        clients = Clients(mitmdump.port, ca, plain, secure, echo)
        async with (
            session(mitmdump.port, plain.url()) as kept_plain,
            session(mitmdump.port, secure.url("localhost"), ca) as kept_secure,
        ):
            kept = (kept_plain, kept_secure)
            assert await clients.kept(*kept) == [200, 200]
            assert await clients.new() == [200, 200, 200]
            before = clients.reached()

            script.write_text("def broken(:\n")
            await mitmdump.wait_for_log("error in script")
            assert await clients.kept(*kept) == [503, 503]
            assert set(await clients.new()) <= {502, 503}
            assert clients.reached() == before

            mitmdump.lines.clear()
            shutil.copyfile(SCRIPT, script)
            await mitmdump.wait_for_log("default direct")
            assert await clients.new() == [200, 200, 200]
            assert await clients.kept(*kept) == [200, 200]
            before = clients.reached()

            script.unlink()
            await mitmdump.wait_for_log("Un-loading script")
            assert await clients.kept(*kept) == [503, 503]
            assert set(await clients.new()) <= {502, 503}
            assert clients.reached() == before


async def test_a_script_that_is_touched_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "egress.py"
    shutil.copy(SCRIPT, script)
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    async with (
        Origin() as origin,
        Mitmdump(tmp_path / "conf", script=script, env=env) as mitmdump,
    ):
        for _ in range(2):
            await mitmdump.wait_for_log("default direct")
            assert (await http_get(mitmdump.port, origin.url())).status == 200
            mitmdump.lines.clear()
            os.utime(script)
        await mitmdump.wait_for_log("default direct")
        for word in ("rror", "arning", "Traceback"):
            assert word not in mitmdump.output


async def test_what_was_decided_before_a_reload_leads_nowhere_after_it(tmp_path: Path) -> None:
    policy = write_policy(tmp_path / "policy.yaml", rules=[{"use": "direct"}])
    script = tmp_path / "egress.py"
    shutil.copy(SCRIPT, script)
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    # CONNECT is decided and answered, and the connection opened when the client has spoken.
    options: dict[str, Any] = {"connection_strategy": "lazy", "ignore_hosts": ["127.0.0.1"]}
    async with (
        TcpEcho() as origin,
        Mitmdump(
            tmp_path / "conf", script=script, env=env, egress_policy=policy, **options
        ) as mitmdump,
        connect(mitmdump.port, *origin.address) as tunnel,
    ):
        write_policy(policy, rules=[{"use": "refuse"}])
        await mitmdump.wait_for_log("policy reloaded")
        mitmdump.lines.clear()
        os.utime(script)
        await mitmdump.wait_for_log(r"egress policy \d")
        await tunnel.send(b"\x00raw")
        assert await tunnel.closed() == b""
        assert origin.accepted == 0
