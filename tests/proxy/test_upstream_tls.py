"""The test of a proxy speaks TLS as live flows do: it succeeds where they do, and nowhere else."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.net import tls
from OpenSSL.crypto import X509

from egress_policy.errors import InvalidEntry
from egress_policy.management import test_targets
from egress_policy.model.family_urls import FamilyUrls
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.upstream_tls import upstream_tls
from tests.helpers.certs import authority
from tests.helpers.clients import http_get
from tests.helpers.lab import V4
from tests.helpers.mitm import Mitm
from tests.helpers.origin import NAMES, Origin, tls_context
from tests.helpers.proxies import HttpProxy
from tests.helpers.scene import egress

OTHER_CIPHER = "ECDHE-ECDSA-AES256-GCM-SHA384"
CURVES = tuple(getattr(tls, "EC_CURVES", ("prime256v1", "secp384r1", "secp521r1")))
"""As the option names them: before mitmproxy 12.3 by OpenSSL's own names."""
P256 = "secp256r1" if "secp256r1" in CURVES else "prime256v1"
pytestmark = pytest.mark.filterwarnings("ignore:.*elliptic.curve:DeprecationWarning")
"""What mitmproxy before 12.3 looks these names up with."""
Server = Callable[[ssl.SSLContext], None]


def plain(_: ssl.SSLContext) -> None:
    """As it is."""


def only_tls13(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3


def one_cipher(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")


def one_curve(context: ssl.SSLContext) -> None:
    context.set_ecdh_curve("prime256v1")


def wants_certificate(context: ssl.SSLContext) -> None:
    # In TLS 1.3 a client hears behind the handshake that its certificate is missed.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority().ca_path)


def cases(folder: Path) -> list[tuple[bool, Server, dict[str, Any]]]:
    """Whether it succeeds, what the server is, and the options of mitmproxy."""
    hashed, certificates = folder / "hashed", folder / "certificates"
    hashed.mkdir()
    certificates.mkdir()
    name = X509.from_cryptography(authority().certificate).subject_name_hash()
    (hashed / f"{name:08x}.0").symlink_to(authority().ca_path)
    client = authority().leaf("client.test")
    (certificates / f"{V4}.pem").symlink_to(client)
    untrusted = {"ssl_verify_upstream_trusted_ca": None}
    return [
        (True, plain, {}),
        (False, plain, untrusted),
        (True, plain, {**untrusted, "ssl_verify_upstream_trusted_confdir": str(hashed)}),
        (True, plain, {**untrusted, "ssl_insecure": True}),
        (True, only_tls13, {"tls_version_server_max": "TLS1_3"}),
        (False, only_tls13, {"tls_version_server_max": "TLS1_2"}),
        (False, one_cipher, {"tls_version_server_min": "TLS1_3"}),
        (True, one_cipher, {"ciphers_server": "ECDHE-ECDSA-AES128-GCM-SHA256"}),
        (False, one_cipher, {"ciphers_server": OTHER_CIPHER}),
        (True, one_curve, {"tls_ecdh_curve_server": P256}),
        (False, one_curve, {"tls_ecdh_curve_server": "secp384r1"}),
        (False, wants_certificate, {}),
        (True, wants_certificate, {"client_certs": str(client)}),
        (True, wants_certificate, {"client_certs": str(certificates)}),
        (False, wants_certificate, {"client_certs": str(hashed)}),
    ]


async def succeeds(mitm: Mitm) -> bool:
    config = mitm.master.addons.get("egressconfig")
    assert isinstance(config, EgressConfig)
    return (await config.management.probes.test("exit")).ok


@pytest.mark.parametrize("place", ["proxy", "target"])
async def test_a_test_and_a_flow_have_the_same_settings(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = tls_context()
    async with (
        Origin(tls=tls if place == "target" else None) as origin,
        HttpProxy(tls=tls if place == "proxy" else None) as proxy,
    ):
        asked = FamilyUrls(ipv4=origin.url(), ipv6=origin.url())
        monkeypatch.setattr(test_targets, "DEFAULTS", asked)
        type_ = "https" if place == "proxy" else "http"
        exits = [
            {"name": "exit", "type": type_, "host": V4, "port": proxy.port, "health": "ignore"}
        ]
        secured = proxy if place == "proxy" else origin
        async with egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm:
            tried = cases(tmp_path)
            names = {name for _, _, options in tried for name in options}
            unchanged = {name: getattr(mitm.options, name) for name in names}
            for works, server, options in tried:
                secured._tls = authority().server_context(*NAMES)
                server(secured._tls)
                mitm.options.update(**(unchanged | options))
                answer = await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)
                seen = (answer.status == 200, await succeeds(mitm))
                assert seen == (works, works), (server, options)


async def test_what_cannot_be_used_names_the_options(tmp_path: Path) -> None:
    async with Mitm(tmp_path, expect_errors=True) as mitm:
        for option, value in (
            ("ssl_verify_upstream_trusted_ca", str(tmp_path / "missing.pem")),
            ("tls_version_server_min", "TLS9"),
            ("ciphers_server", "NONE-OF-THEM"),
            ("client_certs", str(authority().ca_path)),  # has no key
        ):
            before = getattr(mitm.options, option)
            mitm.options.update(**{option: value})
            with pytest.raises(InvalidEntry, match=f"{option}={value}"):
                upstream_tls(mitm.options, "origin.test")
            mitm.options.update(**{option: before})


async def test_every_curve_of_the_option_is_taken(tmp_path: Path) -> None:
    usual = [name for name in CURVES if name.startswith(("prime", "secp")) and name[-5:-2] >= "256"]
    async with Mitm(tmp_path) as mitm:
        for name in usual:
            mitm.options.update(tls_ecdh_curve_server=name)
            upstream_tls(mitm.options, "origin.test")
