"""Third-party programs: proxies, a nameserver and an origin, each on loopback.

There is one builder per program, which writes its configuration; nothing runs before ``async
with``. Every proxy makes its outgoing connections from ``EXIT``, so that an origin can tell who
came through one; if ``exit_`` is empty, the system chooses.
"""

import json
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.system import Program, crypt, find, with_files
from tests.helpers.certs import authority
from tests.helpers.origin import NAMES
from tests.helpers.ports import free_port

EXIT = "127.0.0.2"
"""The client address that the origin sees for traffic through a proxy."""
USERNAME, PASSWORD = "alice", "s3cret:p@ss"
IPV4, IPV6 = "127.0.0.1", "::1"


# -- HTTP proxies


def tinyproxy(
    folder: Path, *listen: str, connect_port: int | None = None, exit_: str = EXIT
) -> Program:
    """Without credentials. ``connect_port`` is the only port that CONNECT may name."""
    port, listen = free_port(), listen or (IPV4,)
    lines = [f"Port {port}", *(f"Listen {host}" for host in listen), "Timeout 30"]
    lines += [f"Bind {exit_}"] if exit_ else []
    lines += [f"ConnectPort {connect_port}"] if connect_port else []
    config = _write(folder / f"tinyproxy-{port}.conf", *lines)
    command = [find("tinyproxy"), "-d", "-c", str(config)]
    return Program(config.with_suffix(".log"), command, port, listen[0])


def squid(
    folder: Path,
    host: str = IPV4,
    hosts: Mapping[str, str] | None = None,
    password: str = PASSWORD,
    exit_: str = EXIT,
) -> Program:
    """Requires Basic credentials, and caches nothing. ``hosts`` are names it knows (name:
    address)."""
    program, helper = find("squid"), find("basic_ncsa_auth", "/usr/lib/squid", "/usr/lib64/squid")
    account = f"{USERNAME}:{crypt(password)}"
    # Started by root it becomes another user, who cannot read what is in the test's own folder.
    public = tempfile.TemporaryDirectory(prefix="squid-")
    home = Path(public.name)
    home.chmod(0o755)
    port = free_port()
    _write(home / "users", account).chmod(0o644)
    _write(home / "hosts", *(f"{ip} {name}" for name, ip in (hosts or {}).items())).chmod(0o644)
    config = _write(
        home / "squid.conf",
        f"http_port {_url_host(host)}:{port}",
        f"auth_param basic program {helper} {home}/users",
        "auth_param basic children 1 startup=1",
        "auth_param basic realm lab",
        "acl known proxy_auth REQUIRED",
        "http_access allow known",
        "http_access deny all",
        f"tcp_outgoing_address {exit_}",
        f"hosts_file {home}/hosts",
        "cache deny all",
        "memory_cache_shared off",
        "cache_log /dev/null",
        "access_log none",
        "netdb_filename none",
        "pid_filename none",
        "pinger_enable off",
        "shutdown_lifetime 0 seconds",
        "visible_hostname lab",
        f"coredump_dir {home}",
    )
    # The name keeps its shared memory apart from that of others.
    command = [program, "-N", "-d", "1", "-n", f"lab{port}", "-f", str(config)]
    log = folder / f"squid-{port}.log"
    return Program(log, command, port, host, stop=signal.SIGINT, folder=public)


def haproxy(folder: Path, backend: Program, host: str = IPV4, name: str = "proxy.test") -> Program:
    """Speaks TLS, with a certificate for ``name``, in front of ``backend``."""
    port = free_port()
    config = _write(
        folder / f"haproxy-{port}.cfg",
        "defaults",
        " mode tcp",
        " timeout connect 5s",
        " timeout client 30s",
        " timeout server 30s",
        "listen tls",
        f" bind {host}:{port} ssl crt {authority().leaf(name)}",
        f" server proxy {_url_host(backend.host)}:{backend.port}",
    )
    command = [find("haproxy"), "-db", "-f", str(config)]
    return Program(config.with_suffix(".log"), command, port, host)


# -- SOCKS5 proxies


