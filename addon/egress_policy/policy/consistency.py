"""Whether the entries of a policy fit each other: names, references, pools, filters.

Pure. Each finding is a place and a message, so that the caller can say where it is. Entries come in
dictionaries by their number, so that the valid ones can be checked while others are in error.
"""

import re
from collections.abc import Collection, Iterator, Mapping

from ..model.pool import Pool
from ..model.proxy import Proxy
from ..model.rule import (
    DIRECT,
    REFUSE,
    RESERVED,
    FilterCompiler,
    Location,
    Rule,
    name_conflicts,
)
from ..sentence import Sentence

Finding = tuple[Location, str]
_NO_RULE_NAMES = frozenset({"default"})


def find_contradictions(
    proxies: Mapping[int, Proxy],
    pools: Mapping[int, Pool],
    rules: Mapping[int, Rule],
    compile_filter: FilterCompiler,
    broken: Collection[str] = (),
) -> Iterator[Finding]:
    """The faults between entries that are each valid.

    ``broken`` are the names of entries that are not, and are reported elsewhere.
    """
    by_name = {proxy.name: proxy for proxy in proxies.values()}
    usable = {DIRECT, REFUSE, *broken, *by_name, *(pool.name for pool in pools.values())}
    yield from _names(proxies, pools, rules)
    for index, pool in pools.items():
        for position, member in enumerate(pool.names):
            if member not in by_name and member not in broken:
                yield ("pools", index, "members", position), _names_nothing(member, "proxy")
        families = {by_name[name].family for name in pool.names if name in by_name}
        if {"ipv4", "ipv6"} <= families:
            yield (
                ("pools", index, "members"),
                Sentence("members_mixed", "members pinned to ipv4 and to ipv6 cannot be mixed"),
            )
    for index, rule in rules.items():
        if isinstance(rule.use, str) and rule.use not in usable:
            yield ("rules", index, "use"), _names_nothing(rule.use, "proxy or pool")
        if rule.filter:
            try:
                compile_filter(rule.filter)
            except (ValueError, RecursionError) as error:
                yield ("rules", index, "filter"), f"not a filter expression: {error}"


def _names(
    proxies: Mapping[int, Proxy], pools: Mapping[int, Pool], rules: Mapping[int, Rule]
) -> Iterator[Finding]:
    declared: list[Finding] = [
        *((("proxies", index, "name"), proxy.name) for index, proxy in proxies.items()),
        *((("pools", index, "name"), pool.name) for index, pool in pools.items()),
    ]
    yield from name_conflicts(declared)
    labels: list[Finding] = [
        (("rules", index, "name"), rule.name) for index, rule in rules.items() if rule.name
    ]
    yield from name_conflicts(labels, _NO_RULE_NAMES)
    taken = RESERVED.union(name for _, name in declared)
    for index, rule in rules.items():
        if isinstance(rule.use, Proxy) and rule.use.name in taken:
            yield ("rules", index, "use", "name"), f"{rule.use.name!r} is taken or reserved"


def _names_nothing(name: str, kind: str) -> str:
    if "://" in name:
        return f"names no {kind}; a proxy URL is written as {{url: …}}"
    if not re.fullmatch(r"[\w .-]{1,60}", name):  # it may be a password in the wrong place
        return f"names no {kind}"
    return f"{name!r} names no {kind}"
