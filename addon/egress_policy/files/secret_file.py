"""Files that hold one secret each: for their owner alone, or they are not used."""

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

LONGEST: Final = 4096
"""Bytes that are read."""


class SecretFileError(Exception):
    """Such a file cannot be used or made. ``why`` says what to do; ``str()`` names the file too."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.why = why


def read_secret(path: Path) -> str | None:
    """The text, ``None`` where there is no file.

    Raises ``SecretFileError`` for a symbolic link, anything but a regular file, a file of somebody
    else, one that others can read or write, and one that is not a text.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise SecretFileError(path, f"cannot be used: {why}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretFileError(path, "is not a regular file")
        if status.st_uid != os.geteuid():
            raise SecretFileError(path, "belongs to somebody else")
        if status.st_mode & 0o077:
            raise SecretFileError(path, "can be read by others; make its mode 0600")
        return os.read(descriptor, LONGEST).decode()
    except UnicodeDecodeError as error:
        raise SecretFileError(path, "is not a UTF-8 text") from error
    finally:
        os.close(descriptor)


def make_secret(path: Path, *, replace: bool = False) -> None:
    """Write a new random text, mode 0600. It appears whole or not at all; unless ``replace`` is
    true, what is there stays. Raises ``SecretFileError`` where no file can be made."""
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
        raise SecretFileError(path, f"cannot be made: {error.strerror}") from error
