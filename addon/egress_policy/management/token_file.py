"""The bearer token of the management API, in a file that only its owner can read."""

from pathlib import Path
from typing import Final

from ..errors import InvalidEntry
from ..files.secret_file import SecretFileError, make_secret, read_secret

_SHORTEST: Final = 16
_LONGEST: Final = 1024
_OPTION: Final = "egress_token_file"


def load_token(path: Path) -> str:
    """The token in ``path``; makes the file, mode 0600, if it does not exist.

    Raises ``InvalidEntry`` if the file cannot be made or used, with what to do about it.
    """
    try:
        if read_secret(path) is None:
            make_secret(path)
    except SecretFileError as error:
        raise _invalid(str(error)) from error
    return read_token(path)


def read_token(path: Path) -> str:
    """The token in ``path``.

    Raises ``InvalidEntry`` for a file that does not exist, is a link, belongs to another user, can
    be read by others, or holds no token; its message says what to do.
    """
    try:
        token = read_secret(path)
    except SecretFileError as error:
        raise _invalid(str(error)) from error
    if token is None:
        raise _invalid(
            f"{path} does not exist: mitmproxy makes it when it starts, `egress-policy token "
            "--new` makes it now"
        )
    token = token.strip()
    if not _SHORTEST <= len(token) <= _LONGEST or not token.isascii() or not token.isprintable():
        raise _invalid(
            f"{path} holds no token: {_SHORTEST} to {_LONGEST} characters of ASCII are expected"
        )
    return token


def make_token(path: Path) -> None:
    """Write a new token and replace any old one. Raises ``InvalidEntry`` if no file can be made."""
    try:
        make_secret(path, replace=True)
    except SecretFileError as error:
        raise _invalid(str(error)) from error


def _invalid(message: str) -> InvalidEntry:
    return InvalidEntry(f"{_OPTION}: {message}", _OPTION)
