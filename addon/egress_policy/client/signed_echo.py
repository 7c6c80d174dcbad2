"""What an echo of one's own is asked, what it answers, and how that is checked. Pure.

The asker adds a nonce to the URL, which nobody has used before. The echo answers the address that
it sees, with the nonce, its time, and a MAC over all three under a key that both have. So no proxy
on the way can make an answer up, change the address in it, or repeat an old one.

A proxy that takes another exit to the echo than to other targets cannot be found out.
"""

import hmac
import json
import re
import secrets
from dataclasses import replace
from typing import Any, Final

from ..model.target_url import TargetUrl
from ..policy.exits import parse_exit_address
from ..sentence import Sentence

NONCE_PARAMETER: Final = "nonce"
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
_NONCE_BYTES: Final = 16
_PURPOSE: Final = "egress-policy echo 1"
"""Keeps the MAC apart from every other use of the key."""

_UNSIGNED: Final = Sentence(
    "echo_unsigned", "the answer is not signed: it is not that of the echo whose key is here"
)
_REPEATED: Final = Sentence(
    "echo_repeated", "the answer is one to another question: somebody on the way repeats answers"
)
_CHANGED: Final = Sentence(
    "echo_changed",
    "the signature does not fit: the answer was changed, or the echo has another key",
)


def is_nonce(text: str) -> bool:
    """Whether an echo signs an answer to this nonce."""
    return _NONCE.fullmatch(text) is not None


def signed_answer(key: bytes, nonce: str, address: str, seconds: int) -> dict[str, Any]:
    """What an echo answers. ``seconds`` is its time since the epoch."""
    mac = _mac(key, nonce, address, seconds)
    return {"ip": address, "nonce": nonce, "time": seconds, "mac": mac}


class EchoQuestion:
    """One question to the echo at ``url``, and what is wrong with the answer to it."""

    def __init__(self, url: TargetUrl, key: bytes, nonce: str = "") -> None:
        self._key = key
        self._nonce = nonce or secrets.token_urlsafe(_NONCE_BYTES)
        joint = "&" if "?" in url.path else "?"
        self.url: Final = replace(url, path=f"{url.path}{joint}{NONCE_PARAMETER}={self._nonce}")
        self.problem = ""

    def read(self, body: bytes) -> str | None:
        """The address in an answer that is signed; ``None`` for any other, and the ``problem``."""
        said = _object_in(body)
        address, seconds, mac = said.get("ip"), said.get("time"), said.get("mac")
        if not (isinstance(address, str) and isinstance(mac, str) and type(seconds) is int):
            self.problem = _UNSIGNED
            return None
        ours = _mac(self._key, self._nonce, address, seconds)
        if hmac.compare_digest(mac.encode("utf-8", "surrogatepass"), ours.encode()):
            return parse_exit_address(address)
        self.problem = _CHANGED if said.get("nonce") == self._nonce else _REPEATED
        return None


def _object_in(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _mac(key: bytes, nonce: str, address: str, seconds: int) -> str:
    # No part can hold the separator: a nonce and an address have other characters.
    text = "\n".join((_PURPOSE, nonce, address, str(seconds)))
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()
