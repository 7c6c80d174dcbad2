"""The key of the registry, and the passwords encrypted with it.

A password is sealed with AES-256-GCM (NIST SP 800-38D) under a random nonce and bound to the row
it belongs to, so that it opens nowhere else. Nothing here logs or quotes a secret.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import InvalidEntry
from .errors import RegistryUnavailable, WrongKey

logger = logging.getLogger(__name__)

KEY_FILE: Final = "egress-key"
KEY_VARIABLE: Final = "EGRESS_KEY"
_SHORTEST: Final = 16
_NONCE: Final = 12  # bytes; NIST SP 800-38D section 8.2
_VERSION: Final = "v1:"
_SALT: Final = b"egress-policy registry key v1"
_CHECK_OWNER: Final = "registry"
_CHECK_TEXT: Final = "this key opens this registry"


def load_key(confdir: Path, environ: Mapping[str, str]) -> bytes:
    """The key, 32 bytes: derived from ``EGRESS_KEY`` or from the file ``egress-key`` in
    ``confdir``, which is made on first use.

    Any text of 16 characters or more will do, and the text of the file may be given to another
    node as its ``EGRESS_KEY``. Raises ``InvalidEntry`` for one that is too short, and
    ``RegistryUnavailable`` if the file cannot be read or made.
    """
    if stated := environ.get(KEY_VARIABLE):
        return _derive(stated, KEY_VARIABLE)
    path = confdir / KEY_FILE
    try:
        text = _read(path)
        if text is None:
            _make(path)
            text = _read(path) or ""
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not a text"
        raise RegistryUnavailable(f"The key file {path} cannot be read or made: {why}") from error
    return _derive(text, str(path))


class Cipher:
    """Seals and opens texts. An ``owner`` names the row, such as ``proxy_registry/<id>``."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, text: str, owner: str) -> str:
        """The text encrypted, as ASCII; an empty text stays empty."""
        if not text:
            return ""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._aead.encrypt(nonce, text.encode(), owner.encode())
        return _VERSION + urlsafe_b64encode(nonce + sealed).decode()

    def open(self, sealed: str | None, owner: str) -> str:
        """The text again. Raises ``InvalidEntry`` (field "password") if this key, or another
        owner, sealed it or if it was changed."""
        if not sealed:
            return ""
        try:
            data = urlsafe_b64decode(sealed.removeprefix(_VERSION))
            return self._aead.decrypt(data[:_NONCE], data[_NONCE:], owner.encode()).decode()
        except (InvalidTag, ValueError, AttributeError) as error:
            raise InvalidEntry(
                "the stored password cannot be decrypted; state it anew", "password"
            ) from error

    def make_check(self) -> str:
        """What a registry keeps to know its key again."""
        return self.seal(_CHECK_TEXT, _CHECK_OWNER)

    def require(self, check: str | None) -> None:
        """Raises ``WrongKey`` unless ``check`` was made with this key."""
        with contextlib.suppress(InvalidEntry):
            if self.open(check, _CHECK_OWNER) == _CHECK_TEXT:
                return
        raise WrongKey(
            "The registry was made with another key, nothing was changed. Give the old one in "
            f"{KEY_VARIABLE} or in the file {KEY_FILE}, or state another registry"
        )


def _read(path: Path) -> str | None:
    try:
        with path.open(encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                logger.warning(f"{path} can be read by others; make its mode 0600")
            return file.read()
    except FileNotFoundError:
        return None


def _make(path: Path) -> None:
    """Appears whole or not at all; whoever comes second takes what is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{KEY_FILE}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(name)
    finally:
        Path(name).unlink()


def _derive(text: str, source: str) -> bytes:
    text = text.strip()
    if len(text) < _SHORTEST:
        raise InvalidEntry(f"{source}: a key has at least {_SHORTEST} characters", source)
    secret = text.encode("utf-8", "surrogateescape")
    return hashlib.scrypt(secret, salt=_SALT, n=2**14, r=8, p=1, dklen=32)
