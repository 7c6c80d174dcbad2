"""mitmproxy under test: `Mitm` inside the test's event loop (fast), `Mitmdump` as a process (real).

One `Mitm` at a time: mitmproxy keeps its master in the global `ctx`.
"""

import asyncio
import logging
import os
import re
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mitmproxy import addons, command, flow, hooks, http, log, master, options, tcp, udp
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from tests.helpers.certs import authority
from tests.helpers.ports import free_port
from tests.helpers.watch import Watch

SCRIPT = Path(os.environ.get("EGRESS_SCRIPT") or Path(__file__).parents[2] / "addon" / "egress.py")
PYTHON = Path(os.environ.get("EGRESS_PYTHON") or sys.executable)
"""The program that starts mitmdump, and its script, unless a test sets them. An installed package
can be put to the same tests as the checkout."""
# mitmproxy tells every addon of every record, and mitmdump too silences libraries of this kind.
_CHATTY = ("asyncio", "hpack", "httpcore", "httpx", "websockets")
_COMMANDS: weakref.WeakKeyDictionary[Callable[..., Any], dict[str, Any]]
_COMMANDS = weakref.WeakKeyDictionary()
_LISTENING = re.compile(r"listening at \S*:(\d+)\b")


class FlowRecorder:
    """Keeps finished flows. A refused or opened CONNECT is kept in `connects`."""

    name = "lab-recorder"  # the addon under test may have one of this class's name

    def __init__(self, watch: Watch) -> None:
        self.flows: list[flow.Flow] = []
        self.connects: list[http.HTTPFlow] = []
        self._watch = watch

    def _keep(self, over: flow.Flow) -> None:
        if over not in self.flows:
            self.flows.append(over)
            self._watch.notify()

    def response(self, flow: http.HTTPFlow) -> None:
        # A WebSocket flow goes on after its response.
        if not flow.websocket:
            self._keep(flow)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        self._keep(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        self._keep(flow)

    def http_connected(self, flow: http.HTTPFlow) -> None:
        self.connects.append(flow)
        self._watch.notify()

    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        self.connects.append(flow)
        self._watch.notify()

    def tcp_end(self, flow: tcp.TCPFlow) -> None:
        self._keep(flow)

    def tcp_error(self, flow: tcp.TCPFlow) -> None:
        self._keep(flow)

    def udp_end(self, flow: udp.UDPFlow) -> None:
        self._keep(flow)

    def udp_error(self, flow: udp.UDPFlow) -> None:
        self._keep(flow)


class Mitm:
    """A mitmproxy in this event loop, with all default addons and the given ones.

    With `as_script`, the given addons take the place of scripts, otherwise they are at the end of
    the chain. Options are mitmproxy's or the addons' own. It listens on 127.0.0.1, with a port for
    each mode. It trusts the lab CA of the origins upstream. Leaving the context fails the test if
    an ERROR was logged, unless `expect_errors`.
    """

    def __init__(
        self,
        confdir: Path,
        *given: object,
        mode: Sequence[str] = ("regular",),
        as_script: bool = True,
        expect_errors: bool = False,
        **option_values: Any,
    ) -> None:
        self.confdir = confdir
        self.logs: list[logging.LogRecord] = []
        self._given = given
        self._as_script = as_script
        self._expect_errors = expect_errors
        self._options = {**_defaults(confdir), "mode": _places(mode), **option_values}
        self._watch = Watch()
        self._recorder = FlowRecorder(self._watch)

    @property
    def flows(self) -> list[flow.Flow]:
        """Finished flows, in the order in which they finished."""
        return self._recorder.flows

    @property
    def http_flows(self) -> list[http.HTTPFlow]:
        return [one for one in self.flows if isinstance(one, http.HTTPFlow)]

    @property
    def connects(self) -> list[http.HTTPFlow]:
        """Answered CONNECT requests, opened or refused."""
        return self._recorder.connects

    @property
    def options(self) -> options.Options:
        return self.master.options

    @property
    def ca_cert(self) -> Path:
        """The certificate that a client must trust to be intercepted."""
        return authority("mitm").ca_path

    @property
    def port(self) -> int:
        """The port of the first mode."""
        return self.ports[0]

    @property
    def ports(self) -> list[int]:
        """The ports, one for each mode."""
        return [server.listen_addrs[0][1] for server in self._proxyserver.servers]

    @property
    def errors(self) -> list[str]:
        return [one.getMessage() for one in self.logs if one.levelno >= logging.ERROR]

    @property
    def warnings(self) -> list[str]:
        """The log messages at level WARNING."""
        return [one.getMessage() for one in self.logs if one.levelno == logging.WARNING]

    @property
    def clients(self) -> int:
        """Client connections open now."""
        return len(self._proxyserver.connections)

    @property
    def text(self) -> str:
        """All log messages, one per line."""
        return "\n".join(one.getMessage() for one in self.logs)

    async def until(self, predicate: Callable[[], object], timeout: float = 10) -> None:
        """Wait until `predicate()` is true. Flows, log lines and leaving clients trigger a
        check."""
        await self._watch.until(predicate, timeout)

    async def wait_for_log(self, pattern: str, timeout: float = 10) -> None:
        await self.until(lambda: re.search(pattern, self.text), timeout)

    async def wait_for_flows(self, count: int, timeout: float = 10) -> list[flow.Flow]:
        await self.until(lambda: len(self.flows) >= count, timeout)
        return self.flows

    async def __aenter__(self) -> Self:
        _write_ca(self.confdir)
        if self._options["egress_registry"]:
            _write_key(self.confdir)
        self._handler = _Collector(self.logs, self._watch)
        self._handler.install()
        self._level = logging.getLogger().level
        logging.getLogger().setLevel(logging.DEBUG)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.master = _Master(options.Options())
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        await self._stop()
        if kind is None and not self._expect_errors:
            assert not self.errors, self.errors

    async def _start(self) -> None:
        manager = self.master.addons
        # mitmproxy tells all earlier addons of each option that an addon has. That is most of the
        # time of a start, and none of its own addons heeds an option of another that comes later.
        self.options.changed.disconnect(manager._configure_all)
        manager.add(*addons.default_addons())
        self.options.changed.connect(manager._configure_all)
        self.options.update_defer(**self._options)
        self._proxyserver = manager.get("proxyserver")
        self._proxyserver.connections = _Connections(self._watch)
        first = manager.chain.index(manager.get("scriptloader")) + 1
        for place, addon in enumerate(self._given, first):
            registered = manager.register(addon)
            manager.chain.insert(place if self._as_script else len(manager.chain), registered)
            manager.invoke_addon_sync(addon, hooks.ConfigureHook(set(self.options.keys())))
        manager.add(self._recorder)
        self._run = asyncio.create_task(self.master.run(), name="mitmproxy under test")
        started = asyncio.create_task(self.master.started.wait(), name="mitmproxy starts")
        await asyncio.wait([self._run, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._run.done():
            self._run.result()
        # Our own options are for the addon to complain of.
        unknown = [name for name in self.options.deferred if not name.startswith("egress_")]
        assert not unknown, unknown

    async def _stop(self) -> None:
        try:
            if hasattr(self, "_run"):
                try:
                    await self._proxyserver.servers.update([])
                    await self._cut_clients()
                finally:
                    self.master.should_exit.set()
                    await self._run
        finally:
            self.master.uninstall_log()
            await _end_tasks()
            logging.getLogger().setLevel(self._level)
            self._handler.uninstall()

    async def _cut_clients(self) -> None:
        connections = self._proxyserver.connections
        for handler in list(connections.values()):
            io = handler.transports.get(handler.client)
            if io and io.handler:
                io.handler.cancel("the test is over")
        await self.until(lambda: not connections)


class Mitmdump:
    """A mitmdump process with its own confdir, as a user starts it.

    `args` are appended to the command line, `option_values` become `--set name=value` (once for
    each element of a list). `python` is the interpreter of mitmproxy's environment. `descriptors`,
    unless 0, limits how many it may have open. Use `async with` (waits until it listens), or `await
    run_to_exit()` for a start that must fail.
    """

    def __init__(
        self,
        confdir: Path,
        *args: str,
        script: Path | None = SCRIPT,
        env: Mapping[str, str] | None = None,
        descriptors: int = 0,
        python: Path = PYTHON,
        **option_values: object,
    ) -> None:
        self.confdir = confdir
        self.lines: list[str] = []
        self.port = 0
        values = {**_defaults(confdir), **option_values}
        start = "from mitmproxy.tools.main import mitmdump; mitmdump()"
        if descriptors:
            limit = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors}))"
            start = f"import resource; {limit}; {start}"
        self._command = [str(python), "-u", "-P", "-c", start]
        for name, value in values.items():
            self._command += [f"--set={name}={text}" for text in _texts(value)]
        self._command += [*(["-s", str(script)] if script else []), *args]
        self._env = env
        self._watch = Watch()

    @property
    def ca_cert(self) -> Path:
        return authority("mitm").ca_path

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    async def wait_for_log(self, pattern: str, timeout: float = 45) -> re.Match[str]:
        """Raises TimeoutError, or EOFError if the process ends without this output."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.output)

        await self._watch.until(lambda: found() or self._reader.done(), timeout)
        if match := found():
            return match
        raise EOFError(f"mitmdump ended without saying {pattern!r}:\n{self.output}")

    async def wait_for_listener(self) -> None:
        self.port = int((await self.wait_for_log(_LISTENING.pattern)).group(1))

    async def run_to_exit(self, timeout: float = 30) -> tuple[int, str]:
        """Exit status and all output."""
        await self._launch()
        try:
            async with asyncio.timeout(timeout):
                await self._reader
                return await self._process.wait(), self.output
        finally:
            await self._end()

    async def __aenter__(self) -> Self:
        await self._launch()
        try:
            await self.wait_for_listener()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end()

    async def _launch(self) -> None:
        _write_ca(self.confdir)
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._env,
            limit=2**20,
        )
        self._reader = asyncio.create_task(self._read(), name="mitmdump's output")

    async def _read(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            self.lines.append(line.decode(errors="replace").rstrip())
            self._watch.notify()
        # Wakes those who wait once this task counts as done.
        asyncio.get_running_loop().call_soon(self._watch.notify)

    async def _end(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader


class _Master(master.Master):
    def __init__(self, opts: options.Options) -> None:
        super().__init__(opts)
        self.commands = _Commands(self)  # type: ignore[no-untyped-call]
        self.started = asyncio.Event()

    async def running(self) -> None:
        await super().running()
        self.started.set()

    def uninstall_log(self) -> None:
        if self._legacy_log_events in logging.getLogger().handlers:
            self._legacy_log_events.uninstall()


class _Commands(command.CommandManager):
    """Takes the signature and the help of a command apart once a process."""

    def add(self, path: str, func: Callable[..., Any]) -> None:
        plain = getattr(func, "__func__", func)
        if plain not in _COMMANDS:
            _COMMANDS[plain] = vars(command.Command(self, path, func))
            del _COMMANDS[plain]["func"], _COMMANDS[plain]["manager"]
        self.commands[path] = made = command.Command.__new__(command.Command)
        vars(made).update(_COMMANDS[plain], func=func, manager=self)


class _Collector(log.MitmLogHandler):
    def __init__(self, logs: list[logging.LogRecord], watch: Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._logs = logs
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        self._logs.append(record)
        self._watch.notify()


class _Connections(dict[tuple[Any, ...] | str, ProxyConnectionHandler]):
    """mitmproxy's table of client connections, which reports removals."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __delitem__(self, key: tuple[Any, ...] | str) -> None:
        super().__delitem__(key)
        self._watch.notify()


