"""Subscriptions: lists of proxies behind URLs, how they are shown, tried out and taken.

A list is fetched by the way that its subscription names and by no other. What came of the last
fetch is kept in the registry, so that it outlives the process and other nodes know of it.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, override
from weakref import WeakValueDictionary

from pydantic import ValidationError

from ..client.fetch import FetchFailed
from ..errors import EgressError, InvalidEntry
from ..log import get_logger
from ..model.proxy_list import ListResult
from ..model.subscription import ListSubscription, parse_list_url
from ..model.words import iso_time
from ..registry.records import StoredSubscription
from .intake import Known
from .journal import Rows
from .kind import Kind, Row
from .sync import MOST_ENTRIES, Sync, SyncCounts, sync
from .transfer import PATIENCE, decode_list, read_list
from .upkeep import Upkeep
from .views import Entry, Secret, as_number, as_text, entry_fields

if TYPE_CHECKING:
    from ..registry.registry import Edit

logger = get_logger(__name__)

_RETRY: Final = timedelta(hours=1)
"""After a fetch in the background that failed, unless the list is due earlier."""
_ROUND: Final = 60.0
"""Seconds from one look for lists that are due to the next."""
_AHEAD: Final = timedelta(minutes=1)
"""How far the clocks of two nodes may differ."""
_LONGEST_REASON: Final = 500
_COUNTS: Final = set(SyncCounts.model_fields)
_WENT_WRONG: Final = "the fetch went wrong; see the log"


class FetchOfDocument(Protocol):
    """Fetches a document, as a ``Fetcher`` does."""

    async def fetch(self, url: str, via: str) -> bytes: ...


class FetchKeeper(Protocol):
    """Keeps what came of fetches where it outlives the process: a ``JournalWriter``."""

    def put_fetches(self, rows: Rows) -> None: ...

    async def fetches(self) -> list[dict[str, Any]]: ...


class FetchView(SyncCounts):
    """What came of the last fetch. ``detail`` says why it failed."""

    at: str
    ok: bool
    detail: str = ""


class SubscriptionView(Entry):
    """A subscription. ``place`` is the beginning of its URL, without what may be secret;
    ``proxies`` counts what it has brought, ``due_at`` is when it is fetched next."""

    name: str
    url: Secret
    place: str = ""
    via: str
    every_hours: int
    type: str | None = None
    tags: tuple[str, ...] = ()
    status: str
    proxies: int = 0
    last: FetchView | None = None
    due_at: str | None = None


class FetchReport(Sync):
    """What a fetch changes; with ``dry_run`` what it would change."""

    dry_run: bool
    at: str


class Subscriptions(Kind[SubscriptionView]):
    """``clock`` is that of the wall, because fetches are due across runs and nodes."""

    noun, plural, model, view = "subscription", "subscriptions", ListSubscription, SubscriptionView

    def __init__(
        self,
        upkeep: Upkeep,
        fetcher: FetchOfDocument,
        keeper: FetchKeeper,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(upkeep)
        self._fetcher, self._keeper, self._clock = fetcher, keeper, clock
        self._last: dict[str, FetchView] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._brought: tuple[object, Counter[str]] = (None, Counter())
        self._task: asyncio.Task[None] | None = None

    # -- in the background

    def start(self) -> None:
        """From now on fetch what is due."""
        self._task = asyncio.get_running_loop().create_task(
            self._keep_fresh(), name="egress subscriptions"
        )

    def stop(self) -> None:
        task, self._task = self._task, None
        if task:
            task.cancel()

    async def recall(self) -> None:
        """Take in what the registry has about fetches, of earlier runs and of other nodes."""
        for row in await self._keeper.fetches():
            try:
                found = FetchView.model_validate({**json.loads(row["result"]), "at": row["at"]})
            except (ValueError, TypeError, ValidationError):  # edited by hand
                continue
            mine = self._last.get(row["subscription"])
            if mine is None or mine.at < found.at:
                self._last[row["subscription"]] = found

    async def fetch_due(self) -> None:
        """Fetch the lists that are due, one after the other. What fails is logged and kept."""
        there = self._in_force.stored.subscriptions
        ids = {stored.id for stored in there}
        self._last = {id_: last for id_, last in self._last.items() if id_ in ids}
        if not any(map(self._is_due, there)):
            return
        await self.recall()  # another node may have fetched it meanwhile
        for stored in there:
            if self._is_due(stored):
                try:
                    report = await self.refresh(stored.id)
                except EgressError as error:
                    logger.warning(f"Egress: subscription {stored.name!a} was not taken: {error}")
                except Exception:  # it must not keep others from being fetched
                    logger.exception(f"Egress: subscription {stored.name!a} was not taken")
                    at = iso_time(self._clock())
                    self._note(stored.id, FetchView(at=at, ok=False, detail=_WENT_WRONG))
                else:
                    counts = ", ".join(
                        f"{getattr(report, kind)} {kind}"
                        for kind in ("created", "updated", "removed", "kept", "failed")
                    )
                    logger.info(f"Egress: subscription {stored.name!a}: {counts}")

    async def _keep_fresh(self) -> None:
        while True:
            try:
                await self.fetch_due()
            except Exception:  # one bad round must not end all later ones
                logger.exception("Egress: subscriptions could not be fetched")
            await asyncio.sleep(_ROUND)

    def _is_due(self, stored: StoredSubscription) -> bool:
        due = self._due_at(stored)
        return due is not None and due <= self._clock()

    def _due_at(self, stored: StoredSubscription) -> datetime | None:
        """When it is fetched next; ``None`` for never. The first fetch is a person's, who may look
        first at what it brings."""
        subscription, last = stored.value, self._last.get(stored.id)
        if subscription is None or subscription.status != "active" or not subscription.every_hours:
            return None
        now, every = self._clock(), timedelta(hours=subscription.every_hours)
        if last is None:  # what came of it may be lost
            return now if self._brought_by(stored) else None
        try:
            at = datetime.fromisoformat(last.at).astimezone(UTC)
        except (ValueError, OverflowError):  # edited by hand
            return now
        if at > now + _AHEAD:  # the clock was set back
            return now
        return at + (every if last.ok else min(every, _RETRY))

    # -- on demand

    async def preview(self, key: str) -> FetchReport:
        """Fetch the list and say what it would change. Keeps nothing. Raises as ``refresh``."""
        return await self._fetch(key, dry_run=True)

    async def refresh(self, key: str) -> FetchReport:
        """Fetch the list and take it.

        Raises ``NotFound``, ``FetchFailed`` where the list cannot be had or holds no proxy, and
        the errors of ``Upkeep.change``. Then nothing was changed.
        """
        return await self._fetch(key, dry_run=False)

    async def _fetch(self, key: str, *, dry_run: bool) -> FetchReport:
        id_ = await self.find_own(key)
        lock = self._locks.setdefault(id_, asyncio.Lock())
        async with lock:
            at = iso_time(self._clock())
            try:
                report = await self._take(id_, dry_run, at)
            except EgressError as error:
                if not dry_run:
                    self._note(id_, FetchView(at=at, ok=False, detail=_shortened(str(error))))
                raise
            if not dry_run:
                counts = report.model_dump(include=_COUNTS)
                self._note(id_, FetchView(at=at, ok=True, **counts))
            return report

    async def _take(self, id_: str, dry_run: bool, at: str) -> FetchReport:
        subscription = self._subscription(id_)
        data = await self._fetcher.fetch(subscription.url.get_secret_value(), subscription.via)
        entries = await asyncio.to_thread(_entries, data, subscription)

        def take(edit: "Edit") -> Sync:
            now = edit.load(self._in_force.state)
            # Whoever edits the subscription meanwhile is not overruled by what it was before.
            if not any(one.id == id_ and one.value == subscription for one in now.subscriptions):
                raise FetchFailed("The subscription was changed meanwhile; fetch it again")
            return sync(
                edit,
                Known(now, self._in_force.filed),
                [one for one in now.proxies if one.subscription_id == id_],
                subscription,
                id_,
                entries,
                frozenset(one.value.via for one in now.subscriptions if one.value),
            )

        try:
            done = await self._upkeep.change(take, PATIENCE, dry_run=dry_run)
        except InvalidEntry as error:
            raise FetchFailed(f"The list was not taken: {error}") from error
        return FetchReport(**done.model_dump(), dry_run=dry_run, at=at)

    def _subscription(self, id_: str) -> ListSubscription:
        for stored in self._in_force.stored.subscriptions:
            if stored.id == id_ and stored.value:
                return stored.value
        raise FetchFailed("The subscription cannot be used as it lies in the database; edit it")

    def _note(self, id_: str, last: FetchView) -> None:
        self._last[id_] = last
        result = last.model_dump_json(exclude={"at"})
        self._keeper.put_fetches([{"subscription": id_, "at": last.at, "result": result}])

    # -- the list of subscriptions

    @override
    def _rows(self) -> Iterable[Row[SubscriptionView]]:
        for stored in self._in_force.stored.subscriptions:
            yield Row(stored.id, stored.name, partial(self._view, stored))

    def _view(self, stored: StoredSubscription) -> SubscriptionView:
        fields = _fields(stored.value) if stored.value else _raw_fields(stored)
        due = self._due_at(stored)
        return SubscriptionView(
            **entry_fields(stored),
            **fields,
            proxies=self._brought_by(stored),
            last=self._last.get(stored.id),
            due_at=iso_time(due) if due else None,
        )

    def _brought_by(self, stored: StoredSubscription) -> int:
        """How many proxies a subscription has brought that are there."""
        proxies = self._in_force.stored.proxies
        if self._brought[0] is not proxies:
            self._brought = (proxies, Counter(one.subscription_id for one in proxies))
        return self._brought[1][stored.id]


def _fields(subscription: ListSubscription) -> dict[str, Any]:
    url = parse_list_url(subscription.url.get_secret_value())
    place = f"{url.scheme}://{url.authority}/"
    fields = subscription.model_dump(exclude={"url"})
    return {**fields, "url": Secret(set=True), "place": place}


def _raw_fields(stored: StoredSubscription) -> dict[str, Any]:
    """What the database has, where it cannot be used."""
    raw = stored.raw
    texts = {name: as_text(raw.get(name)) for name in ("via", "status")}
    hours = as_number(raw.get("every_hours"))
    return {"name": stored.name, **texts, "every_hours": hours, "url": Secret(set=True)}


def _entries(data: bytes, subscription: ListSubscription) -> list[ListResult]:
    """What a list says, up to one entry too many. Raises ``FetchFailed`` where it is no text."""
    try:
        text = decode_list("The list", lambda: data)
    except InvalidEntry as error:
        raise FetchFailed(str(error)) from error
    found = read_list(text, subscription.type).entries
    return [entry for _, entry in islice(found, MOST_ENTRIES + 1)]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
