"""How a registry of an older version becomes one of this, whichever database it lies in."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, Table, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from egress_policy.errors import RegistryUnavailable, WrongKey
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.registry import upgrade
from egress_policy.registry.database import Database
from egress_policy.registry.engines import parse_location
from egress_policy.registry.registry import Registry
from egress_policy.registry.schema import VERSIONS, metadata
from egress_policy.registry.secrets import Cipher
from tests.helpers.registry import KEY, edits
from tests.registry.registry_contract import OTHER_KEY, dump, tamper

CIPHER = Cipher(KEY)
NOW = "2026-06-16T12:00:00.000Z"
ENTRY = {"revision": 1, "created_at": NOW, "updated_at": NOW}
HOP = {
    "type": "socks5",
    "host": "proxy.example.com",
    "port": 1080,
    "username": "alice",
    "plain_http": "forward",
    "region": "eu",
    "notes": "n",
    "status": "active",
}


def make_old(place: str, version: str) -> None:
    """A registry as ``version`` left it: a proxy, a pool, a rule with an inline proxy and one
    without, an assignment and a setting."""
    database = Database(parse_location(place))
    with database.write() as connection:
        upgrade.upgrade(connection, version)
        old = MetaData()
        old.reflect(connection)

        def add(table: str, **columns: object) -> None:
            connection.execute(insert(Table(table, old)), [columns])

        hop: dict[str, Any] = {**HOP, "password": CIPHER.seal("s3cret", "proxy_registry/p")}
        inline = {**HOP, "password": CIPHER.seal("s3cret", "upstream_proxy_config/u")}
        if version >= "0002":
            hop["family"] = inline["family"] = "ipv6"
        pinned = {"name": "", "filter": "", "position": 1}
        add("proxy_registry", id="p", name="dc", **hop, **ENTRY)
        add("upstream_proxy_config", id="u", name="", **inline)
        by = "user" if version >= "0003" else "account"
        pool = {"strategy": "sticky", "sticky_by": by, "sticky_minutes": 30}
        add("pools", id="o", name="homes", **pool, **ENTRY)
        add("pool_members", pool_id="o", position=0, proxy_id="p", name="")
        add("rules", id="r1", upstream_id="u", hosts='["a.example"]', **pinned, **ENTRY)
        add("rules", id="r2", pool_id="o", **{**pinned, "position": 2}, **ENTRY)
        add("assignments", id="a", scope="user", scope_id="bob", proxy_id="p", **ENTRY)
        add("settings", name="default", value="refuse")
        state = update(Table("revision", old)).values(value=1, key_check=CIPHER.make_check())
        connection.execute(state)
    database.close()


def version_of(place: str) -> str:
    database = Database(parse_location(place))
    with database.read() as connection:
        version: str = connection.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalar_one()
    database.close()
    return version


class MigrationContract:
    """``place`` is a fixture of the subclass: where an empty database is."""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_registry_of_every_version_keeps_what_it_held(self, place: str, version: str) -> None:
        make_old(place, version)
        registry = Registry.open(place, KEY)
        state = registry.load()
        family = "ipv6" if version >= "0002" else "auto"
        proxy = Proxy.model_validate({**HOP, "name": "dc", "password": "s3cret", "family": family})
        pool = Pool.model_validate(
            {"name": "homes", "members": ["dc"], "strategy": "sticky", "sticky_by": "user"}
        )
        assert (state.revision, state.settings) == (1, {"default": "refuse"})
        assert [(it.id, it.proxy, it.created_at) for it in state.proxies] == [("p", proxy, NOW)]
        assert [it.pool for it in state.pools] == [pool]
        inline, pooled = (it.rule for it in state.rules)
        assert inline.hosts == ("a.example",)
        assert inline.use == proxy.model_copy(update={"name": "socks5://proxy.example.com:1080"})
        assert pooled.use == "homes"
        assert [(it.label, it.rule.use, it.group) for it in state.assignments] == [
            ("user:bob", "dc", "")
        ]
        assert registry.journal.events() == registry.journal.observations() == []
        assert (state.subscriptions, registry.journal.fetches()) == ((), [])
        assert state.proxies[0].subscription_id == ""
        fields = {"name": "list", "url": "https://list.example/", "via": "dc"}
        id_ = edits(registry).subscriptions.create(fields).id
        edits(registry).proxies.create({"name": "b", "host": "h.example"}, subscription=id_)
        assert [it.subscription_id for it in registry.load().proxies] == [id_, ""]
        assert state.pools[0].raw["sticky_by"] == "user"
        assert state.proxies[0].raw["tags"] == "[]"
        assert edits(registry).proxies.update("p", {"family": "ipv4"}).raw["family"] == "ipv4"
        tagged = edits(registry).proxies.update("p", {"tags": ["eu"]})
        assert tagged.proxy
        assert tagged.proxy.tags == ("eu",)
        registry.close()
        assert version_of(place) == VERSIONS[-1]

    def test_new_registry_and_an_upgraded_one_have_the_tables_of_the_schema(
        self, place: str
    ) -> None:
        make_old(place, VERSIONS[0])
        Registry.open(place, KEY).close()
        database = Database(parse_location(place))
        with database.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        database.close()

    @pytest.mark.parametrize("table", ["proxy_registry", "upstream_proxy_config"])
    @pytest.mark.parametrize("family", ["'IPv6'", "''", "NULL"])
    def test_database_rejects_a_family_that_is_no_directive(
        self, place: str, table: str, family: str
    ) -> None:
        make_old(place, VERSIONS[0])
        Registry.open(place, KEY).close()
        database = Database(parse_location(place))
        with database.engine.connect() as connection, pytest.raises(IntegrityError):
            connection.execute(text(f"UPDATE {table} SET family = {family}"))
        with database.read() as connection:
            query = select(func.count()).select_from(metadata.tables[table])
            pinned = query.where(metadata.tables[table].c.family == "auto")
            assert connection.execute(pinned).scalar_one() == 1
        database.close()

    def test_wrong_key_upgrades_nothing(self, place: str) -> None:
        make_old(place, VERSIONS[0])
        before = dump(place)
        with pytest.raises(WrongKey):
            Registry.open(place, OTHER_KEY)
        assert dump(place) == before
        assert version_of(place) == VERSIONS[0]

    def test_upgrade_that_fails_changes_nothing(
        self, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_old(place, VERSIONS[0])
        before, run = dump(place), upgrade.upgrade

        def fail(*args: Any) -> None:
            run(*args)
            raise ConnectionResetError("in the midst of it")

        monkeypatch.setattr(upgrade, "upgrade", fail)
        with pytest.raises(ConnectionResetError):
            Registry.open(place, KEY)
        assert dump(place) == before

    def test_registry_of_a_newer_version_is_told_and_left_alone(self, place: str) -> None:
        make_old(place, VERSIONS[-1])
        tamper(place, "UPDATE alembic_version SET version_num = '9999_future'")
        before = dump(place)
        with pytest.raises(RegistryUnavailable, match=r"newer version \(9999_future\)"):
            Registry.open(place, KEY)
        assert dump(place) == before

    @pytest.mark.parametrize(
        ("version", "said"), [("9999_future", "newer version"), (VERSIONS[0], "older version")]
    )
    def test_registry_that_becomes_one_of_another_version_is_neither_read_nor_written(
        self, place: str, version: str, said: str
    ) -> None:
        registry = Registry.open(place, KEY)
        edits(registry).proxies.create({"name": "dc", "host": "proxy.example.com"})
        tamper(
            place,
            f"UPDATE alembic_version SET version_num = '{version}'",
            "ALTER TABLE rules RENAME TO rules_of_another_version",
        )
        before = dump(place)
        for use in (
            registry.load,
            registry.revision,
            lambda: registry.wait(1, 5),
            lambda: edits(registry).settings.put({"default": "refuse"}),
        ):
            with pytest.raises(RegistryUnavailable, match=rf"{said} \({version}\)"):
                use()
        assert dump(place) == before
        registry.close()
