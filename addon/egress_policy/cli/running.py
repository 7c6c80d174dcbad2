"""A mitmproxy that runs, asked over its management API as ``Management`` is asked in a process.

Only what reads is here. The token goes to the place that the run file of mitmproxy's folder names,
and nowhere else: no proxy of the environment is used and no redirect followed.
"""

import asyncio
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from ..errors import EgressError, InvalidEntry
from ..files.run_file import Run, read_run
from ..files.secret_file import SecretFileError
from ..files.token_file import read_token
from ..management.assignments import AssignmentView
from ..management.explain import ExplainQuery, Explanation
from ..management.pools import PoolView
from ..management.probes import AT_ONCE
from ..management.proxies import ProxyView
from ..management.rules import RuleView
from ..management.settings import SettingsView
from ..management.status import StatusView
from ..management.test_result import TestResult
from ..management.usage import UsageView
from ..management.views import Entry, Page, PageInfo, View
from ..registry.errors import NotFound, RegistryError
from .output import warn

_PREFIX: Final = "/api/v1/management"
_PATIENCE: Final = 10.0
_PATIENCE_OF_TEST: Final = 120.0
"""Seconds for an answer; a test takes its time and may wait for others."""
_PAGE: Final = 200
_UNAUTHENTICATED: Final = (401, 429)


class _NotAsked(RegistryError):
    """Nobody answers there, or not to us."""


class _Api:
    def __init__(self, run: Run, token: str) -> None:
        self._run, self._token = run, token

    def text(
        self,
        method: str,
        path: str,
        body: str | None = None,
        timeout: float = _PATIENCE,
        **query: object,
    ) -> str:
        """The body of a good answer. Raises ``EgressError`` with the sentence of any other."""
        stated = {name: value for name, value in query.items() if value != ""}
        target = f"{_PREFIX}{path}" + (f"?{urlencode(stated)}" if stated else "")
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(*self._run.address, timeout=timeout)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise _NotAsked(f"{self._run.url} does not answer: {why}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise self._failure(answer.status, text)
        return text

    def view[V: View](
        self, kind: type[V], path: str, body: str | None = None, **query: str | int
    ) -> V:
        timeout = _PATIENCE_OF_TEST if kind is TestResult else _PATIENCE
        method = "POST" if body is not None else "GET"
        text = self.text(method, path, body, timeout, **query)
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            raise _NotAsked(
                f"{self._run.url} answers in a form that is not known here: it may be a mitmproxy "
                "with another version of the egress policy"
            ) from error

    def pages[V: View](self, kind: type[V], path: str, limit: int, **query: str) -> Page[V]:
        """As many as there are, up to ``limit``."""
        items: list[V] = []
        total = 1
        while len(items) < min(total, limit):
            step = min(_PAGE, limit - len(items))
            got = self.view(Page[kind], path, None, limit=step, offset=len(items), **query)  # type: ignore[valid-type]
            total = got.page.total
            if not got.items:
                break
            items += got.items
        info = PageInfo(limit=limit, offset=0, total=total if items else 0)
        return Page[kind](items=tuple(items), page=info)  # type: ignore[valid-type]

    def _failure(self, status: int, text: str) -> EgressError:
        if status in _UNAUTHENTICATED:
            return _NotAsked(
                f"{self._run.url} does not take the token in {self._run.token_file}: mitmproxy "
                "reads it when it starts"
            )
        try:
            detail = str(json.loads(text)["detail"])
        except (ValueError, LookupError, TypeError):
            detail = f"{self._run.url} answers {status}"
        if status == http.client.NOT_FOUND:
            return NotFound(detail)
        return InvalidEntry(detail) if status == http.client.BAD_REQUEST else RegistryError(detail)


class _Kind[V: Entry]:
    """Reads as ``Kind`` does."""

    def __init__(self, api: _Api, view: type[V], path: str) -> None:
        self._api, self._view, self._path = api, view, path

    def list(self, *, limit: int, **asked: str) -> Page[V]:
        return self._api.pages(self._view, self._path, limit, **asked)

    def show(self, key: str) -> V:
        return self._api.view(self._view, self._path, id=key)

    def usage(self, key: str) -> UsageView:
        return self._api.view(UsageView, self._path, id=key, where_used=1)


class _Settings:
    def __init__(self, api: _Api) -> None:
        self._api = api

    def show(self) -> SettingsView:
        return self._api.view(SettingsView, "/settings")


class _Probes:
    def __init__(self, api: _Api) -> None:
        self._api = api
        self._threads = ThreadPoolExecutor(AT_ONCE)

    async def test(self, key: str) -> TestResult:
        path = f"/proxies/{quote(key, safe='')}/test"
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: self._api.view(TestResult, path, "")
        )


class _Transfer:
    def __init__(self, api: _Api) -> None:
        self._api = api

    def export(self, form: str, *, secrets: bool = False) -> str:
        return self._api.text(
            "GET", "/proxies/export", timeout=_PATIENCE_OF_TEST, format=form, secrets=int(secrets)
        )


class Running:
    """Has the reading methods of ``Management`` that commands use, with the same answers."""

    def __init__(self, run: Run) -> None:
        """Raises ``EgressError`` where nobody answers, or not to the token."""
        self._api = _Api(run, read_token(run.token_file))
        self.proxies = _Kind(self._api, ProxyView, "/proxies")
        self.pools = _Kind(self._api, PoolView, "/pools")
        self.rules = _Kind(self._api, RuleView, "/rules")
        self.assignments = _Kind(self._api, AssignmentView, "/proxies/assignments")
        self.settings = _Settings(self._api)
        self.probes = _Probes(self._api)
        self.transfer = _Transfer(self._api)
        self.about = _about(run, self.status())

    def explain(self, query: ExplainQuery) -> Explanation:
        return self._api.view(Explanation, "/explain", query.model_dump_json())

    def status(self) -> StatusView:
        return self._api.view(StatusView, "/status")


def find_run(confdir: Path) -> Run | None:
    """The run file of a folder. One that cannot be used is ignored, which is said."""
    try:
        return read_run(confdir)
    except SecretFileError as error:
        warn(f"ignored: {error}")
        return None


def find_running(confdir: Path) -> Running | None:
    """The mitmproxy that runs on a folder and answers. One that does not is said."""
    run = find_run(confdir)
    try:
        return Running(run) if run else None
    except EgressError as error:
        warn(f"ignored: {error}")
        return None


def _about(run: Run, status: StatusView) -> str:
    parts = [
        f"policy file {status.policy.path}" if status.policy.path else "no policy file",
        f"registry {status.registry.name}" if status.registry else "no registry",
    ]
    return f"mitmproxy at {run.url} ({', '.join(parts)})"
