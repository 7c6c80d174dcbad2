"""In whatever order policies are edited, DNS answers and connections close, every dial belongs to
the decision in force and its family. A state machine over these events, which compares dials with
its own model of the policy."""

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mitmproxy import connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.test import tflow

from egress_policy.model.decision import Choice
from egress_policy.model.family import FamilyNumber
from egress_policy.model.host import detect_ip_literal_family
from egress_policy.model.rule import Policy
from egress_policy.policy.preflight import DnsAnswer
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.proxy.addons.guard import EgressGuard
from egress_policy.proxy.addons.select import EgressSelect
from egress_policy.proxy.dialer import MintedServer
from egress_policy.proxy.questions import EgressConnectHook, FlowRequest, Question, answer_with
from egress_policy.proxy.root import EgressRoot
from egress_policy.proxy.via import via_for
from egress_policy.router import EgressRouter
from tests.helpers.filters import compile_word
from tests.helpers.playbook import Dialogue, Do, Recorder, make_context

NAMED = ("one.test", "two.test")
TARGETS = (*NAMED, "192.0.2.77", "2001:db8::77")
PROXIES = ("a", "b", "c")
ADDRESSES = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1", "0.0.0.0")
NUMBERS: dict[str, FamilyNumber] = {"ipv4": 4, "ipv6": 6}

CHANGES: list[dict[str, Any]] = [
    *({"family": family} for family in ("auto", "ipv4", "ipv6")),
    *({"host": host} for host in ("a.test", "b.test", "192.0.2.9", "2001:db8::9")),
    {"username": "", "password": ""},
    *({"username": "alice", "password": password} for password in ("alice", "s3cret")),
    *({"port": port} for port in (1080, 1081)),
    *({"status": status} for status in ("active", "inactive")),
]
"""An edit of a proxy, as the fields that it changes."""

families = st.sampled_from(["auto", "ipv4", "ipv6"])
changes = st.sampled_from(CHANGES)
outcomes = st.sampled_from(["open", "refused", "another peer"])


class Names:
    """A resolver over a table that may change. It records its questions."""

    def __init__(self) -> None:
        self.table: dict[tuple[str, FamilyNumber | None], tuple[str, ...]] = {}
        self.meanwhile: Callable[[], None] | None = None
        """Happens while the next question is under way."""
        self.said: set[tuple[str, FamilyNumber | None, str]] = set()
        """Every address that was ever an answer, and its question. A mapped address is IPv4."""
        self._kept: dict[tuple[str, FamilyNumber | None], DnsAnswer] = {}

    def known(self, host: str, family: FamilyNumber | None) -> DnsAnswer | None:
        return self._kept.get((host, family))

    async def resolve(self, host: str, family: FamilyNumber | None) -> DnsAnswer:
        happens, self.meanwhile = self.meanwhile, None
        if happens and (host, family) not in self._kept:
            happens()
        found = self.table.get((host, family), ADDRESSES)
        self.said |= {(host, family, address.removeprefix("::ffff:")) for address in found}
        answer = DnsAnswer(found, 60, "records" if found else "no_record")
        return self._kept.setdefault((host, family), answer)

    def forget(self) -> None:
        self._kept.clear()


