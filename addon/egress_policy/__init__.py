"""Egress policy for mitmproxy: by which upstream, over which address family, or not at all.

``default_addons()`` is the whole thing for a master of your own. The other names are the library
face of the family directive: pure functions over proxy URLs and hosts.
"""

from typing import Any

from .errors import EgressError
from .model.family import ProxyFamily, parse_proxy_family
from .model.host import detect_ip_literal_family
from .model.proxy_line import parse_proxy_line
from .model.proxy_url import normalize_proxy_url, proxy_config_to_url, resolve_connect_family
from .net.resolver import assert_hostname_supports_family
from .version import VERSION

__version__ = VERSION

__all__ = [
    "EgressError",
    "ProxyFamily",
    "assert_hostname_supports_family",
    "default_addons",
    "detect_ip_literal_family",
    "normalize_proxy_url",
    "parse_proxy_family",
    "parse_proxy_line",
    "proxy_config_to_url",
    "resolve_connect_family",
]


def default_addons() -> list[Any]:
    """The addons, in order, for ``master.addons.add(*default_addons())``."""
    from .proxy.addons import default_addons as build  # mitmproxy is only needed here

    return build()
