"""Answers the layers' questions: which egress a flow takes, and what is dialled for it."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mitmproxy import connection, ctx, dns, http
from mitmproxy.addons.dns_resolver import DnsResolver
from mitmproxy.addons.proxyauth import ProxyAuth
from mitmproxy.proxy import mode_specs
from mitmproxy.tcp import TCPFlow

from ...log import get_logger
from ...model.decision import Choice, Egress, Refusal, Route, Target, Transport
from ...model.host import canonical_ip, normalize_target_host
from ...model.proxy import Proxy
from ...policy.choosing import undecided
from ...router import EgressRouter
from ..altered import altered
from ..filters import ConnectionView, as_decided
from ..overruled import OverruledVia
from ..questions import ConnectRequest, FlowRequest, Question, Report, ReviewRequest
from ..record import EgressRecord, clear_record, keep, record_of, write_choice, write_refusal
from ..refusal import UNANSWERED, problem_response
from ..refusal_log import note_refusal
from ..sticky import sticky_key
from ..via import choice_in
from .listening import OwnListeners
from .named import Named, find

logger = get_logger(__name__)

_UNOPENED = connection.Server(address=None)


class EgressSelect(Named):
    """Translates between mitmproxy and decisions. Any exception becomes a refusal."""

    def __init__(self, router: EgressRouter) -> None:
        self.router = router
        router.listeners.of_proxy = OwnListeners()
        router.sticky_key = sticky_key
        self._overruled = OverruledVia()

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """Answer a CONNECT with 503 if nothing later could refuse it."""
        if flow.response or flow.error or not self._is_last_chance(flow):
            return
        server = connection.Server(address=(flow.request.host, flow.request.port))
        request = ConnectRequest(flow.client_conn, server)
        planned: object = (self.router.generation, server.address)
        await self.egress_connect(request)
        asked = record_of(server) or EgressRecord()
        # The connection asks again and must get the same choice, so that a pool turns once. It may
        # never ask, so it chooses anew where others would wait for a trial meanwhile.
        if asked.choice and asked.choice.trial:
            asked.choice.dropped()
            planned = None
        record = keep(flow.server_conn, EgressRecord(choice=asked.choice, planned=planned))
        if not isinstance(request.answer, Route):
            record.refusal = request.answer or UNANSWERED
            note_refusal(record.refusal, flow.client_conn)
            flow.response = problem_response(record.refusal, flow.id)

    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        """Answer a refused CONNECT with its refusal, and list it like any flow."""
        record = record_of(flow.server_conn)
        if record is None or record.refusal is None:
            return
        flow.response = problem_response(record.refusal, flow.id)
        write_choice(flow, record.choice or Choice())
        write_refusal(flow, record.refusal)
        # mitmdump has no view, and its module need not be loaded to find that out.
        module = sys.modules.get("mitmproxy.addons.view")
        view = find(module.View) if module else None
        if view is not None:  # an empty view is false
            view.add([flow])

    def decide(self, request: Question) -> None:
        """Answer at once. A connection gets a route only if that needs no DNS query."""
        if isinstance(request, FlowRequest):
            self._decide_flow(request)
        elif isinstance(request, ReviewRequest):
            self._review(request)
        elif isinstance(request, Report):
            self._report(request)
        else:
            self._decide_connection(request)

    def _report(self, request: Report) -> None:
        """Hand on what came of an attempt. If that goes wrong its connection goes on as it is, by
        the route that was decided; its client would else wait for ever."""
        try:
            self.router.report(request.route, request.outcome, reused=request.reused)
        except Exception:
            logger.exception("Egress: the outcome of an attempt could not be noted")

    def _decide_flow(self, request: FlowRequest) -> None:
        failed, before = request.failed, request.before
        if before and not failed and self._still_holds(before, request.flow):
            request.answer = before
            return
        try:
            clear_record(request.flow)
            if failed and before and isinstance(request.flow, http.HTTPFlow):
                target, _ = self._target_of_request(request.flow)
                choice = self.router.choose_after(before, failed, target)
            elif isinstance(request.flow, dns.DNSFlow):
                choice = self._choose_for_look_up(request.flow)
            else:
                choice = self._choose_for_request(request.flow, request.taken, request.held)
            if choice.is_open:  # the flow will never tell more
                choice = replace(choice, refusal=undecided(choice))
            write_choice(request.flow, choice)
            request.answer = choice
        except Exception:
            request.answer = Choice(refusal=UNANSWERED)
            logger.exception("Egress: cannot decide; the flow is refused")

    def _still_holds(self, choice: Choice, flow: http.HTTPFlow | dns.DNSFlow) -> bool:
        """Whether the choice of a flow that waited for its connection still holds."""
        if choice.generation is not self.router.generation or isinstance(flow, dns.DNSFlow):
            return False
        host, port = normalize_target_host(flow.request.host), flow.request.port
        return self.router.target_refusal(host, port) is None

    def _review(self, request: ReviewRequest) -> None:
        """May the flow go on? Raises what a filter raises."""
        flow = as_decided(request.flow)
        target, upstream = self._target_of_request(flow)
        request.answer = self.router.allows(target, request.taken, upstream)

    def _decide_connection(self, request: ConnectRequest) -> None:
        try:
            request.answer = self.router.route_now(*self._wanted(request))
        except Exception:
            logger.exception("Egress: cannot prepare a connection at once; it is tried again")
        if request.answer is None and not request.failed and (record := record_of(request.server)):
            # The hook asks again and must get the same choice, so that a pool turns once.
            record.planned = (self.router.generation, request.server.address)

    async def egress_connect(self, request: ConnectRequest) -> None:
        try:
            request.answer = await self.router.route(*self._wanted(request))
        except (Exception, asyncio.CancelledError) as error:
            request.answer = UNANSWERED
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise  # this task itself is cancelled, not something it waited for
            logger.exception("Egress: cannot prepare a connection; it is refused")

    def _choose_for_look_up(self, flow: dns.DNSFlow) -> Choice:
        """The choice for the nameservers that mitmproxy's own resolver would ask."""
        resolver = find(DnsResolver)
        # Without nameservers it uses the system's resolver, whose nameservers are unknown.
        servers = (resolver.name_servers() if resolver else []) or [""]
        client = canonical_ip(flow.client_conn.peername[0]) or ""
        choices = [
            self.router.choose(Target(normalize_target_host(name), 53, client, "udp", flow))
            for name in servers
        ]
        for choice in choices:
            choice.dropped()  # a look-up leaves by no proxy
        # It may ask any of them, so the strictest choice holds for all.
        return next((one for one in choices if one.egress != Egress(None)), choices[0])

    def _choose_for_request(
        self, flow: http.HTTPFlow, taken: str | None, held: Callable[[], Iterable[str]]
    ) -> Choice:
        self._overruled.notice(flow, _mode_of(flow), _scripts)
        if flow.server_conn.address is None:  # a plain request to an explicit proxy
            # Not by the constructor: it sets field by field and makes a new id, at a cost.
            flow.server_conn = altered(
                _UNOPENED,
                id=flow.id,
                address=(flow.request.host, flow.request.port),
                transport_protocol=flow.server_conn.transport_protocol,
            )
        target, upstream = self._target_of_request(flow)
        return self.router.choose(target, taken, upstream, held)

    def _target_of_request(self, flow: http.HTTPFlow) -> tuple[Target, Proxy | None]:
        target = _target(
            flow.client_conn, flow.server_conn, flow.request.host, flow.request.port, flow
        )
        return target, _mode_proxy(_mode_of(flow))

    def _wanted(self, request: ConnectRequest) -> tuple[Choice, str, int, Transport]:
        """The choice for a connection, and its target."""
        server = request.server
        if server.address is None:
            raise ValueError("a connection without a target")
        host, port = normalize_target_host(server.address[0]), server.address[1]
        choice = choice_in(server.via) or self._planned(server)
        if request.before and request.failed:
            choice = self._choose_again(request, request.before, request.failed, host, port)
        elif choice is None:
            choice = self._choose_for_connection(request.client, server, host, port)
        record = record_of(server) or keep(server, EgressRecord())
        if record.choice and record.choice is not choice:
            record.choice.dropped()
        record.choice = choice
        record.exit = self.router.exit_of(choice.egress) if choice.egress else ""
        return choice, host, port, server.transport_protocol

    def _choose_for_connection(
        self, client: connection.Client, server: connection.Server, host: str, port: int
    ) -> Choice:
        upstream = _mode_proxy(client.proxy_mode)
        view: TCPFlow = ConnectionView(client, server)
        _tell_user(view)
        target = _target(client, server, host, port, view)
        choice = self.router.choose(target, None, upstream)
        greeted = client.tls_established or not client.tls
        if choice.is_open and ctx.options.connection_strategy == "lazy" and greeted:
            # Opened lazily without a request: this is not HTTP, and no request will come.
            view = TCPFlow(client, server)
            _tell_user(view)
            target = replace(target, flow=view)
            choice = self.router.choose(target, None, upstream)
        return choice

    def _choose_again(
        self, request: ConnectRequest, before: Choice, failed: Refusal, host: str, port: int
    ) -> Choice:
        """The choice after an egress failed. It is made once, however often it is asked for."""
        record = record_of(request.server)
        if record and record.planned is failed and record.choice:
            return record.choice
        target = before.purpose.target or _target(
            request.client,
            request.server,
            host,
            port,
            ConnectionView(request.client, request.server),
        )
        choice = self.router.choose_after(before, failed, target)
        if record:
            record.planned = failed
        return choice

    def _planned(self, server: connection.Server) -> Choice | None:
        """The earlier choice for this connection, if policy and target are the same."""
        record = record_of(server)
        asked_for = (self.router.generation, server.address)
        return record.choice if record and record.planned == asked_for else None

    def _is_last_chance(self, flow: http.HTTPFlow) -> bool:
        """Whether a CONNECT is answered 200 without a dial, and no request follows it."""
        eager = ctx.options.connection_strategy == "eager"
        if isinstance(flow.client_conn.proxy_mode, mode_specs.UpstreamMode) and eager:
            return True
        return not eager and _is_ignored(f"{flow.request.host}:{flow.request.port}")


