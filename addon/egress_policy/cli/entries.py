"""The verbs that kinds of entries share, made from a description of each kind."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import isawaitable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import click

from ..errors import EgressError
from .command import Group, examples
from .hints import hint
from .names import ALL, Name
from .output import plain, problem_of, say, say_fields, say_json, say_problem, say_table
from .session import Session, with_session

if TYPE_CHECKING:
    from .running import Asked

type Option = Callable[[Any], Any]
"""A decorator of click."""
type Given = dict[str, Any]
"""Options that were given, under the names of the entry's fields."""
type Done = Sequence[tuple[str, Any]]
"""Names, and what came of each."""


def given(options: Given) -> Given:
    return {name: value for name, value in options.items() if value not in (None, ())}


def answer(session: Session, view: Any) -> int:
    """Show one entry."""
    (say_json if session.json else say_fields)(view)
    return 0


class EntryGroup(Group):
    """A subclass describes a kind of entries; its docstring is the help."""

    plural: ClassVar[str]
    names: ClassVar[tuple[str, str]]
    """For the examples, as ``add_example`` and ``edit_example`` are."""
    columns: ClassVar[str]
    """The attributes in a list; those in ``cells`` are worked out."""
    cells: ClassVar[Mapping[str, Callable[[Any], object]]] = {}
    fields: ClassVar[Sequence[Option]]
    """Options of ``add`` and ``edit``; the other lists are for one verb each."""
    list_help: ClassVar[str] = ""
    list_options: ClassVar[Sequence[Option]] = ()
    add_options: ClassVar[Sequence[Option]]
    edit_options: ClassVar[Sequence[Option]] = (
        click.option("--name", metavar="NAME", help="a new name"),
    )
    edit_needs_names: ClassVar[bool] = True
    remove_options: ClassVar[Sequence[Option]] = ()
    add_help: ClassVar[str]
    add_example: ClassVar[str]
    edit_example: ClassVar[str]

    def __init__(self) -> None:
        plural, name = self.plural, shlex.quote(self.names[0])
        lines = (f"{plural} list", f"{plural} show {name}")
        super().__init__(plural, help=self.__doc__, epilog=examples(*lines))
        listed = self.list_help or f"List the {plural}, those of the policy file too."
        self._verb("list", self._list, listed, "", *self.list_options)
        self.each("show", self.show, f"Show {plural}.", ask=Session.read, say=self.say_shown)
        self._verb("add", self._add, self.add_help, self.add_example,
                   *self.add_options, *self.fields)  # fmt: skip
        example = f"{name} {self.edit_example}"
        self._verb("edit", self.edit, "Change the fields that are given.", example,
                   self._keys(required=self.edit_needs_names), *self.edit_options,
                   *self.fields)  # fmt: skip
        self.each("remove", self.delete, f"Delete {plural}.", *self.remove_options,
                  say=_say_removed)  # fmt: skip

    # -- what the verbs do; a kind may do it in another way

    def added(self, options: Given) -> Given:
        """The fields of what is added, from what was given."""
        return given(options)

    def taken(self, options: Given) -> Given:
        """The fields that are changed."""
        return given(options)

    def show(self, asked: "Asked", key: str, _: Given) -> Any:
        return getattr(asked, self.plural).show(key)

    def create(self, asked: "Asked", fields: Given) -> Any:
        return getattr(asked, self.plural).create(fields)

    def update(self, asked: "Asked", key: str, changes: Given) -> Any:
        return getattr(asked, self.plural).update(key, changes)

    async def delete(self, asked: "Asked", key: str, force: Given) -> Given:
        await getattr(asked, self.plural).delete(key, **force)
        return {"success": True}

    def edit(self, session: Session, keys: Sequence[str], **options: Any) -> int:
        """The verb ``edit``."""
        fields = self.taken(options)
        if "name" in fields and len(keys) > 1:
            raise click.UsageError("--name is for one NAME alone")
        update = lambda asked, key: self.update(asked, key, fields)  # noqa: E731
        return each(session, keys, Session.write, update, self._say_changed, self.plural)

    def say_shown(self, done: Done) -> None:
        for number, (_, entry) in enumerate(done):
            if number:
                say()
            self.say_one(entry)

    def say_one(self, entry: Any) -> None:
        say_fields(entry)

    def say_list(self, entries: Iterable[Any]) -> None:
        names = self.columns.split()
        cells = [self.cells.get(name) or attrgetter(name) for name in names]
        rows = ([cell(entry) for cell in cells] for entry in entries)
        say_table([name.upper().replace("_", " ") for name in names], rows)

    # -- the verbs

    def each(
        self,
        verb: str,
        work: Callable[[Any, str, Given], Any],
        summary: str,
        *options: Option,
        taken: Callable[[Given], Given] = given,
        ask: Callable[..., Any] = Session.write,
        say: Callable[[Done], None] | None = None,
        more: str = "",
    ) -> None:
        """A verb that does ``work`` to each of the entries that it is given by name."""

        def do(session: Session, keys: Sequence[str], **options: Any) -> int:
            fields = taken(options)
            changing = self.plural if ask is Session.write else ""
            work_on = lambda asked, key: work(asked, key, fields)  # noqa: E731
            return each(session, keys, ask, work_on, say or self._say_changed, changing)

        one, other = map(shlex.quote, self.names)
        self._verb(verb, do, summary, f"{one} {more or other}", self._keys(), *options)

    def _keys(self, *, required: bool = True) -> Option:
        shown = "NAME..." if required else "[NAME...]"
        name = Name(self.plural)
        return click.argument("keys", nargs=-1, required=required, metavar=shown, type=name)

    def _verb(
        self, verb: str, do: Callable[..., int], summary: str, example: str, *options: Option
    ) -> None:
        command: Any = with_session(do)
        for option in reversed(options):
            command = option(command)
        epilog = examples(f"{self.plural} {verb} {example}".rstrip())
        self.command(verb, help=summary, epilog=epilog)(command)

    def _list(self, session: Session, **options: Any) -> int:
        listed = session.read(
            lambda asked: getattr(asked, self.plural).list(limit=ALL, **given(options)).items
        )
        (say_json if session.json else self.say_list)(listed)
        return 0

    def _add(self, session: Session, **options: Any) -> int:
        fields = self.added(options)
        made = session.write(lambda asked: self.create(asked, fields))
        (say_json if session.json else self.say_one)(made)
        return 0

    def _say_changed(self, done: Done) -> None:
        if len(done) > 1:
            self.say_list(entry for _, entry in done)
        else:
            self.say_shown(done)


