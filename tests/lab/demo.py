"""Shows where requests go: real requests through a real mitmdump with the addon, all on loopback.

Run it with ``make demo``. It starts two proxies (HTTP on 127.0.0.1, SOCKS5 with a password on ::1),
a nameserver, two origins and mitmdump, sends every request of ``CASES`` and prints which server got
a connection. The table shows what the servers saw; only the reason of a refusal comes from the
addon. Exit status: 0 if everything is as expected, 1 if not, 2 on a machine without ``::1``.

``make demo KEEP=1`` (``--keep``) goes on until Ctrl-C: it sends one of the requests every two
seconds, and prints a link to the page and a command to try.
"""

import asyncio
import itertools
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from tests.helpers.certs import authority
from tests.helpers.clients import http_get, plain_client
from tests.helpers.mitm import Mitmdump
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy, Socks5Proxy
from tests.helpers.server import LabServer

POLICY = """\
version: 1
proxies:
  - {name: office, type: http, host: office.test, port: $OFFICE, family: ipv4}
  - {name: home, type: socks5, host: home.test, port: $HOME, family: ipv6,
     username: alice, password_env: HOME_PASSWORD}
  - {name: guest, type: socks5, host: home.test, port: $HOME, family: ipv6,
     username: guest, password: guessed}
  - {name: legacy, type: http, host: legacy.test, port: $OFFICE, family: ipv6}
rules:
  - {hosts: [work.test], use: office}
  - {hosts: [private.test], use: home}
  - {hosts: [nosy.test], use: guest}
  - {hosts: [old.test], use: legacy}
  - {hosts: ["*.ads.test"], use: refuse}
  - {ports: [$ORIGIN], use: direct, family: ipv6}
default: refuse
"""
PASSWORD = "correct horse battery staple"
NAMES = {  # most have both families: which one is asked for and dialled is the policy's doing
    "office.test": ["127.0.0.1", "::1"],
    "home.test": ["127.0.0.1", "::1"],
    "legacy.test": ["127.0.0.1"],
    "origin.test": ["127.0.0.1", "::1"],
}
QUESTIONS = {"office.test A", "home.test AAAA", "legacy.test AAAA", "origin.test AAAA"}


@dataclass(frozen=True)
class Outcome:
    """The server that got a connection (an origin means ``direct``), the family, and the answer."""

    egress: str
    family: str
    status: int
    reason: str = ""


def refused(reason: str) -> Outcome:
    return Outcome("nobody", "-", 503, reason)


Case = tuple[str, str, Outcome]
"""A title, the URL, and the expected result."""

CASES: tuple[Case, ...] = (
    ("IPv4 only", "http://work.test/", Outcome("office", "IPv4", 200)),
    ("IPv4 only, TLS", "https://work.test/", Outcome("office", "IPv4", 200)),
    ("IPv6 only, password", "http://private.test/", Outcome("home", "IPv6", 200)),
    ("IPv6 only, password, TLS", "https://private.test/", Outcome("home", "IPv6", 200)),
    ("wrong password", "https://nosy.test/", Outcome("home", "IPv6", 503, "proxy_auth")),
    ("proxy has no AAAA", "http://old.test/", refused("no_record")),
    ("proxy has no AAAA, TLS", "https://old.test/", refused("no_record")),
    ("direct, IPv6 only", "http://origin.test:$ORIGIN/", Outcome("direct", "IPv6", 200)),
    ("direct, contradicted", "http://127.0.0.1:$ORIGIN/", refused("literal_contradiction")),
    ("refused by a rule", "http://x.ads.test/", refused("rule")),
    ("no rule matches", "https://nowhere.test/", refused("default")),
)


class Demo:
    """The servers, the nameserver and mitmdump; ``stack`` stops what ``start`` starts."""

    async def start(self, stack: AsyncExitStack, folder: Path, **options: Any) -> None:
        """``options`` are further ones of mitmdump."""
        enter = stack.enter_async_context
        tls = authority().server_context("work.test", "private.test")
        self.plain, self.secure = await enter(Origin(host="::1")), await enter(Origin(tls=tls))
        behind: dict[str, tuple[str, int]] = {}  # what the names stand for behind the proxies
        for name in ("work.test", "private.test"):
            behind |= {f"{name}:80": self.plain.address, f"{name}:443": self.secure.address}
        self.office = await enter(HttpProxy(resolve=behind))
        login = ("alice", PASSWORD)
        self.home = await enter(Socks5Proxy(host="::1", resolve=behind, credentials=login))
        self.nameserver = await enter(
            Nameserver({(n, "AAAA" if ":" in ip else "A"): [ip] for n in NAMES for ip in NAMES[n]})
        )
        policy = folder / "policy.yaml"
        policy.write_text(self.with_ports(POLICY))
        self.mitmdump = await enter(
            Mitmdump(
                folder / "mitmproxy",
                env={**os.environ, "HOME_PASSWORD": PASSWORD},
                egress_policy=policy,
                egress_dns=self.nameserver.address,
                egress_hosts_file="",
                **options,
            )
        )

    def with_ports(self, text: str) -> str:
        ports = {"OFFICE": self.office.port, "HOME": self.home.port, "ORIGIN": self.plain.port}
        return Template(text).substitute(ports)

    async def ask(self, url: str) -> Outcome:
        """Send one request on its own connection, and see which server accepted a connection for
        it."""
        peers: list[tuple[str, LabServer]] = [("office", self.office), ("home", self.home)]
        peers += [("direct", self.plain), ("direct", self.secure)]
        before = [peer.accepted for _, peer in peers]
        answer = await http_get(self.mitmdump.port, url, ca=self.mitmdump.ca_cert)
        seen = [
            (name, f"IPv{family}")
            for (name, peer), count in zip(peers, before, strict=True)
            for family in peer.families[count:]
        ]
        # Behind a proxy an origin is connected to as well, but then by that proxy.
        hops = [one for one in seen if one[0] != "direct"] or seen or [("nobody", "-")]
        egress, family = ("+".join(texts) for texts in zip(*hops, strict=True))
        reason = answer.json["reason"] if "x-egress-error" in answer.headers else ""
        return Outcome(egress, family, answer.status, reason)


