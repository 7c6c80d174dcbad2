"""The registry as a policy: its rules, in the order in which they are asked.

An assignment is about one scope, so it goes before the rules, which are about kinds of flows. The
more specific goes before the less:

    filter      in the order in which they were assigned
    user
    client      longer prefixes first
    host        exact names, then ``*.a.b``, ``*.b``, ``*``
    rules       in their own order
    global      in the place of the default

A rule whose egress cannot be had refuses in its place: nothing falls through to the next.
"""

from typing import Final, cast, get_args

from ..model.rule import REFUSE, Default, Policy, Rule
from .records import RegistryState, StoredAssignment, StoredRule

_SCOPES: Final = ("filter", "user", "client", "host")


def in_order(state: RegistryState) -> tuple[StoredAssignment | StoredRule, ...]:
    """Assignments and rules, those that are asked first in front."""
    scoped = [one for one in state.assignments if one.scope != "global"]
    last = [one for one in state.assignments if one.scope == "global"]
    return (*sorted(scoped, key=_specificity), *state.rules, *last)


def rules_of(state: RegistryState) -> tuple[Rule, ...]:
    """The rules of ``in_order``. Each has its label for a name: an assignment ``scope:scope_id``, a
    rule without a name ``#`` and its number.
    """
    stored = in_order(state)
    return tuple(one.labelled if isinstance(one, StoredRule) else one.rule for one in stored)


def default_of(state: RegistryState) -> Default | None:
    """What a flow takes that no rule matches, ``None`` if the option decides."""
    default = state.settings.get("default")
    if default is None or default in get_args(Default):
        return cast(Default | None, default)
    return REFUSE  # edited by hand


def policy_of(state: RegistryState) -> Policy:
    """The policy of the registry alone. Unusable entries are left out, so that a rule which names
    one refuses."""
    # The entries are valid and their names unique: thousands of them are not checked again.
    return Policy.model_construct(
        proxies=tuple(one.proxy for one in state.proxies if one.proxy),
        pools=tuple(one.pool for one in state.pools if one.pool),
        rules=rules_of(state),
        default=default_of(state),
    )


def _specificity(assignment: StoredAssignment) -> tuple[int, int]:
    """Less is more specific. An unusable assignment stands before its kind, as it refuses."""
    rule = assignment.rule
    order = _SCOPES.index(assignment.scope) if assignment.scope in _SCOPES else 0
    if rule.clients:
        return order, -rule.clients[0].prefixlen
    if rule.hosts:
        pattern = rule.hosts[0]
        return order, -pattern.count(".") if pattern.startswith("*") else -1000
    return order, -2000