def _scripts() -> Sequence[str]:
    # A master of an embedding program may load none.
    return getattr(ctx.options, "scripts", ())


def _target(
    client: connection.Client, server: connection.Server, host: str, port: int, flow: object
) -> Target:
    peer = client.peername[0]
    return Target(
        host=normalize_target_host(host),
        port=port,
        client=canonical_ip(peer) or peer,
        transport="udp" if server.transport_protocol == "udp" else "tcp",
        flow=flow,
    )


def _tell_user(view: TCPFlow) -> None:
    """Note on a connection the user whom ``proxyauth`` let in, as mitmproxy does on requests."""
    proxyauth = find(ProxyAuth)
    user = proxyauth.authenticated.get(view.client_conn) if proxyauth else None
    if user:
        view.metadata["proxyauth"] = user


def _mode_of(flow: http.HTTPFlow) -> mode_specs.ProxyMode:
    """The mode that a flow came in by. A stored flow's mode says nothing about this process."""
    if flow.is_replay == "request" and ctx.options.mode:
        return mode_specs.ProxyMode.parse(ctx.options.mode[0])
    return flow.client_conn.proxy_mode


def _mode_proxy(mode: mode_specs.ProxyMode) -> Proxy | None:
    """The upstream of mitmproxy's own mode, which replaces direct if no rule matches."""
    if not isinstance(mode, mode_specs.UpstreamMode):
        return None
    host, port = mode.address
    return Proxy(name="upstream", type=mode.scheme, host=host, port=port)


def _is_ignored(authority: str) -> bool:
    """Whether mitmproxy's options exempt a CONNECT to ``authority`` from interception."""

    def any_of(patterns: Sequence[str]) -> bool:
        return any(re.search(pattern, authority, re.IGNORECASE) for pattern in patterns)

    allowed = ctx.options.allow_hosts
    return bool(allowed and not any_of(allowed)) or any_of(ctx.options.ignore_hosts)
