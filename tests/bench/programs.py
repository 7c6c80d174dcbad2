"""The programs between the load and the origin, each with a configuration in a folder of its own.

All listen on loopback, on a port that was free a moment ago, and end when their context does.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mitmproxy.certs import CertStore

from tests.helpers.certs import authority
from tests.helpers.mitm import SCRIPT
from tests.helpers.ports import free_port

ANSWER_BYTES = 512  # with its head and TLS less than microsocks copies at once
_START_LIMIT = 120.0
_END_LIMIT = 5.0
_MITMDUMP = "from mitmproxy.tools.main import mitmdump; mitmdump()"
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])


@dataclass(frozen=True)
class Program:
    """A running program and the port it listens on."""

    pid: int
    port: int


@dataclass(frozen=True)
class Origin:
    """nginx: the ports of its two listeners."""

    http: int
    https: int

    def port(self, scheme: str) -> int:
        return self.https if scheme == "https" else self.http


def find(name: str) -> str | None:
    """Where the program is; system programs are not on everybody's PATH."""
    return shutil.which(name, path=_PATH)


def localhost() -> tuple[str, ...]:
    """What the system makes of that name, in its order."""
    found = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[Origin]:
    origin = Origin(free_port(), free_port())
    listens = [
        f"listen {_bracketed(ip)}:{port}{ssl};"
        for ip in localhost()
        for port, ssl in ((origin.http, ""), (origin.https, " ssl"))
    ]
    leaf = authority().leaf("localhost")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    config = _write(
        folder / "nginx.conf",
        "daemon off; master_process off; worker_processes 1;",
        f"pid {folder}/nginx.pid; error_log {folder}/nginx.log error;",
        "events { worker_connections 4096; }",
        "http {",
        *(f"{kind}_temp_path {folder}/{kind};" for kind in kinds),
        "access_log off; keepalive_timeout 600s; keepalive_requests 100000000;",
        f"ssl_certificate {leaf}; ssl_certificate_key {leaf};",
        *("server {", *listens),
        f'location / {{ default_type text/plain; return 200 "{"x" * ANSWER_BYTES}"; }}',
        "} }",
    )
    command = ["nginx", "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(config)]
    with _running(folder, command, origin.https):
        yield origin


@contextlib.contextmanager
def squid(folder: Path) -> Iterator[Program]:
    port = free_port()
    config = _write(
        folder / "squid.conf",
        # also where the name leads, so that going by name costs nobody a refused connection
        *(f"http_port {_bracketed(ip)}:{port}" for ip in {"127.0.0.1", *localhost()}),
        "http_access allow all",
        "cache deny all",
        "cache_mem 8 MB",
        "access_log none",
        "cache_log /dev/null",
        "cache_store_log none",
        "pid_filename none",
        "netdb_filename none",
        "pinger_enable off",
        "dns_nameservers 127.0.0.1",
        "visible_hostname bench",
        "max_filedescriptors 4096",
        "shutdown_lifetime 0 seconds",
    )
    # a service name of its own: by it squid finds its shared memory, and that of others
    command = ["squid", "-n", f"bench{port}", "-N", "-d1", "-f", str(config)]
    with _running(folder, command, port) as program:
        yield program


@contextlib.contextmanager
def privoxy(folder: Path, socks5: Program) -> Iterator[Program]:
    port = free_port()
    config = _write(
        folder / "privoxy.conf",
        f"listen-address 127.0.0.1:{port}",
        f"forward-socks5 / 127.0.0.1:{socks5.port} .",
        *("keep-alive-timeout 5", "tolerate-pipelining 1", "socket-timeout 300"),  # Debian's
    )
    with _running(folder, ["privoxy", "--no-daemon", str(config)], port) as program:
        yield program


@contextlib.contextmanager
def microsocks(folder: Path) -> Iterator[Program]:
    port = free_port()
    command = ["microsocks", "-i", "127.0.0.1", "-p", str(port)]
    with _running(folder, command, port) as program:
        yield program


@contextlib.contextmanager
def mitmdump(
    folder: Path, *args: str, prefix: Sequence[str] = (), before: str = "pass"
) -> Iterator[Program]:
    """Quiet about flows, all else as it is for everybody; the CA is one that mitmproxy made.

    ``prefix`` is a command that starts the one behind it, ``before`` a line of Python to run first.
    """
    port = free_port()
    make_ca(folder)
    options = {
        "confdir": folder,
        "flow_detail": 0,
        "listen_host": "127.0.0.1",
        "listen_port": port,
        "ssl_verify_upstream_trusted_ca": authority().ca_path,
        "termlog_verbosity": "warn",
    }
    sets = [f"--set={name}={value}" for name, value in options.items()]
    command = [*prefix, sys.executable, "-P", "-c", f"{before}\n{_MITMDUMP}", *sets, *args]
    with _running(folder, command, port) as program:
        yield program


def make_ca(folder: Path) -> None:
    """That of a mitmdump with this folder, unless it is there; mitmdump takes a moment for it."""
    if not (folder / "mitmproxy-ca.pem").exists():
        CertStore.create_store(folder, "mitmproxy", 2048)


@contextlib.contextmanager
def with_addon(
    folder: Path,
    proxy: dict[str, object],
    hosts: str = "",
    prefix: Sequence[str] = (),
    before: str = "pass",
    bare: bool = False,
    members: int = 0,
    page: int = 0,
) -> Iterator[Program]:
    """mitmdump with the addon: `localhost` leaves by `proxy`, all else is refused.

    ``bare`` leaves out the registry and the page, which otherwise listens at the port ``page``, or
    where the system likes. With ``members`` a pool of so many stands for the proxy; they differ by
    their names.
    """
    names = [f"member-{number}" for number in range(members)]
    policy: dict[str, object] = {
        "version": 1,
        "proxies": [{"name": name, **proxy} for name in names or ["egress"]],
        "rules": [{"hosts": ["localhost"], "use": "egress"}],
        "default": "refuse",
    }
    if members:
        policy["pools"] = [{"name": "egress", "members": names, "strategy": "round-robin"}]
    file = _write(folder / "policy.json", json.dumps(policy))
    hosts_file = _write(folder / "hosts", hosts)
    args = [f"--set=egress_policy={file}", f"--set=egress_hosts_file={hosts_file}"]
    args += (
        [f"--set=egress_listen=127.0.0.1:{page}"]
        if not bare
        else ["--set=egress_listen=", "--set=egress_registry="]
    )
    with mitmdump(folder, "-s", str(SCRIPT), *args, prefix=prefix, before=before) as program:
        yield program


@contextlib.contextmanager
def watcher(folder: Path, port: int) -> Iterator[None]:
    """One who has the page open, which a mitmdump with this folder serves at ``port``."""
    environ = {**os.environ, "EGRESS_TOKEN": (folder / "egress-token").read_text().strip()}
    command = [sys.executable, "-m", "tests.bench.watcher", f"http://127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout
        try:
            if not process.stdout.readline():
                raise RuntimeError("nobody watches")
            yield
            if process.poll() is not None:
                raise RuntimeError("the one who watched has ended")
        finally:
            process.terminate()


@contextlib.contextmanager
def _running(folder: Path, command: Sequence[str], port: int) -> Iterator[Program]:
    executable = find(command[0])
    if executable is None:
        raise FileNotFoundError(command[0])
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [executable, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    try:
        _await_port(process, port, log)
        yield Program(process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"does not listen: {process.args!r}\n{log.read_text(errors='replace')}")


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
