"""A running mitmproxy, asked over its management API, with the methods of ``Management``.

Its policy file and registry need not be those of the folder.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, override
from urllib.parse import quote

from ..errors import InvalidEntry, NotFound
from ..management.assignments import AssignmentView
from ..management.bulk import BulkEdit, BulkReport
from ..management.events import EventsView, EventView
from ..management.exit_views import Looks, ProxyExits, SharedExits
from ..management.explain import ExplainQuery, Explanation
from ..management.import_report import ImportReport
from ..management.kind import Fields
from ..management.members import ForgottenLeases, LeasesView, MembersView
from ..management.pools import PoolView
from ..management.probes import AT_ONCE
from ..management.proxies import ProxyView
from ..management.rules import RuleView
from ..management.run_file import Run, read_runs
from ..management.settings import SettingsView
from ..management.states import ResetView
from ..management.status import StatusView
from ..management.subscriptions import FetchReport, SubscriptionView
from ..management.test_result import TestResult
from ..management.token_file import read_token
from ..management.usage import UsageView
from ..management.views import Entry, Page, View
from ..model.proxy import ProxyType
from ..threads import Threads
from .api_client import PATIENCE, ApiClient, NotAsked

if TYPE_CHECKING:
    from ..management.management import Management

_LONG_PATIENCE: Final = 130.0
"""Seconds for a list."""
_TEST_PATIENCE: Final = 660.0
"""Seconds for a test, which may wait for others at the same address: for all that are asked for at
once, two at a time, with the limits of each."""
_WATCH_PATIENCE: Final = 60.0
"""Seconds for a line of a live view, which has one at least every 15 seconds."""
_FETCH_PATIENCE: Final = 400.0
"""Seconds for a list that may be redirected, and may wait for another fetch of it."""
_LONGEST_BODY: Final = 8 << 20
"""Bytes that the API takes for a list."""
_ALONE: Final = "to use a registry without it, give --registry with its place"


class _Kind[V: Entry]:
    """Has the methods of ``Kind``."""

    def __init__(self, api: ApiClient, view: type[V], path: str) -> None:
        self._api, self._view, self._path = api, view, path

    def list(self, *, limit: int, **asked: str) -> Page[V]:
        return self._api.pages(self._view, self._path, limit, **asked)

    def show(self, key: str) -> V:
        if not key:
            raise NotFound("There is no such entry")
        return self._api.view(self._view, "GET", self._path, id=key)

    def usage(self, key: str) -> UsageView:
        return self._api.view(UsageView, "GET", self._path, id=key, where_used=1)

    def create(self, fields: Fields) -> V:
        return self._api.view(self._view, "POST", self._path, fields)

    def update(self, key: str, changes: Fields) -> V:
        return self._api.view(self._view, "PATCH", self._path, {**changes, "id": key})

    async def delete(self, key: str, *, force: bool = False) -> None:
        self._api.text("DELETE", self._path, id=key, force=1 if force else "")


class _Rules(_Kind[RuleView]):
    @override
    def create(self, fields: Fields, before: str | None = None) -> RuleView:
        return super().create({**fields, **({"before": before} if before is not None else {})})

    def move(self, key: str, before: str | None) -> RuleView:
        return self.update(key, {"before": before})


class _Assigned(View):
    assignment: AssignmentView | None


class _Assignments(_Kind[AssignmentView]):
    def assign(
        self, scope: str, scope_id: str | None, proxy: str | None, *, group: str | None = None
    ) -> AssignmentView | None:
        fields = {"scope": scope, "scopeId": scope_id, "proxyId": proxy, "group": group}
        return self._api.view(_Assigned, "PUT", self._path, fields).assignment


class _Settings:
    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def show(self) -> SettingsView:
        return self._api.view(SettingsView, "GET", "/settings")

    def change(self, changes: Fields) -> SettingsView:
        return self._api.view(SettingsView, "PATCH", "/settings", changes)


class _Probes:
    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._threads, self._slots = Threads("egress-test", AT_ONCE), asyncio.Semaphore(AT_ONCE)

    async def test(self, key: str) -> TestResult:
        path = f"/proxies/{quote(key, safe='')}/test"
        async with self._slots:
            return await self._threads.run(
                self._api.view, TestResult, "POST", path, {}, patience=_TEST_PATIENCE
            )


class _Exits:
    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def list(self, *, proxy: str = "", limit: int) -> Page[ProxyExits]:
        return self._api.pages(ProxyExits, "/exits", limit, proxy=proxy)

    async def shared(self) -> SharedExits:
        return self._api.view(SharedExits, "GET", "/exits/shared")


class _Members:
    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def list(self, key: str, *, limit: int, state: str = "") -> MembersView:
        return self._api.whole(MembersView, f"{_pool(key)}/members", limit, state=state)

    def leases(self, key: str, *, limit: int) -> LeasesView:
        return self._api.whole(LeasesView, f"{_pool(key)}/leases", limit)


def _pool(key: str) -> str:
    return f"/pools/{quote(key, safe='')}"


class _Events:
    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def list(self, proxy: str | None, limit: int) -> tuple[EventView, ...]:
        found = self._api.view(EventsView, "GET", "/events", proxy=proxy or "", limit=limit)
        return found.items


class _ExitLooks:
    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._threads, self._slots = Threads("egress-exits", AT_ONCE), asyncio.Semaphore(AT_ONCE)

    async def probe(self, keys: Iterable[str]) -> Looks:
        asked = {"proxies": [*keys]}
        async with self._slots:
            return await self._threads.run(
                self._api.view, Looks, "POST", "/exits/probe", asked, patience=_LONG_PATIENCE
            )


class _Subscriptions(_Kind[SubscriptionView]):
    async def preview(self, key: str) -> FetchReport:
        return self._fetch(key, "preview")

    async def refresh(self, key: str) -> FetchReport:
        return self._fetch(key, "refresh")

    def _fetch(self, key: str, what: str) -> FetchReport:
        path = f"{self._path}/{quote(key, safe='')}/{what}"
        return self._api.view(FetchReport, "POST", path, {}, patience=_FETCH_PATIENCE)


class _Bulk:
    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def edit(self, keys: Sequence[str], edit: BulkEdit) -> BulkReport:
        said = {"ids": [*keys], **asdict(edit)}
        return self._api.view(BulkReport, "POST", "/proxies/bulk", said, patience=_LONG_PATIENCE)


class _Transfer:
    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def export(self, form: str, *, secrets: bool = False) -> str:
        what: Any = {"format": form, "secrets": int(secrets)}
        return self._api.text("GET", "/proxies/export", patience=_LONG_PATIENCE, **what)

    def import_text(
        self, text: str, *, default_type: ProxyType | None, update: bool, dry_run: bool
    ) -> ImportReport:
        said = {"text": text, "type": default_type, "update": update, "dry_run": dry_run}
        if len(json.dumps(said, ensure_ascii=False).encode()) > _LONGEST_BODY:
            why = f"This list is longer than a mitmproxy takes at once; {_ALONE}"
            raise InvalidEntry(why, "file")
        path = "/proxies/import"
        return self._api.view(ImportReport, "POST", path, said, patience=_LONG_PATIENCE)


class LinkView(View):
    """``file`` is the URL of a file that leads a browser to the link; empty if there is none."""

    link: str
    file: str


class Running:
    """Has the methods of ``Management`` that commands use."""

    is_running = True

    def __init__(self, run: Run, patience: float = PATIENCE) -> None:
        """Raises ``EgressError`` if nothing answers, or not to the token."""
        if not run.url or run.token_file is None:
            raise NotAsked(
                f"A mitmproxy (pid {run.pid}) runs on this folder, and its egress_listen is empty: "
                f"it cannot be asked; {_ALONE}"
            )
        self._api = ApiClient(run, read_token(run.token_file), patience)
        self.proxies = _Kind(self._api, ProxyView, "/proxies")
        self.pools = _Kind(self._api, PoolView, "/pools")
        self.rules = _Rules(self._api, RuleView, "/rules")
        self.assignments = _Assignments(self._api, AssignmentView, "/proxies/assignments")
        self.settings = _Settings(self._api)
        self.probes = _Probes(self._api)
        self.members = _Members(self._api)
        self.events = _Events(self._api)
        self.exits = _Exits(self._api)
        self.exit_looks = _ExitLooks(self._api)
        self.bulk = _Bulk(self._api)
        self.transfer = _Transfer(self._api)
        self.subscriptions = _Subscriptions(self._api, SubscriptionView, "/subscriptions")
        status = self.status()
        self.about = _about(run, status)
        self.registry = status.registry.name if status.registry else ""

    def explain(self, query: ExplainQuery) -> Explanation:
        return self._api.view(Explanation, "POST", "/explain", query.model_dump())

    def reset(self, key: str) -> ResetView:
        return self._api.view(ResetView, "POST", f"/proxies/{quote(key, safe='')}/reset", {})

    def forget_leases(self, key: str) -> ForgottenLeases:
        return self._api.view(ForgottenLeases, "DELETE", f"{_pool(key)}/leases")

    def link(self, *, file: bool) -> LinkView:
        return self._api.view(LinkView, "POST", "/link", {"file": file})

    def watch(self) -> Iterator[tuple[str, str]]:
        """Flows as server-sent events; the comment ``open`` stands behind those that are over."""
        return self._api.events("/flows/live", _WATCH_PATIENCE)

    async def recall(self) -> None:
        """It has taken in what its registry has."""

    def status(self) -> StatusView:
        return self._api.view(StatusView, "GET", "/status")


type Asked = Management | Running
"""What answers a command: a process of its own, or a mitmproxy that runs."""


def find_run(confdir: Path) -> Run | None:
    """The mitmproxy that started last on a folder; one with an API comes before one without.

    Raises ``EgressError`` if one seems to run and its file cannot be trusted.
    """
    runs, faults = read_runs(confdir)
    if faults and not runs:
        raise NotAsked(f"{faults[0]}. A mitmproxy may run here that cannot be asked; {_ALONE}")
    return next((run for run in runs if run.url), runs[0] if runs else None)


def find_running(confdir: Path, patience: float = PATIENCE) -> Running | None:
    """The mitmproxy that runs on a folder. Raises ``EgressError`` if it does not answer.
    ``patience`` is in seconds for each answer."""
    run = find_run(confdir)
    return Running(run, patience) if run else None


def _about(run: Run, status: StatusView) -> str:
    parts = [
        f"policy file {status.policy.path}" if status.policy.path else "no policy file",
        f"registry {status.registry.name}" if status.registry else "no registry",
    ]
    return f"mitmproxy at {run.url} ({', '.join(parts)})"
