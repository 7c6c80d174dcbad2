"""A file that leads a browser to a one-time link.

The list of processes shows the arguments of a browser to everybody on the machine. They name this
file, which only its owner can open.
"""

import html
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={link}">
<title>mitmproxy egress policy</title>
<p><a href="{link}">Open the page</a></p>
</html>
"""


class LinkPage:
    """The file, mode 0600, in a folder of its own, mode 0700. Making it raises ``OSError``."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="egress-"))
        self.link = ""

    @property
    def url(self) -> str:
        return (self._folder / "open.html").as_uri()

    def lead_to(self, link: str) -> None:
        self.link = link
        path = self._folder / "open.html"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(link=html.escape(link)))

    def remove(self) -> None:
        """Remove folder and file; safe to call again."""
        shutil.rmtree(self._folder, ignore_errors=True)
