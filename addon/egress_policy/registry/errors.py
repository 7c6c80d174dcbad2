"""What the registry can answer instead of doing what it was asked. Imports no database."""

from dataclasses import dataclass

from ..errors import EgressError, InvalidEntry


@dataclass(frozen=True, slots=True)
class Ref:
    """An entry that refers to another: its id, and what people call it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What names an entry. An assignment is called ``scope:scope_id``, a rule without name
    ``#`` and its number from 1."""

    pools: tuple[Ref, ...] = ()
    rules: tuple[Ref, ...] = ()
    assignments: tuple[Ref, ...] = ()

    @property
    def count(self) -> int:
        return len(self.pools) + len(self.rules) + len(self.assignments)


class RegistryError(EgressError):
    """The root of them. ``str()`` is a sentence for people, free of credentials."""

    reason = "registry"
    code = "REGISTRY_ERROR"


class NotFound(RegistryError):
    """There is no such entry (status 404)."""

    status = 404
    code = "NOT_FOUND"


class Conflict(RegistryError):
    """Somebody else was faster: the entry is not the one that the change was made for (412)."""

    status = 412
    code = "CONFLICT"


class ReadOnly(RegistryError):
    """The entry is stated elsewhere, in the policy file (409)."""

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

    ``retry_after`` is in how many seconds it may be worth asking again, ``None`` where something
    else has to be done first.
    """

    code = "REGISTRY_UNAVAILABLE"
    retry_after: int | None = None


class RegistryDown(RegistryUnavailable):
    """The database fails or does not answer; nothing was changed."""

    retry_after = 5


class MaybeMade(RegistryDown):
    """The database has not said whether it made a change. ``str()`` says what to do."""

    code = "MAYBE_MADE"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}. The change may have been made or not: look before you ask for it again"
        )


class WrongKey(RegistryUnavailable):
    """The passwords in this registry were encrypted with another key; nothing was changed."""

    code = "WRONG_KEY"


class InvalidFields(InvalidEntry):
    """All that is wrong with one entry: ``problems`` are pairs of field and message."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(message for _, message in problems), problems[0][0])
        self.problems = problems
