import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.model.proxy import Proxy
from egress_policy.registry.omniroute import ImportedAssignment, Note, import_omniroute
from egress_policy.registry.registry import Registry

# As OmniRoute's migrations 004, 040, 099 and 117 left them.
OLDEST = """
CREATE TABLE proxy_registry (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, host TEXT NOT NULL,
  port INTEGER NOT NULL, username TEXT, password TEXT, region TEXT, notes TEXT,
  status TEXT NOT NULL DEFAULT 'active', created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE TABLE proxy_assignments (
  id INTEGER PRIMARY KEY, proxy_id TEXT NOT NULL REFERENCES proxy_registry(id) ON DELETE RESTRICT,
  scope TEXT NOT NULL, scope_id TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
  UNIQUE(scope, scope_id));
"""
WITH_FAMILY = """
ALTER TABLE proxy_registry ADD COLUMN source TEXT DEFAULT 'manual';
ALTER TABLE proxy_registry ADD COLUMN quality_score INTEGER;
ALTER TABLE proxy_registry ADD COLUMN family TEXT NOT NULL DEFAULT 'auto';
ALTER TABLE proxy_registry ADD COLUMN subscription_id TEXT;
CREATE TABLE upstream_proxy_config (provider_id TEXT UNIQUE, mode TEXT, family TEXT);
"""
NEWEST = """
DROP TABLE proxy_assignments;
CREATE TABLE proxy_assignments (
  id INTEGER PRIMARY KEY, proxy_id TEXT NOT NULL, scope TEXT NOT NULL, scope_id TEXT,
  position INTEGER NOT NULL DEFAULT 0, created_at TEXT, updated_at TEXT,
  UNIQUE(scope, scope_id, proxy_id));
"""


class Storage:
    """A ``storage.sqlite`` to fill."""

    def __init__(self, folder: Path, *schema: str) -> None:
        self.path = folder / "storage #1?.sqlite"
        self._database = sqlite3.connect(self.path)
        for script in schema:
            self._database.executescript(script)

    def proxy(self, id_: str, **columns: object) -> None:
        defaults: dict[str, object] = {"name": id_, "type": "http", "host": "h", "port": 1}
        self._add("proxy_registry", {"id": id_, **defaults, **columns})

    def assign(self, proxy_id: str, scope: str, scope_id: str | None = None) -> None:
        columns: dict[str, object] = {"proxy_id": proxy_id, "scope": scope, "scope_id": scope_id}
        self._add("proxy_assignments", columns)

    def upstream(self, provider: str) -> None:
        self._database.execute(
            "INSERT INTO upstream_proxy_config VALUES (?, 'native', '')", [provider]
        )

    def close(self) -> Path:
        self._database.commit()
        self._database.close()
        return self.path

    def _add(self, table: str, columns: dict[str, object]) -> None:
        columns |= {"created_at": "2026-06-16", "updated_at": "2026-06-16"}
        marks = ", ".join("?" * len(columns))
        self._database.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", [*columns.values()]
        )


def whys(notes: Iterable[Note]) -> dict[str, str]:
    return {note.what: note.why for note in notes}


def test_proxies_of_the_newest_version_are_carried_whole(tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST, WITH_FAMILY, NEWEST)
    whole = {"type": "socks5", "host": "proxy.example.com", "port": 1080, "family": "ipv6"}
    whole |= {"username": "alice", "password": "s3cret", "region": "eu", "notes": "n"}
    storage.proxy("0b7c", name="IPv6 egress", **whole)
    storage.proxy("bare", host=" [2001:db8::1] ", type="HTTPS", status="inactive")
    imported = import_omniroute(storage.close())
    first, second = imported.entries
    assert (first.id, first.proxy) == (
        "0b7c",
        Proxy.model_validate({"name": "IPv6 egress", **whole}),
    )
    assert (second.proxy.host, second.proxy.type) == ("2001:db8::1", "https")
    assert (second.proxy.status, second.proxy.family) == ("inactive", "auto")
    assert (imported.changed, imported.skipped) == ((), ())
    assert "s3cret" not in repr(imported)


