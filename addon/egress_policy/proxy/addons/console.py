"""Commands for mitmproxy's and mitmweb's prompt.

Commands are synchronous. Work that changes the registry or uses the network runs as a task, and an
alert reports its result.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from mitmproxy import command, flow, http, log, types
from mitmproxy.exceptions import CommandError
from pydantic import ValidationError

from ...errors import EgressError, InvalidEntry
from ...log import get_logger
from ...management.exit_views import ProxyExits
from ...management.explain import EgressView, ExplainQuery
from ...management.import_report import assumptions_of, counts_of, messages_of, numbers_in_words
from ...management.management import Management
from ...management.members import MemberView
from ...management.proxies import ProxyView, complete
from ...management.rules import RuleView
from ...management.states import CircuitsStatus, why_now
from ...management.test_result import TestResult
from ...management.transfer import decode_list
from ...model.host import url_host
from ...model.list_entry import field_from_text
from ...model.proxy_line import parse_single_proxy, require_type
from ...model.text import printable
from .api import EgressApi
from .config import EgressConfig
from .named import Named

logger = get_logger(__name__)

_ALL = 1_000_000
_PROXY_HEAD = (
    "name", "type", "host", "port", "family", "status", "state", "used by", "last test", "source",
)  # fmt: skip
_ELSEWHERE = frozenset({"password_env", "password_file"})
_NOT_TYPED = (
    "mitmproxy keeps what is typed here in a file. Leave the password out, and name a file that "
    "holds it (mode 0600) behind the URL or as the field password_file"
)
_OPENED = (
    "opened; if the browser may not read its file, log in with what egress-policy token prints"
)
_EXIT_HEAD = ("name", "family", "verdict", "address", "seen", "problem")
_MEMBER_HEAD = ("proxy", "status", "state", "conns, share (due)", "why")
_OWN_NETWORK = "own network? It seems to be down, so failures are held against no proxy"
Names = types.Choice("egress.proxy.names")
Pools = types.Choice("egress.pool.names")


def _explained[**P, T](do: Callable[P, T]) -> Callable[P, T]:
    """Have the prompt show errors of the egress policy."""

    @functools.wraps(do)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return do(*args, **kwargs)
        except EgressError as error:
            raise CommandError(printable(str(error), lines=True)) from error

    return run


class EgressConsole(Named):
    """``egress.…``: the policy in force, the registry, and the page.

    ``argument`` is the innermost decorator: it changes annotations in place, and from Python
    3.14 on a wrapper has a copy of them.
    """

    def __init__(self, management: Management, config: EgressConfig, api: EgressApi) -> None:
        self.management = management
        self.config = config
        self.api = api
        self._tasks: set[asyncio.Task[None]] = set()

    def done(self) -> None:
        for task in self._tasks:
            task.cancel()

    @command.command("egress.status")
    def status(self) -> types.Data:
        """What is in force: the policy, its default, and what is wrong with the last edit."""
        status, snapshot = self.management.status(), self.management.router.snapshot
        registry = status.registry
        rows = [
            ["state", status.problem or "in force"],
            ["policy", self.config.describe()],
            ["default", f"{snapshot.default}"],
            ["proxies", ", ".join(snapshot.proxies) or "none"],
            ["last reload", status.policy.error or "good"],
            ["registry", (registry.error or "good") if registry else "none"],
            ["circuits", _circuits(status.circuits)],
            ["page", status.listen or "none"],
        ]
        return _table(["name", "value"], rows)

    @command.command("egress.proxy.list")
    def proxy_list(self) -> types.Data:
        """The proxies of policy file and registry."""
        found = self.management.proxies.list(limit=_ALL).items
        return _table(_PROXY_HEAD, map(_proxy_row, found))

    @command.command("egress.proxy.names")
    def proxy_names(self) -> Sequence[str]:
        """The names of all proxies."""
        return [row.name for row in self.management.proxies.rows()]

    @command.command("egress.proxy.add")
    @_explained
    def proxy_add(self, name: str, url: str, *password_file: types.Path) -> None:
        """Add a proxy by its URL, such as socks5://user@host:1080?family=ipv6, and the file that
        holds its password."""
        entry = parse_single_proxy(url)
        if "password" in entry:
            raise CommandError(_NOT_TYPED)
        require_type(entry)
        fields: dict[str, object] = {**entry, "name": name}
        if len(password_file) > 1:
            raise CommandError("one file is expected")
        if password_file:
            fields["password_file"] = password_file[0]
        self._start(self.management.proxies.create(complete(fields)), f"added {name}")

    @command.command("egress.proxy.edit")
    @_explained
    @command.argument("name", type=Names)
    def proxy_edit(self, name: str, field: str, value: str) -> None:
        """Change one field of a proxy, such as family, host, port or password_file."""
        if field == "password" and value:
            raise CommandError(_NOT_TYPED)
        typed = field_from_text(field, value)
        changes = complete({field: typed}) if field in _ELSEWHERE else {field: typed}
        self._start(self.management.proxies.update(name, changes), f"changed {field} of {name}")

    @command.command("egress.proxy.remove")
    @_explained
    @command.argument("name", type=Names)
    def proxy_remove(self, name: str) -> None:
        """Delete a proxy that nothing uses."""
        self._start(self.management.proxies.delete(name), f"removed {name}")

    @command.command("egress.proxy.enable")
    @_explained
    @command.argument("name", type=Names)
    def proxy_enable(self, name: str) -> None:
        """Use a proxy again."""
        self._set_status(name, "active")

    @command.command("egress.proxy.disable")
    @_explained
    @command.argument("name", type=Names)
    def proxy_disable(self, name: str) -> None:
        """Refuse all flows that use a proxy, from now on."""
        self._set_status(name, "inactive")

    @command.command("egress.proxy.test")
    @_explained
    @command.argument("name", type=Names)
    def proxy_test(self, name: str) -> None:
        """Test a proxy through its pinned hop."""
        self.management.proxies.show(name)

        async def test() -> str:
            return f"{name}: {_outcome(await self.management.probes.test(name))}"

        self._start(test(), "")

    @command.command("egress.exits")
    def exits(self) -> types.Data:
        """The addresses that targets see of each proxy, and what is not as expected."""
        exits, proxies = self.management.exits, self.management.router.snapshot.proxies
        found = map(exits.of, proxies.values())
        return _table(_EXIT_HEAD, (row for one in found for row in _exit_rows(one)))

    @command.command("egress.proxy.reset")
    @_explained
    @command.argument("name", type=Names)
    def proxy_reset(self, name: str) -> str:
        """Close the circuit of a proxy, so that it is used again at once."""
        done = self.management.reset(name)
        return f"{name} is {done.state}" + (f", was {done.was}" if done.was != done.state else "")

    @command.command("egress.pool.names")
    def pool_names(self) -> Sequence[str]:
        """The names of all pools."""
        return [row.name for row in self.management.pools.rows()]

    @command.command("egress.pool.status")
    @_explained
    @command.argument("name", type=Pools)
    def pool_status(self, name: str) -> types.Data:
        """How the members of a pool fare: the person's status and the machine's state, connections,
        share of the picks, and why a member is not used."""
        found = self.management.members.list(name, limit=_ALL)
        rows = [_member_row(member) for member in found.items]
        said = filter(None, [found.problem, _OWN_NETWORK if found.own_network else ""])
        return _table(_MEMBER_HEAD, [*rows, *(["=>", "", "", "", one] for one in said)])

    @command.command("egress.rules")
    def rules(self) -> types.Data:
        """The rules of file and registry in their order; egress.explain has assignments too."""
        found = self.management.rules.list(limit=_ALL).items
        head = ["rule", "hosts", "clients", "ports", "filter", "use", "refuses", "source"]
        return _table(head, map(_rule_row, found))

    @command.command("egress.explain")
    @_explained
    def explain(self, url: str) -> types.Data:
        """Which rule decides for a URL, and why; sends nothing."""
        try:
            found = self.management.explain(ExplainQuery(url=url))
        except ValidationError as error:
            raise InvalidEntry("a URL is expected", "url") from error
        rows = [[trace.rule, trace.verdict, trace.why] for trace in found.rules]
        if found.rules_before:
            rows.insert(0, ["...", "not matched", f"{found.rules_before} rules before these"])
        if found.rules_after:
            rows.append(["...", "not reached", f"{found.rules_after} rules more"])
        rows.append(["=>", found.outcome, found.detail or found.why])
        rows += [[e.name, e.type, _way(e)] for e in found.egresses]
        rows += [[one.proxy, "left out", one.why] for one in found.left_out]
        if found.note:
            rows.append(["=>", "", found.note])
        return _table(["rule", "verdict", "why"], rows)

    @command.command("egress.use")
    @_explained
    @command.argument("proxy", type=Names)
    def use(self, flows: Sequence[flow.Flow], proxy: str) -> None:
        """Assign a proxy to the hosts of flows, for replays too."""
        by_host = {f.request.host: f for f in flows if isinstance(f, http.HTTPFlow)}
        if not by_host:
            raise CommandError("There is no HTTP flow among these")
        self.management.proxies.show(proxy)

        async def assign() -> str:
            said = []
            for host, flow_ in sorted(by_host.items()):
                made = await self.management.assignments.assign("host", host, proxy)
                rule = self._rule_of(flow_)
                overruled = made is not None and rule not in ("", f"{made.scope}:{made.scopeId}")
                but = f"is assigned to {proxy}, and {rule} comes before that and decides"
                said.append(f"{host}: {but if overruled else f'leaves by {proxy}'}")
            return "; ".join(said)

        self._start(assign(), "")

    @command.command("egress.reload")
    def reload(self) -> None:
        """Read the policy file again; a broken one keeps the last good policy in force."""
        upkeep = self.management.upkeep
        if upkeep.in_force.file_path is None:
            raise CommandError("egress_policy names no file")

        async def read() -> str:
            problem = await upkeep.reload()
            return printable(problem, lines=True) if problem else "the policy file is read again"

        self._start(read(), "")

    @command.command("egress.import")
    @_explained
    def import_list(self, path: types.Path) -> None:
        """Add the proxies of a list: text, CSV or JSON."""
        place = Path(path).expanduser()
        text = decode_list(str(place), place.read_bytes)

        async def take() -> str:
            report = await self.management.transfer.import_text(text)
            assumed = (sentence for _, sentence in assumptions_of(report))
            messages = (
                f"{report.unit} {numbers_in_words(numbers)}: {said}"
                for _, said, numbers in messages_of(report)
            )
            return "; ".join([counts_of(report), *assumed, *islice(messages, 5)])

        self._start(take(), "")

    @command.command("egress.export")
    @_explained
    def export_list(self, path: types.Path) -> None:
        """Write the proxies to a file, without passwords."""
        try:
            text = self.management.transfer.export("text")
            Path(path).expanduser().write_text(text, "utf-8")
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}") from error

    @command.command("egress.dashboard")
    def dashboard(self) -> str:
        """Open the page, logged in; without a browser here, show a link that works once and soon.
        It is in no log and no list of processes."""
        server = self.api.server
        if server is None:
            raise CommandError("The management API does not listen: egress_listen is empty")
        try:
            page = server.links.page()
        except OSError as error:
            return f"{server.links.link()} (a browser cannot be sent there: {error.strerror})"
        # Imported here: it brings mitmweb's whole server, which mitmdump never needs.
        from mitmproxy.tools.web.webaddons import open_browser

        if open_browser(page.url):
            return _OPENED
        page.remove()
        return page.link

    @command.command("egress.cut")
    def cut(self, egress: str) -> None:
        """Cut the live connections of an egress: a proxy's name, direct, or all."""
        count = self.config.cut("" if egress == "all" else egress)
        logger.log(log.ALERT, f"Egress: {count} connections cut")

    def _rule_of(self, f: http.HTTPFlow) -> str:
        """The label of the rule that decides about such requests; empty if it is unknown."""
        try:
            query = ExplainQuery(
                url=f"{f.request.scheme}://{url_host(f.request.host)}:{f.request.port}/",
                method=f.request.method,
                client=f.client_conn.peername[0],
            )
            return self.management.explain(query).rule
        except (InvalidEntry, ValidationError):
            return ""

    def _set_status(self, name: str, status: str) -> None:
        changes = {"status": status}
        self._start(self.management.proxies.update(name, changes), f"{name} is {status}")

    def _start(self, work: Coroutine[Any, Any, Any], said: str) -> None:
        """Run ``work`` and report the result: ``said``, or what ``work`` returns."""

        async def report() -> None:
            try:
                result = await work
            except EgressError as error:
                logger.log(log.ALERT, f"Egress: {error}")
            else:
                logger.log(log.ALERT, f"Egress: {said or result}")

        task = asyncio.get_running_loop().create_task(report(), name="egress command")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _outcome(result: TestResult | None) -> str:
    if result is None:
        return ""
    if not result.ok:
        return result.detail or result.reason
    seen = f", egress IP {result.egress_ip}" if result.egress_ip else ""
    return f"ok in {result.total_ms or 0:.0f} ms{seen}"


