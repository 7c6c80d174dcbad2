"""A proxy repeats its account, in every form and place, on every path: it reaches nobody."""

import asyncio
import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus, unquote_to_bytes

import pytest
from mitmproxy import http
from mitmproxy.proxy.layers.http import ErrorCode, ResponseProtocolError, ResponseTrailers

from egress_policy.client.probe import probe
from egress_policy.model.proxy import Proxy
from egress_policy.model.target_url import parse_target_url
from egress_policy.proxy.echo import redacted
from egress_policy.wire.redact import Redactor
from tests.helpers.clients import wire
from tests.helpers.lab import V4, request_to
from tests.helpers.routes import route_by
from tests.helpers.scene import egress
from tests.helpers.server import LabServer

PLAIN = ("alice", "s3cret/p@ss?")
ODD = ("mo\u00df", 'it\'s \\ "\u00fc" + 100%25 \u20ac')
Account = tuple[str, str]


def basic(account: Account) -> bytes:
    return base64.b64encode(":".join(account).encode())


FORMS: dict[str, Callable[[Account], bytes]] = {
    "pair": lambda account: ":".join(account).encode(),
    "password": lambda account: account[1].encode(),
    "in a URL": lambda account: quote(account[1], safe="").lower().encode(),
    "in a form": lambda account: quote_plus(":".join(account)).encode(),
    "token": basic,
    "token without padding": lambda account: basic(account).rstrip(b"="),
    "token of a URL": lambda account: basic(account).translate(bytes.maketrans(b"+/", b"-_")),
    "header": lambda account: b"Proxy-Authorization: Basic " + basic(account),
    "token of a header": lambda account: base64.b64encode(b"Basic " + basic(account)),
}
PLACES = {
    "reason of a 200": b"HTTP/1.1 200 %s\r\nContent-Length: 0\r\n\r\n",
    "reason of a 403": b"HTTP/1.1 403 %s\r\nContent-Length: 0\r\n\r\n",
    "reason of a 407": b"HTTP/1.1 407 %s\r\nContent-Length: 0\r\n\r\n",
    "reason of a 103": b"HTTP/1.1 103 %s\r\n\r\nHTTP/1.1 200 OK\r\nX: %s\r\n\r\n",
    "header of a 200": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: <%s>\r\n\r\nok",
    "header of a 403": b"HTTP/1.1 403 No\r\nX: for %s.\r\nContent-Length: 0\r\n\r\n",
    "header of a 407": b"HTTP/1.1 407 No\r\nX: %s\r\nContent-Length: 0\r\n\r\n",
    "header line": b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: 0\r\n\r\n",
    "header name": b"HTTP/1.1 200 OK\r\n%s: x\r\nContent-Length: 0\r\n\r\n",
    "content-length of a 200": b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
    "content-length of a 407": b"HTTP/1.1 407 No\r\nContent-Length: %s\r\n\r\n",
    "two content-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: %s\r\n\r\n",
    "transfer-encoding of a 200": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
    "transfer-encoding of a 407": b"HTTP/1.1 407 No\r\nTransfer-Encoding: %s\r\n\r\n",
    "chunk of a 200": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
    "chunk of a 407": b"HTTP/1.1 407 No\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
    "status line": b"HTTP/1.1 %s\r\n\r\n",
    "no status line": b"%s\r\n\r\n",
    "cut off": b"HTTP/1.1 407 %s",
    "behind an answer": b"HTTP/1.1 204 No Content\r\n\r\n%s\r\n\r\n",
}
ECHOES = [(form, place) for form in FORMS for place in PLACES]
PATHS = {
    "forward": {"type": "http"},
    "tunnel": {"type": "http", "plain_http": "connect"},
    "within a tunnel": {"type": "http", "plain_http": "connect"},
    "socks5": {"type": "socks5"},
    "within socks5": {"type": "socks5"},
}


class Echo(LabServer):
    """Gives ``answer`` and closes, at once or ``within`` the requested tunnel."""

    answer = b""

    def __init__(self, within: bool) -> None:
        super().__init__()
        self.within = within

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == b"\x05":
            await reader.readexactly(2)
        else:
            await reader.readuntil(b"\r\n\r\n")
        if self.within:
            await self._open(first, reader, writer)
        writer.write(self.answer)
        writer.close()

    async def _open(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if first == b"\x05":
            writer.write(b"\x05\x02")
            await reader.readexactly(1)
            for _ in "username", "password":
                await reader.readexactly((await reader.readexactly(1))[0])
            writer.write(b"\x01\x00")
            await reader.readexactly(4)
            await reader.readexactly((await reader.readexactly(1))[0] + 2)
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")


def readings(data: bytes) -> Iterator[bytes]:
    """What a reader may decode from the bytes."""
    yield data
    unescaped = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), data)
    yield re.sub(rb"\\(.)", rb"\1", unescaped)
    yield unquote_to_bytes(data)
    yield unquote_plus(data.decode("latin-1"), "latin-1").encode("latin-1")
    for run in re.findall(rb"[A-Za-z0-9+/_-]{8,}", data):
        for start in range(4):
            rest = run[start:].translate(bytes.maketrans(b"-_", b"+/"))
            yield base64.b64decode(rest + b"A" * (-len(rest) % 4))


