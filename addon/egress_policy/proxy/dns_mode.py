"""Look-ups that mitmproxy answers itself, past all layers: directly and in any family.

These are look-ups in DNS mode, and in WireGuard mode those of its own nameserver; other DNS is an
ordinary connection. Unless the policy says plain ``direct``, they are refused before an addon can
see them.
"""

from mitmproxy import dns
from mitmproxy.proxy import mode_specs

from ..errors import Reason
from ..model.decision import Choice, Egress, Refusal
from .questions import FlowRequest, ask
from .refusal import UNANSWERED
from .refusal_log import note_refusal

_WIREGUARD_NAMESERVER = ("10.0.0.53", 53)


def refuse_unless_direct(flow: dns.DNSFlow) -> None:
    """Answer REFUSED to a look-up that may not leave, also if nothing decides."""
    if not _is_answered_here(flow):
        return
    request = FlowRequest(flow)
    ask(request)
    if refusal := _refusal(request.answer):
        note_refusal(refusal, flow.client_conn)
        flow.response = flow.request.fail(dns.response_codes.REFUSED)


def _refusal(choice: Choice | None) -> Refusal | None:
    """The reason why a look-up may not leave, ``None`` if it may."""
    if choice is None:
        return UNANSWERED
    egress = choice.egress
    if egress is None:
        return choice.refusal or UNANSWERED
    if egress == Egress(None):
        return None
    way = f"through proxy {egress.name}" if egress.proxy else f"over {egress.family} alone"
    detail = f"mitmproxy's own look-ups cannot go {way}; refusing to egress"
    reason = Reason.UDP_OVER_PROXY if egress.proxy else Reason.RULE
    return Refusal(reason, detail, egress.name, egress.family, rule=choice.rule)


def _is_answered_here(flow: dns.DNSFlow) -> bool:
    mode = flow.client_conn.proxy_mode
    return isinstance(mode, mode_specs.DnsMode) or (
        isinstance(mode, mode_specs.WireGuardMode)
        and flow.server_conn.address == _WIREGUARD_NAMESERVER
    )
