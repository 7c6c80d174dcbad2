import contextlib
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from random import Random

import pytest

import egress_policy
from egress_policy.errors import InvalidEntry, Reason, RegistryUnavailable
from egress_policy.registry import engines
from egress_policy.registry.precedence import rules_of
from egress_policy.registry.registry import Registry
from tests.helpers.registry import KEY, edits
from tests.registry.registry_contract import RegistryContract, hop, reason_for, tamper


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "conf" / "egress.db")


@cache
def empty_registry() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "egress.db"
        Registry.open(str(path), KEY).close()
        return path.read_bytes()


class TestSqlite(RegistryContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        """A copy of what ``open`` makes: a tenth of the time."""
        path = tmp_path / "egress.db"
        path.write_bytes(empty_registry())
        return str(path)


def test_file_is_for_its_owner_and_keeps_a_write_ahead_log(place: str) -> None:
    registry = Registry.open(place, KEY)
    edits(registry).proxies.create(hop())
    files = sorted(Path(place).parent.iterdir())
    assert [path.name for path in files] == ["egress.db", "egress.db-shm", "egress.db-wal"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    registry.close()


def test_registry_in_memory_is_one_for_all_threads_and_gone_when_closed() -> None:
    registry = Registry.open(":memory:", KEY)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: edits(registry).proxies.create(hop(f"p{n}")), range(12)))
    assert len(registry.load().proxies) == registry.revision() == 12
    registry.close()
    registry = Registry.open("sqlite://", KEY)
    assert registry.load().proxies == ()
    registry.close()


