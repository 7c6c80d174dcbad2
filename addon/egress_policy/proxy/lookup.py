"""Look-ups that mitmproxy answers itself, past all layers: directly, and by any family.

That is DNS mode, and WireGuard mode for its own nameserver; any other DNS is a connection. Where
the policy does not say plain ``direct`` they are refused before an addon can see them.
"""

from mitmproxy import dns
from mitmproxy.proxy import mode_specs

from ..model.decision import Egress
from .hooks import FlowRequest, ask

_WIREGUARD_NAMESERVER = ("10.0.0.53", 53)


def refuse_unless_direct(flow: dns.DNSFlow) -> None:
    """Answer REFUSED to a look-up that may not leave, also where nobody decides."""
    if not _is_answered_here(flow):
        return
    request = FlowRequest(flow)
    ask(request)
    if request.answer is None or request.answer.egress != Egress(None):
        flow.response = flow.request.fail(dns.response_codes.REFUSED)


def _is_answered_here(flow: dns.DNSFlow) -> bool:
    mode = flow.client_conn.proxy_mode
    return isinstance(mode, mode_specs.DnsMode) or (
        isinstance(mode, mode_specs.WireGuardMode)
        and flow.server_conn.address == _WIREGUARD_NAMESERVER
    )
