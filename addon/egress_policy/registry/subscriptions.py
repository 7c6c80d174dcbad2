"""The subscriptions of the registry: lists of proxies behind URLs, which are encrypted."""

import json
from typing import Any, Final, override

from sqlalchemy import delete, func, select, update

from ..errors import InvalidEntry
from ..model.subscription import DIRECT, ListSubscription
from ..sentence import Sentence
from .hop import read_json
from .named import find
from .records import Row, StoredSubscription
from .schema import proxy_registry, subscription_fetches, subscriptions
from .table import Fields, Table

MOST: Final = 100
"""Subscriptions that there may be: each is fetched in the background."""


class SubscriptionTable(Table[ListSubscription, StoredSubscription]):
    """Deleting a subscription keeps its proxies. They are then as those that a person entered."""

    noun, plural, model = "subscription", "subscriptions", ListSubscription
    record, table = StoredSubscription, subscriptions

    @override
    def _check(self, value: ListSubscription, fields: Fields, row: Row | None) -> None:
        super()._check(value, fields, row)
        if row is None:
            number = self._connection.execute(select(func.count()).select_from(subscriptions))
            if number.scalar_one() >= MOST:
                raise InvalidEntry(
                    Sentence(
                        "subscriptions_full", "there are {most} subscriptions already", most=MOST
                    ),
                    "name",
                )
        if row is None or value.via != row["via"]:
            self._require_way(value.via)

    def _require_way(self, via: str) -> None:
        if via == DIRECT or via in self._transaction.elsewhere.proxies:
            return
        found = find(self._transaction, via)
        if found is None or found.kind != "proxy":
            raise InvalidEntry(
                Sentence("via_unknown", "there is no such proxy: name one, or direct"), "via"
            )

    @override
    def _columns(self, id_: str, value: ListSubscription, fields: Fields) -> dict[str, Any]:
        columns = super()._columns(id_, value, fields)
        url = self._transaction.cipher.seal(value.url.get_secret_value(), _owner(id_))
        return {**columns, "url": url, "tags": json.dumps(value.tags)}

    @override
    def _fields(self, row: Row) -> dict[str, Any]:
        fields = super()._fields(row)
        try:
            url = self._transaction.cipher.open(fields.get("url"), _owner(row["id"]))
        except InvalidEntry as error:
            raise InvalidEntry(
                Sentence("stored_url", "the stored URL cannot be decrypted; set it again"), "url"
            ) from error
        return {**fields, "url": url, "tags": read_json(row.get("tags"))}

    @override
    def _merge(self, row: Row, changes: Fields) -> Fields:
        # What is replaced may be unreadable.
        replaced = {"url": None} if "url" in changes else {}
        return {**self._fields({**row, **replaced}), **changes}

    @override
    def _remove(self, row: Row) -> None:
        own = proxy_registry.c.subscription_id == row["id"]
        kept = {"subscription_id": None, **self._transaction.stamp}
        self._connection.execute(update(proxy_registry).where(own).values(kept))
        fetched = subscription_fetches.c.subscription == row["id"]
        self._connection.execute(delete(subscription_fetches).where(fetched))
        super()._remove(row)


def _owner(id_: str) -> str:
    return f"subscriptions/{id_}"
