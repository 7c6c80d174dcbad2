"""What a fetched list makes of the proxies of its subscription."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.management.intake import Known
from egress_policy.management.sync import MOST_ENTRIES, EmptyList, Sync, sync
from egress_policy.management.transfer import read_list
from egress_policy.model.rule import Policy
from egress_policy.model.subscription import ListSubscription
from egress_policy.registry.records import StoredProxy
from egress_policy.registry.registry import Registry
from tests.helpers.registry import KEY, edits, statements

SELLER = {"name": "seller", "url": "https://list.example/", "via": "direct", "tags": ["bought"]}


class Place:
    def __init__(self) -> None:
        self.registry = Registry.open(":memory:", KEY)
        self.edits = edits(self.registry)
        stored = self.edits.subscriptions.create(SELLER)
        self.id, self.subscription = stored.id, stored.value
        assert isinstance(self.subscription, ListSubscription)

    def take(self, *lines: str, ways: tuple[str, ...] = ()) -> Sync:
        entries = [entry for _, entry in read_list("\n".join(lines)).entries]
        with self.registry.edit() as edit:
            state = edit.load()
            own = [one for one in state.proxies if one.subscription_id == self.id]
            known = Known(state, Policy())
            return sync(edit, known, own, self.subscription, self.id, entries, ways)

    @property
    def proxies(self) -> Mapping[str, StoredProxy]:
        return {one.name: one for one in self.registry.load().proxies}

    @property
    def hosts(self) -> dict[str, str]:
        return {name: one.proxy.host for name, one in self.proxies.items() if one.proxy}


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.registry.close()


A, B = "socks5://192.0.2.1:1080#a", "socks5://192.0.2.2:1080#b"


def counts(done: Sync) -> dict[str, Any]:
    found = done.model_dump(exclude={"changes"})
    return {name: number for name, number in found.items() if number}


def test_list_is_taken_and_taken_again_without_a_change(place: Place) -> None:
    assert counts(place.take(A, B, "", "# a comment")) == {"created": 2}
    a = place.proxies["a"]
    assert a.subscription_id == place.id
    assert a.proxy
    assert a.proxy.tags == ("bought",)
    before = place.registry.load()
    done = place.take(A, B)
    assert (counts(done), done.changes) == ({"unchanged": 2}, ())
    assert place.registry.load().proxies == before.proxies


def test_listed_name_that_moves_is_followed_and_what_a_person_said_stays(place: Place) -> None:
    place.take("socks5://u:old@gate.example:1080#a")
    said = {"family": "ipv6", "status": "inactive", "tags": ["mine"], "max_connections": 5}
    place.edits.proxies.update(place.proxies["a"].id, {**said, "region": "eu"})
    done = place.take("socks5://u:new@other.example:1081#a")
    assert counts(done) == {"updated": 1}
    assert done.changes[0].message == "it has another host, port and password"
    assert done.changes[0].said
    assert done.changes[0].said["message"].code == "has_another"
    proxy = place.proxies["a"].proxy
    assert proxy
    assert (proxy.host, proxy.port, proxy.password.get_secret_value()) == (
        *("other.example", 1081, "new"),
    )
    assert (proxy.family, proxy.status, proxy.tags, proxy.max_connections, proxy.region) == (
        *("ipv6", "inactive", ("mine",), 5, "eu"),
    )


def test_list_cannot_take_a_pin_away_by_moving_to_a_literal(place: Place) -> None:
    place.take("socks5://gate.example:1080#a")
    place.edits.proxies.update(place.proxies["a"].id, {"family": "ipv6"})
    done = place.take(A, B)
    assert counts(done) == {"created": 1, "failed": 1}
    assert "contradicts IPv4 literal" in done.changes[0].message
    assert place.hosts["a"] == "gate.example"


def test_what_is_no_longer_listed_goes_unless_it_is_used(place: Place) -> None:
    place.take(A, B, "socks5://192.0.2.3:1080#c", "socks5://192.0.2.4:1080#d")
    place.edits.pools.create({"name": "homes", "members": ["a"]})
    done = place.take("socks5://192.0.2.4:1080#d", ways=("c",))
    assert counts(done) == {"removed": 1, "kept": 2, "unchanged": 1}
    assert {one.name: one.kind for one in done.changes} == {
        "a": "kept",
        "b": "removed",
        "c": "kept",
    }
    assert set(place.proxies) == {"a", "c", "d"}
    assert counts(place.take(A, "socks5://192.0.2.4:1080#d")) == {"removed": 1, "unchanged": 2}


def test_long_list_takes_few_statements(place: Place) -> None:
    def lines(host: str, name: str) -> list[str]:
        return [f"socks5://u:s@{host}{number}.example:1080#{name}{number}" for number in range(600)]

    place.edits.proxies.create({"name": "b0", "host": "192.0.2.1"})
    for listed, expected in (
        (lines("one", "a"), {"created": 600}),
        (lines("two", "a"), {"updated": 600}),
        (lines("three", "b"), {"created": 600, "removed": 600}),
    ):
        with statements() as made:
            assert counts(place.take(*listed)) == expected
        assert len(made) < 50
    assert place.hosts["b0"] == "192.0.2.1"
    assert (place.hosts["b0 (2)"], place.hosts["b599"]) == ("three0.example", "three599.example")


@pytest.mark.parametrize(
    "lines", [(), ("",), ("<html>", "</html>"), ("not a proxy",), ("vmess://abc",)]
)
def test_list_without_a_proxy_changes_nothing(place: Place, lines: tuple[str, ...]) -> None:
    place.take(A)
    with pytest.raises(EmptyList, match="no proxy that can be used"):
        place.take(*lines)
    assert set(place.proxies) == {"a"}


def test_proxies_of_others_are_left_alone(place: Place) -> None:
    place.edits.proxies.create({"name": "a", "host": "mine.example"})
    place.edits.proxies.create({"name": "same", "type": "socks5", "host": "192.0.2.2"})
    done = place.take(A, B)
    assert counts(done) == {"created": 1, "skipped": 1}
    assert {one.name: one.message for one in done.changes} == {
        "a (2)": "'a' is the name of another",
        "same": "it is there already",
    }
    assert place.hosts == {"a": "mine.example", "a (2)": "192.0.2.1", "same": "192.0.2.2"}
    assert counts(place.take(A, B)) == {"unchanged": 1, "skipped": 1}
    assert counts(place.take("socks5://192.0.2.9:1080#x")) == {"created": 1, "removed": 1}
    assert set(place.hosts) == {"a", "same", "x"}


def test_proxy_that_a_person_renamed_is_known_by_its_place(place: Place) -> None:
    place.take("socks5://u:old@192.0.2.1:1080#a", "192.0.2.7:1080")
    place.edits.proxies.update(place.proxies["a"].id, {"name": "mine"})
    done = place.take("socks5://u:new@192.0.2.1:1080#a", "192.0.2.7:1080")
    assert counts(done) == {"updated": 1, "unchanged": 1}
    assert set(place.proxies) == {"mine", "192.0.2.7:1080"}


def test_what_stands_twice_is_taken_once(place: Place) -> None:
    lines = ("192.0.2.7:1080", A, "192.0.2.7:1080", A)
    assert counts(place.take(*lines)) == {"created": 2, "skipped": 1, "failed": 1}
    place.edits.proxies.update(place.proxies["192.0.2.7:1080"].id, {"family": "ipv4"})
    assert counts(place.take(*lines)) == {"unchanged": 2, "skipped": 1, "failed": 1}


def test_broken_entry_is_reported_and_stops_no_other(place: Place) -> None:
    done = place.take(A, "socks5://u:s3cret@h.example:x#b", "socks5://u:s?3cret@h.example")
    assert counts(done) == {"created": 1, "failed": 2}
    assert done.changes[1].message.startswith("entry 2: ")
    assert "3cret" not in done.model_dump_json()


def test_endless_list_is_refused_whole(place: Place) -> None:
    place.take(A)
    with pytest.raises(InvalidEntry, match=r"more than 20,000 entries"):
        place.take(B, *("no proxy" for _ in range(MOST_ENTRIES)))
    assert set(place.proxies) == {"a"}