def print_table(rows: Sequence[tuple[Case, Outcome]]) -> bool:
    """Print the request, the expected and the seen result. Returns whether all rows agree."""
    line = "{:<26}{:<26}{:<27}{:<8}{:<8}{:<8}{:<23}{}"
    heads = ("", "request", "expected", "egress", "family", "status", "reason", "")
    print(line.format(*heads).rstrip())
    for (what, url, wanted), seen in rows:
        expected = f"{wanted.status} {wanted.reason or f'{wanted.egress} {wanted.family}'}"
        cells = (url, expected, seen.egress, seen.family, seen.status)
        print(line.format(what, *cells, seen.reason, "ok" if seen == wanted else "WRONG"))
    return all(seen == wanted for (_, _, wanted), seen in rows)


def has_ipv6_loopback() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def main(
    cases: Sequence[Case] = CASES, questions: set[str] = QUESTIONS, *, keep: bool = False
) -> int:
    """Run all cases and print the results; with ``keep`` go on until it is cancelled. Returns the
    exit status."""
    if not has_ipv6_loopback():
        print("The demo needs IPv6 on loopback: nothing can listen on ::1 here.", file=sys.stderr)
        print("On Linux: sysctl -w net.ipv6.conf.lo.disable_ipv6=0", file=sys.stderr)
        return 2
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="egress-demo-")))
        lab = Demo()
        await lab.start(stack, folder, **(_with_page(folder) if keep else {}))
        print(f"The policy:\n\n{lab.with_ports(POLICY)}\nWhat happens:\n")
        filled_in = [(what, lab.with_ports(url), wanted) for what, url, wanted in cases]
        good = print_table([(case, await lab.ask(case[1])) for case in filled_in])
        asked = {f"{name} {kind}" for name, kind in lab.nameserver.queries}
        print(f"\nThe nameserver was asked for: {', '.join(sorted(asked))}")
        if not good or asked != questions:
            print(f"\nNot as it should be! The policy needs: {', '.join(sorted(questions))}")
            print(f"mitmdump says:\n{lab.mitmdump.output}")
            return 1
        print("All as it should be: no other proxy, family or name was tried.")
        if keep:
            await _go_on(lab, [url for _, url, _ in filled_in])
        return 0


def _with_page(folder: Path) -> dict[str, object]:
    """Options for a page on which everything can be tried."""
    registry, token = folder / "egress.db", folder / "egress-token"
    return {
        "egress_listen": "127.0.0.1:0",
        "egress_registry": registry,
        "egress_token_file": token,
    }


async def _go_on(lab: Demo, urls: Sequence[str]) -> None:
    """Say where to look, and send requests for ever, so that there is something to see."""
    mitmdump = lab.mitmdump
    page = (await mitmdump.wait_for_log(r"page: (http\S+/)"))[1]
    confdir = mitmdump.confdir
    token = (confdir.parent / "egress-token").read_text("ascii").strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with plain_client(base_url=page, headers=headers) as client:
        answer = await client.post("/api/v1/management/link", json={})
    command = f"{Path(sys.executable).parent / 'egress-policy'}"
    print(f"""
It goes on, with a request every two seconds, until Ctrl-C. Look at it:

  {answer.raise_for_status().json()["link"]}
                      the page, logged in: once, within 15 minutes
  {command} flows --follow --confdir {confdir}
                      the same in another terminal
  curl -x localhost:{mitmdump.port} http://private.test/
                      a request of your own
""")
    for url in itertools.cycle(urls):
        await lab.ask(url)
        await asyncio.sleep(2)


if __name__ == "__main__":
    # Ctrl-C ends it also where whoever started it had this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(asyncio.run(main(keep="--keep" in sys.argv[1:])))
    except KeyboardInterrupt:
        print("The demo is over.")
