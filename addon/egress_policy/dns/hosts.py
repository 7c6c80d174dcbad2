"""The hosts file (hosts(5)), consulted before DNS as the system does."""

import functools
from pathlib import Path

from ..files.reread import Reread
from ..log import get_logger
from ..model.host import canonical_ip, normalize_target_host

logger = get_logger(__name__)

HostsTable = dict[str, tuple[str, ...]]


def parse_hosts(text: str) -> HostsTable:
    """Canonical name to its addresses (canonical literals of both families) in file order.

    A line is an address, one or more names, and perhaps a ``#`` comment; other lines are skipped.
    """
    table: dict[str, dict[str, None]] = {}
    # Block lists have 100 000 lines with one address, their names canonical but for the case.
    canonical_address = functools.cache(canonical_ip)
    for line in text.split("\n"):
        words = line.partition("#")[0].split()
        if len(words) < 2 or not (address := canonical_address(words[0])):
            continue
        for word in words[1:]:
            name = word.lower().removesuffix(".") if word.isascii() else normalize_target_host(word)
            table.setdefault(name, {})[address] = None
    return {name: tuple(addresses) for name, addresses in table.items()}


class HostsFile:
    """A hosts file, read again when it changes.

    One that does not exist holds nothing, as for the system. One that cannot be read keeps what it
    held before; until it was read for the first time nobody knows what it holds.
    """

    def __init__(self, path: Path) -> None:
        self._table = Reread(path, _read)

    def addresses(self, name: str) -> tuple[str, ...] | None:
        """All addresses of canonical ``name``, ``None`` if the file does not know it.

        Raises ``OSError`` for a file that was never read, because it cannot be.
        """
        return self._table.get().get(name)


def _read(path: Path) -> HostsTable:
    try:
        return parse_hosts(path.read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, NotADirectoryError) as error:
        logger.warning("The hosts file is not used: %s", error)
        return {}
