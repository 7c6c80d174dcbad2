"""``echo``: an echo of one's own, about which no proxy can lie."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..model.settings import Listen, parse_listen
from .command import examples
from .output import say, say_json
from .session import Session, with_session

if TYPE_CHECKING:
    from ..management.echo import EchoView


@click.command(epilog=examples("echo", "echo --listen 192.0.2.1:8088"))
@click.option("--listen", default="[::]:8088", show_default=True, metavar="ADDRESS:PORT",
              help="where to listen; [::] is both families")  # fmt: skip
@click.option("--key-file", type=click.Path(path_type=Path), metavar="FILE",
              help="its key, made where it is missing; egress-echo-key in the folder")  # fmt: skip
@with_session
def echo(session: Session, listen: str, key_file: Path | None) -> int:
    """Answer over HTTP the address of whoever asks, signed, until Ctrl-C.

    Run it on a machine that the proxies reach without anything but TCP in between.
    """
    from ..management.echo import KEY_FILE

    place = parse_listen(listen, "--listen")
    asyncio.run(_answer(session, place, key_file or session.folder / KEY_FILE))
    return 0


async def _answer(session: Session, listen: Listen, key_file: Path) -> None:
    from ..management.echo import running_echo

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with running_echo(listen, key_file) as view:
        (say_json if session.json else _say)(view)
        sys.stdout.flush()
        await ended.wait()


def _say(view: "EchoView") -> None:
    say(f"The echo listens at {view.listen}; its key is in {view.key_file}")
    urls = {"ipv4": view.ipv4, "ipv6": view.ipv6}
    asked = [f"--set-echo-{family} {url}" for family, url in urls.items() if url]
    given = " ".join(asked or ["--set-echo-ipv4 http://ADDRESS:PORT/"])
    say("On each mitmproxy that is to ask it:")
    say(f"  egress-policy settings {given}")
    say("  and a copy of the key as egress-echo-key in its folder, mode 0600")
    say("Ctrl-C ends it")
