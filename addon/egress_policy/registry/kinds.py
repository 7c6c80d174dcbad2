"""The kinds of entries there are, and all of them at one moment."""

from types import MappingProxyType
from typing import Any, Final

from .assignments import AssignmentTable
from .database import read_revision
from .pools import PoolTable
from .proxies import ProxyTable
from .reading import Reader
from .records import RegistryState
from .rules import RuleTable
from .settings import read_settings
from .subscriptions import SubscriptionTable
from .transaction import Transaction

KINDS: Final[tuple[type[Reader[Any]], ...]] = (
    ProxyTable,
    PoolTable,
    RuleTable,
    AssignmentTable,
    SubscriptionTable,
)


def tables(transaction: Transaction) -> dict[str, Reader[Any]]:
    """One of each kind, by their plurals."""
    return {kind.plural: kind(transaction) for kind in KINDS}


def read_state(transaction: Transaction, since: RegistryState | None) -> RegistryState:
    """All that the transaction sees. What has the etag that it has in ``since`` is taken from
    there, neither read nor checked again."""
    revision = read_revision(transaction.connection)  # first: it says whether it knows the tables
    known = since.entries if since else {}
    entries = {
        plural: tuple(table.all(known.get(plural, ())))
        for plural, table in tables(transaction).items()
    }
    settings = MappingProxyType(read_settings(transaction.connection))
    return RegistryState(revision, MappingProxyType(entries), settings)
