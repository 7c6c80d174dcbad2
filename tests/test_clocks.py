"""Limits of time are by a clock that nobody sets: the other one is for what people read."""

import ast
from pathlib import Path

import egress_policy

PACKAGE = Path(egress_policy.__file__).parent
WALL_CLOCK = {
    "cli/exits.py": "how long ago an exit was seen",
    "cli/flows.py": "the time of a flow",
    "client/echo_server.py": "the time of an answer",
    "management/events.py": "when something happened to a proxy",
    "management/known_exits.py": "when an exit was seen",
    "management/history.py": "when a minute began",
    "management/hits.py": "when a flow ended that a rule decided",
    "management/live.py": "the time of a flow",
    "management/overview.py": "when an exit was used last",
    "management/probes.py": "when a test was made",
    "management/session_file.py": "how old a login is, after a restart too",
    "management/states.py": "when a circuit opened, and when it is tried again",
    "management/subscriptions.py": "when a list was fetched, across runs and nodes",
    "proxy/dialer.py": "the start of a connection, as mitmproxy notes it",
    "proxy/filters.py": "the start of a request, as mitmproxy notes it",
    "proxy/live.py": "the time of a flow",
    "proxy/seams.py": "the start of an answer, as mitmproxy notes it",
    "proxy/tunnel.py": "the start of a CONNECT, as mitmproxy notes it",
    "policy_file/parse.py": "how old a version of a file is",
    "registry/registry.py": "when an entry was changed",
    "wire/http_connect.py": "how far off the date in a Retry-After is",
}
"""Who asks for the time of day, and what for. A limit is no reason: a clock that is set back would
stretch it, and one that is set forward would end it."""


def asks_for_the_time_of_day(file: Path) -> bool:
    """Whether a module uses ``time.time`` or ``datetime.now`` and their like."""
    asked = {"time", "time_ns", "now", "utcnow", "today", "timestamp", "fromtimestamp"}
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in asked
        and isinstance(node.value, ast.Name)
        and node.value.id in ("time", "datetime", "date")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
    )


def test_the_time_of_day_is_asked_for_by_these_alone() -> None:
    found = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if asks_for_the_time_of_day(file)
    }
    assert found == set(WALL_CLOCK)
