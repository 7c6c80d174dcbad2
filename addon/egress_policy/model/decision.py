"""What the policy decides about: a target, an egress, and a refusal. Frozen values, no behaviour.

A ``Target`` is what a flow or connection wants; an ``Egress`` is a way out that is fully
specified (which proxy, which family); a ``Refusal`` says why there is no way out.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ..errors import Code, Reason, Unavailable
from .family import ProxyFamily
from .proxy import Proxy

Transport = Literal["tcp", "udp"]
_PROCESS_KEY = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class Target:
    """What wants to leave: the real target of a request and its client.
    ``host`` is canonical (lower-case A-label or IP literal without brackets), ``client`` an IP
    literal. ``flow`` is what a filter expression is evaluated on: an opaque object of the proxy,
    ``None`` while only the connection is known.
    """

    host: str
    port: int
    client: str = ""
    transport: Transport = "tcp"
    flow: object | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Egress:
    """A way out. ``proxy`` is ``None`` for direct, where ``family`` pins the target itself.

    ``target_family`` pins the second hop: the target's name is resolved here and the proxy is
    asked for the literal.
    """

    proxy: Proxy | None
    family: ProxyFamily = "auto"
    target_family: Literal["ipv4", "ipv6"] | None = None

    @property
    def name(self) -> str:
        return self.proxy.name if self.proxy else "direct"

    @cached_property
    def key(self) -> str:
        """Identity for connection reuse: only egresses with equal keys may share a connection.

        Any edit, also of credentials, changes the key. The key is a keyed digest that differs from
        process to process, so it does not reveal the credentials.
        """
        parts: list[str] = [self.family, self.target_family or ""]
        if self.proxy:
            proxy = self.proxy
            parts += [proxy.name, proxy.type, proxy.host, str(proxy.port), proxy.plain_http]
            parts += [proxy.username, proxy.password.get_secret_value()]
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2s(text, key=_PROCESS_KEY, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a flow may not leave. ``detail`` is a sentence for people, free of credentials."""

    reason: Reason
    detail: str
    proxy: str = ""
    family: ProxyFamily = "auto"
    host: str = ""
    rule: str = ""

    @property
    def code(self) -> Code:
        return self.reason.code

    def to_error(self) -> Unavailable:
        return Unavailable(self.reason, self.detail)