def _say_removed(done: Done) -> None:
    if len(done) > 1:
        say("\n".join(f"{name}: removed" for name, _ in done))


# -- several names


def each(
    session: Session,
    keys: Sequence[str],
    ask: Callable[..., list[Any]],
    work: Callable[[Any, str], Any],
    say_done: Callable[[Done], None],
    changing: str = "",
) -> int:
    """Work on several entries by name, independently of each other, and answer for all.

    ``ask`` is ``Session.read`` or ``Session.write``, ``changing`` the kind that is changed. In JSON
    one name is answered as it is, several as a list, in which what failed is an error with its
    name.
    """
    names = tuple(dict.fromkeys(keys))

    async def outcomes(asked: Any) -> list[Any]:
        if not changing:
            return [await outcome(asked, name, work) for name in names]
        # All are found before the first is changed: a change may give ``#2`` to another rule.
        kind = getattr(asked, changing)
        ids = [await outcome(asked, name, lambda _, name: kind.show(name).id) for name in names]
        return [
            id_ if isinstance(id_, EgressError) else await outcome(asked, id_, work) for id_ in ids
        ]

    found = list(zip(names, ask(session, outcomes), strict=True))
    failed = [(name, one) for name, one in found if isinstance(one, EgressError)]
    if session.json:
        several = len(names) > 1
        answers = [in_json(one, {"name": name} if several else {}) for name, one in found]
        say_json(answers if several else answers[0])
        return 1 if failed else 0
    if done := [one for one in found if one not in failed]:
        say_done(done)
    for name, error in failed:
        say_problem(problem_of(error), as_json=False, about=name)
    return 1 if failed else 0


async def outcome(asked: Any, name: str, work: Callable[[Any, str], Any]) -> Any:
    """What ``work`` comes to, or the ``EgressError`` that it raises."""
    try:
        done = work(asked, name)
        return await done if isawaitable(done) else done
    except EgressError as error:
        hint(error, asked, name)
        return error


def in_json(came_of: Any, about: Given) -> Any:
    """An entry as it is; an error, or the success of a removal, together with ``about``."""
    if isinstance(came_of, EgressError):
        return {**about, **problem_of(came_of)}
    return {**about, **came_of} if came_of == {"success": True} else plain(came_of)
