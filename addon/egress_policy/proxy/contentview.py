"""The content view "Egress": which way a flow left, and what the policy says of it now.

mitmproxy and mitmweb offer it for each message, also of a flow that was loaded from a file.
"""

import sys
from asyncio import get_running_loop
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, override

from mitmproxy import contentviews, flow
from mitmproxy.contentviews import Contentview, Metadata

from ..management.explain import Explanation
from ..management.management import Management
from ..model.text import printable
from .explaining import explain_flow
from .record import LONGEST, PREFIX, line_of
from .tables import way

NOTHING = "No egress policy has decided about this flow."
_ENTRIES: Final = 100
"""Entries of a flow's metadata that are shown at most."""
_BITS: Final = 64


class EgressContentview(Contentview):
    """``management`` is ``None`` while no policy is loaded: then the record alone is shown."""

    syntax_highlight = "yaml"

    def __init__(self, management: Management | None) -> None:
        self.management = management

    @property
    def name(self) -> str:
        return "Egress"

    @override
    def prettify(self, data: bytes, metadata: Metadata) -> str:
        _keep_no_copy()
        if metadata.flow is None:
            return NOTHING
        return printable("\n".join(self._lines(metadata.flow)), lines=True)

    @override
    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """Shown only where a person chooses it."""
        return -1

    def _lines(self, f: flow.Flow) -> Iterator[str]:
        yield str(line_of(f) or NOTHING)
        carried = {key: value for key, value in f.metadata.items() if key.startswith(PREFIX)}
        if carried:
            yield "\n# What the flow carries"
            for key, value in islice(carried.items(), _ENTRIES):
                yield f"{_plain(key)}: {_plain(value)}"
        if self.management is None:
            return
        yield "\n# What the policy in force says of such a flow now"
        found = explain_flow(self.management, f)
        yield from _explained(found) if found else ["This flow cannot be explained."]


def offer(management: Management) -> None:
    """Offer the view, for this policy."""
    known = contentviews.registry.get("egress")
    if isinstance(known, EgressContentview):  # of a script that was loaded before
        known.management = management
    else:
        contentviews.add(EgressContentview(management))


def withdraw(management: Management) -> None:
    """Keep the view, which mitmproxy cannot forget, for records alone."""
    known = contentviews.registry.get("egress")
    if isinstance(known, EgressContentview) and known.management is management:
        known.management = None


def _keep_no_copy() -> None:
    """mitmproxy keeps what it showed by content and headers: it would show the way of one flow for
    another with the same answer, and an explanation that is out of date."""
    module = sys.modules.get("mitmproxy.tools.console.flowview")
    forget = getattr(getattr(module, "FlowDetails", None), "_get_content_view", None)
    if clear := getattr(forget, "cache_clear", None):
        with suppress(RuntimeError):
            get_running_loop().call_soon(clear)


def _plain(value: object) -> str:
    """A saved flow may hold anything. What is long would keep the loop busy, in which all flows
    wait."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, str | bytes):
        return str(value[:LONGEST])
    return str(value) if isinstance(value, int) or value is None else type(value).__name__


def _explained(found: Explanation) -> Iterator[str]:
    yield f"outcome: {found.outcome}"
    yield f"rule: {found.rule}"
    if found.pool:
        yield f"pool: {found.pool}, {found.strategy}"
    yield f"why: {found.detail or found.why}"
    yield from (f"egress: {one.name} ({one.type}), {way(one)}" for one in found.egresses)
    yield from (f"left out: {one.proxy}, {one.why}" for one in found.left_out)
    if found.note:
        yield f"note: {found.note}"
    yield "\n# The rules, in the order in which they are asked"
    if found.rules_before:
        yield f"...: {found.rules_before} rules before these do not match"
    for trace in found.rules:
        yield f"{trace.rule}: {trace.verdict}" + (f", {trace.why}" if trace.why else "")
    if found.rules_after:
        yield f"...: {found.rules_after} more are not reached"
