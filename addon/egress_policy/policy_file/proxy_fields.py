"""Turns a proxy entry of the policy file into fields of ``Proxy``: resolves ``url`` and secrets."""

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import InvalidEntry
from ..files.secret_file import SecretFileError, read_secret
from ..model.proxy_url import parse_proxy_url

ReadFile = Callable[[str], str]
"""Returns the text of a file that the policy names. Raises ``OSError``, ``ValueError`` or
``SecretFileError``."""

_SECRETS: Final = ("password", "password_env", "password_file")
_IN_URL: Final = ("type", "host", "port", "username", "family")


class UnreadSecret(InvalidEntry):
    """A password file could not be read or may not be used. This may change without an edit of the
    policy file."""


def secrets_beside(folder: Path) -> ReadFile:
    """A reader of secret files; relative paths start in ``folder``."""

    def read_file(name: str) -> str:
        text = read_secret(folder.joinpath(Path(name).expanduser()))
        if text is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return text

    return read_file


def complete_proxy(
    entry: Mapping[str, Any], environ: Mapping[str, str], read_file: ReadFile
) -> dict[str, Any]:
    """The entry with ``url``, ``password_env`` and ``password_file`` replaced by their values.

    Raises ``InvalidEntry`` whose field is the faulty key; it quotes no secret.
    """
    fields = dict(entry)
    if "url" in fields:
        fields = _from_url(fields)
    given = [key for key in _SECRETS if key in fields]
    if len(given) > 1:
        raise InvalidEntry(f"the password is given twice, also by {given[0]}", given[1])
    if "password_env" in fields:
        fields["password"] = _from_environment(fields.pop("password_env"), environ)
    if "password_file" in fields:
        fields["password"] = _from_file(fields.pop("password_file"), read_file)
    return fields


def _from_url(fields: dict[str, Any]) -> dict[str, Any]:
    url = fields.pop("url")
    if not isinstance(url, str):
        raise InvalidEntry("must be a text", "url")
    for key in _IN_URL:
        if key in fields:
            raise InvalidEntry("cannot be used together with url", key)
    try:
        parsed = parse_proxy_url(url)
    except InvalidEntry as error:
        # The message quotes the parameter, which may be the rest of a password with a `?`.
        known = error.field != "query"
        message = str(error) if known else "Invalid proxy URL: its query can only be ?family="
        raise InvalidEntry(message, "url") from error
    found = {key: getattr(parsed, key) for key in _IN_URL}
    if parsed.password:
        found["password"] = parsed.password
    if parsed.name:
        found["name"] = parsed.name
    if "password" in fields and parsed.password:
        raise InvalidEntry("the password is given twice, also in url", "password")
    return found | fields


def _from_environment(name: object, environ: Mapping[str, str]) -> str:
    # If a user entered the password itself here, the log must not show it.
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise InvalidEntry("must be the name of an environment variable", "password_env")
    if not environ.get(name):
        raise InvalidEntry("this environment variable is empty or not set", "password_env")
    return environ[name]


def _from_file(name: object, read_file: ReadFile) -> str:
    if not isinstance(name, str):
        raise InvalidEntry("must be a path", "password_file")
    try:
        password = read_file(name).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UnreadSecret(f"cannot be read: {why}", "password_file") from error
    except SecretFileError as error:
        raise UnreadSecret(error.why, "password_file") from error
    if not password:
        raise UnreadSecret("is empty", "password_file")
    return password