def microsocks(
    folder: Path, host: str = IPV4, password: str = PASSWORD, exit_: str = EXIT
) -> Program:
    port = free_port()
    command = [find("microsocks"), "-i", host, "-p", str(port), "-u", USERNAME, "-P", password]
    command += ["-b", exit_] if exit_ else []
    return Program(folder / f"microsocks-{port}.log", command, port, host)


def danted(
    folder: Path,
    host: str = IPV4,
    password: str = PASSWORD,
    targets: str = "0/0",
    exit_: str = EXIT,
) -> Program:
    """Its user/password method asks for the system's accounts, so it gets its own passwd and shadow
    files."""
    program, port = find("danted"), free_port()
    passwd = _write(
        folder / "passwd",
        Path("/etc/passwd").read_text(),
        f"{USERNAME}:x:65500:65500::/:/bin/false",
    )
    shadow = _write(folder / "shadow", f"{USERNAME}:{crypt(password)}:19000:0:99999:7:::")
    shadow.chmod(0o600)
    config = _write(
        folder / f"danted-{port}.conf",
        "logoutput: stderr",
        f"internal: {host} port = {port}",
        f"external: {exit_}",
        "clientmethod: none",
        "socksmethod: username",
        "user.privileged: root",
        "user.unprivileged: nobody",
        "client pass { from: 0/0 to: 0/0 }",
        f"socks pass {{ from: 0/0 to: {targets} }}",
    )
    own = with_files({"/etc/passwd": passwd, "/etc/shadow": shadow})
    command = [*own, program, "-f", str(config)]
    return Program(config.with_suffix(".log"), command, port, host)


# -- what is asked for


def nginx(folder: Path, *listen: str) -> Program:
    """An origin for HTTP/1 and, over TLS, HTTP/2; answers with the request as JSON.

    ``origin.log`` in ``folder`` has a line for each request.
    """
    port, tls_port, listen = free_port(), free_port(), listen or (IPV4, IPV6)
    home = folder / "nginx"
    home.mkdir()
    fields = {
        "peer": "remote_addr",
        "protocol": "server_protocol",
        "method": "request_method",
        "path": "request_uri",
        "host": "http_host",
        "edited": "http_x_edited",
        "credentials": "http_proxy_authorization",
    }
    answer = json.dumps({name: f"${variable}" for name, variable in fields.items()})
    places = [f"listen {_url_host(host)}:{port};" for host in listen]
    places += [f"listen {_url_host(host)}:{tls_port} ssl http2;" for host in listen]
    config = _write(
        home / "nginx.conf",
        "daemon off; master_process off; pid nginx.pid; error_log stderr;",
        "events { worker_connections 256; }",
        "http {",
        *(f"{kind}_temp_path t;" for kind in ("proxy", "fastcgi", "uwsgi", "scgi")),
        "client_body_temp_path t;",
        "log_format line '$remote_addr $server_protocol $request_method $request_uri';",
        f"access_log {folder}/origin.log line;",
        f"server {{ {' '.join(places)} server_name _; default_type application/json;",
        f"ssl_certificate {(leaf := authority().leaf(*NAMES))}; ssl_certificate_key {leaf};",
        f"return 200 '{answer}'; }}",
        "}",
    )
    command = [find("nginx"), "-p", str(home), "-c", str(config)]
    return Program(folder / "nginx.log", command, port, listen[0], tls_port=tls_port)


def dnsmasq(folder: Path, *records: str) -> Program:
    """Answers only for ``.test``. A record is ``name,address,…``, or ``name=target`` (CNAME)."""
    port = free_port()
    config = _write(
        folder / "dnsmasq.conf",
        "no-hosts",
        "no-resolv",
        "bind-interfaces",
        f"listen-address={IPV4}",
        f"port={port}",
        "pid-file=",
        "log-queries",
        "log-facility=-",
        "local=/test/",
        *(
            f"cname={record.replace('=', ',')}" if "=" in record else f"host-record={record}"
            for record in records
        ),
    )
    command = [find("dnsmasq"), "--keep-in-foreground", f"--conf-file={config}"]
    return Program(folder / "dnsmasq.log", command, port)


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
