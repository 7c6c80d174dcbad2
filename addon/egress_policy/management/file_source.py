"""The policy file: its last good content, and what is wrong with a later edit.

It is watched, and read in a thread; ``upkeep.py`` puts in force what it holds.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..collector import Collector
from ..errors import PolicyFileError
from ..log import get_logger
from ..model.rule import FilterCompiler, Policy
from ..policy_file.parse import no_end, parse_policy, read_policy, shows_its_end
from ..policy_file.proxy_fields import secrets_beside
from ..policy_file.watch import PolicyWatcher
from ..threads import Threads, TooManyHang

logger = get_logger(__name__)

_UNTOUCHED: Final = Collector()
PATIENCE: Final = 60.0
"""Seconds for reading a file of any size and making a policy of it."""
LONG_MOMENT: Final = 3.0
"""Seconds without a change before a file is taken that lacks a part which it had before."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """A good policy, and whether its text showed where it ends."""

    policy: Policy
    shows_its_end: bool


class FileSource:
    """One policy file, or none for an empty ``path``: then the policy is an empty one.

    ``policy`` is ``None`` until there is a good one, ``error`` what is wrong with the file as it is
    now. ``put_in_force`` takes what was read over, or raises.
    """

    def __init__(
        self,
        path: Path | None,
        compile_filter: FilterCompiler,
        put_in_force: "Callable[[FileSource, FileContent], Awaitable[None]] | None" = None,
        collector: Collector = _UNTOUCHED,
    ) -> None:
        self.path = path
        self.policy: Policy | None = None if path else Policy()
        self.error = ""
        self.watcher: PolicyWatcher | None = None
        self._compile_filter = compile_filter
        self._put_in_force = put_in_force or _nowhere
        self._collector = collector
        self._threads = Threads("egress-policy-file")
        self._turn = asyncio.Lock()
        """Held while the file is read: earlier content never replaces later content."""
        self._showed_its_end = False

    def read(self) -> FileContent:
        """Read the file, in any thread, and change nothing. Raises ``PolicyFileError``."""
        if self.path is None:
            return FileContent(Policy(), shows_its_end=False)
        content = self._parse(self.path, read_policy(self.path))
        if self.policy and _parts(self.policy) - _parts(content.policy):
            # It may be written line by line, and look whole after each: it is given more time.
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
        """Take over what was read."""
        self.policy, self.error = content.policy, ""
        self._showed_its_end = content.shows_its_end

    def reject(self, why: str, *, again: bool) -> None:
        """Report that the content cannot be used. With ``again`` the file is tried again without an
        edit, and a repeated error is logged once."""
        if not (again and why == self.error):
            kept = "the last good one stays in force" if self.policy else "everything is refused"
            more = "; it is tried again" if again else ""
            logger.warning(f"Egress policy not reloaded, {kept}{more}: {why}")
        self.error = why

    def open(self) -> None:
        """Read it for the first time. Raises ``PolicyFileError`` and has no policy then; the file
        is tried again when it changes, or if it could not be read."""
        if self.path:
            # Made before reading, so that an edit in between is noticed.
            self.watcher = PolicyWatcher(self.path, self.reload, self._gone)
        try:
            self.take(self.read())
        except PolicyFileError as error:
            self.error = str(error)
            if error.unread and self.watcher:
                self.watcher.try_again()
            raise

    async def reload(self) -> bool:
        """Put in force what the file holds now. False if it should be tried again."""
        try:
            async with self._turn:
                with self._collector.while_editing():
                    async with asyncio.timeout(PATIENCE):
                        content = await self._threads.run(self.read)
                    await self._put_in_force(self, content)
        except PolicyFileError as error:
            self.reject(str(error), again=error.unread)
            return not error.unread
        except (TimeoutError, TooManyHang):
            self.reject(f"{self.path} cannot be read: its file system does not answer", again=True)
            return False
        except Exception as error:
            logger.debug("The edit of the policy file could not be handled", exc_info=True)
            self.reject(repr(error), again=True)
            return False
        return True

    def watch(self) -> None:
        """Take edits in automatically, on the running loop."""
        if self.watcher:
            self.watcher.start()

    def unwatch(self) -> None:
        if self.watcher:
            self.watcher.stop()

    def _gone(self) -> None:
        self.error = "the policy file is gone"
        logger.warning("Egress policy file is gone; the last good policy stays in force")


async def _nowhere(_source: FileSource, _content: FileContent) -> None:
    """Nobody takes the content of a source without a file."""


def _parts(policy: Policy) -> set[str]:
    """The parts of a file that are not empty."""
    return {name for name in ("proxies", "pools", "rules", "default") if getattr(policy, name)}
