"""Commands for mitmproxy's and mitmweb's prompt.

Commands are synchronous. Work that changes the registry or uses the network runs as a task, and an
alert reports its result.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mitmproxy import command, ctx, flow, http, log, types
from mitmproxy.exceptions import CommandError
from pydantic import ValidationError

from ...errors import EgressError, InvalidEntry
from ...log import get_logger
from ...management.explain import ExplainQuery
from ...management.import_report import assumptions_of, counts_of, messages_of, numbers_in_words
from ...management.management import Management
from ...management.proxies import complete
from ...management.states import CircuitsStatus
from ...management.steering import CLEAR, SteeredHost
from ...management.transfer import decode_list
from ...model.list_entry import field_from_text
from ...model.proxy import ProxyStatus
from ...model.proxy_line import parse_single_proxy, require_type
from ...model.rule import DIRECT, REFUSE
from ...model.text import printable
from ...model.words import count
from .. import contentview, tables
from ..explaining import explain_flow, query_of
from ..record import line_of
from .api import EgressApi
from .config import EgressConfig

logger = get_logger(__name__)

_ALL = 1_000_000
_NAMED = 5
"""How many hosts a message names."""
_ELSEWHERE = frozenset({"password_env", "password_file"})
_NOT_TYPED = (
    "mitmproxy keeps what is typed here in a file. Leave the password out, and name a file that "
    "holds it (mode 0600) behind the URL or as the field password_file"
)
_OPENED = (
    "opened; if the browser may not read its file, log in with what egress-policy token prints"
)
_OWN_NETWORK = "own network? It seems to be down, so failures are held against no proxy"
Names = types.Choice("egress.proxy.names")
Pools = types.Choice("egress.pool.names")
Uses = types.Choice("egress.use.names")


def _explained[**P, T](do: Callable[P, T]) -> Callable[P, T]:
    """Have the prompt show errors of the egress policy."""

    @functools.wraps(do)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return do(*args, **kwargs)
        except EgressError as error:
            raise CommandError(printable(str(error), lines=True)) from error

    return run


class EgressConsole:
    """``egress.…``: the policy in force, the registry, and the page.

    ``argument`` is the innermost decorator: it changes annotations in place, and from Python
    3.14 on a wrapper has a copy of them.
    """

    def __init__(self, management: Management, config: EgressConfig, api: EgressApi) -> None:
        self.management = management
        self.config = config
        self.api = api
        self._tasks: set[asyncio.Task[None]] = set()

    def running(self) -> None:
        contentview.offer(self.management)

    def done(self) -> None:
        contentview.withdraw(self.management)
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
        return tables.table(["name", "value"], rows)

    @command.command("egress.proxy.list")
    def proxy_list(self) -> types.Data:
        """The proxies of policy file and registry."""
        return tables.proxies(self.management.proxies.list(limit=_ALL).items)

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
            return f"{name}: {tables.outcome(await self.management.probes.test(name))}"

        self._start(test(), "")

    @command.command("egress.exits")
    def exits(self) -> types.Data:
        """The addresses that targets see of each proxy, and what is not as expected."""
        exits, proxies = self.management.exits, self.management.router.snapshot.proxies
        return tables.exits(map(exits.of, proxies.values()))

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
        notes = filter(None, [found.problem, _OWN_NETWORK if found.own_network else ""])
        return tables.members(found.items, notes)

    @command.command("egress.rules")
    def rules(self) -> types.Data:
        """The rules of file and registry in their order; egress.explain has assignments too."""
        return tables.rules(self.management.rules.list(limit=_ALL).items)

    @command.command("egress.explain")
    @_explained
    def explain(self, url: str) -> types.Data:
        """Which rule decides for a URL, or for a flow such as @focus, and why; sends nothing."""
        if url.startswith("@"):
            return self._explain_flow(url)
        try:
            found = self.management.explain(ExplainQuery(url=url))
        except ValidationError as error:
            raise InvalidEntry("a URL is expected, or a flow such as @focus", "url") from error
        return tables.explanation(found)

    def _explain_flow(self, spec: str) -> types.Data:
        flows: Sequence[flow.Flow] = ctx.master.commands.call("view.flows.resolve", spec)
        if len(flows) != 1:
            raise CommandError(f"One flow is expected, and {spec} names {len(flows)}")
        found = explain_flow(self.management, flows[0])
        if found is None:
            raise CommandError("This flow cannot be explained: it has no target")
        took = line_of(flows[0])
        return tables.explanation(found, [("this flow", took.head, took.rest)] if took else [])

    @command.command("egress.use.names")
    def use_names(self) -> Sequence[str]:
        """What egress.use takes: the names of all proxies and pools, direct, refuse and clear."""
        return [*self.proxy_names(), *self.pool_names(), DIRECT, REFUSE, CLEAR]

    @command.command("egress.use")
    @_explained
    @command.argument("use", type=Uses)
    def use(self, flows: Sequence[flow.Flow], use: str, *hosts: int) -> None:
        """Let the hosts of flows leave by a proxy, a pool or directly, refuse them, or clear what
        was set so. It lasts, for replays too. For several hosts, add how many they are."""
        asked = {f.request.host: f for f in flows if isinstance(f, http.HTTPFlow)}
        if not asked:
            raise CommandError("There is no HTTP flow among these")
        if len(asked) > 1 and hosts != (len(asked),):
            some = [*islice(asked, _NAMED), *(["..."] if len(asked) > _NAMED else [])]
            named = printable(", ".join(some))  # of a saved flow a host may be anything
            # The prompt shows the beginning alone.
            raise CommandError(f"Add {len(asked)} to change {len(asked)} hosts: {named}")
        queries = {host: query for host, f in asked.items() if (query := query_of(f))}

        async def steer() -> str:
            done = (await self.management.steering.use([*asked], use, queries)).changed
            more = [f"{len(done) - _NAMED} hosts more"] if len(done) > _NAMED else []
            return ". ".join([*map(_said, done[:_NAMED]), *more, "egress.undo takes it back"])

        self._start(steer(), "")

    @command.command("egress.undo")
    def undo(self) -> None:
        """Take back the last egress.use, egress.proxy.enable or egress.proxy.disable, or what the
        live view of the page did."""

        async def undo() -> str:
            return f"taken back: {(await self.management.steering.undo()).undone}"

        self._start(undo(), "")

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
        number = self.config.cut("" if egress == "all" else egress)
        cut = count(number, "connection is cut", "connections are cut")
        logger.log(log.ALERT, f"Egress: {cut}")

    def _set_status(self, name: str, status: ProxyStatus) -> None:
        work = self.management.steering.set_status(name, status)
        self._start(work, f"{name} is {status}; egress.undo takes it back")

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


def _circuits(circuits: CircuitsStatus) -> str:
    said = f"{circuits.open} open, {circuits.half_open} half-open"
    return f"{said}; {_OWN_NETWORK}" if circuits.own_network else said


def _said(one: SteeredHost) -> str:
    if one.overruled_by:
        return (
            f"{one.host}: {one.after} as before, because rule {one.overruled_by} comes first; "
            "what was set takes effect where that does not match"
        )
    return f"{one.host}: {one.after}, was {one.before}; {one.lasts}"
