"""Many changes of proxies in one transaction: checked as they come, written together at the end.

Thousands of statements, each with its own look-ups, would keep other writers waiting for many
seconds. A batch reads once what the checks need.
"""

from collections.abc import Mapping, Sequence
from itertools import batched
from typing import Final, override

from sqlalchemy import bindparam, delete, insert, select, update

from ..errors import EgressError, InUse, InvalidEntry, NotFound, Usage
from ..model.family import ProxyFamily
from ..model.proxy import Proxy
from ..sentence import Sentence
from .journal import forget
from .named import BLOCK, require_allowed_name
from .proxies import OTHER_FAMILY, ProxyTable, family_clash
from .reading import fetch
from .records import Row
from .schema import assignments, pool_members, pools, rules
from .table import Fields, name_twice
from .transaction import Transaction
from .validation import require_id, require_match

_THIS: Final = "this_id"


class ProxyBatch(ProxyTable):
    """Each change sees the changes before it; the database sees none before ``write``. Nothing in
    it is renamed. An entry that is deleted by force while something names it is marked at once."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self._living = {row["id"]: row for row in fetch(self._connection, self.query)}
        names = select(pools.c.name).where(pools.c.deleted_at.is_(None))
        self._names = {row["name"] for row in self._living.values()}
        self._names.update(self._connection.scalars(names))
        columns = pool_members.c.proxy_id, assignments.c.proxy_id, rules.c.proxy_id
        self._in_use = {
            id_ for one in columns for id_ in self._connection.scalars(select(one).distinct())
        }
        self._added: dict[str, Row] = {}
        self._changed: dict[str, Row] = {}
        self._removed: list[Row] = []

    def write(self) -> None:
        """Make the changes in the database: names that are given up come first."""
        for some in batched(self._removed, BLOCK):
            gone = [row["id"] for row in some]
            self._connection.execute(delete(self.table).where(self.table.c.id.in_(gone)))
            forget(self._connection, *(row["name"] for row in some))
        this = self.table.c.id == bindparam(_THIS)
        changed = ({_THIS: id_, **columns} for id_, columns in self._changed.items())
        for some in batched(changed, BLOCK):
            self._connection.execute(update(self.table).where(this), [*some])
        for some in batched(self._added.values(), BLOCK):
            self._connection.execute(insert(self.table), [*some])

    # -- one change of many

    def change_all(
        self,
        ids: Sequence[str],
        changes: Fields,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
    ) -> dict[str, EgressError]:
        """Change the proxies of these ids alike. Tags are removed and added beside what each has.
        Returns the errors of those that stay as they are, by their ids."""
        failed: dict[str, EgressError] = {}
        able: dict[str, Proxy] = {}
        for id_ in ids:
            try:
                fields = {**self._merge(self.row(id_), changes)}
                tags = fields.get("tags", ())
                if (add_tags or remove_tags) and isinstance(tags, list | tuple):
                    kept = (one for one in tags if one not in remove_tags)
                    fields["tags"] = [*kept, *add_tags]
                able[id_] = self._validate(fields)
            except (InvalidEntry, NotFound) as error:
                failed[id_] = error
        if "family" in changes:
            failed |= self._clashes({id_: value.family for id_, value in able.items()})
        for id_, value in able.items():
            if id_ not in failed:
                columns = self._columns(id_, value, changes)
                self._change(id_, {**columns, **self._transaction.stamp})
        return failed

    def delete_all(self, ids: Sequence[str], *, force: bool = False) -> dict[str, EgressError]:
        """Delete the proxies of these ids. Returns the errors of those that stay, by their ids."""
        failed: dict[str, EgressError] = {}
        for id_ in ids:
            try:
                self.delete(id_, force=force)
            except (InUse, NotFound) as error:
                failed[id_] = error
        return failed

    def _clashes(self, wanted: Mapping[str, ProxyFamily]) -> dict[str, EgressError]:
        """Why some of the proxies cannot get the families that are wanted, by their ids: where one
        member of a pool stays pinned to the other family, none beside it can change."""
        rows = self._connection.execute(select(pool_members.c.pool_id, pool_members.c.proxy_id))
        members: dict[str, list[Row]] = {}
        for pool, id_ in rows:
            if row := self._living.get(id_):
                members.setdefault(pool, []).append(row)
        stuck: dict[str, EgressError] = {}
        before = -1
        while len(stuck) > before:
            before = len(stuck)
            for beside in members.values():
                staying = {
                    row["family"]: row["name"]
                    for row in beside
                    if row["id"] not in wanted or row["id"] in stuck
                }
                for row in beside:
                    other = OTHER_FAMILY.get(wanted.get(row["id"], "auto"))
                    if other and other in staying and row["id"] not in stuck:
                        stuck[row["id"]] = family_clash(staying[other], other)
        return stuck

    # -- what the database would answer

    @override
    def row(self, id_: str, if_match: str | None = None) -> Row:
        row = self._living.get(require_id(id_))
        if row is None:
            raise NotFound(Sentence("no_such_entry", "There is no such {noun}", noun=self.noun))
        require_match(row["revision"], if_match)
        return row

    @override
    def _is_used(self, id_: str) -> bool:
        return id_ in self._living or super()._is_used(id_)

    @override
    def _require_free_name(self, name: str) -> None:
        require_allowed_name(self._transaction, name)
        if name in self._names:
            raise name_twice(name)

    @override
    def _require_family_of_pools(self, id_: str, family: ProxyFamily) -> None:
        if error := self._clashes({id_: family}).get(id_):
            raise error

    @override
    def _usage(self, id_: str) -> Usage:
        return super()._usage(id_) if id_ in self._in_use else Usage()

    # -- the statements, which wait for ``write``

    @override
    def _insert_row(self, row: Row) -> None:
        self._added[row["id"]] = self._living[row["id"]] = row
        self._names.add(row["name"])

    @override
    def _change(self, id_: str, columns: Row) -> None:
        kind = self._added if id_ in self._added else self._changed
        kind[id_] = {**kind.get(id_, {}), **columns}
        self._living[id_] = {**self._living[id_], **columns}

    @override
    def _remove(self, row: Row) -> None:
        if not self._forget(row):
            self._removed.append(row)

    @override
    def _bury(self, id_: str) -> None:
        row = self.row(id_)
        super()._bury(id_)
        self._forget(row)

    def _forget(self, row: Row) -> bool:
        """Whether the database never had it."""
        id_ = row["id"]
        del self._living[id_]
        self._names.discard(row["name"])
        self._changed.pop(id_, None)
        return self._added.pop(id_, None) is not None
