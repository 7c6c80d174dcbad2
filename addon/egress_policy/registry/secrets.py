"""The key of the registry, and the passwords encrypted with it.

A password is sealed with AES-256-GCM (NIST SP 800-38D) under a random nonce and bound to the row
it belongs to, so that it opens nowhere else. Nothing here logs or quotes a secret.
"""

import contextlib
import hashlib
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import InvalidEntry, RegistryUnavailable, WrongKey
from ..files.secret_file import SecretFileError, make_secret, read_secret

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
    node as its ``EGRESS_KEY``. Raises ``InvalidEntry`` for a text that is too short, and
    ``RegistryUnavailable`` if the file cannot be made, or others could have read it.
    """
    if given := environ.get(KEY_VARIABLE):
        return _derive(given, KEY_VARIABLE)
    path = confdir / KEY_FILE
    try:
        text = read_secret(path)
        if text is None:
            make_secret(path)
            text = read_secret(path) or ""
    except SecretFileError as error:
        raise RegistryUnavailable(f"The key file {error}") from error
    return _derive(text, str(path))


def has_key(confdir: Path, environ: Mapping[str, str]) -> bool:
    """Whether ``load_key`` finds a key. Makes none."""
    return bool(environ.get(KEY_VARIABLE)) or os.path.lexists(confdir / KEY_FILE)


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
        """The text in clear. Raises ``InvalidEntry`` (field "password") if it was changed, or
        sealed with another key or for another owner."""
        if not sealed:
            return ""
        try:
            data = urlsafe_b64decode(sealed.removeprefix(_VERSION))
            return self._aead.decrypt(data[:_NONCE], data[_NONCE:], owner.encode()).decode()
        except (InvalidTag, ValueError, AttributeError) as error:
            raise InvalidEntry(
                "the stored password cannot be decrypted; set it again", "password"
            ) from error

    def make_check(self) -> str:
        """What a registry keeps, to recognise its key."""
        return self.seal(_CHECK_TEXT, _CHECK_OWNER)

    def require(self, check: str | None) -> None:
        """Raises ``WrongKey`` unless ``check`` was made with this key."""
        with contextlib.suppress(InvalidEntry):
            if self.open(check, _CHECK_OWNER) == _CHECK_TEXT:
                return
        raise WrongKey(
            "The registry was made with another key, nothing was changed. Put that key into "
            f"{KEY_VARIABLE} or the file {KEY_FILE}, or name another registry"
        )


def _derive(text: str, source: str) -> bytes:
    text = text.strip()
    if len(text) < _SHORTEST:
        raise InvalidEntry(f"{source}: a key has at least {_SHORTEST} characters", source)
    secret = text.encode("utf-8", "surrogateescape")
    return hashlib.scrypt(secret, salt=_SALT, n=2**14, r=8, p=1, dklen=32)
