"""What a journal keeps, whichever database it lies in: subclassed for SQLite and PostgreSQL."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from egress_policy.errors import RegistryUnavailable
from egress_policy.registry.journal import EVENTS, OBSERVATIONS
from egress_policy.registry.registry import Registry
from egress_policy.registry.schema import VERSIONS
from tests.helpers.registry import KEY, edits
from tests.registry.registry_contract import hop, tamper

NOW = "2026-06-16T12:00:00.000Z"


def event(number: int = 0, **more: str) -> dict[str, Any]:
    about = {"kind": "opened", "proxy": "dc", "pool": "homes", "about": f"event {number}"}
    return {"at": NOW, **about, **more}


def seen(address: str, proxy: str = "dc", family: str = "ipv4") -> dict[str, Any]:
    about = {"proxy": proxy, "fingerprint": "f", "family": family, "source": "echo"}
    return {**about, "address": address, "at": NOW}


def outcome(proxy: str, result: str = "{}") -> dict[str, Any]:
    return {"proxy": proxy, "fingerprint": "f", "at": NOW, "result": result}


class JournalContract:
    """``registry`` is a fixture of the subclass, of an empty database at its ``place``."""

    def test_rows_are_kept_as_they_are_for_whoever_opens_it_next(
        self, registry: Registry, place: str
    ) -> None:
        registry.journal.add_events([event(1), event(2)])
        registry.journal.add_observations([seen("192.0.2.1"), seen("2001:db8::1", family="ipv6")])
        registry.journal.put_tests([outcome("dc", '{"ok": true}')])
        with closing(Registry.open(place, KEY)) as again:
            journal = again.journal
            assert journal.events() == [event(1), event(2)]
            assert journal.events(1) == [event(2)]
            assert journal.observations() == [
                seen("192.0.2.1"),
                seen("2001:db8::1", family="ipv6"),
            ]
            assert journal.tests() == [outcome("dc", '{"ok": true}')]

    def test_last_fetch_of_each_subscription_is_kept(self, registry: Registry) -> None:
        first, other, last = (
            {"subscription": id_, "at": NOW, "result": result}
            for id_, result in (("a", "{}"), ("b", "{}"), ("a", '{"ok": true}'))
        )
        registry.journal.put_fetches([first, other])
        registry.journal.put_fetches([last])
        registry.journal.put_fetches([])
        assert registry.journal.fetches() == [last, other]

    def test_nothing_that_is_written_counts_as_a_change_of_the_policy(
        self, registry: Registry
    ) -> None:
        edits(registry).proxies.create(hop())
        before = registry.load()
        registry.journal.add_events([event()])
        registry.journal.add_observations([seen("192.0.2.1")])
        registry.journal.put_tests([outcome("dc")])
        after = registry.load(before)
        assert after == before
        assert after.proxies[0] is before.proxies[0]
        assert registry.wait(before.revision, 0) == before.revision

    def test_nothing_to_add_is_no_transaction(self, registry: Registry) -> None:
        with registry.edit():  # would wait for it
            registry.journal.add_events([])
            registry.journal.add_observations([])
            registry.journal.put_tests([])

    def test_last_events_are_kept(self, registry: Registry) -> None:
        registry.journal.add_events([event(number) for number in range(EVENTS - 1)])
        assert len(registry.journal.events()) == EVENTS - 1
        registry.journal.add_events([event(number) for number in range(EVENTS - 1, EVENTS + 5)])
        kept = registry.journal.events()
        assert len(kept) == EVENTS
        assert (kept[0], kept[-1]) == (event(5), event(EVENTS + 4))

    def test_last_observations_of_each_proxy_and_family_are_kept(self, registry: Registry) -> None:
        other = seen("198.51.100.1", "other")
        six = seen("2001:db8::1", family="ipv6")
        registry.journal.add_observations([other, six])
        addresses = [f"192.0.2.{number}" for number in range(OBSERVATIONS + 3)]
        for address in addresses:
            registry.journal.add_observations([seen(address)])
        assert registry.journal.observations() == [
            other,
            six,
            *(seen(address) for address in addresses[3:]),
        ]

    def test_observations_of_thousands_of_proxies_are_one_batch(self, registry: Registry) -> None:
        rows = [seen("192.0.2.1", f"p{number}") for number in range(1201)]
        registry.journal.add_observations(rows)
        assert registry.journal.observations() == rows

    def test_a_test_takes_the_place_of_the_one_before(self, registry: Registry) -> None:
        registry.journal.put_tests([outcome("b", "1"), outcome("a", "1"), outcome("b", "2")])
        assert registry.journal.tests() == [outcome("a", "1"), outcome("b", "2")]
        registry.journal.put_tests([outcome("b", "3")])
        assert registry.journal.tests() == [outcome("a", "1"), outcome("b", "3")]

    def test_nodes_that_write_at_once_lose_nothing(self, registry: Registry) -> None:
        names = [f"p{number}" for number in range(20)]
        ready = threading.Barrier(4)

        def write(node: int) -> None:
            ready.wait()
            for number in range(5):
                registry.journal.add_events([event(node * 10 + number)])
                order = names if node % 2 else names[::-1]
                registry.journal.put_tests([outcome(name, str(node)) for name in order])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        assert len(registry.journal.events()) == 20
        assert [row["proxy"] for row in registry.journal.tests()] == sorted(names)

    @pytest.mark.parametrize("how", ["deleted", "deleted by force", "renamed"])
    def test_what_was_observed_of_a_proxy_goes_with_it(self, registry: Registry, how: str) -> None:
        dc = edits(registry).proxies.create(hop())
        edits(registry).proxies.create(hop("other"))
        edits(registry).pools.create({"name": "homes", "members": ["dc"] * (how != "deleted")})
        for name in ("dc", "other"):
            registry.journal.add_observations([seen("192.0.2.1", name)])
            registry.journal.put_tests([outcome(name)])
        registry.journal.add_events([event()])
        if how == "renamed":
            edits(registry).proxies.update(dc.id, {"name": "dc2"})
        else:
            edits(registry).proxies.delete(dc.id, force=True)
        assert registry.journal.observations() == [seen("192.0.2.1", "other")]
        assert registry.journal.tests() == [outcome("other")]
        assert registry.journal.events() == [event()]

    @pytest.mark.parametrize("version", ["9999_future", VERSIONS[0]])
    def test_tables_of_another_version_are_left_alone(
        self, registry: Registry, place: str, version: str
    ) -> None:
        tamper(place, f"UPDATE alembic_version SET version_num = '{version}'")
        journal = registry.journal
        for use in (
            lambda: journal.add_events([event()]),
            lambda: journal.add_observations([seen("192.0.2.1")]),
            lambda: journal.put_tests([outcome("dc")]),
            journal.events,
            journal.observations,
            journal.tests,
        ):
            with pytest.raises(RegistryUnavailable, match=version):
                use()
        tamper(place, f"UPDATE alembic_version SET version_num = '{VERSIONS[-1]}'")
        assert journal.events() == journal.observations() == journal.tests() == []

    def test_batch_that_the_database_rejects_adds_nothing(self, registry: Registry) -> None:
        with pytest.raises(RegistryUnavailable):
            registry.journal.add_events([event(), {"at": NOW}])
        assert registry.journal.events() == []
