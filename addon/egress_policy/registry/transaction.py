"""One transaction on the registry: what all that is read or written in it shares."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from ..errors import InvalidEntry
from ..sentence import Sentence
from .records import PolicyFileNames
from .secrets import Cipher
from .validation import require_id


@dataclass(frozen=True, slots=True)
class Transaction:
    """``revision`` and ``now``, in ISO 8601, are those of what is written in it."""

    connection: Connection
    cipher: Cipher
    revision: int = 0
    now: str = ""
    elsewhere: PolicyFileNames = field(default_factory=PolicyFileNames)

    @property
    def stamp(self) -> dict[str, Any]:
        """The columns that say when an entry changed."""
        return {"revision": self.revision, "updated_at": self.now}

    def birth(self, id_: str = "") -> dict[str, Any]:
        """The columns that say who an entry is and when it was made. ``id_`` is by default a new
        UUID."""
        chosen = require_id(id_) if id_ else str(uuid.uuid4())
        return {"id": chosen, "created_at": self.now, **self.stamp}

    def require_filter(self, expression: str) -> None:
        """Raises ``InvalidEntry`` (field "filter") if it is no filter expression."""
        if expression and self.elsewhere.compile_filter:
            try:
                self.elsewhere.compile_filter(expression)
            except (ValueError, RecursionError) as error:
                raise InvalidEntry(
                    Sentence("not_a_filter", "not a filter expression: {why}", why=str(error)),
                    "filter",
                ) from error
