"""The policy file: its last good content, and what is wrong with a later one.

Says nothing of when it is read; ``in_force.py`` watches it and puts in force what it holds.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..log import get_logger
from ..model.rule import FilterCompiler, Policy
from ..policy_file.parse import (
    PolicyFileError,
    no_end,
    parse_policy,
    read_policy,
    shows_its_end,
)
from ..policy_file.proxy_fields import secrets_beside
from ..policy_file.watch import PolicyWatcher

logger = get_logger(__name__)

LONG_MOMENT: Final = 3.0
"""Seconds for which a file has to stand still that lacks a part which it had before."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """A good policy, and whether its text showed where it ends."""

    policy: Policy
    shows_its_end: bool


class FileSource:
    """One policy file, or none for an empty ``path``: then the policy is an empty one.

    ``policy`` is ``None`` until there is a good one, ``error`` what is wrong with the file as it is
    now. ``watcher`` is for whoever watches it. Who has ``turn`` reads it, so that what was read
    earlier never replaces what was read later.
    """

    def __init__(self, path: Path | None, compile_filter: FilterCompiler) -> None:
        self.path = path
        self.policy: Policy | None = None if path else Policy()
        self.error = ""
        self.watcher: PolicyWatcher | None = None
        self.turn = asyncio.Lock()
        self._compile_filter = compile_filter
        self._showed_its_end = False

    def read(self) -> FileContent:
        """What the file holds; nothing changes. For any thread. Raises ``PolicyFileError``."""
        if self.path is None:
            return FileContent(Policy(), shows_its_end=False)
        content = self._parse(self.path, read_policy(self.path))
        if self.policy and _parts(self.policy) - _parts(content.policy):
            # It may be written line by line, and look whole behind each: it is given more time.
            content = self._parse(self.path, read_policy(self.path, LONG_MOMENT))
        return content

    def _parse(self, path: Path, text: str) -> FileContent:
        shown = shows_its_end(text)
        if self._showed_its_end and not shown:
            raise no_end(path, text)
        secrets = secrets_beside(path.parent)
        policy = parse_policy(text, str(path), os.environ, secrets, self._compile_filter)
        return FileContent(policy, shown)

    def take(self, content: FileContent) -> None:
        """What was read is what the file holds."""
        self.policy, self.error = content.policy, ""
        self._showed_its_end = content.shows_its_end

    def reject(self, why: str, *, again: bool) -> None:
        """What the file holds now cannot be used. Where that is tried ``again`` without an edit, it
        is said once."""
        if not (again and why == self.error):
            kept = "the last good one stays in force" if self.policy else "everything is refused"
            more = "; it is tried again" if again else ""
            logger.warning(f"Egress policy not reloaded, {kept}{more}: {why}")
        self.error = why
        if again and self.watcher:
            self.watcher.try_again()

    def open(self) -> None:
        """Read it for the first time. Raises ``PolicyFileError``, with which it stays without a
        policy: it is tried again when it changes, or could not be read."""
        try:
            self.take(self.read())
        except PolicyFileError as error:
            self.error = str(error)
            if error.unread and self.watcher:
                self.watcher.try_again()
            raise


def _parts(policy: Policy) -> set[str]:
    """The parts of a file in which something stands."""
    return {name for name in ("proxies", "pools", "rules", "default") if getattr(policy, name)}
