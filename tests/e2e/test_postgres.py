"""A registry that several nodes share, in PostgreSQL: everything that SQLite does, and more."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from egress_policy.errors import MaybeMade, Reason, RegistryUnavailable
from egress_policy.registry.registry import Registry
from egress_policy.registry.schema import VERSIONS
from tests.e2e.postgres import Postgres, postgres
from tests.e2e.relay import relay
from tests.helpers.registry import KEY, edits
from tests.registry.journal_contract import JournalContract
from tests.registry.migration_contract import MigrationContract, make_old
from tests.registry.registry_contract import RegistryContract, hop, reason_for, tamper

pytestmark = pytest.mark.e2e


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    async with postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(scope="module")
def template(server: Postgres) -> str:
    """A registry to copy, which is much faster than making a new one."""
    url = server.new_database()
    Registry.open(url, KEY).close()
    return url.rpartition("/")[2]


@pytest.fixture
def place(server: Postgres) -> str:
    return server.new_database()


class TestRegistry(RegistryContract):
    @pytest.fixture
    def place(self, server: Postgres, template: str) -> str:
        return server.new_database(template)


class TestJournal(JournalContract):
    @pytest.fixture
    def place(self, server: Postgres, template: str) -> str:
        return server.new_database(template)

    @pytest.fixture
    def registry(self, place: str) -> Iterator[Registry]:
        with closing(Registry.open(place, KEY)) as registry:
            yield registry


class TestMigrations(MigrationContract):
    pass


def test_unknown_family_is_a_problem_and_a_missing_one_is_auto(place: str) -> None:
    registry = Registry.open(place, KEY)
    edits(registry).proxies.create(hop(family="ipv6"))
    edits(registry).rules.create({"use": "dc"})
    tamper(
        place,
        "ALTER TABLE proxy_registry DROP CONSTRAINT ck_proxy_registry_family",
        "ALTER TABLE proxy_registry ALTER family DROP NOT NULL",
        "UPDATE proxy_registry SET family = 'IPv6'",
    )
    state = registry.load()
    assert "'IPv6' is none of auto, ipv4 and ipv6" in state.proxies[0].problem
    assert reason_for(state) == Reason.DELETED
    tamper(place, "UPDATE proxy_registry SET family = NULL")
    [stored] = registry.load().proxies
    assert stored.proxy
    assert stored.proxy.family == "auto"
    registry.close()


@pytest.mark.parametrize("version", [None, VERSIONS[0]])
def test_nodes_that_start_at_once_make_one_registry(place: str, version: str | None) -> None:
    if version:
        make_old(place, version)
    with ThreadPoolExecutor(4) as pool:
        nodes = list(pool.map(lambda _: Registry.open(place, KEY), range(4)))
    assert len({node.load().revision for node in nodes}) == 1
    for node in nodes:
        node.close()


def test_every_node_hears_of_a_change_at_once(place: str) -> None:
    writer, *nodes = (Registry.open(place, KEY) for _ in range(4))
    ready = threading.Barrier(len(nodes) + 1)

    def hear(node: Registry) -> tuple[int, float]:
        node.wait(0, 0)  # listens from here on
        ready.wait()
        return node.wait(0, 60), time.monotonic()

    with ThreadPoolExecutor(len(nodes)) as pool:
        heard = [pool.submit(hear, node) for node in nodes]
        ready.wait()
        edits(writer).proxies.create(hop())
        written = time.monotonic()
        for answer in heard:
            revision, at = answer.result(timeout=10)
            assert revision == 1
            assert at - written < 0.4  # a poll alone may take 0.5 s
    for node in (writer, *nodes):
        node.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_lost_server_is_reported_and_found_again(server: Postgres, place: str) -> None:
    registry = Registry.open(place, KEY)
    edits(registry).proxies.create(hop())
    assert registry.wait(0, 0) == 1
    await server.end()
    for use in (registry.revision, registry.load, lambda: registry.wait(1, 5)):
        with pytest.raises(RegistryUnavailable, match=r"postgresql://127\.0\.0\.1") as caught:
            use()
        assert "s3cret" not in str(caught.value)
    with pytest.raises(RegistryUnavailable):
        Registry.open(place, KEY)
    await server.__aenter__()
    assert registry.wait(0, 0) == 1
    assert [proxy.name for proxy in registry.load().proxies] == ["dc"]
    edits(registry).proxies.create(hop("new"))
    assert registry.wait(1, 10) == 2
    registry.close()


def test_missing_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RegistryUnavailable) as caught:
        Registry.open("postgresql://u:s3cret@127.0.0.1:1/d?connect_timeout=2", KEY)
    assert "postgresql://127.0.0.1:1/d cannot be used: " in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_wrong_password_is_not_repeated(server: Postgres) -> None:
    url = server.url().replace("s3cret", "wr0ng")
    with pytest.raises(RegistryUnavailable, match="password authentication failed") as caught:
        Registry.open(url, KEY)
    assert "wr0ng" not in str(caught.value)


# -- a server that hangs


USES = {
    "revision": lambda registry: registry.revision(),
    "load": lambda registry: registry.load(),
    "wait": lambda registry: registry.wait(1, 0),
    "write": lambda registry: edits(registry).proxies.create(hop("new")),
}


def assert_told_in_time(use: Callable[[], object]) -> RegistryUnavailable:
    started = time.monotonic()
    with pytest.raises(RegistryUnavailable) as caught:
        use()
    assert time.monotonic() - started < 5
    assert caught.value.retry_after
    assert "s3cret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_stopped_server_is_reported_and_found_again(
    server: Postgres, template: str, use: Callable[[Registry], object]
) -> None:
    registry = Registry.open(url := server.new_database(template), KEY)
    edits(registry).proxies.create(hop())
    assert registry.wait(0, 0) == 1
    with server.stopped():
        for _ in range(2):  # with the connection that it has, and with a new one
            error = assert_told_in_time(lambda: use(registry))
            assert "has not answered for 4.5 s" in str(error)
        assert_told_in_time(lambda: Registry.open(url, KEY))
    assert [proxy.name for proxy in registry.load().proxies] == ["dc"]
    edits(registry).proxies.create(hop("later"))
    registry.close()


@pytest.mark.parametrize("use", ["load", "write"])
def test_locked_table_is_reported_and_blocks_no_caller(
    server: Postgres, template: str, use: str
) -> None:
    registry = Registry.open(url := server.new_database(template), KEY)
    edits(registry).proxies.create(hop())
    with server.locked(url.rpartition("/")[2], "proxy_registry"):
        error = assert_told_in_time(lambda: USES[use](registry))
        assert "lock timeout" in str(error)
        waiting = (
            "SELECT 1 / (count(*) - 1) FROM pg_locks WHERE relation IS NOT NULL AND NOT granted"
        )
        server.execute(waiting)  # divides by zero if there is just one
    assert len(registry.load().proxies) == 1
    registry.close()


def test_change_whose_commit_is_not_answered_may_have_been_made(
    server: Postgres, template: str
) -> None:
    url = server.new_database(template)
    with relay(server.port) as between:
        registry = Registry.open(url.replace(f":{server.port}", f":{between.port}"), KEY)
        between.stop_at = b"COMMIT\0"  # not that of READ COMMITTED
        error = assert_told_in_time(lambda: edits(registry).proxies.create(hop()))
        assert isinstance(error, MaybeMade)
        assert "may have been made or not: look before you repeat it" in str(error)
        between.stop_at = b""
        between.open.set()
        assert [proxy.name for proxy in registry.load().proxies] == ["dc"]
        registry.close()
