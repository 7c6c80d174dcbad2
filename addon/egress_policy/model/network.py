"""Networks of addresses, in which a client or an exit lies."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from ..errors import InvalidEntry
from ..sentence import Sentence

Network = IPv4Network | IPv6Network

# Other text is not quoted in messages: it may be a misplaced password.
_ADDRESS_CHARACTERS: Final = re.compile(r"[0-9A-Fa-f:./]+")
_MAPPED_BITS: Final = 96  # ::ffff:0:0/96 is the IPv4 internet, RFC 4291 section 2.5.5.2


def parse_network(value: object, field: str, what: str) -> Network:
    """Parse ``192.0.2.0/24`` or a single address; an IPv4-mapped one becomes IPv4.

    Raises ``InvalidEntry`` for ``field``, also for bits set after the prefix. ``what`` is the noun
    for the message.
    """
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str) or not _ADDRESS_CHARACTERS.fullmatch(value):
        raise InvalidEntry(
            Sentence(
                "network", "Invalid {what}: write 192.0.2.0/24, 2001:db8::/32 or an IP", what=what
            ),
            field,
        )
    try:
        network = ip_network(value)
    except ValueError as error:
        raise InvalidEntry(
            Sentence("network_because", "Invalid {what}: {why}", what=what, why=str(error)), field
        ) from error
    mapped = isinstance(network, IPv6Network) and network.network_address.ipv4_mapped
    if mapped and network.prefixlen >= _MAPPED_BITS:
        return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def parse_client_network(value: object) -> Network:
    """A network of clients. Raises ``InvalidEntry`` (field "clients")."""
    return parse_network(value, "clients", "client")


def parse_exit_network(value: object) -> Network:
    """A network of exits. Raises ``InvalidEntry`` (field "exit_in")."""
    return parse_network(value, "exit_in", "exit")
