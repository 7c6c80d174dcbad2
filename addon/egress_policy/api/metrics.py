"""The status as metrics in the text format of Prometheus. Needs the extra ``metrics``."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

from ..management.status import StatusView

__all__ = ["CONTENT_TYPE", "render"]


def render(status: StatusView) -> bytes:
    """Proxies are named as in policy file and registry, which bounds their number."""
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    return generate_latest(registry)


class _Collector:
    def __init__(self, status: StatusView) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        status, totals = self._status, self._status.totals
        yield _gauge(
            "in_force", "1 if the policy is in force, 0 if all is refused", not status.problem
        )
        yield _gauge("policy_file_error", "1 if the last edit was not taken", status.policy.error)
        lost = status.registry.error if status.registry else ""
        yield _gauge("registry_error", "1 if the registry cannot be read", lost)
        by_use = CounterMetricFamily(
            "egress_flows", "Flows that left by proxy or directly, or were refused", labels=["use"]
        )
        for use, count in totals.by_use.items():
            by_use.add_metric([use], count)
        yield by_use
        by_proxy = CounterMetricFamily(
            "egress_proxy_flows", "Flows that left by proxy", labels=["proxy"]
        )
        for proxy, count in totals.by_proxy.items():
            by_proxy.add_metric([proxy], count)
        yield by_proxy
        refused = CounterMetricFamily(
            "egress_refusals", "Refused flows by code and reason", labels=["code", "reason"]
        )
        for one in totals.refusals:
            refused.add_metric([one.code, one.reason], one.count)
        yield refused
        yield CounterMetricFamily("egress_unmatched_flows", "Took the default", totals.unmatched)
        yield CounterMetricFamily(
            "egress_exit_changes", "Stable exits that have changed", status.exits.changes
        )
        yield GaugeMetricFamily(
            "egress_exits_contradicted",
            "Proxies with another exit than expected",
            value=status.exits.contradicted,
        )


def _gauge(name: str, text: str, value: object) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"egress_{name}", text, value=1 if value else 0)
