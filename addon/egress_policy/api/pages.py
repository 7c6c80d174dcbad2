"""The files of the page, read once: no part of a request becomes a path of this machine."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from .calls import Call, Response
from .routes import Operation

_HERE: Final = Path(__file__).parent
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
PAGE_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


@dataclass(frozen=True, slots=True)
class StaticPage:
    """One file: its bytes, media type and entity tag."""

    content: bytes
    type_: str
    etag: str

    async def get(self) -> Self:
        return self


def page_operation(get: Callable[[], Awaitable[StaticPage]]) -> Operation:
    """Shows a page to anybody: there is no secret in it."""

    async def show(call: Call) -> Response:
        page = await get()
        headers = {**PAGE_HEADERS, "ETag": page.etag}
        known = call.headers.get("If-None-Match", "")
        if known == "*" or page.etag in re.findall(r'"[^"]*"', known):
            return Response(status=304, headers=headers)
        return Response(page.content, type_=page.type_, headers=headers)

    return Operation(
        "page", "A file of the page", show, {200: {"type": "string"}}, access="anybody"
    )


def load_pages() -> dict[str, StaticPage]:
    """By path: ``/``, ``/static/…``, ``/messages/<lang>.json``."""
    pages = {
        f"/{file.relative_to(_HERE).as_posix()}": make_page(file.read_bytes(), file.suffix)
        for folder in ("static", "messages")
        for file in sorted((_HERE / folder).rglob("*"))
        if file.suffix in _TYPES
    }
    if index := pages.pop("/static/index.html", None):
        pages["/"] = index
    return pages


def make_page(content: bytes, suffix: str) -> StaticPage:
    digest = hashlib.sha256(content).hexdigest()[:16]
    return StaticPage(content, _TYPES[suffix], f'"{digest}"')
