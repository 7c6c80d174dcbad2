"""``dashboard``: the page of a running mitmproxy, logged in."""

import os
import sys
import webbrowser
from typing import Final

import click

from .command import examples
from .output import say, say_json, warn
from .session import Session, with_session

_SCREENS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


@click.command(epilog=examples("dashboard", "dashboard --print"))
@click.option("--print", "only_print", is_flag=True, help="print a link, and open nothing")
@with_session
def dashboard(session: Session, only_print: bool) -> int:
    """Open the page in a browser, logged in. Without a browser here, print a link: it works once,
    within 15 minutes."""
    shown = only_print or session.json or not _has_screen()
    made = session.ask_running(lambda running: running.link(file=not shown))
    if made.file and _open(made.file):
        warn("The page opens in your browser. `egress-policy dashboard --print` prints a link")
        return 0
    if session.json:
        say_json({"link": made.link})
    else:
        say(made.link)
        warn("This link opens the page, logged in: once, within 15 minutes")
    return 0


def _has_screen() -> bool:
    """Whether a browser would have a window: not one that takes over this terminal."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in _SCREENS)


def _open(url: str) -> bool:
    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False