def test_those_who_use_it_at_once_need_no_descriptor_that_was_not_opened_with_it(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry.open(place, KEY)

    def none_left(_: str) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(engines, "_connect", none_left)
    database = registry._database
    with database.read() as one, database.read() as other:
        assert edits(registry).proxies.create(hop()).name == "dc"
        for connection in (one, other):
            connection.exec_driver_sql("SELECT * FROM revision")
    registry.close()


def test_url_of_a_file_is_as_good_as_its_path(place: str) -> None:
    registry = Registry.open(f"sqlite:///{place}", KEY)
    assert registry.name == place
    registry.close()
    assert Path(place).exists()


def test_opening_says_nothing_where_everything_is_logged(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        registry = Registry.open(place, KEY)
        edits(registry).proxies.create(hop())
        registry.close()
    assert caplog.text == ""


@pytest.mark.parametrize(
    "text", ["", "a\0b", "mysql://u:s3cret@h/d", "://", "postgresql://u:s3cret@h:port/d"]
)
def test_text_that_is_no_place_names_the_option(text: str) -> None:
    with pytest.raises(InvalidEntry, match=r"^egress_registry: ") as caught:
        Registry.open(text, KEY)
    assert caught.value.field == "egress_registry"
    assert "s3cret" not in str(caught.value)


# -- edits by hand that only this database can be made to take


def test_unknown_family_is_a_problem_and_a_missing_one_is_auto(place: str) -> None:
    registry = Registry.open(place, KEY)
    dc = edits(registry).proxies.create(hop(family="ipv6"))
    edits(registry).rules.create({"use": "dc"})
    edits(registry).rules.create({"use": {"host": "h", "family": "ipv6"}})
    for family in ("'IPv6'", "'any'", "''", "6", "x'00'"):
        tamper(
            place,
            f"UPDATE proxy_registry SET family = {family}",
            f"UPDATE upstream_proxy_config SET family = {family}",
        )
        state = registry.load()
        assert state.proxies[0].proxy is None
        assert "is none of auto, ipv4 and ipv6" in state.proxies[0].problem
        assert "is none of auto, ipv4 and ipv6" in state.rules[1].problem
        assert reason_for(state) == Reason.DELETED
        assert state.rules[1].rule.use == "refuse"
    tamper(
        place,
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'family TEXT NOT NULL', 'family TEXT')",
    )
    tamper(place, "UPDATE proxy_registry SET family = NULL")
    [stored] = registry.load().proxies
    assert (stored.problem, stored.raw["family"]) == ("", None)
    assert stored.proxy
    assert stored.proxy.family == "auto"
    edits(registry).proxies.update(dc.id, {"family": "ipv4"})
    registry.close()


def test_row_that_is_gone_counts_as_deleted(place: str) -> None:
    registry = Registry.open(place, KEY)
    dc = edits(registry).proxies.create(hop())
    edits(registry).rules.create({"use": "dc"})
    edits(registry).assignments.put("host", "a.example", dc.id)
    tamper(place, "DELETE FROM proxy_registry")
    state = registry.load()
    assert [rule.use for rule in rules_of(state)] == [f"proxy (deleted {dc.id[:8]})"] * 2
    assert reason_for(state) == Reason.DELETED
    registry.close()


def test_rule_whose_inline_proxy_is_gone_refuses(place: str) -> None:
    registry = Registry.open(place, KEY)
    edits(registry).rules.create({"use": {"host": "h.example"}})
    tamper(place, "DELETE FROM upstream_proxy_config")
    [stored] = (state := registry.load()).rules
    assert "use.host: is required" in stored.problem
    assert [rule.use for rule in rules_of(state)] == ["refuse"]
    registry.close()


@pytest.mark.parametrize("edit", ["revision = 1e300", "id = 'a' || char(10) || 'b'", "id = x'00'"])
def test_state_since_another_has_what_was_edited_by_hand(place: str, edit: str) -> None:
    registry = Registry.open(place, KEY)
    for name in ("one", "two"):
        edits(registry).proxies.create(hop(name))
    seen = registry.load()
    tamper(place, f"UPDATE proxy_registry SET {edit} WHERE name = 'two'")
    for _ in range(2):
        seen = registry.load(seen)
        assert [stored.name for stored in seen.proxies] == ["one", "two"]
        assert seen == registry.load()
    registry.close()


# -- what can happen to a file


def test_file_that_is_no_database_is_told_and_left_alone(place: str) -> None:
    path = Path(place)
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(RegistryUnavailable, match=r"egress\.db cannot be used: file is not a data"):
        Registry.open(place, KEY)
    assert path.read_bytes() == b"not a database" * 100


def test_corrupt_database_is_told_and_left_alone(place: str) -> None:
    registry = Registry.open(place, KEY)
    edits(registry).proxies.create(hop())
    registry.close()
    path = Path(place)
    data = bytearray(path.read_bytes())
    data[4096:] = Random(1).randbytes(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(RegistryUnavailable, match="cannot be used"):
        Registry.open(place, KEY)
    assert path.read_bytes() == data


def test_database_of_another_program_is_told_and_left_alone(place: str) -> None:
    Path(place).parent.mkdir()
    with sqlite3.connect(place) as database:
        database.execute("CREATE TABLE proxy_registry (id TEXT)")
    database.close()
    before = Path(place).read_bytes()
    with pytest.raises(RegistryUnavailable, match="holds the tables of another program"):
        Registry.open(place, KEY)
    assert Path(place).read_bytes() == before


def test_file_that_is_removed_or_replaced_is_noticed(place: str) -> None:
    registry, path = Registry.open(place, KEY), Path(place)
    edits(registry).proxies.create(hop())
    with sqlite3.connect(place) as source, sqlite3.connect(f"{place}.backup") as backup:
        source.backup(backup)
    source.close()
    backup.close()
    edits(registry).proxies.create(hop("later"))
    for file in path.parent.glob("egress.db*"):
        if file.suffix != ".backup":
            file.unlink()
    for use in (
        registry.revision,
        registry.load,
        lambda: edits(registry).proxies.create(hop("lost")),
    ):
        with pytest.raises(RegistryUnavailable, match="cannot be used: "):
            use()
    assert not path.exists()
    Path(f"{place}.backup").rename(path)
    assert [proxy.name for proxy in registry.load().proxies] == ["dc"]
    assert edits(registry).proxies.create(hop("new")).etag == "2"
    registry.close()


def test_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file/egress.db", "."):
        with pytest.raises(RegistryUnavailable, match="cannot be used: "):
            Registry.open(str(tmp_path / name), KEY)


def test_full_disk_is_told_and_what_was_answered_stays(place: str) -> None:
    registry = Registry.open(":memory:", KEY)
    edits(registry).proxies.create(hop())
    connection = registry._database.engine.raw_connection()
    connection.cursor().execute("PRAGMA max_page_count=30")
    connection.close()

    def fill() -> None:
        with registry.edit() as edit:
            for number in range(1000):
                edit.proxies.create(hop(f"p{number}", notes="n" * 1000))

    with pytest.raises(RegistryUnavailable, match="database or disk is full"):
        fill()
    assert [proxy.name for proxy in registry.load().proxies] == ["dc"]
    assert registry.revision() == 1
    registry.close()


def test_database_that_stays_locked_is_told(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_BUSY_SECONDS", 0.1)
    registry = Registry.open(place, KEY)
    with sqlite3.connect(place, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailable, match="database is locked"):
            edits(registry).proxies.create(hop())
        assert registry.load().proxies == ()  # reading goes on
        other.execute("ROLLBACK")
    other.close()
    edits(registry).proxies.create(hop())
    registry.close()


_WRITER = """
import sys
from egress_policy.registry.registry import Registry
from tests.helpers.registry import edits
registry = Registry.open(sys.argv[1], bytes.fromhex(sys.argv[2]))
made = None
for number in range(1_000_000):
    if made and number % 3 == 2:
        edits(registry).proxies.update(made.id, {"notes": "changed"})
        print("changed", made.id, flush=True)
    else:
        made = edits(registry).proxies.create({"name": f"{sys.argv[3]}-{number}", "host": "h"})
        print("made", made.id, flush=True)
"""


def test_nothing_that_was_answered_is_lost_when_the_process_is_killed(place: str) -> None:
    random, answered = Random(), list[list[str]]()
    source = Path(egress_policy.__file__).parents[1]
    for life in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, place, KEY.hex(), str(life)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        assert writer.stdout
        read = [writer.stdout.readline() for _ in range(random.randrange(1, 60))]
        writer.kill()
        read += writer.stdout.readlines()  # answered before it was killed, but not yet heard
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        answered += [line.split() for line in read if line.endswith("\n")]
        registry = Registry.open(place, KEY)
        kept = {proxy.id: proxy for proxy in registry.load().proxies}
        registry.close()
        assert {id_ for _, id_ in answered} <= kept.keys()
        assert all(kept[id_].raw["notes"] for what, id_ in answered if what == "changed")
        assert all(proxy.proxy for proxy in kept.values())


def test_state_since_one_that_a_backup_replaced_is_the_whole_state(
    place: str, tmp_path: Path
) -> None:
    registry = Registry.open(place, KEY)
    made = edits(registry).proxies.create(hop())
    with (
        contextlib.closing(sqlite3.connect(place)) as file,
        contextlib.closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
    ):
        file.backup(backup)
        edits(registry).proxies.update(made.id, {"family": "ipv6"})
        since = registry.load()
        backup.backup(file)
    edits(registry).proxies.update(made.id, {"family": "ipv4"})
    assert registry.load().proxies[0].etag == since.proxies[0].etag
    assert registry.load(since) == registry.load()
    registry.close()
