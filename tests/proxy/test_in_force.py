"""Whatever is edited, answered and closed in whatever order: every dial belongs to the decision in
force and its family. A state machine over policy edits, DNS answers and connection events.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from mitmproxy import connection
from mitmproxy.proxy import commands

from egress_policy.model.decision import Target
from egress_policy.model.family import FamilyNumber
from egress_policy.model.host import detect_ip_literal_family
from egress_policy.model.rule import Policy
from egress_policy.policy.engine import decide
from egress_policy.policy.preflight import Answer
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.proxy.addons.select import EgressSelect
from egress_policy.proxy.dialer import Hop
from egress_policy.proxy.hooks import ConnectRequest, EgressConnectHook, FlowRequest, answer_with
from egress_policy.proxy.root import EgressRoot
from egress_policy.service import EgressService
from tests.helpers.filters import compile_word
from tests.helpers.playbook import Dialogue, Do, Recorder, make_context

TARGETS = ("one.test", "two.test", "192.0.2.77", "2001:db8::77")
PROXIES = ("a", "b", "c")
ADDRESSES = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1", "0.0.0.0")
NUMBERS = {"ipv4": 4, "ipv6": 6}

families = st.sampled_from(["auto", "ipv4", "ipv6"])
hosts = st.sampled_from(["a.test", "b.test", "192.0.2.9", "2001:db8::9"])


class Names:
    """A resolver over a table that may change, and that knows what it was asked for."""

    def __init__(self) -> None:
        self.table: dict[tuple[str, FamilyNumber], tuple[str, ...]] = {}
        self.meanwhile: Callable[[], None] | None = None
        """Happens while the next question is under way."""
        self._kept: dict[tuple[str, FamilyNumber], Answer] = {}

    def known(self, host: str, family: FamilyNumber) -> Answer | None:
        return self._kept.get((host, family))

    async def resolve(self, host: str, family: FamilyNumber) -> Answer:
        happens, self.meanwhile = self.meanwhile, None
        if happens and (host, family) not in self._kept:
            happens()
        found = self.table.get((host, family), ADDRESSES)
        answer = Answer(found, 60, "records" if found else "no_record")
        return self._kept.setdefault((host, family), answer)

    def forget(self) -> None:
        self._kept.clear()


class InForce(RuleBasedStateMachine):
    """One client's layers over a policy that is edited while they connect."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
        self.proxies: dict[str, dict[str, Any]] = {}
        self.uses: dict[str, dict[str, Any]] = {}
        self.service = EgressService(self.snapshot(), self.names)
        self.select = EgressSelect(self.service)
        answer_with(self.decide)
        ctx = make_context()
        self.inner = Recorder(ctx)
        self.dialogue = Dialogue(EgressRoot(ctx, self.inner)).start()
        self.pending: list[EgressConnectHook] = []
        self.dialled: list[commands.OpenConnection] = []
        self.open: list[Hop] = []

    def decide(self, request: FlowRequest | ConnectRequest) -> None:
        self.select.decide(request)

    def teardown(self) -> None:
        answer_with()

    def snapshot(self) -> Any:
        rules = [{"hosts": [target], **use} for target, use in self.uses.items()]
        policy = {"proxies": list(self.proxies.values()), "rules": rules, "default": "refuse"}
        return build_snapshot(Policy.model_validate(policy), compile_word)

    def edited(self) -> None:
        """As the guard does it: what is no longer current is cut."""
        self.service.snapshot = self.snapshot()
        for hop in self.open:
            if not self.service.is_current(hop.route):
                hop.cut = True
        for hop in [one for one in self.open if one.cut]:
            self.open.remove(hop)
            self.say_closed(hop)

    def say_closed(self, hop: Hop) -> None:
        self.dialogue.closed(hop)
        self.sort()

    def sort(self) -> None:
        """Look at what the layers issued, and hold every dial against what is in force."""
        for command in self.dialogue.got:
            if isinstance(command, EgressConnectHook):
                self.pending.append(command)
            elif isinstance(command, commands.OpenConnection):
                assert isinstance(command.connection, Hop), "an unminted connection is dialled"
                self.dialled.append(command)
        self.dialogue.got.clear()

    def admit(self, command: commands.OpenConnection) -> bool:
        """What the guard does before the dial; what it admits has to be right."""
        hop = command.connection
        assert isinstance(hop, Hop)
        if not self.service.is_current(hop.route):
            hop.cut = True
            return False
        route, family = hop.route, hop.route.egress.family
        address = hop.minted[0]
        if family != "auto":
            assert detect_ip_literal_family(address) == NUMBERS[family]
            assert "::ffff:" not in address
        assert address != "0.0.0.0"
        assert address in route.pin.addresses
        if route.egress.proxy:
            stated = self.proxies[route.proxy.name]
            assert stated.get("status", "active") == "active"
            assert (route.proxy.host, route.proxy.port) == (stated["host"], stated["port"])
        return True

    # -- edits

    @initialize()
    def begin(self) -> None:
        for name in PROXIES:
            entry = {"name": name, "type": "socks5", "host": f"{name}.test", "port": 1080}
            self.proxies[name] = {**entry, "family": "ipv6"}
        self.uses = {target: {"use": "a"} for target in TARGETS}
        self.edited()

    @rule(name=st.sampled_from(PROXIES), host=hosts, family=families, active=st.booleans())
    def edit_proxy(self, name: str, host: str, family: str, active: bool) -> None:
        literal = detect_ip_literal_family(host)
        if literal and family != "auto" and NUMBERS[family] != literal:
            family = "auto"  # it would be rejected where it is stated
        status = "active" if active else "inactive"
        entry = {"name": name, "type": "socks5", "host": host, "port": 1080}
        self.proxies[name] = {**entry, "family": family, "status": status}
        self.edited()

    @rule(name=st.sampled_from(PROXIES), family=families)
    def edit_while_dns_is_asked(self, name: str, family: str) -> None:
        self.names.meanwhile = lambda: self.edit_proxy(name, f"{name}.test", family, True)

    @rule(target_=st.sampled_from(TARGETS[:2]), use=st.sampled_from([*PROXIES, "refuse"]))
    def edit_rule_while_dns_is_asked(self, target_: str, use: str) -> None:
        self.names.meanwhile = lambda: self.edit_rule(target_, use)

    @rule(target_=st.sampled_from(TARGETS[:2]), use=st.sampled_from([*PROXIES, "direct", "refuse"]))
    def edit_rule(self, target_: str, use: str) -> None:
        self.uses[target_] = {"use": use}
        self.edited()

    @rule(target_=st.sampled_from(TARGETS[:2]), family=families)
    def pin_direct(self, target_: str, family: str) -> None:
        self.uses[target_] = {"use": "direct", "family": family}
        self.edited()

    # -- DNS

    @rule(
        host=st.sampled_from(["a.test", "b.test", "c.test", *TARGETS[:2]]),
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
        server = connection.Server(address=(target_, 443))
        before = len(self.dialled)
        self.dialogue.say(Do(commands.OpenConnection(server)))
        self.sort()
        for command in self.dialled[before:]:
            self.check_decision(command, target_)
        while at_once and self.pending:
            self.answer()

    @precondition(lambda self: self.pending)
    @rule()
    def answer(self) -> None:
        hook = self.pending.pop(0)
        asyncio.run(self.select.egress_connect(hook.data))
        before = len(self.dialled)
        self.dialogue.hook_done(hook)
        self.sort()
        for command in self.dialled[before:]:
            assert hook.data.server.address
            self.check_decision(command, hook.data.server.address[0])

    def check_decision(self, command: commands.OpenConnection, target: str) -> None:
        """A connection begins: by the egress that is decided for its target now."""
        hop = command.connection
        assert isinstance(hop, Hop)
        stated = self.uses[target]
        decided = decide(self.service.snapshot, Target(target, 443, client="192.0.2.99"))
        assert hop.route.egress in decided.members
        assert hop.route.egress.name == stated["use"]

    @precondition(lambda self: self.dialled)
    @rule(outcome=st.sampled_from(["open", "refused", "another peer"]))
    def dial(self, outcome: str) -> None:
        command = self.dialled.pop(0)
        hop = command.connection
        assert isinstance(hop, Hop)
        if not self.admit(command):
            self.dialogue.opened(command, "refused by the guard")
        elif outcome == "refused":
            self.dialogue.opened(command, "Connection refused")
        else:
            self.dialogue.opened(command, peer="198.51.100.9" if outcome != "open" else None)
            pinned = hop.route.pin.family is not None
            if outcome == "open" or not pinned:
                self.open.append(hop)
        self.sort()

    @precondition(lambda self: self.open)
    @rule()
    def close(self) -> None:
        self.say_closed(self.open.pop(0))


InForce.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestInForce = InForce.TestCase
