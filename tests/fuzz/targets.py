"""The fuzz targets: a function for each decoder of foreign input.

A function takes any bytes and returns nothing. It must not raise: neither the decoder (except the
error that it documents) nor the check of what it accepted.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import dns.message
import dns.nameserver
from pydantic import BaseModel, ValidationError

from egress_policy.api.calls import parse_json
from egress_policy.api.problems import Problem
from egress_policy.api.resources.assignments import Assign
from egress_policy.api.resources.proxies import Import
from egress_policy.api.resources.rules import Order
from egress_policy.api.resources.session import SessionBody
from egress_policy.dns.stub import Stub, ask
from egress_policy.errors import EgressError, InvalidEntry, PolicyFileError
from egress_policy.management.explain import ExplainQuery
from egress_policy.model.decision import Refusal
from egress_policy.model.family import FamilyNumber
from egress_policy.model.host import detect_ip_literal_family
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.model.proxy_list import parse_proxy_list
from egress_policy.model.proxy_url import (
    normalize_proxy_url,
    parse_proxy_url,
    proxy_config_to_url,
    resolve_connect_family,
)
from egress_policy.model.rule import Rule
from egress_policy.model.target_url import parse_target_url
from egress_policy.policy.preflight import Query, judge
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.policy_file.parse import parse_policy
from egress_policy.proxy.filters import compile_filter
from egress_policy.wire.http_connect import ConnectError, ConnectHandshake
from egress_policy.wire.redact import Redactor
from egress_policy.wire.socks5 import Handshake, Socks5Error
from tests.helpers.pieces import pieces

_HOST = "proxy.example.com"


def socks5(data: bytes) -> None:
    """Any split of a server's bytes gives the same result, and no byte is lost."""
    cuts, answer = data[:3], data[3:]
    assert _socks5([answer]) == _socks5(pieces(answer, cuts))


def _socks5(parts: list[bytes]) -> tuple[bool, bytes, str]:
    handshake = Handshake(_HOST, 443, "alice", "s3cret")
    sent, rest = handshake.start(), b""
    for part in parts:
        if handshake.done:
            rest += part
            continue
        try:
            sent += handshake.receive(part)
        except Socks5Error as error:
            return False, b"", str(error)
    return handshake.done, handshake.rest + rest, sent.hex()


def http_connect(data: bytes) -> None:
    """Any split of a proxy's answer to CONNECT gives the same result."""
    cuts, answer = data[:3], data[3:]
    assert _http_connect([answer]) == _http_connect(pieces(answer, cuts))


def _http_connect(parts: list[bytes]) -> tuple[bool, bytes, str]:
    handshake, rest = (
        ConnectHandshake(_HOST, 443, Redactor("alice", "s3cret"), 1024, lambda: 0.0),
        b"",
    )
    for part in parts:
        if handshake.done:
            rest += part
            continue
        try:
            handshake.receive(part)
        except ConnectError as error:
            return _declined(error)
    try:
        handshake.ended()
    except ConnectError as error:
        return _declined(error)
    return handshake.done, handshake.rest + rest, ""


def _declined(error: ConnectError) -> tuple[bool, bytes, str]:
    return False, b"", f"{error.status} {error.retry_after} {error.error}"


def proxy_url(data: bytes) -> None:
    """An accepted URL has one canonical form, which is accepted and means the same."""
    text = data.decode("utf-8", "replace")
    try:
        parsed = parse_proxy_url(text)
        canonical = normalize_proxy_url(text)
    except InvalidEntry:
        return
    assert normalize_proxy_url(canonical) == canonical
    again = parse_proxy_url(canonical)
    assert (again.type, again.host, again.port) == (parsed.type, parsed.host, parsed.port)
    assert (again.username, again.password) == (parsed.username, parsed.password)
    assert again.family == parsed.family
    try:
        family = resolve_connect_family(text)
    except EgressError:
        return
    assert family == resolve_connect_family(canonical)


def import_lines(data: bytes) -> None:
    """Each entry of a list is a proxy with a canonical URL, or an error."""
    for _, entry in parse_proxy_list(data.decode("utf-8", "replace")).entries:
        if entry is None or isinstance(entry, InvalidEntry):
            continue
        try:
            proxy = Proxy.model_validate({**entry, "name": "fuzzed"})
        except ValidationError:
            continue
        url = proxy_config_to_url(proxy)
        assert normalize_proxy_url(url) == url
        assert proxy.host == parse_proxy_url(url).host


def policy_file(data: bytes) -> None:
    """A text is a policy that survives a round trip and can be put in force, or a
    ``PolicyFileError``."""

    def no_file(_: str) -> str:
        raise OSError("there are none")

    try:
        policy = parse_policy(
            data.decode("utf-8", "replace"), "policy.yaml", {}, no_file, compile_filter
        )
    except PolicyFileError:
        return
    _means_itself(policy)
    snapshot = build_snapshot(policy, compile_filter)
    assert len(snapshot.rules) == len(policy.rules)


class _Says(dns.nameserver.Nameserver):
    """A nameserver that always sends the same bytes, with the id and question of the query."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def async_query(self, request: dns.message.QueryMessage, *_: Any, **__: Any) -> Any:
        head = request.to_wire()
        answer = dns.message.from_wire(head[:2] + self._data)
        if not request.is_response(answer):
            raise ValueError("not an answer to this question")
        return answer

    def is_always_max_size(self) -> bool:
        return True

    def answer_nameserver(self) -> str:
        return "fuzz"

    def answer_port(self) -> int:
        return 53

    def kind(self) -> str:
        return "fuzz"

    def __str__(self) -> str:
        return "fuzz"


def dns_answer(data: bytes) -> None:
    """Whatever DNS sends, only addresses of the requested family may be dialled."""
    family: FamilyNumber = 6 if data[:1] < b"\x80" else 4
    stub = Stub(configure=False)
    stub.nameservers = [_Says(data[1:])]
    stub.lifetime = stub.timeout = 0.05
    answer = asyncio.run(ask(stub, _HOST, family))
    outcome = judge(Query(_HOST, family), answer)
    if not isinstance(outcome, Refusal):
        assert {detect_ip_literal_family(one) for one in outcome.addresses} == {family}


def api_body(data: bytes) -> None:
    """A body is refused with a problem or understood, and then survives a round trip."""
    try:
        body = parse_json(data)
    except Problem:
        return
    for model in (Assign, Import, Order, SessionBody, ExplainQuery, Proxy, Pool, Rule):
        try:
            made = model.model_validate(body)
        except (ValidationError, InvalidEntry):
            continue
        _means_itself(made)
        if isinstance(made, ExplainQuery):
            with contextlib.suppress(InvalidEntry):
                parse_target_url(made.url)


def _means_itself(made: BaseModel) -> None:
    stated = made.model_dump(exclude_unset=True)
    assert type(made).model_validate(stated) == made


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (socks5, http_connect, proxy_url, import_lines, policy_file, dns_answer, api_body)
}
