"""The errors of the registry, and what names an entry. Imports no database."""

from dataclasses import dataclass

from ..errors import EgressError, InvalidEntry


@dataclass(frozen=True, slots=True)
class Ref:
    """An entry that names another: its id, and what people call it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What names an entry. An assignment is called ``scope:scope_id``, a rule without a name
    ``#`` and its number from 1."""

    pools: tuple[Ref, ...] = ()
    rules: tuple[Ref, ...] = ()
    assignments: tuple[Ref, ...] = ()

    @property
    def count(self) -> int:
        return len(self.pools) + len(self.rules) + len(self.assignments)


class RegistryError(EgressError):
    """The root of these errors. ``str()`` is a sentence for people, free of credentials."""

    reason = "registry"
    code = "REGISTRY_ERROR"


class NotFound(RegistryError):
    """The entry does not exist (status 404)."""

    status = 404
    code = "NOT_FOUND"


class Conflict(RegistryError):
    """The entry was changed since the caller read it (412)."""

    status = 412
    code = "CONFLICT"


class ReadOnly(RegistryError):
    """The entry lies in the policy file and is changed there (409)."""

    status = 409
    code = "READ_ONLY"


class InUse(RegistryError):
    """The entry cannot be deleted, because ``usage`` names it (409)."""

    status = 409
    code = "IN_USE"

    def __init__(self, message: str, usage: Usage) -> None:
        super().__init__(message)
        self.usage = usage


class RegistryUnavailable(RegistryError):
    """The database cannot be used; nothing was changed (503).

    ``retry_after`` says in how many seconds to try again, ``None`` if something else has to be
    done first.
    """

    code = "REGISTRY_UNAVAILABLE"
    retry_after: int | None = None


class RegistryDown(RegistryUnavailable):
    """The database fails or does not answer; nothing was changed."""

    retry_after = 5


class MaybeMade(RegistryDown):
    """The database did not answer whether it made a change. ``str()`` says what to do."""

    code = "MAYBE_MADE"

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}. The change may have been made or not: look before you repeat it")


class WrongKey(RegistryUnavailable):
    """The registry was made with another key; nothing was changed."""

    code = "WRONG_KEY"


class InvalidFields(InvalidEntry):
    """Every fault of one entry: ``problems`` are pairs of field and message."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(message for _, message in problems), problems[0][0])
        self.problems = problems
