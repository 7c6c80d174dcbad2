"""DNS mode: mitmproxy's own resolver answers only if the policy lets a look-up leave."""

import asyncio
from pathlib import Path
from typing import Any

import mitmproxy_rs
import pytest
from dnslib import RCODE, DNSRecord

from tests.helpers.scene import egress


class Question(asyncio.DatagramProtocol):
    """Asks a question as soon as it can; ``answer`` is the reply."""

    def __init__(self, name: str) -> None:
        self.answer: asyncio.Future[DNSRecord] = asyncio.get_running_loop().create_future()
        self._packet = DNSRecord.question(name).pack()

    def connection_made(self, transport: Any) -> None:
        transport.sendto(self._packet)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.answer.set_result(DNSRecord.parse(data))


async def ask(port: int, name: str) -> DNSRecord:
    loop = asyncio.get_running_loop()
    transport, question = await loop.create_datagram_endpoint(
        lambda: Question(name), remote_addr=("127.0.0.1", port)
    )
    try:
        return await asyncio.wait_for(question.answer, 10)
    finally:
        transport.close()


@pytest.mark.parametrize(
    ("policy", "rcode"),
    [
        ({"default": "direct"}, RCODE.NOERROR),
        ({"default": "refuse"}, RCODE.REFUSED),
        ({"rules": [{"ports": [53], "use": "direct", "family": "ipv6"}]}, RCODE.REFUSED),
        (
            {
                "proxies": [{"name": "exit", "host": "192.0.2.1"}],
                "rules": [{"clients": ["127.0.0.0/8"], "use": "exit"}],
            },
            RCODE.REFUSED,
        ),
    ],
    ids=["direct", "refuse", "pinned", "proxy"],
)
async def test_a_look_up_leaves_only_where_direct_is_what_the_policy_says(
    tmp_path: Path, policy: dict[str, Any], rcode: int
) -> None:
    async with egress(tmp_path, mode=["dns@127.0.0.1:0"], **policy) as mitm:
        answer = await ask(mitm.port, "localhost")
    assert answer.header.rcode == rcode


@pytest.mark.parametrize(
    ("system", "rcode"),
    [("192.0.2.53", RCODE.REFUSED), ("192.0.2.54", RCODE.NOERROR)],
)
async def test_the_system_s_nameservers_are_decided_about_by_their_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, rcode: int
) -> None:
    monkeypatch.setattr(mitmproxy_rs.dns, "get_system_dns_servers", lambda: [system])
    rules: list[dict[str, Any]] = [{"hosts": ["192.0.2.53"], "use": "refuse"}, {"use": "direct"}]
    async with egress(tmp_path, mode=["dns@127.0.0.1:0"], rules=rules) as mitm:
        answer = await ask(mitm.port, "localhost")
    assert answer.header.rcode == rcode
