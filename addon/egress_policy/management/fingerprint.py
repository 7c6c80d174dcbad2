"""What tells in the registry of which proxy something was noted: the proxy as it was then."""

import hashlib

from ..model.proxy import Proxy


def fingerprint(proxy: Proxy) -> str:
    """The same for the same name, type, host, port and family, in every process.

    Credentials are left out: a digest of a password can be guessed by whoever reads the database.
    """
    parts = (proxy.name, proxy.type, proxy.host, str(proxy.port), proxy.family)
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2s(text, digest_size=16).hexdigest()
