"""The bearer token of the management API, in a file that only its owner can read."""

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

from ..errors import InvalidEntry

_SHORTEST: Final = 16
_LONGEST: Final = 1024
_OPTION: Final = "egress_token_file"


def load_token(path: Path) -> str:
    """The token in ``path``, which is made, mode 0600, where there is none.

    Raises ``InvalidEntry`` for a file that is a link, belongs to somebody else, can be read by
    others, or holds no token; its message says what to do.
    """
    token = _read(path)
    if token is None:
        make_token(path, replace=False)
        token = _read(path) or ""
    if not _SHORTEST <= len(token) <= _LONGEST or not token.isascii() or not token.isprintable():
        raise _invalid(
            f"{path} holds no token: {_SHORTEST} to {_LONGEST} characters of ASCII are expected"
        )
    return token


def make_token(path: Path, *, replace: bool = True) -> None:
    """Write a new token. It appears whole or not at all; with ``replace`` false, what is there
    stays. Raises ``InvalidEntry`` where no file can be made."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            if replace:
                Path(name).replace(path)
            else:
                with contextlib.suppress(FileExistsError):
                    path.hardlink_to(name)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise _invalid(f"{path} cannot be made: {error.strerror}") from error


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise _invalid(f"{path} cannot be used: {why}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _invalid(f"{path} is not a regular file")
        if status.st_uid != os.geteuid():
            raise _invalid(f"{path} belongs to somebody else")
        if status.st_mode & 0o077:
            raise _invalid(f"{path} can be read by others; make its mode 0600")
        return os.read(descriptor, _LONGEST + 2).decode("latin-1").strip()
    finally:
        os.close(descriptor)


def _invalid(message: str) -> InvalidEntry:
    return InvalidEntry(f"{_OPTION}: {message}", _OPTION)