class InForce(RuleBasedStateMachine):
    """A client's layers, and the guard, over a policy that is edited while they connect."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
        self.proxies: dict[str, dict[str, Any]] = {}
        self.uses: dict[str, dict[str, Any]] = {}
        self.router = EgressRouter(self.snapshot(), self.names)
        self.select = EgressSelect(self.router)
        self.guard = EgressGuard()
        self.guard.is_current = self.router.is_current
        answer_with(self.decide)
        self.runner = asyncio.Runner()
        self.serving: list[asyncio.Task[None]] = []
        self.ctx = make_context()
        self.dialogue = Dialogue(EgressRoot(self.ctx, Recorder(self.ctx))).start()
        self.chosen: list[tuple[str, Choice]] = []
        self.pending: list[EgressConnectHook] = []
        self.dialled: list[commands.OpenConnection] = []
        self.wakeups: list[tuple[commands.RequestWakeup, str]] = []
        self.open: list[MintedServer] = []
        self.meant: dict[connection.Connection, str] = {}
        """The target that a hop was dialled for."""

    def decide(self, request: Question) -> None:
        self.select.decide(request)

    def teardown(self) -> None:
        self.runner.close()
        answer_with()

    def snapshot(self) -> Any:
        rules = [{"hosts": [target], **use} for target, use in self.uses.items()]
        policy = {"proxies": list(self.proxies.values()), "rules": rules, "default": "refuse"}
        return build_snapshot(Policy.model_validate(policy), compile_word)

    def edited(self) -> None:
        """As if the guard did it: connections that it cuts close."""
        self.router.snapshot = self.snapshot()
        self.guard.cut_stale()
        for hop in [one for one in self.open if one.cut]:
            self.open.remove(hop)
            self.say_closed(hop)

    @invariant()
    def what_is_open_is_in_force(self) -> None:
        for hop in self.open:
            self.check(hop)

    def say_closed(self, hop: MintedServer) -> None:
        self.guard.server_disconnected(self.about(hop))
        self.dialogue.closed(hop)
        assert not self.sort(self.meant[hop])

    def sort(self, target: str) -> list[MintedServer]:
        """Take the commands of the layers, and return their dials, which must be for ``target``."""
        begun: list[MintedServer] = []
        for command in self.dialogue.got:
            if isinstance(command, EgressConnectHook):
                self.pending.append(command)
            elif isinstance(command, commands.OpenConnection):
                hop = command.connection
                assert isinstance(hop, MintedServer), "an unminted connection is dialled"
                self.meant[hop] = target
                self.dialled.append(command)
                begun.append(hop)
            elif isinstance(command, commands.RequestWakeup):
                self.wakeups.append((command, target))
        self.dialogue.got.clear()
        return begun

    def about(self, hop: MintedServer) -> ServerConnectionHookData:
        return ServerConnectionHookData(hop, self.ctx.client)

    def check(self, hop: MintedServer) -> None:
        """Compare a connection with the present decision for its target."""
        target, egress = self.meant[hop], hop.route.egress
        use = self.uses[target]
        assert egress.name == use["use"]
        if proxy := egress.proxy:
            stated = self.proxies[egress.name]
            assert stated["status"] == "active"
            account = proxy.username, proxy.password.get_secret_value()
            assert account == (stated["username"], stated["password"])
            family, host, port = stated["family"], stated["host"], stated["port"]
        else:
            family, host, port = use.get("family", "auto"), target, 443
        assert egress.family == family
        assert hop.address == hop.minted
        assert hop.minted[1] == port
        address = hop.minted[0]
        if detect_ip_literal_family(host) or (family == "auto" and not egress.proxy):
            assert address == host
        else:
            assert (host, NUMBERS.get(family), address) in self.names.said
            assert address not in ("::ffff:192.0.2.1", "0.0.0.0")
        if family != "auto":
            assert detect_ip_literal_family(address) == NUMBERS[family]

    def admitted(self, hop: MintedServer) -> bool:
        """Whether the guard admits a dial, in a separate task, as in mitmproxy."""
        data = self.about(hop)

        async def serve() -> None:
            self.guard.server_connect(data)
            await asyncio.Event().wait()

        async def begin() -> None:
            self.serving.append(asyncio.create_task(serve()))
            await asyncio.sleep(0)

        self.runner.run(begin())
        return not hop.error

    # -- edits

    @initialize(family=families)
    def begin(self, family: str) -> None:
        entry = {"type": "socks5", "port": 1080, "family": family, "status": "active"}
        entry |= {"username": "alice", "password": "alice"}
        self.proxies = {name: {"name": name, "host": f"{name}.test", **entry} for name in PROXIES}
        self.uses = {target: {"use": "a"} for target in TARGETS}
        self.edited()

    @rule(name=st.sampled_from(PROXIES), change=changes)
    def edit_proxy(self, name: str, change: dict[str, Any]) -> None:
        stated = self.proxies[name] | change
        literal = detect_ip_literal_family(stated["host"])
        if literal and NUMBERS.get(stated["family"]) != literal:
            stated["family"] = "auto"  # it would be rejected where it is stated
        self.proxies[name] = stated
        self.edited()

    @rule(name=st.sampled_from(PROXIES), change=changes)
    def edit_while_dns_is_asked(self, name: str, change: dict[str, Any]) -> None:
        self.names.meanwhile = lambda: self.edit_proxy(name, change)

    @rule(target_=st.sampled_from(NAMED), use=st.sampled_from([*PROXIES, "refuse"]))
    def edit_rule_while_dns_is_asked(self, target_: str, use: str) -> None:
        self.names.meanwhile = lambda: self.edit_rule(target_, use)

    @rule(target_=st.sampled_from(NAMED), use=st.sampled_from([*PROXIES, "direct", "refuse"]))
    def edit_rule(self, target_: str, use: str) -> None:
        self.uses[target_] = {"use": use}
        self.edited()

    @rule(target_=st.sampled_from(NAMED), family=families)
    def pin_direct(self, target_: str, family: str) -> None:
        self.uses[target_] = {"use": "direct", "family": family}
        self.edited()

    # -- DNS

    @rule(
        host=st.sampled_from(["a.test", "b.test", "c.test", *NAMED]),
        family=st.sampled_from([4, 6]),
        addresses=st.lists(st.sampled_from(ADDRESSES), max_size=3),
    )
    def change_dns(self, host: str, family: FamilyNumber, addresses: list[str]) -> None:
        self.names.table[host, family] = tuple(addresses)

    @rule()
    def let_answers_expire(self) -> None:
        self.names.forget()

    # -- connections

    @rule(target_=st.sampled_from(TARGETS), at_once=st.booleans())
    def connect(self, target_: str, at_once: bool) -> None:
        self.start(connection.Server(address=(target_, 443)))
        while at_once and self.pending:
            self.answer()

    @rule(target_=st.sampled_from(TARGETS))
    def choose(self, target_: str) -> None:
        """A request is decided; its connection follows."""
        flow = tflow.tflow()
        flow.client_conn = self.ctx.client
        flow.request.host, flow.request.port = target_, 443
        request = FlowRequest(flow)
        self.select.decide(request)
        assert request.answer
        if request.answer.egress:
            self.chosen.append((target_, request.answer))

    @precondition(lambda self: self.chosen)
    @rule(at_once=st.booleans())
    def connect_as_chosen(self, at_once: bool) -> None:
        target, choice = self.chosen.pop(0)
        assert choice.egress
        server = connection.Server(address=(target, 443))
        server.via = via_for(choice, choice.egress, forward=False)
        self.start(server)
        while at_once and self.pending:
            self.answer()

    def start(self, server: connection.Server) -> None:
        self.dialogue.say(Do(commands.OpenConnection(server)))
        assert server.address
        for hop in self.sort(server.address[0]):
            self.check(hop)

    @precondition(lambda self: self.pending)
    @rule()
    def answer(self) -> None:
        hook = self.pending.pop(0)
        self.runner.run(self.select.egress_connect(hook.data))
        self.dialogue.hook_done(hook)
        assert hook.data.server.address
        for hop in self.sort(hook.data.server.address[0]):
            self.check(hop)

    @precondition(lambda self: self.dialled)
    @rule(outcome=outcomes)
    def dial(self, outcome: str) -> None:
        command = self.dialled.pop(0)
        hop = command.connection
        assert isinstance(hop, MintedServer)
        if not self.admitted(hop):
            self.fail(command, "refused by the guard")
            return
        self.check(hop)
        if outcome == "refused":
            self.fail(command, "Connection refused")
            return
        self.guard.server_connected(self.about(hop))
        self.dialogue.opened(command, peer="198.51.100.9" if outcome != "open" else None)
        pinned = hop.route.pin.family is not None
        if outcome == "open" or not pinned:
            self.open.append(hop)
        assert not self.sort(self.meant[hop])

    def fail(self, command: commands.OpenConnection, error: str) -> None:
        """The next dial is for the same target, and is checked when it happens."""
        hop = command.connection
        assert isinstance(hop, MintedServer)
        self.guard.server_connect_error(self.about(hop))
        self.dialogue.opened(command, error)
        self.sort(self.meant[hop])

    @rule(
        target_=st.sampled_from(TARGETS),
        edit=st.sampled_from(["nothing", "proxy", "rule", "direct"]),
        change=changes,
        use=st.sampled_from([*PROXIES, "direct", "refuse"]),
        family=families,
        outcome=outcomes,
    )
    def connect_edit_and_dial(
        self, target_: str, edit: str, change: dict[str, Any], use: str, family: str, outcome: str
    ) -> None:
        """A situation that single steps seldom reach: an edit between a decision and its dials."""
        self.connect(target_, True)
        used = self.uses[target_]["use"]
        if edit == "proxy" and used in PROXIES:
            self.edit_proxy(used, change)
        elif edit == "rule" and target_ in NAMED:
            self.edit_rule(target_, use)
        elif edit == "direct" and target_ in NAMED:
            self.pin_direct(target_, family)
        while self.dialled:
            self.dial(outcome)

    @precondition(lambda self: self.wakeups)
    @rule()
    def wait(self) -> None:
        """An address has not answered for a moment, or its proxy for longer."""
        wakeup, target = self.wakeups.pop(0)
        self.dialogue.say(events.Wakeup(wakeup))
        self.sort(target)

    @precondition(lambda self: self.open)
    @rule()
    def close(self) -> None:
        self.say_closed(self.open.pop(0))


# To shrink what fails takes minutes, and a test has one.
InForce.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
TestInForce = InForce.TestCase