def test_version_before_the_family_is_auto(tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST)
    storage.proxy("one")
    [entry] = import_omniroute(storage.close()).entries
    assert entry.proxy == Proxy(name="one", host="h", port=1)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"type": "vercel"}, "there is no proxy type 'vercel' here"),
        ({"type": "socks4"}, "there is no proxy type 'socks4' here"),
        ({"host": "u:s3cret@h"}, "Invalid proxy host"),
        ({"host": "127.1"}, "it reads as a number"),
        ({"host": "192.0.2.1", "family": "ipv6"}, "contradicts IPv4 literal host"),
        ({"family": "IPv6"}, "the stored family 'IPv6' is none of auto, ipv4 and ipv6"),
        ({"port": 0}, "port: "),
        ({"port": "x"}, "port: "),
        ({"type": "socks5", "password": "p"}, "socks5 needs a username"),
        ({"password": "enc:v1:s3cret"}, "encrypted with a key of that system"),
        ({"name": ""}, "name: "),
        ({"notes": "n" * 1001}, "notes: "),
    ],
)
def test_proxy_that_cannot_be_carried_is_told(
    tmp_path: Path, columns: dict[str, object], why: str
) -> None:
    storage = Storage(tmp_path, OLDEST, WITH_FAMILY)
    storage.proxy("bad", **columns)
    storage.proxy("good")
    storage.assign("bad", "global")
    imported = import_omniroute(storage.close())
    assert [entry.id for entry in imported.entries] == ["good"]
    skipped = whys(imported.skipped)
    assert why in skipped["proxy bad"]
    assert skipped["assignment global"] == "its proxy could not be carried"
    assert "s3cret" not in str(imported)


def test_what_is_carried_in_another_way_is_told(tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST, WITH_FAMILY)
    storage.proxy("1", name="dc", status="dead")
    storage.proxy("2", name="dc", subscription_id="s1")
    storage.proxy("3", name="Direct")
    storage.proxy("4", name="dc")
    imported = import_omniroute(storage.close())
    names = [entry.proxy.name for entry in imported.entries]
    assert names == ["dc", "dc (2)", "Direct (2)", "dc (3)"]
    assert imported.entries[0].proxy.status == "inactive"
    assert [note.why for note in imported.changed] == [
        "the status 'dead' is now inactive: it refuses",
        "the name is taken or reserved; it is now dc (2)",
        "its subscription does not update it any more",
        "the name is taken or reserved; it is now Direct (2)",
        "the name is taken or reserved; it is now dc (3)",
    ]


def test_only_the_global_assignment_has_a_counterpart(tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST, WITH_FAMILY)
    storage.proxy("one")
    storage.assign("one", "global", "__global__")
    storage.assign("one", "provider", "openai")
    storage.upstream("codex")
    imported = import_omniroute(storage.close())
    assert imported.assignments == (ImportedAssignment("global", "__global__", "one"),)
    assert whys(imported.skipped) == {
        "assignment provider openai": "there is no such scope here; assign the hosts or clients "
        "that it stands for",
        "table upstream_proxy_config": "its 1 rows have no counterpart here",
    }


def test_scope_with_several_proxies_is_not_narrowed_to_one(tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST, WITH_FAMILY, NEWEST)
    for id_ in ("one", "two"):
        storage.proxy(id_)
        storage.assign(id_, "global", "__global__")
    imported = import_omniroute(storage.close())
    assert imported.assignments == ()
    assert [note.why for note in imported.skipped] == [
        "2 proxies share the scope; make a pool and a rule that uses it"
    ] * 2


def test_entries_go_into_a_registry_as_they_are(tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST)
    storage.proxy("one", username="u", password="s3cret")
    storage.assign("one", "global")
    imported = import_omniroute(storage.close())
    registry = Registry.open(":memory:", b"k" * 32)
    with registry.edit() as edit:
        for entry in imported.entries:
            edit.proxies.create(entry.proxy.model_dump(), entry.id)
        for assigned in imported.assignments:
            edit.assignments.put(assigned.scope, assigned.scope_id, assigned.proxy_id)
    state = registry.load()
    assert [(it.id, it.proxy) for it in state.proxies] == [("one", imported.entries[0].proxy)]
    assert [it.label for it in state.assignments] == ["global:__global__"]
    registry.close()


def test_file_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    storage = Storage(tmp_path, OLDEST)
    storage.proxy("one")
    path = storage.close()
    before = path.read_bytes()
    import_omniroute(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_file_in_use_is_read_as_it_stands(tmp_path: Path) -> None:
    storage = Storage(tmp_path, "PRAGMA journal_mode=WAL", OLDEST)
    storage.proxy("one")
    storage._database.commit()
    storage.proxy("two")
    assert [entry.id for entry in import_omniroute(storage.path).entries] == ["one"]
    storage.close()


def test_file_that_is_no_storage_is_told_and_not_made(tmp_path: Path) -> None:
    missing, text, empty = (tmp_path / name for name in ("missing", "text", "empty"))
    text.write_text("not a database")
    empty.touch()
    for path, why in ((missing, "unable to open"), (text, "not a database"), (empty, "no table")):
        with pytest.raises(InvalidEntry, match=why) as caught:
            import_omniroute(path)
        assert (caught.value.field, str(path) in str(caught.value)) == ("path", True)
    assert not missing.exists()