def _defaults(confdir: Path) -> dict[str, Any]:
    return {
        "confdir": str(confdir),
        "listen_host": "127.0.0.1",
        "listen_port": 0,
        "ssl_verify_upstream_trusted_ca": str(authority().ca_path),
        "egress_registry": "",
        "egress_listen": "",
    }


def _places(modes: Sequence[str]) -> list[str]:
    """mitmproxy takes port 0 for one mode only. A mode may already have a port."""
    at = "@127.0.0.1:"
    more = (mode if at in mode else f"{mode}{at}{free_port()}" for mode in modes[1:])
    return [*modes[:1], *more]


def _write_ca(confdir: Path) -> None:
    """Save mitmproxy the making of an RSA key."""
    confdir.mkdir(parents=True, exist_ok=True)
    (confdir / "mitmproxy-ca.pem").write_bytes(authority("mitm").ca_bundle)


def _write_key(confdir: Path) -> None:
    """Save the derivation of one more key, which takes long."""
    if not (path := confdir / "egress-key").exists():
        path.touch(0o600)
        path.write_text("the key of all tests\n")


def _texts(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


async def _end_tasks() -> None:
    """End the tasks that mitmproxy leaves to the end of its event loop (it marks its tasks)."""
    left = [task for task in asyncio.all_tasks() if hasattr(task, "created")]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.sleep(0)  # closed transports say so in the next turn
