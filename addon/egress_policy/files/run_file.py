"""``egress-run.json`` in mitmproxy's folder: where the API of a running mitmproxy listens.

For its owner alone, as the token is: the command line sends the token to the place that it names.
The process that wrote it holds a lock on it, which ends with the process, however that ends.
Several mitmproxy on one folder: the file names the one that began to listen last. When that one
stops the file is gone, and the others cannot be asked.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .secret_file import SecretFileError, read_secret

NAME: Final = "egress-run.json"


class Run(BaseModel):
    """``url`` is the root of the API, at an IP literal; ``token_file`` has the token it takes."""

    model_config = ConfigDict(frozen=True)

    url: str = Field(max_length=200)
    pid: int = Field(gt=0, lt=2**31)
    token_file: Path

    @field_validator("url")
    @classmethod
    def _is_of_an_address(cls, url: str) -> str:
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


def is_run_file_there(folder: Path) -> bool:
    return os.path.lexists(folder / NAME)


def read_run(folder: Path) -> Run | None:
    """What runs on a folder, ``None`` where there is no such file.

    Raises ``SecretFileError`` for a file that is not ours alone, that holds something else, or
    whose process has ended.
    """
    path = folder / NAME
    text = read_secret(path)
    if text is None:
        return None
    try:
        run = Run.model_validate_json(text)
    except ValidationError as error:
        raise SecretFileError(path, "does not say where a mitmproxy listens") from error
    if not (_is_locked(path) and _is_ours(run.pid)):
        raise SecretFileError(
            path, f"was left behind by a mitmproxy that has ended (pid {run.pid})"
        )
    return run


class RunFile:
    """The file as the process that listens keeps it."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._lock = -1

    def write(self, folder: Path, url: str, token_file: Path) -> None:
        """Say where we listen, in the place of whatever the file said. It appears whole, with mode
        0600. Raises ``OSError``."""
        self.remove()
        said = {"url": url, "pid": os.getpid(), "token_file": str(token_file.absolute())}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{NAME}-", dir=folder)  # mode 0600
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, json.dumps(said).encode())
            Path(name).replace(folder / NAME)
        except BaseException:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)
            raise
        self._path, self._lock = folder / NAME, descriptor

    def remove(self) -> None:
        """Take the file away, unless another mitmproxy has replaced it; safe to call again."""
        path, lock = self._path, self._lock
        self._path, self._lock = None, -1
        if path is None:
            return
        try:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), os.fstat(lock)):
                    path.unlink()
        finally:
            os.close(lock)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _is_ours(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:  # gone, or somebody else's
        return False
    return True
