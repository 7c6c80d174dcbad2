"""Files that hold one secret each. They are used only if nobody but their owner can read them."""

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

LONGEST: Final = 4096
"""The most bytes that are read of a file."""


class SecretFileError(Exception):
    """A secret file cannot be used or made. ``why`` says why; ``str()`` names the file too."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.why = why


def read_secret(path: Path, longest: int = LONGEST) -> str | None:
    """The text of the file, up to ``longest`` bytes; ``None`` if it does not exist.

    Raises ``SecretFileError`` for a symbolic link, anything else but a regular file, a file of
    another user, a file that others can read or write, and text that is not UTF-8.
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
            raise SecretFileError(path, "belongs to another user")
        if status.st_mode & 0o077:
            raise SecretFileError(path, "can be read by others; make its mode 0600")
        return os.read(descriptor, longest).decode()
    except UnicodeDecodeError as error:
        raise SecretFileError(path, "is not UTF-8 text") from error
    finally:
        os.close(descriptor)


def make_secret(path: Path, *, replace: bool = False) -> None:
    """Write a new random secret, mode 0600. The file appears whole or not at all. An existing file
    stays unless ``replace`` is true. Raises ``SecretFileError`` if no file can be made."""
    write_secret(path, secrets.token_urlsafe(32) + "\n", replace=replace)


def write_secret(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a text of ASCII as ``make_secret`` does."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
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
