"""Runs scenarios through one mitmdump and compares what was seen with what they allow."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.curl import curl
from tests.e2e.mitmdump import EgressMitmdump, egress
from tests.e2e.system import with_files
from tests.lab.counters import Packets, Place
from tests.lab.hosts import NAMES_V4
from tests.lab.peers import ORIGIN_NAME, Peers, Question
from tests.lab.scenarios import Scenario

DNS_TIMEOUT_MS = 3000
"""Longer than a busy machine needs to answer and to ask."""
STRAY = "packets of no scenario"
"""The title of the result for these."""
_AT_ONCE, _WAITING = 8, 16
"""How many scenarios run together: those that are served, and those that mostly wait."""


@dataclass(frozen=True)
class Result:
    """The result of a scenario. ``leaked`` are packets that it does not allow, ``asked`` are DNS
    questions that it does not allow, ``wrong`` describes any other fault."""

    title: str
    outcome: str
    leaked: Counter[Place]
    asked: frozenset[Question] = frozenset()
    wrong: str = ""

    @property
    def is_good(self) -> bool:
        return not (self.leaked or self.asked or self.wrong)


_SYSTEM = {
    "/etc/hosts": "127.0.0.1 localhost",
    "/etc/nsswitch.conf": "hosts: files dns",
    "/etc/resolv.conf": f"nameserver {NAMES_V4}\nsearch .\noptions timeout:1 attempts:1",
}


def on_mitm_host(peers: Peers, folder: Path) -> list[str]:
    """A command prefix: on that host, with a system whose nameserver knows the origin. A look-up by
    the system is seen there, and a direct connection after it is seen in the packets."""
    files = {place: folder / Path(place).name for place in _SYSTEM}
    for place, file in files.items():
        file.write_text(f"{_SYSTEM[place]}\n")
    return [*peers.hosts.mitm.prefix, *with_files(files)]


def mitmdump(
    folder: Path, peers: Peers, chosen: Sequence[Scenario], script: Path | None, without: str
) -> EgressMitmdump:
    """A mitmdump with a rule for each scenario; ``without`` names the safeguard to sabotage."""
    options: dict[str, Any] = {"script": script} if script else {}
    return egress(
        folder,
        policy={
            "proxies": [one.proxy for one in chosen if one.proxy],
            "rules": [one.rule for one in chosen],
            "default": "refuse",
        },
        prefix=on_mitm_host(peers, folder),
        egress_dns=f"{NAMES_V4}:{peers.names.port}",
        egress_dns_timeout_ms=DNS_TIMEOUT_MS,
        ssl_insecure=True,  # the origin's certificate is not for all these names
        env={**os.environ, "LAB_WITHOUT": without},
        **options,
    )


async def ask(mitm: EgressMitmdump, peers: Peers, one: Scenario) -> str:
    """The outcomes of a scenario's requests, one after the other."""
    outcomes = []
    for scheme in one.case.schemes:
        port = peers.origin.tls_port if scheme == "https" else peers.origin.port
        host = one.host if one.slot.kind == "direct" else ORIGIN_NAME
        host = f"[{host}]" if ":" in host else host
        client = ("--interface", one.client, "-k")
        answer = await curl(
            f"{scheme}://{host}:{port}/", *mitm.proxy, *client, prefix=peers.hosts.mitm.prefix
        )
        outcomes.append("ok" if answer.status == 200 else answer.refused[2])
    return " ".join(dict.fromkeys(outcomes))


async def run(mitm: EgressMitmdump, peers: Peers, chosen: Sequence[Scenario]) -> list[str]:
    """The outcomes of all scenarios, several at once."""
    served, waiting = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_WAITING)

    async def one(scenario: Scenario) -> str:
        async with served if scenario.case.outcome == "ok" else waiting:
            return await ask(mitm, peers, scenario)

    return list(await asyncio.gather(*map(one, chosen)))


def judge(
    chosen: Sequence[Scenario],
    outcomes: Sequence[str],
    seen: Packets,
    asked: Counter[Question],
    nameserver: Place,
    of_system: Counter[Question],
) -> list[Result]:
    """A result for each scenario, and one for all packets and questions that belong to none. Only
    ``nameserver`` may get UDP, and nothing may ask the nameserver of the system."""
    results, left, questions = [], Counter(seen.syn), dict(asked)
    for one, outcome in zip(chosen, outcomes, strict=True):
        mine = Counter({place: left.pop(place) for place in _places(one) if place in left})
        names = {q for q in questions if q[0] == one.slot.name}
        wrong = "" if outcome in one.case.outcome.split("|") else f"ended in {outcome!r}"
        missing = set(one.allowed) - set(mine)
        if missing:
            wrong += f" never dialled {missing}"
        if one.questions - names:
            wrong += f" never asked {one.questions - names}"
        title = f"{one.slot.kind} {one.slot.family}: {one.title}"
        results.append(
            Result(title, outcome, mine - one.allowed, frozenset(names - one.questions), wrong)
        )
        for question in names:
            del questions[question]
    left += seen.udp
    left.pop(nameserver, None)
    stray = frozenset(questions) | frozenset(of_system)
    results.append(Result(STRAY, "", left, stray))
    return results


def _places(one: Scenario) -> set[Place]:
    """All places that belong only to this scenario."""
    slot = one.slot
    addresses = (slot.own, slot.other, slot.dead, slot.lost, slot.away)
    return {(address, port) for address in addresses for port in {*slot.ports.values()}}
