"""The policy file: YAML 1.2 or JSON to a ``Policy``, with errors that name line and key.

``yaml_lines.py`` reads its syntax, ``proxy_fields.py`` its secrets and URLs, and
``policy/consistency.py`` checks what must fit together. Messages never quote a value that may hold
a password.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import FileProblem, InvalidEntry, PolicyFileError
from ..files.stamp import stamp
from ..model.family_urls import FamilyUrls
from ..model.pool import Checks, Member, Pool
from ..model.proxy import Proxy
from ..model.rule import FilterCompiler, Location, Policy, Rule
from ..policy.consistency import find_contradictions
from .proxy_fields import ReadFile, UnreadSecret, complete_proxy, secrets_beside
from .yaml_lines import Document, YamlProblem, parse_yaml

MOMENT: Final = 0.25
"""Seconds for which a file must stay unchanged before it counts as complete."""

_KEYS: Final = ("version", "proxies", "pools", "rules", "default")
_FIELDS: Final = frozenset(
    {*_KEYS, *Proxy.model_fields, *Pool.model_fields, *Rule.model_fields, "file", "yaml"}
    | {*Member.model_fields, *Checks.model_fields, *FamilyUrls.model_fields}
    | {"url", "password_env", "password_file"}
)
_PATIENCE: Final = 1.0
_MESSAGES: Final = {
    "missing": "is required",
    "extra_forbidden": "unknown key",
    "tuple_type": "a list is expected",
    "model_type": "a mapping is expected",
    "string_type": "a text is expected; put it in quotes",
    "string_too_short": "an empty text is not allowed",
    "string_pattern_mismatch": "control characters are not allowed",
}


def load_policy(
    path: Path, compile_filter: FilterCompiler, environ: Mapping[str, str] = os.environ
) -> Policy:
    """Read a policy file. Raises ``PolicyFileError`` for every fault."""
    text = read_policy(path)
    return parse_policy(text, str(path), environ, secrets_beside(path.parent), compile_filter)


def read_policy(
    path: Path,
    moment: float = MOMENT,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """The text of a policy file that is not being written.

    Its size and time must be ``moment`` seconds old when it is read, and unchanged afterwards. The
    caller waits for that, at most a second of ``clock`` longer; ``now`` is the clock of file times.
    Raises ``PolicyFileError``.
    """
    end = clock() + moment + _PATIENCE
    try:
        while True:
            with open(path, "rb", opener=_open) as file:
                before = os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode):
                    raise _unreadable(path, "it is not a regular file", unread=True)
                age = now() - before.st_mtime
                if age < moment:  # negative if the clock of the file system is ahead
                    sleep(min(moment - age, moment))
                data = file.read()
                after = os.fstat(file.fileno())
            if stamp(before) == stamp(after):
                return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
            if clock() >= end:
                raise _unreadable(path, "it is being written", unread=True)
    except OSError as error:
        raise _unreadable(path, error.strerror or "the system does not say why", True) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, "not UTF-8 text") from error


def _open(path: str, flags: int) -> int:
    """Open without waiting for a writer, as a FIFO would."""
    return os.open(path, flags | os.O_NONBLOCK)


def shows_its_end(text: str) -> bool:
    """Whether a truncated copy of the text would look different: its last line is terminated, or it
    is a pair of braces."""
    return text.endswith("\n") or text.lstrip().startswith("{")


def no_end(path: Path, text: str) -> PolicyFileError:
    """The error for a text without its end, if the previous version had one."""
    message = (
        "its last line is not terminated, but was in the previous version, so the file may be "
        "incomplete. If it is complete, end the last line with a newline"
    )
    return PolicyFileError(str(path), [FileProblem(text.count("\n") + 1, "file", message)])


def _unreadable(path: Path, why: str, unread: bool = False) -> PolicyFileError:
    problem = FileProblem(1, "file", f"cannot be read: {why}")
    return PolicyFileError(str(path), [problem], unread=unread)


def parse_policy(
    text: str,
    source: str,
    environ: Mapping[str, str],
    read_file: ReadFile,
    compile_filter: FilterCompiler,
) -> Policy:
    """The policy in ``text``; ``source`` names the file in messages.

    Raises ``PolicyFileError`` with all faults that one pass can find.
    """
    try:
        document = parse_yaml(text)
    except YamlProblem as error:
        problem = FileProblem(error.line, _shown(error.key), str(error))
        raise PolicyFileError(source, [problem]) from error
    parser = _Parser(document, environ, read_file)
    policy = parser.parse(compile_filter)
    if policy is None or parser.problems:
        raise PolicyFileError(source, parser.problems, unread=parser.unread)
    return policy


class _Parser:
    """Collects ``problems`` and goes on with the valid parts."""

    def __init__(self, document: Document, environ: Mapping[str, str], read_file: ReadFile) -> None:
        self.problems: list[FileProblem] = []
        self.unread = False
        self._document = document
        self._environ = environ
        self._read_file = read_file
        self._broken: set[str] = set()

    def parse(self, compile_filter: FilterCompiler) -> Policy | None:
        content = self._document.data
        if not isinstance(content, dict):
            self._report((), "a mapping with `version: 1` is expected")
            return None
        for key in content.keys() - set(_KEYS):
            self._report((key,), f"unknown key, use {', '.join(_KEYS)}")
        version, default = content.get("version"), content.get("default", "direct")
        if type(version) is not int or version != 1:
            self._report(("version",), "must be 1")
        if default not in ("direct", "refuse"):
            self._report(("default",), "must be direct or refuse")
        proxies = self._entries(content, "proxies", Proxy)
        pools = self._entries(content, "pools", Pool)
        rules = self._entries(content, "rules", Rule)
        for found in find_contradictions(proxies, pools, rules, compile_filter, self._broken):
            self._report(*found)
        if self.problems:
            return None
        return Policy(
            proxies=tuple(proxies.values()),
            pools=tuple(pools.values()),
            rules=tuple(rules.values()),
            default=content.get("default"),
        )

    def _entries[M: BaseModel](
        self, content: dict[str, Any], section: str, model: type[M]
    ) -> dict[int, M]:
        entries = content.get(section, [])
        if not isinstance(entries, list):
            self._report((section,), "a list is expected")
            return {}
        good: dict[int, M] = {}
        for index, entry in enumerate(entries):
            problems = len(self.problems)
            completed = self._completed((section, index), entry)
            if len(self.problems) == problems:
                try:
                    good[index] = model.model_validate(completed)
                    continue
                except ValidationError as error:
                    for details in error.errors(include_url=False, include_input=False):
                        self._report_details((section, index), details)
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                self._broken.add(entry["name"].strip())
        return good

    def _completed(self, location: Location, entry: object) -> object:
        if not isinstance(entry, dict):
            return entry
        self._require_pins(location, entry)
        if location[0] == "rules" and isinstance(entry.get("use"), dict):
            return {**entry, "use": self._proxy((*location, "use"), entry["use"])}
        return self._proxy(location, entry) if location[0] == "proxies" else entry

    def _require_pins(self, location: Location, entry: dict[str, Any]) -> None:
        """An empty pin was meant to be filled in, and must not read as no pin."""
        for key in ("family", "target_family", "exit_family"):
            if key in entry and entry[key] is None:
                self._report((*location, key), "is empty; leave out the key for no pin")
        if isinstance(entry.get("use"), dict):
            self._require_pins((*location, "use"), entry["use"])

    def _proxy(self, location: Location, entry: dict[str, Any]) -> dict[str, Any]:
        try:
            return complete_proxy(entry, self._environ, self._read_file)
        except InvalidEntry as error:
            self.unread |= isinstance(error, UnreadSecret)
            self._report((*location, error.field), str(error))
            return entry

    def _report_details(self, location: Location, details: ErrorDetails) -> None:
        inner = details["loc"]
        if inner[:1] == ("use",):
            inner = ("use", *inner[2:])  # the next part is the kind of `use` that was tried
        error = details.get("ctx", {}).get("error")
        if not inner and isinstance(error, InvalidEntry):
            inner = (error.field,)
        message = str(error) if error else _MESSAGES.get(details["type"], details["msg"])
        self._report((*location, *inner), message)

    def _report(self, location: Location, message: str) -> None:
        line = self._document.line(location)
        key = _key_path(_as_written(self._document.data, location))
        self.problems.append(FileProblem(line, key, " ".join(message.split())))


def _as_written(data: Any, location: Location) -> Location:
    """The location, up to a text: a member that is a name alone has no key ``name``."""
    for depth, part in enumerate(location):
        if isinstance(data, str):
            return location[:depth]
        try:
            data = data[part]
        except (LookupError, TypeError):  # what is missing, or no mapping at all
            return location
    return location


def _key_path(location: Location) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in location)
    return "".join(parts).removeprefix(".") or "file"


def _shown(key: str) -> str:
    """The key, or ``?`` if it is unlike every known key: by a slip anything may become a key, even
    a password."""
    is_word = re.fullmatch("[A-Za-z0-9_-]{1,40}", key)
    return key if is_word and get_close_matches(key, _FIELDS, 1) else "?"
