"""One change of many proxies, made in one transaction and put in force once.

A proxy that cannot be changed is reported and does not stop the others.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..errors import EgressError, InvalidEntry, NotFound, ReadOnly
from ..sentence import Sentence
from .kind import Fields, require_own
from .proxies import Proxies
from .upkeep import Upkeep
from .views import Spoken, View

if TYPE_CHECKING:
    from ..registry.registry import Edit

MOST: Final = 20_000
"""How many proxies one change may be about."""
_PATIENCE: Final = 120.0
"""Seconds for the change: others are answered that it is in their way."""


@dataclass(frozen=True, slots=True)
class BulkEdit:
    """What is done to each proxy: what changes, or that it is deleted. ``force`` also deletes what
    is in use."""

    changes: Fields = field(default_factory=dict)
    add_tags: Sequence[str] = ()
    remove_tags: Sequence[str] = ()
    delete: bool = False
    force: bool = False


class BulkFailure(Spoken):
    """A proxy that was not changed; ``code`` and ``message`` are those of the error."""

    id: str
    name: str
    code: str
    message: str


class BulkReport(View):
    """``done`` counts the proxies that were changed or deleted."""

    done: int
    failed: tuple[BulkFailure, ...] = ()


class Bulk:
    def __init__(self, upkeep: Upkeep, proxies: Proxies) -> None:
        self._upkeep = upkeep
        self._proxies = proxies

    async def edit(self, keys: Sequence[str], edit: BulkEdit) -> BulkReport:
        """Change or delete the proxies of these ids or names, each once.

        Raises the errors of ``Upkeep.change``, and ``InvalidEntry`` for an edit that says nothing
        or contradicts itself.
        """
        has_tags = bool(edit.add_tags or edit.remove_tags)
        if (bool(edit.changes) or has_tags) == edit.delete:
            raise InvalidEntry(
                Sentence("bulk_either", "say either what changes or that it is deleted"), "changes"
            )
        if has_tags and "tags" in edit.changes:
            raise InvalidEntry(
                Sentence("bulk_tags", "set all tags, or add and remove some: not both"), "changes"
            )
        if edit.force and not edit.delete:
            raise InvalidEntry(Sentence("bulk_force", "force is for what is deleted"), "force")
        failed: list[BulkFailure] = []
        own: dict[str, str] = {}
        await asyncio.to_thread(self._proxies.rows)
        for key in dict.fromkeys(keys):
            name = key
            try:
                row = self._proxies.row(key)
                name = row.name
                require_own(row)
            except (NotFound, ReadOnly) as error:
                failed.append(_failure(key, name, error))
            else:
                own[row.id] = name
        wrong: dict[str, EgressError] = {}
        if own:
            wrong = await self._upkeep.change(lambda all_: _apply(all_, [*own], edit), _PATIENCE)
        failed += [_failure(id_, own[id_], error) for id_, error in wrong.items()]
        return BulkReport(done=len(own) - len(wrong), failed=tuple(failed))


def _apply(edits: "Edit", ids: list[str], edit: BulkEdit) -> dict[str, EgressError]:
    """The errors of those that stay as they are, by their ids."""
    with edits.many_proxies() as proxies:
        if edit.delete:
            return proxies.delete_all(ids, force=edit.force)
        remove = [tag.strip().lower() for tag in edit.remove_tags]
        return proxies.change_all(ids, edit.changes, edit.add_tags, remove)


def _failure(id_: str, name: str, error: EgressError) -> BulkFailure:
    return BulkFailure(id=id_, name=name, code=error.code, message=error.text)