def heard(data: bytes, account: Account) -> bool:
    """Whether the account can be read in the bytes."""
    password, token = account[1].encode(), basic(account).rstrip(b"=")
    return any(secret in reading for reading in readings(data) for secret in (password, token))


@pytest.mark.parametrize("account", [PLAIN, ODD], ids=["plain", "odd"])
def test_the_check_recognises_every_form(account: Account) -> None:
    assert [name for name, form in FORMS.items() if not heard(form(account), account)] == []
    assert not heard(b"Proxy-Authorization: Basic ***, \\x70ss 100%25", account)


@pytest.mark.parametrize("path", PATHS)
async def test_no_client_log_or_flow_hears_the_account(path: str, tmp_path: Path) -> None:
    username, password = account = ODD
    async with Echo("within" in path) as proxy:
        entry = {"name": "exit", "host": V4, "port": proxy.port, **PATHS[path]}
        entry |= {"username": username, "password": password}
        mitm = egress(tmp_path, proxies=[entry], rules=[{"hosts": ["*"], "use": "exit"}])
        loud = []
        async with mitm:
            for number, (form, place) in enumerate(ECHOES):
                proxy.answer = PLACES[place].replace(b"%s", FORMS[form](account))
                said = await ask(mitm.port, number)
                assert said, (form, place)
                if heard(said, account):
                    loud.append(("client", form, place, said))
            await mitm.wait_for_flows(len(ECHOES))
        for flow in mitm.http_flows:
            state = str(flow.get_state()).encode()
            if heard(state, account):
                loud.append(("flow", *ECHOES[int(flow.request.path[1:])], state))
        logged = [f"{one.getMessage()} {one.exc_info}".encode() for one in mitm.logs]
        loud += [("log", "", "", line) for line in logged if heard(line, account)]
        assert loud == []


@pytest.mark.parametrize("place", ["header of a 200", "status line", "behind an answer"])
async def test_a_replay_hears_no_account_either(place: str, tmp_path: Path) -> None:
    username, password = ODD
    async with Echo(within=False) as proxy:
        entry = {"name": "exit", "host": V4, "port": proxy.port}
        entry |= {"username": username, "password": password}
        proxy.answer = PLACES[place].replace(b"%s", basic(ODD))
        again = request_to("http://origin.test/")
        async with egress(
            tmp_path, proxies=[entry], rules=[{"hosts": ["*"], "use": "exit"}]
        ) as mitm:
            mitm.master.commands.call("replay.client", [again])
            await mitm.master.addons.get("clientplayback").queue.join()
    assert proxy.accepted == 1
    assert b"***" in str((again.get_state(), mitm.text)).encode()
    assert not heard(f"{again.get_state()} {mitm.text}".encode(), ODD)


async def ask(port: int, number: int) -> bytes:
    async with wire(port) as client:
        await client.send(
            f"GET http://origin.test/{number} HTTP/1.1\r\nHost: origin.test\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        return await client.closed()


@pytest.mark.parametrize("account", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("path", PATHS)
async def test_no_result_of_a_test_tells_the_account(path: str, account: Account) -> None:
    username, password = account
    async with Echo("within" in path) as proxy:
        fields: dict[str, Any] = {"name": "exit", "host": V4, "port": proxy.port, **PATHS[path]}
        entry = Proxy.model_validate({**fields, "username": username, "password": password})
        route = route_by(entry)
        loud = []
        for form, place in ECHOES:
            proxy.answer = PLACES[place].replace(b"%s", FORMS[form](account))
            result = await probe(route, parse_target_url("http://origin.test/"))
            if heard(str(result).encode(), account):
                loud.append((form, place, result))
        assert loud == []


def test_trailers_and_errors_of_an_answer_are_redacted() -> None:
    redactor = Redactor(*PLAIN)
    trailers = http.Headers([(b"a", b"x"), (b"b", basic(PLAIN))])
    clean = redacted(ResponseTrailers(1, trailers), redactor)
    assert isinstance(clean, ResponseTrailers)
    assert clean.trailers.fields == ((b"a", b"x"), (b"b", b"***"))
    error = ResponseProtocolError(1, f"bad: {PLAIN[1]!r}", ErrorCode.GENERIC_SERVER_ERROR)
    told = redacted(error, redactor)
    assert isinstance(told, ResponseProtocolError)
    assert (told.message, told.code) == ("bad: '***'", error.code)
