"""``egress-run-….json`` in mitmproxy's folder: which mitmproxy runs, and where its API listens.

The file is readable by its owner alone, like the token, because the command line sends the token to
the address in it. Each process has its own file and holds a lock on it; the lock ends with the
process, even after a crash.
"""

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..files.secret_file import SecretFileError, read_secret

_FILES: Final = "egress-run-*.json"


class Run(BaseModel):
    """``url`` is the root of the API, at an IP literal, or empty without an API. ``token_file``
    holds the token that the API accepts."""

    model_config = ConfigDict(frozen=True)

    url: str = Field(max_length=200)
    pid: int = Field(gt=0, lt=2**31)
    token_file: Path | None = None
    network: str = ""
    """The machine and network namespace in which ``url`` is valid."""

    @field_validator("url")
    @classmethod
    def _is_of_an_address(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url)
        ip_address(parts.hostname or "")
        if parts.scheme != "http" or parts.port is None or parts.username is not None:
            raise ValueError("this is not the URL of a listener")
        return url

    @property
    def address(self) -> tuple[str, int]:
        """IP literal and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0


def read_runs(folder: Path) -> tuple[list[Run], list[SecretFileError]]:
    """The mitmproxy processes of a folder, the latest file first, and faults of other files: those
    that others can write or that hold something else. Files of ended processes are ignored."""
    runs, faults = [], []
    for path in sorted(folder.glob(_FILES), key=_written, reverse=True):
        try:
            if run := _read(path):
                runs.append(run)
        except SecretFileError as error:
            faults.append(error)
    return runs, faults


def _read(path: Path) -> Run | None:
    if _has_ended(path) or (text := read_secret(path)) is None:
        return None
    try:
        run = Run.model_validate_json(text)
    except ValidationError as error:
        raise SecretFileError(path, "does not say where a mitmproxy listens") from error
    if run.network != _network():  # another program may listen there, and would get the token
        raise SecretFileError(path, "belongs to a mitmproxy on another machine or in a container")
    return run


def _written(path: Path) -> int:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0


class RunFile:
    """The file of this process."""

    def __init__(self) -> None:
        self._name = f"egress-run-{secrets.token_hex(4)}.json"
        self._path: Path | None = None
        self._lock = -1

    def write(self, folder: Path, url: str, token_file: Path | None) -> None:
        """Write that this process runs, and where it listens. The file appears whole, with mode
        0600. Files that ended processes left behind are removed. Raises ``OSError``."""
        token = str(token_file.absolute()) if token_file else None
        said = {"url": url, "pid": os.getpid(), "token_file": token, "network": _network()}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob(_FILES):
            if _has_ended(left):
                left.unlink(missing_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{self._name}-", dir=folder)  # mode 0600
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, json.dumps(said).encode())
            Path(name).replace(folder / self._name)
        except BaseException:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)
            self.remove()  # its old content is no longer true
            raise
        before, lock = self._path, self._lock
        self._path, self._lock = folder / self._name, descriptor
        if before:
            if before != self._path:
                before.unlink(missing_ok=True)
            os.close(lock)

    def remove(self) -> None:
        """Remove the file; safe to call again."""
        path, lock = self._path, self._lock
        self._path, self._lock = None, -1
        if path is None:
            return
        try:
            with contextlib.suppress(OSError):
                path.unlink()
        finally:
            os.close(lock)


def _network() -> str:
    """An identifier of machine and network namespace, empty on a system without namespaces."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
    except OSError:
        return ""


def _has_ended(path: Path) -> bool:
    """Whether the process that wrote the file has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
