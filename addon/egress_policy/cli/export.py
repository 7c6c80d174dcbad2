"""``export``: the proxies, written out."""

import os
from pathlib import Path
from typing import cast, get_args

import click

from ..errors import InvalidEntry
from ..management.export import Format
from .command import examples
from .output import say_data
from .session import Session, with_session


@click.command(epilog=examples("export --format csv -o proxies.csv"))
@click.option("--format", "form", type=click.Choice(get_args(Format)), default="text",
              show_default=True)  # fmt: skip
@click.option("--secrets", is_flag=True, help="with passwords")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="made with mode 0600")  # fmt: skip
@with_session
def export(session: Session, form: str, secrets: bool, output: Path | None) -> int:
    """Write the proxies out, in a form that `import` takes."""
    format_ = cast(Format, form)
    text = session.read(lambda asked: asked.transfer.export(format_, secrets=secrets))
    if output is None:
        say_data(text)
        return 0
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        descriptor = os.open(output, flags, 0o600)
        os.fchmod(descriptor, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise InvalidEntry(f"{output} cannot be written: {error.strerror}", "o") from error
    return 0
