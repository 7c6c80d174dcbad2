"""The hosts file (hosts(5)), consulted before DNS, as the system does."""

import functools
from pathlib import Path

from ..files.reread import Reread
from ..log import get_logger
from ..model.host import canonical_ip, normalize_target_host

logger = get_logger(__name__)

HostsTable = dict[str, tuple[str, ...]]


def parse_hosts(text: str) -> HostsTable:
    """Map each canonical name to its canonical addresses of both families, in file order.

    A line is an address, one or more names, and an optional ``#`` comment; other lines are skipped.
    """
    table: dict[str, dict[str, None]] = {}
    # Block lists have 100,000 lines with one address, and names that are canonical but for case.
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
    """A hosts file that is read again when it changes.

    A missing file is an empty one, as for the system. If the file cannot be read, its last content
    stays in force. Until the first successful read its content is unknown.
    """

    def __init__(self, path: Path) -> None:
        self._table = Reread(path, _read)

    def addresses(self, name: str) -> tuple[str, ...] | None:
        """All addresses of canonical ``name``, ``None`` if the file does not list it.

        Raises ``OSError`` if the file could not be read even once.
        """
        return self._table.get().get(name)


def _read(path: Path) -> HostsTable:
    try:
        return parse_hosts(path.read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, NotADirectoryError) as error:
        logger.warning("The hosts file is not used: %s", error)
        return {}
