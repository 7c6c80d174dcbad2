"""One-time links to the page, and the files that lead a browser to them.

A link's word is in its fragment, which browsers do not send.
"""

import asyncio
import functools

from .auth import LINK_LIFE, LINKS, SHOWN_LINK_LIFE, Gate
from .link_page import LinkPage


class OneTimeLinks:
    """Links to the page at ``url``, each of which opens one session, once."""

    def __init__(self, gate: Gate, url: str) -> None:
        self._gate, self._url = gate, url
        self._pages: dict[LinkPage, asyncio.TimerHandle] = {}

    def link(self) -> str:
        """A link for a person, good for ``SHOWN_LINK_LIFE`` seconds."""
        return f"{self._url}#{self._gate.make_link(SHOWN_LINK_LIFE)}"

    def page(self) -> LinkPage:
        """A file that leads a browser to a link. It is removed when the link is used or too old,
        when there are ``LINKS`` later files, and by ``close``. Raises ``OSError`` if no file can
        be made."""
        while len(self._pages) >= LINKS:
            self._drop(next(iter(self._pages)))
        page = LinkPage()
        timer = asyncio.get_running_loop().call_later(LINK_LIFE, self._drop, page)
        self._pages[page] = timer
        try:
            word = self._gate.make_link(LINK_LIFE, functools.partial(self._drop, page))
            page.lead_to(f"{self._url}#{word}")
        except BaseException:
            self._drop(page)
            raise
        return page

    def close(self) -> None:
        """Remove all files; safe to call again."""
        for page in tuple(self._pages):
            self._drop(page)

    def _drop(self, page: LinkPage) -> None:
        if timer := self._pages.pop(page, None):
            timer.cancel()
        page.remove()
