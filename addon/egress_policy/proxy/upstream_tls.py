"""The TLS settings of mitmproxy's own upstream connections, for tests of proxies.

mitmproxy's layers use pyOpenSSL, set up by its addon ``tlsconfig``; a test uses ``ssl``. What the
options say about trust, versions, ciphers and client certificates holds for both, so that a test
succeeds where a flow would.
"""

import functools
import ssl
from dataclasses import dataclass
from pathlib import Path

import certifi
from mitmproxy import options
from mitmproxy.addons import tlsconfig
from mitmproxy.net import tls as net_tls

from ..errors import InvalidEntry

_OPENSSL_CURVES = {"secp192r1": "prime192v1", "secp256r1": "prime256v1"}
"""Curves that OpenSSL knows by another name than the option."""


@dataclass(frozen=True)
class _Settings:
    """What the options say of one server; ``certificate`` is the client's."""

    insecure: bool
    ca_file: str | None
    ca_folder: str | None
    lowest: str
    highest: str
    ciphers: str | None
    curve: str | None
    certificate: str | None


def upstream_tls(of: options.Options, name: str) -> ssl.SSLContext:
    """The settings for a server of this name, with HTTP/1.1. Raises ``InvalidEntry``.

    Equal options give the same settings, as in mitmproxy, even if a file has changed since.
    """
    return _context(
        _Settings(
            insecure=of.ssl_insecure,
            ca_file=of.ssl_verify_upstream_trusted_ca,
            ca_folder=of.ssl_verify_upstream_trusted_confdir,
            lowest=of.tls_version_server_min,
            highest=of.tls_version_server_max,
            ciphers=of.ciphers_server,
            curve=of.tls_ecdh_curve_server,
            certificate=_client_certificate(of.client_certs, name),
        )
    )


def _client_certificate(place: str | None, name: str) -> str | None:
    """The file for a server: ``place`` itself, or the file with the server's name in it."""
    if not place:
        return None
    path = Path(place).expanduser()
    file = path if path.is_file() else path / f"{name}.pem"
    return str(file) if file.is_file() else None


@functools.lru_cache(256)
def _context(wanted: _Settings) -> ssl.SSLContext:
    try:
        return _make(wanted)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidEntry(
            f"the options for upstream TLS cannot be used: {error} ({_named(wanted)})"
        ) from error


def _make(wanted: _Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    if wanted.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.options |= ssl.OP_LEGACY_SERVER_CONNECT
    no_ca = wanted.ca_file is None and wanted.ca_folder is None
    context.load_verify_locations(certifi.where() if no_ca else wanted.ca_file, wanted.ca_folder)
    lowest, highest = net_tls.Version[wanted.lowest], net_tls.Version[wanted.highest]
    if lowest is not net_tls.Version.UNBOUNDED:
        context.minimum_version = ssl.TLSVersion(lowest.value)
    else:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    if highest is not net_tls.Version.UNBOUNDED:
        context.maximum_version = ssl.TLSVersion(highest.value)
    default = ":".join(tlsconfig._default_ciphers(lowest))  # noqa: SLF001 (no public name)
    context.set_ciphers(wanted.ciphers or default)
    if wanted.curve:
        context.set_ecdh_curve(_OPENSSL_CURVES.get(wanted.curve, wanted.curve))
    if wanted.certificate:
        # An empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(wanted.certificate, password="")
        context.post_handshake_auth = True
    return context


def _named(wanted: _Settings) -> str:
    """The options that were set, as the command line takes them."""
    values = {
        "ssl_verify_upstream_trusted_ca": wanted.ca_file,
        "ssl_verify_upstream_trusted_confdir": wanted.ca_folder,
        "tls_version_server_min": wanted.lowest,
        "tls_version_server_max": wanted.highest,
        "ciphers_server": wanted.ciphers,
        "tls_ecdh_curve_server": wanted.curve,
        "client_certs": wanted.certificate,
    }
    return ", ".join(f"{name}={value}" for name, value in values.items() if value)
