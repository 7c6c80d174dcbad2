"""What is measured, as metrics in the text format of Prometheus. Needs the extra ``metrics``.

Series with the name of a proxy stop at 1,000 proxies: the others are one, called ``(other)``.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

from ..management.measured import Measured, first

__all__ = ["CONTENT_TYPE", "render"]


def render(measured: Measured) -> bytes:
    """Any thread may do it."""
    registry = CollectorRegistry()
    registry.register(_Collector(measured))
    return generate_latest(registry)


class _Collector:
    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def collect(self) -> Iterable[Metric]:
        yield from self._policy()
        yield from self._flows()
        yield from self._attempts()
        yield from self._proxies()

    def _policy(self) -> Iterable[Metric]:
        status = self._measured.status
        yield _flag(
            "in_force", "1 if the policy is in force, 0 if all is refused", not status.problem
        )
        yield _flag("policy_file_error", "1 if the last edit was not taken", status.policy.error)
        lost = status.registry.error if status.registry else ""
        yield _flag("registry_error", "1 if the registry cannot be read", lost)

    def _flows(self) -> Iterable[Metric]:
        totals = self._measured.status.totals
        by_use = _counter("flows", "Flows that left by proxy or directly, or were refused", "use")
        for use, count in totals.by_use.items():
            by_use.add_metric([use], count)
        yield by_use
        by_proxy = _counter("proxy_flows", "Flows that left by proxy", "proxy")
        for proxy, count in first(totals.by_proxy.items()).items():
            by_proxy.add_metric([proxy], count)
        yield by_proxy
        refused = _counter("refusals", "Refused flows by code and reason", "code", "reason")
        for one in totals.refusals:
            refused.add_metric([one.code, one.reason], one.count)
        yield refused
        yield CounterMetricFamily("egress_unmatched_flows", "Took the default", totals.unmatched)
        durations = HistogramMetricFamily(
            "egress_flow_seconds", "How long flows took that left", labels=["use"]
        )
        for use, times in self._measured.durations.items():
            durations.add_metric([use], list(times.cumulative()), times.total)
        yield durations
        carried = _counter("bytes", "Bytes on the wire to and from exits", "exit", "direction")
        for name, up, down in self._measured.bytes:
            carried.add_metric([name, "up"], up)
            carried.add_metric([name, "down"], down)
        yield carried

    def _attempts(self) -> Iterable[Metric]:
        measured = self._measured
        attempts = _counter(
            "attempts", "Attempts of flows at a proxy", "pool", "proxy", "outcome", "fault"
        )
        for key, count in measured.attempts.items():
            attempts.add_metric(list(key), count)
        yield attempts
        failovers = _counter("failovers", "Further members that were tried", "pool")
        for pool, count in measured.failovers.items():
            failovers.add_metric([pool], count)
        yield failovers
        hops = HistogramMetricFamily(
            "egress_hop_seconds", "What the way to the proxy took", labels=["pool"]
        )
        for pool, times in measured.hops.items():
            hops.add_metric([pool], list(times.cumulative()), times.total)
        yield hops

    def _proxies(self) -> Iterable[Metric]:
        measured, status = self._measured, self._measured.status
        active = _gauge("active_connections", "Connections by proxy", "proxy")
        for proxy, count in measured.active.items():
            active.add_metric([proxy], count)
        yield active
        members = _gauge("pool_members", "Members of pools by how they fare", "pool", "state")
        for (pool, state), count in measured.members.items():
            members.add_metric([pool, state], count)
        yield members
        checks = _counter("checks", "Greetings and checks of proxies", "outcome")
        for outcome, count in status.checks.outcomes.items():
            checks.add_metric([outcome], count)
        yield checks
        yield GaugeMetricFamily(
            "egress_check_lag_seconds",
            "How long the check has been due that waits longest",
            value=status.checks.lag_s,
        )
        yield _flag(
            "own_network_suspect",
            "1 if our own network seems to be down",
            status.circuits.own_network,
        )
        yield CounterMetricFamily(
            "egress_exit_changes", "Stable exits that have changed", status.exits.changes
        )
        yield GaugeMetricFamily(
            "egress_exits_contradicted",
            "Proxies with another exit than expected",
            value=status.exits.contradicted,
        )


def _flag(name: str, text: str, value: object) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"egress_{name}", text, value=1 if value else 0)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"egress_{name}", text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"egress_{name}", text, labels=labels)
