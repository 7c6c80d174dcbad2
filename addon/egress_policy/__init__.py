"""Egress policy for mitmproxy: by which upstream, over which address family, or not at all.

``default_addons()`` is the whole thing for a master of your own. The other names are the library
face of the family directive: pure functions over proxy URLs and hosts.

Nothing is imported before it is used: what is missing can then be named with what to install.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .version import VERSION

if TYPE_CHECKING:
    from .dns.resolver import assert_hostname_supports_family
    from .errors import EgressError
    from .model.family import ProxyFamily, parse_proxy_family
    from .model.host import detect_ip_literal_family
    from .model.proxy_line import parse_proxy_line
    from .model.proxy_url import normalize_proxy_url, proxy_config_to_url, resolve_connect_family

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

_HOMES = {
    "EgressError": "errors",
    "ProxyFamily": "model.family",
    "assert_hostname_supports_family": "dns.resolver",
    "detect_ip_literal_family": "model.host",
    "normalize_proxy_url": "model.proxy_url",
    "parse_proxy_family": "model.family",
    "parse_proxy_line": "model.proxy_line",
    "proxy_config_to_url": "model.proxy_url",
    "resolve_connect_family": "model.proxy_url",
}


def default_addons(*, owns_process: bool = False) -> list[Any]:
    """The addons, in order, for ``master.addons.add(*default_addons())``.

    With ``owns_process``, as the script of mitmdump has it, Python's collector of cycles and the
    executor of the event loop are set up for them, so that neither a large policy nor look-ups that
    hang hold up other flows.
    """
    from .proxy.addons import default_addons as build

    return build(owns_process=owns_process)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
