"""What is served, by path: the operations, the page and the document that describes the API.

The server loads this module with the first request, and with it all models of the API.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from ..sentence import Sentence
from .first_use import FirstUse
from .openapi import document
from .pages import load_pages, make_page, page_operation
from .problems import Problem
from .resources import ROUTES
from .routes import Method, Operation

DOCUMENT: Final = "/openapi.json"


class Served:
    """What is served at a port, by path."""

    def __init__(self, port: int) -> None:
        # Its schemas take longer to make than all else here, and the page needs none of them.
        described = FirstUse(DOCUMENT, lambda: make_page(document(port), ".json"))
        served: dict[str, Mapping[Method, Operation]] = {
            DOCUMENT: {"GET": page_operation(described.get)},
            **{path: {"GET": page_operation(page.get)} for path, page in load_pages().items()},
            **ROUTES,
        }
        self._routes: list[tuple[re.Pattern[str], dict[str, Operation]]] = []
        for path, methods in served.items():
            pattern = re.compile(re.sub(r"\\{\w+\\}", "([^/]+)", re.escape(path)))
            by_method: dict[str, Operation] = {str(name): one for name, one in methods.items()}
            if "GET" in by_method:
                by_method["HEAD"] = by_method["GET"]
            self._routes.append((pattern, by_method))

    def find(self, path: str) -> tuple[dict[str, Operation], tuple[str, ...]]:
        """The operations by method, and what stands in the path for each name in braces. Raises
        ``Problem`` 404."""
        for pattern, methods in self._routes:
            if found := pattern.fullmatch(path):
                return methods, tuple(map(_unquoted, found.groups()))
        raise Problem(404, "NOT_FOUND", Sentence("nothing_here", "There is nothing here"))


def _unquoted(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as error:
        why = Sentence("path_unreadable", "This path is not UTF-8")
        raise Problem(400, "INVALID_REQUEST", why) from error