def _proxy_row(proxy: ProxyView) -> tuple[object, ...]:
    place = (proxy.name, proxy.type, proxy.host, proxy.port, proxy.family)
    now = proxy.now.state if proxy.now else ""
    return (
        *place,
        proxy.problem or proxy.status,
        now,
        proxy.used_by,
        _outcome(proxy.last_test),
        proxy.source,
    )


def _exit_rows(one: ProxyExits) -> Iterable[tuple[object, ...]]:
    if not one.exits:
        yield one.proxy, "", "unknown", "", "", one.why
    for seen in one.exits:
        yield one.proxy, seen.family, seen.verdict, seen.address, seen.at, one.why


def _circuits(circuits: CircuitsStatus) -> str:
    said = f"{circuits.open} open, {circuits.half_open} half-open"
    return f"{said}; {_OWN_NETWORK}" if circuits.own_network else said


def _member_row(member: MemberView) -> list[object]:
    connections = f"{member.active}/{member.limit}" if member.limit else member.active
    share = "-" if member.share is None else f"{member.share:.0%}"
    use = f"{connections}, {share} ({member.expected_share:.0%})"
    return [member.proxy, member.status, member.state, use, why_now(member)]


def _way(egress: EgressView) -> str:
    way, now = f"{egress.host} port {egress.port}, {egress.family}", egress.now
    return way if now is None or now.state == "closed" else f"{way}; {now.state}: {why_now(now)}"


def _rule_row(rule: RuleView) -> tuple[object, ...]:
    conditions = (rule.hosts, rule.clients, rule.ports)
    use = rule.use if isinstance(rule.use, str) else rule.use.name
    texts = (" ".join(map(str, one)) for one in conditions)
    return rule.label, *texts, rule.filter, use, rule.problem or rule.refuses, rule.source


def _table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> types.Data:
    """mitmproxy takes text and numbers."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    return cast(types.Data, [[*head], *cells])
