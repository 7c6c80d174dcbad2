"""The page's sessions in a file that only its owner can read, so that they outlive a restart.

The file opens nothing: it has a salt and digests. A session is good only with the cookie and the
key that its browser has, and both are checked with a secret made from the salt and the API's token.
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from ..files.secret_file import SecretFileError, read_secret, write_secret
from ..log import get_logger

logger = get_logger(__name__)

_LONGEST: Final = 64 * 1024
_Hex = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class StoredSession(NamedTuple):
    """``age`` and ``idle`` are the seconds since it was opened and since it was used."""

    digest: str
    age: float
    idle: float


class _Session(BaseModel):
    digest: _Hex
    made: float
    used: float


class _Content(BaseModel):
    salt: _Hex
    sessions: tuple[_Session, ...]


class SessionFile:
    """``salt`` stays the same as long as the file can be read. ``now`` gives the time of day.

    A file that cannot be used is replaced at the next ``save``: its sessions are over. Where none
    can be written a warning says so once, and sessions end with the process.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = path, now
        self._has_failed = False
        self._content = self._read()
        self.salt = bytes.fromhex(self._content.salt)

    def load(self) -> list[StoredSession]:
        """The sessions, the latest used last. Those from the future, before the clock was set back,
        are left out."""
        now = self._now()
        kept = (one for one in self._content.sessions if one.made <= one.used <= now)
        return [
            StoredSession(one.digest, now - one.made, now - one.used)
            for one in sorted(kept, key=lambda one: one.used)
        ]

    def save(self, sessions: Iterable[StoredSession]) -> None:
        now = self._now()
        kept = tuple(
            _Session(digest=one.digest, made=now - one.age, used=now - one.idle) for one in sessions
        )
        self._content = self._content.model_copy(update={"sessions": kept})
        try:
            write_secret(self._path, self._content.model_dump_json())
        except SecretFileError as error:
            if not self._has_failed:
                logger.warning("%s. Logins of the page end with this mitmproxy", error)
            self._has_failed = True
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)  # it may have a session that is over

    def _read(self) -> _Content:
        try:
            if (text := read_secret(self._path, _LONGEST)) is not None:
                return _Content.model_validate_json(text)
        except SecretFileError as error:
            logger.warning("%s. Logins of the page have to be made again", error)
        except ValidationError:
            logger.warning("%s holds no sessions. Logins have to be made again", self._path)
        return _Content(salt=secrets.token_hex(32), sessions=())
