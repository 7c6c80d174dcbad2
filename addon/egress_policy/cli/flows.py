"""``flows``: what left a running mitmproxy lately, which way, and what was refused."""

import json
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import click
from pydantic import TypeAdapter, ValidationError

from ..management.live import LiveEvent
from ..management.one_line import one_line
from ..model.host import url_host
from .api_client import NotAsked
from .colour import Painted, Style
from .command import examples
from .names import Name
from .output import say, say_json, warn
from .running import Running
from .session import Session, with_session

_EVENT: Final = TypeAdapter(LiveEvent)
_SHORTEST: Final = 24
"""Columns that the request has at least."""
_PORTS: Final = {"http": 80, "https": 443}

type Shown = tuple[dict[str, Any], LiveEvent]
"""A flow as the API says it, and what that is here."""


@click.command(epilog=examples("flows", "flows --follow --refused"))
@click.option("--follow", "-f", is_flag=True, help="go on with each flow that ends, until Ctrl-C")
@click.option("--limit", type=click.IntRange(0, 500), default=20, show_default=True,
              help="how many of those that are over, the latest")  # fmt: skip
@click.option("--refused", is_flag=True, help="only those that were refused")
@click.option("--proxy", metavar="NAME", type=Name("proxies"), help="only those of one proxy")
@with_session
def flows(session: Session, follow: bool, limit: int, refused: bool, proxy: str | None) -> int:
    """List the latest flows of the mitmproxy that runs, one a line: when, what, and which way it
    left. With --json and --follow each line is a JSON object."""

    def is_asked(event: LiveEvent) -> bool:
        return (not refused or bool(event.code)) and proxy in (None, event.proxy)

    def work(running: Running) -> None:
        coming = _flows(running)
        past = deque((one for one in _past(coming) if is_asked(one[1])), limit)
        if session.json and not follow:
            say_json([said for said, _ in past])
            return
        _say_all(past, session.json)
        if follow:
            _say_all((one for one in coming if one and is_asked(one[1])), session.json)
            raise NotAsked("The mitmproxy has ended, and with it its flows")

    try:
        session.ask_running(work)
    except KeyboardInterrupt:
        if not follow:
            raise
    return 0


def _flows(running: Running) -> Iterator[Shown | None]:
    """The flows, and ``None`` behind those that were over at the start."""
    for name, data in running.watch():
        if name == "flow":
            yield _read(data)
        elif name == "lost":
            warn(f"{json.loads(data)['count']} flows are not shown: there were too many at once")
        elif data == "open":
            yield None


def _past(coming: Iterator[Shown | None]) -> Iterator[Shown]:
    for one in coming:
        if one is None:
            return
        yield one


def _read(data: str) -> Shown:
    try:
        said = json.loads(data)
        at = datetime.fromisoformat(said["at"]).timestamp()
        return said, _EVENT.validate_python({**said, "at": at})
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise NotAsked(
            "The mitmproxy tells of flows in a form that is not known here: it may have another "
            "version of the egress policy"
        ) from error


def _say_all(flows: Iterable[Shown], as_json: bool) -> None:
    for said, event in flows:
        if as_json:
            say(json.dumps(said))
        else:
            say(*_line(event))
        sys.stdout.flush()  # a program may read as they come


def _line(event: LiveEvent) -> list[str | Painted]:
    """When, what, and which way. On a terminal a long URL is cut, so that the way is seen."""
    when = f"{datetime.fromtimestamp(event.at):%H:%M:%S}  "
    status = str(event.status or "-").ljust(3)
    line = one_line(event, event.hop_port)
    head, rest = (line.head, line.rest) if line else ("no decision", "")
    request = " ".join(filter(None, (event.method or event.kind.upper(), _url(event))))
    if sys.stdout.isatty():
        others = len(f"{when}{status}    {head}{rest}")
        room = max(_SHORTEST, shutil.get_terminal_size().columns - others)
        request = request if len(request) <= room else f"{request[: room - 1]}…"
    way: Style = "bad" if event.code else "warn" if event.cut else "good"
    shown: list[str | Painted] = [
        Painted(when, "quiet"),
        Painted(status, _style(event.status)),
        f"  {request}  ",
    ]
    return [*shown, Painted(head, way), Painted(rest, "quiet")]


def _style(status: int | None) -> Style | None:
    if status is None or status < 400:
        return None
    return "bad" if status >= 500 else "warn"


def _url(event: LiveEvent) -> str:
    port = "" if event.port == _PORTS.get(event.scheme) else f":{event.port}"
    scheme = f"{event.scheme}://" if event.scheme else ""
    return f"{scheme}{url_host(event.host)}{port}{event.path}"
