"""mitmdump says behind its own lines about a flow which way the flow left.

mitmdump's ``Dumper`` stands behind all scripts in the chain of addons, so the addon that writes the
line stands at the end of it, as long as the script is loaded. The line goes through the dumper:
``flow_detail``, ``dumper_filter`` and the colours of a terminal hold for it too. mitmproxy and
mitmweb have no dumper: no line is written there, and no addon stands in the way of each event.
"""

from typing import Final

from mitmproxy import ctx, flow, tcp, udp
from mitmproxy.addons.dumper import Dumper
from mitmproxy.optmanager import OptManager
from mitmproxy.utils import human

from ...management.management import Management
from ...management.one_line import OneLine
from ...model.text import printable
from ..record import PREFIX, line_of
from .named import Named, find

_INDENT: Final = "   "


class EgressLines:
    """Keeps the writer of the lines at the end of the chain, while there is a dumper that writes:
    mitmproxy takes each event past each addon, at a cost."""

    def __init__(self, management: Management) -> None:
        self._writer = EgressLineWriter(management)
        self._runs = False

    def running(self) -> None:
        self._runs = find(Dumper) is not None
        if self._runs:
            ctx.options.subscribe(self._follow, ["flow_detail"])
        self._follow(ctx.options, set())

    def done(self) -> None:
        self._runs = False
        self._follow(ctx.options, set())

    def _follow(self, options: OptManager, _: set[str]) -> None:
        manager, writer = ctx.master.addons, self._writer
        if not self._runs or not options.flow_detail:
            manager.chain = [one for one in manager.chain if one is not writer]
            manager.lookup.pop(writer.name, None)
        elif writer not in manager.chain:
            manager.chain.append(writer)
            manager.lookup[writer.name] = writer


class EgressLineWriter(Named):
    """Writes a line at the events at which the dumper writes about a whole flow, and at the end of
    a stream, about which the dumper says nothing."""

    def __init__(self, management: Management) -> None:
        self._management = management

    def response(self, f: flow.Flow) -> None:
        self._write(f)

    error = http_connect_error = dns_response = dns_error = tcp_error = udp_error = response

    def tcp_end(self, f: tcp.TCPFlow | udp.UDPFlow) -> None:
        client = human.format_address(f.client_conn.peername)
        server = human.format_address(f.server_conn.address)
        # A client of SOCKS5 may name any host.
        self._write(f, printable(f"{client} -> {f.type} -> {server}") + "\n")

    udp_end = tcp_end

    def _write(self, f: flow.Flow, before: str = "") -> None:
        options, dumper = self._management.options, find(Dumper)
        asked = options.log if options else "none"
        if asked == "none" or (asked == "refusals" and f"{PREFIX}code" not in f.metadata):
            return
        if dumper and dumper.match(f) and (line := line_of(f)):
            dumper.echo(f"{before}{_INDENT}{_styled(dumper, line)}")
            dumper.outfp.flush()


def _styled(dumper: Dumper, line: OneLine) -> str:
    """In the colours in which the dumper shows statuses and errors."""
    if line.head.startswith("refused"):
        return dumper.style(line.head, fg="red", bold=True) + line.rest
    return dumper.style(line.head, fg="green") + line.rest
