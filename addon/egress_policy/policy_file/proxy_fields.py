"""A proxy entry of the policy file to the fields of ``Proxy``: its ``url`` and secrets resolved."""

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
"""The text of a file that is named in the policy; raises ``OSError``, ``ValueError`` or
``SecretFileError``."""

_SECRETS: Final = ("password", "password_env", "password_file")
_IN_URL: Final = ("type", "host", "port", "username", "family")


class UnreadSecret(InvalidEntry):
    """A file that holds a password could not be read, or may not be: it may be mended without an
    edit of what names it."""


def secrets_beside(folder: Path) -> ReadFile:
    """Reads files that hold a secret; relative paths start in ``folder``."""

    def read_file(name: str) -> str:
        text = read_secret(folder.joinpath(Path(name).expanduser()))
        if text is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return text

    return read_file


def complete_proxy(
    entry: Mapping[str, Any], environ: Mapping[str, str], read_file: ReadFile
) -> dict[str, Any]:
    """The entry without ``url``, ``password_env`` and ``password_file``, but with what they say.

    Raises ``InvalidEntry`` whose field is the key at fault; it quotes no secret.
    """
    fields = dict(entry)
    if "url" in fields:
        fields = _from_url(fields)
    stated = [key for key in _SECRETS if key in fields]
    if len(stated) > 1:
        raise InvalidEntry(f"the password is stated twice, also by {stated[0]}", stated[1])
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
            raise InvalidEntry("cannot stand beside url", key)
    try:
        parsed = parse_proxy_url(url)
    except InvalidEntry as error:
        # That message quotes the parameter, which a `?` in a password would make of its rest.
        known = error.field != "query"
        message = str(error) if known else "Invalid proxy URL: only ?family= can stand in its query"
        raise InvalidEntry(message, "url") from error
    stated = {key: getattr(parsed, key) for key in _IN_URL}
    if parsed.password:
        stated["password"] = parsed.password
    if parsed.name:
        stated["name"] = parsed.name
    if "password" in fields and parsed.password:
        raise InvalidEntry("the password is stated twice, also in url", "password")
    return stated | fields


def _from_environment(name: object, environ: Mapping[str, str]) -> str:
    # Whoever puts the password itself here must not find it in the log.
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise InvalidEntry("must be the name of an environment variable", "password_env")
    if not environ.get(name):
        raise InvalidEntry("this environment variable is not set, or empty", "password_env")
    return environ[name]


def _from_file(name: object, read_file: ReadFile) -> str:
    if not isinstance(name, str):
        raise InvalidEntry("must be a path", "password_file")
    try:
        password = read_file(name).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "not a UTF-8 text"
        raise UnreadSecret(f"cannot be read: {why}", "password_file") from error
    except SecretFileError as error:
        raise UnreadSecret(error.why, "password_file") from error
    if not password:
        raise UnreadSecret("is empty", "password_file")
    return password
