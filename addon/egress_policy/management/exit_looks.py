"""Looks at the exits of proxies: through the echo URLs of the settings, and by the way in tests.

Nobody is asked unless the settings have an echo. Then a person may ask for a look, and proxies with
``exit_enforce`` are looked at again before they would be refused. ``known_exits.py`` keeps what a
look finds.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol, get_args

from ..client.egress_ip import find_egress_ip
from ..client.probe import ProbeResult, Reader
from ..client.signed_echo import EchoQuestion
from ..errors import EgressError, InvalidEntry
from ..files.reread import Reread
from ..log import get_logger
from ..model.decision import Egress
from ..model.family_urls import echo_of
from ..model.proxy import ExitFamily, Proxy
from ..model.target_url import TargetUrl, parse_test_url
from ..policy.exits import FRESH
from ..sentence import Sentence
from .echo import KEY_FILE, read_echo_key
from .exit_views import Look, Looks
from .exits import Exits
from .in_force import PolicyInForce
from .known_exits import KnownExits
from .slots import Slots

logger = get_logger(__name__)

AT_ONCE: Final = 32
AT_A_HOP: Final = 2
"""Looks at a time, and how many of them at one hop address: many proxies may be accounts at one
gateway. Further ones wait."""
LOOK_AGAIN: Final = FRESH / 2
"""Seconds after which a proxy with ``exit_enforce`` is looked at again."""
_RETRY: Final = 60.0
"""Seconds after a look that failed."""
_ROUND: Final = 20.0
"""Seconds between two rounds of looks at those that are due."""
_FAMILIES: Final[tuple[ExitFamily, ...]] = get_args(ExitFamily)
_NO_ECHO: Final = Sentence(
    "no_echo",
    "No echo is set that could be asked: `egress-policy settings --set-echo-ipv4 URL` sets one, "
    "`egress-policy echo` runs one of your own",
)


class Looker(Protocol):
    """Asks for a URL through a proxy: a ``Prober``."""

    async def probe(self, egress: Egress, url: TargetUrl, *, read: Reader) -> ProbeResult: ...


class ExitLooks:
    """For the loop only. What a look finds goes to ``known``. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        in_force: PolicyInForce,
        looker: Looker,
        known: KnownExits,
        exits: Exits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_force, self._looker, self._clock = in_force, looker, clock
        self._known, self._exits = known, exits
        self._slots = Slots(AT_ONCE, AT_A_HOP)
        self._key: Reread[bytes | None] | None = None
        self._forged: dict[str, str] = {}
        """What was logged last about answers that are not the echo's, by name of the proxy."""
        self._looked: dict[str, tuple[str, float]] = {}
        """When a look began that nobody asked for, by name of the proxy, with its hop's key."""
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read back what was seen before, and look at proxies with ``exit_enforce`` from now on."""
        self._keeping = asyncio.get_running_loop().create_task(
            self._keep_fresh(), name="egress exits"
        )

    def stop(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping:
            keeping.cancel()

    def use_key(self, path: Path | None) -> Callable[[], None]:
        """Check answers of the echo with the key in this file, where it exists. The result goes
        back to the one before."""
        before, self._key = self._key, Reread(path, read_echo_key) if path else None

        def undo() -> None:
            self._key = before

        return undo

    # -- looking

    def tested(self, proxy: Proxy, address: str, certain: bool) -> None:
        """A test or check of a proxy was answered with this address, for ``certain`` by the target.

        Where the echo has a key, an answer that the proxy may have made up is no observation.
        """
        if certain or not self._wants_signature():
            self._known.seen(proxy, address, "test")

    async def probe(self, keys: Iterable[str]) -> Looks:
        """Look at the exits of proxies, by id or name, through the echo URLs of the settings.

        Raises ``NotFound``, and ``InvalidEntry`` where no echo is set or its key cannot be used.
        """
        if not self._echo_urls():
            raise InvalidEntry(_NO_ECHO, "echo")
        await self._known.load()
        proxies = {proxy.name: proxy for proxy in map(self._exits.find, keys)}
        return Looks(items=tuple(await self._look_at(proxies.values())))

    async def _look_at(self, proxies: Iterable[Proxy]) -> Iterable[Look]:
        urls, key = self._echo_urls(), self._signing_key()
        looks = [
            self._look(proxy, family, urls.get(family), key)
            for proxy in proxies
            for family in _families_of(proxy, urls)
        ]
        return await asyncio.gather(*looks)

    async def _look(
        self, proxy: Proxy, family: ExitFamily, url: TargetUrl | None, key: bytes | None
    ) -> Look:
        if url is None:
            unset = "no echo is set for {family}, the only family of its exit"
            why: str = _of(proxy, Sentence("look_no_echo", unset, family=family))
            return Look(proxy=proxy.name, family=family, ok=False, detail=why)
        question = EchoQuestion(url, key) if key else None
        asked, read = (question.url, question.read) if question else (url, find_egress_ip)
        egress = Egress(proxy, proxy.family, proxy.target_family)
        try:
            async with self._slots.at((proxy.host, proxy.port)):
                result = await self._looker.probe(egress, asked, read=read)
        except Exception:
            logger.exception(f"Egress: a look at the exit of proxy {proxy.name} went wrong")
            why = _of(proxy, Sentence("look_wrong", "the look went wrong; see the log"))
            return Look(proxy=proxy.name, family=family, ok=False, detail=why)
        if address := result.egress_ip:
            self._forged.pop(proxy.name, None)
            self._known.seen(proxy, address, "echo")
            return Look(proxy=proxy.name, family=family, ok=True, address=address)
        if result.refusal:
            why = result.refusal.detail
        elif question and question.problem:
            why = _of(proxy, question.problem)
            if self._forged.get(proxy.name) != why:
                logger.warning(f"Egress: {why}")
            self._forged[proxy.name] = why
        else:
            names = "the answer ({status}) names no single address"
            why = _of(proxy, Sentence("look_no_address", names, status=str(result.status)))
        return Look(proxy=proxy.name, family=family, ok=False, detail=why)

    async def look_again(self) -> None:
        """Look at the proxies with ``exit_enforce`` whose latest observation will soon be too old,
        if an echo is set. Without a look they would be refused."""
        if not self._echo_urls():
            return
        self._forget()
        now = self._clock()
        due = [
            proxy
            for proxy in self._in_force.snapshot.proxies.values()
            if proxy.exit_enforce and proxy.status == "active" and self._is_due(proxy, now)
        ]
        self._looked |= {proxy.name: (self._known.key_of(proxy), now) for proxy in due}
        await self._look_at(due)

    def _is_due(self, proxy: Proxy, now: float) -> bool:
        key, at = self._looked.get(proxy.name, ("", 0.0))
        if key == self._known.key_of(proxy) and now - at < _RETRY:
            return False
        return bool(self._known.problem(proxy)) or self._known.age_of_fresh(proxy) >= LOOK_AGAIN

    def _forget(self) -> None:
        """Of proxies that the policy no longer has."""
        for about in (self._looked, self._forged):
            for name in about.keys() - self._in_force.snapshot.proxies.keys():
                del about[name]

    async def _keep_fresh(self) -> None:
        problem = ""
        while True:
            try:
                await self._known.load()
                await self.look_again()
                self._exits.say_sharing()
            except EgressError as error:  # the policy changed meanwhile, or the key is wrong
                if str(error) != problem:
                    logger.warning(f"Egress: exits cannot be looked at: {error}")
                problem = str(error)
            except Exception:  # one bad round must not end all later ones
                logger.exception("Egress: a look at exits went wrong")
            else:
                problem = ""
            await asyncio.sleep(_ROUND)

    def _signing_key(self) -> bytes | None:
        """The key of the echo, ``None`` where it has none. Raises ``InvalidEntry`` for a key that
        cannot be used: then no answer counts."""
        try:
            return self._key.get() if self._key else None
        except OSError as error:
            unread = "The key of the echo cannot be read: {why}"
            why = Sentence("echo_key_unread", unread, why=error.strerror or "")
            raise InvalidEntry(why, KEY_FILE) from error

    def _wants_signature(self) -> bool:
        try:
            return self._signing_key() is not None
        except InvalidEntry:
            return True

    def _echo_urls(self) -> Mapping[ExitFamily, TargetUrl]:
        echo = echo_of(self._in_force.stored.settings)
        texts = {family: getattr(echo, family, None) for family in _FAMILIES}
        return {family: parse_test_url(text) for family, text in texts.items() if text}


def _of(proxy: Proxy, what: str) -> Sentence:
    """What a look at the exit of a proxy came to."""
    return Sentence("of_proxy", "Proxy {name}: {what}", name=proxy.name, what=what)


def _families_of(proxy: Proxy, urls: Iterable[ExitFamily]) -> Iterable[ExitFamily]:
    """In which families the exit of a proxy is looked at: those of the echo, unless only one is
    asked of it."""
    only = proxy.exit_family or proxy.target_family
    return (only,) if only else urls
