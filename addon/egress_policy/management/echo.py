"""An echo of one's own as people run it: its key, where it listens, and its URLs for the settings.

The key lies in the file ``egress-echo-key`` of the echo's folder, and of the folder of each
mitmproxy that asks it. Where that file exists, an answer to the echo URLs counts only if it is
signed with the key.
"""

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from ..client.echo_server import EchoServer
from ..errors import InvalidEntry
from ..files.secret_file import SecretFileError, make_secret, read_secret
from ..model.host import url_host
from ..model.proxy import ExitFamily
from ..model.settings import Listen
from .views import View

KEY_FILE: Final = "egress-echo-key"
_SHORTEST: Final = 16
# Documentation addresses (RFC 5737, RFC 3849): a datagram socket asks the routing table and sends
# nothing.
_ROUTES: Final[tuple[tuple[ExitFamily, socket.AddressFamily, str], ...]] = (
    ("ipv4", socket.AF_INET, "192.0.2.1"),
    ("ipv6", socket.AF_INET6, "2001:db8::1"),
)


def read_echo_key(path: Path) -> bytes | None:
    """The key in a file, ``None`` if that does not exist. Raises ``InvalidEntry`` for a file that
    cannot be used, such as one that others can read."""
    try:
        text = read_secret(path)
    except SecretFileError as error:
        raise InvalidEntry(f"The key of the echo: {error}", KEY_FILE) from error
    if text is None:
        return None
    if len(text.strip()) < _SHORTEST:
        why = f"{path} holds no key: at least {_SHORTEST} characters are expected"
        raise InvalidEntry(f"The key of the echo: {why}", KEY_FILE)
    return text.strip().encode()


def load_echo_key(path: Path) -> bytes:
    """The key in a file, which is made, mode 0600, where it does not exist. Raises
    ``InvalidEntry``."""
    if (key := read_echo_key(path)) is None:
        try:
            make_secret(path)
        except SecretFileError as error:
            raise InvalidEntry(f"The key of the echo: {error}", KEY_FILE) from error
        key = read_echo_key(path)
    return key or b""


class EchoView(View):
    """Where an echo listens. ``ipv4`` and ``ipv6`` are its URLs for the settings, as far as this
    machine knows its own addresses."""

    listen: str
    key_file: str
    ipv4: str | None = None
    ipv6: str | None = None


@contextlib.asynccontextmanager
async def running_echo(listen: Listen, key_file: Path) -> AsyncIterator[EchoView]:
    """An echo that answers while the block runs. Raises ``InvalidEntry`` if it cannot."""
    server = EchoServer(load_echo_key(key_file))
    try:
        await server.start(listen)
    except OSError as error:
        why = f"--listen: cannot listen at {listen}: {os.strerror(error.errno or 0)}"
        hint = ". Without IPv6 on this machine, name 0.0.0.0" if ":" in listen.host else ""
        raise InvalidEntry(why + hint, "listen") from error
    try:
        at = Listen(*server.address)
        yield EchoView(listen=str(at), key_file=str(key_file), **_urls(at))
    finally:
        await server.aclose()


def _urls(listen: Listen) -> dict[str, str]:
    urls: dict[str, str] = {}
    for family, number, elsewhere in _ROUTES:
        host = listen.host
        if host == "::" or (host == "0.0.0.0" and family == "ipv4"):  # noqa: S104 (it is compared)
            host = _own_address(number, elsewhere)
        if (":" in host) is (family == "ipv6") and host:
            urls[family] = f"http://{url_host(host)}:{listen.port}/"
    return urls


def _own_address(family: socket.AddressFamily, elsewhere: str) -> str:
    """The address from which this machine would send there; empty if it cannot."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""
