"""The ways a flow can take through mitmproxy, each with the same attempt."""

from tests.helpers.clients import ConnectRefused, connect, http_get, patience
from tests.helpers.lab import V4, request_to
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin, TcpEcho, tls_context
from tests.helpers.server import LabServer

WAYS = ("http", "https eager", "https lazy", "tcp eager", "tcp lazy", "replay")


def strategy_of(way: str) -> str:
    return "lazy" if "lazy" in way else "eager"


def origin_for(tls: bool) -> Origin:
    return Origin(tls=tls_context("http/1.1") if tls else None)


def target_of(way: str) -> LabServer:
    if way.startswith("tcp"):
        return TcpEcho()
    return origin_for(way.startswith("https"))


async def attempt(mitm: Mitm, way: str, origin: LabServer) -> int:
    """Try once to reach the origin. Returns the status, 0 for a closed connection or a failed
    flow."""
    async with patience(f"an answer to {way}"):
        return await _attempt(mitm, way, origin)


async def _attempt(mitm: Mitm, way: str, origin: LabServer) -> int:
    if way == "replay":
        again = request_to(f"http://{origin.authority}/")
        mitm.master.commands.call("replay.client", [again])
        await mitm.master.addons.get("clientplayback").queue.join()
        return again.response.status_code if again.response else 0
    if way.startswith("tcp"):
        try:
            async with connect(mitm.port, V4, origin.port) as tunnel:
                await tunnel.send(b"\x00raw")
                return 200 if await tunnel.reader.read(4) else 0
        except ConnectRefused as error:
            return error.answer.status
        except (OSError, EOFError):
            return 0
    scheme = way.split()[0]
    try:
        url = f"{scheme}://{origin.authority}/"
        return (await http_get(mitm.port, url, ca=mitm.ca_cert)).status
    except (OSError, EOFError):
        return 0
