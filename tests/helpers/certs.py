"""Throw-away certificate authorities and leaves, made once per session in a temporary directory."""

import atexit
import datetime
import functools
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALID_FROM = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_VALID_TO = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Authority:
    """A CA. `ca_path` is the certificate (PEM) to trust, `ca_bundle` holds certificate and key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    directory: Path

    @property
    def ca_path(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def ca_bundle(self) -> bytes:
        return _key_pem(self.key) + _certificate_pem(self.certificate)

    def leaf(self, *names: str) -> Path:
        """Path of key and certificate (one PEM) for hostnames and IP addresses."""
        path = self.directory / f"leaf-{'-'.join(names).replace(':', '_').replace('*', 'any')}.pem"
        if not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            issuer = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            certificate = (
                _builder(names[0], self.certificate.subject, key)
                .add_extension(
                    x509.SubjectAlternativeName([_general_name(name) for name in names]), False
                )
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer.value),
                    False,
                )
                .sign(self.key, hashes.SHA256())
            )
            path.write_bytes(_key_pem(key) + _certificate_pem(certificate))
        return path

    def server_context(self, *names: str, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.leaf(*names))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def client_context(self, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        return client_context(self.ca_path, alpn)


def client_context(ca_path: Path, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Trusts this CA and nothing else."""
    context = ssl.create_default_context(cafile=ca_path)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@functools.cache
def authority(name: str = "lab") -> Authority:
    """The session's CA with this name; different names are different CAs."""
    temporary = tempfile.TemporaryDirectory(prefix=f"ca-{name}-")
    atexit.register(temporary.cleanup)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} test CA")])
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        _builder(f"{name} test CA", subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), True)
        .sign(key, hashes.SHA256())
    )
    made = Authority(key, certificate, Path(temporary.name))
    made.ca_path.write_bytes(_certificate_pem(certificate))
    return made


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_TO)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
