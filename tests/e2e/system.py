"""Programs of the system. A missing program skips the test; each runs as a child and is ended by
pid."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Self

import pytest


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it if everything must be there (EGRESS_E2E_REQUIRED=1)."""
    if os.environ.get("EGRESS_E2E_REQUIRED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def find(name: str, *folders: str) -> str:
    """The path of a program, which need not be on PATH. Skips the test if it is missing."""
    places = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin", *folders]
    return shutil.which(name, path=os.pathsep.join(places)) or unavailable(
        f"{name} is not installed"
    )


def open_sockets(pid: int) -> int:
    """How many sockets a process has open."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found += str(entry.readlink()).startswith("socket:")
    return found


def crypt(password: str) -> str:
    """The form of a password in a shadow or htpasswd file (SHA-512)."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError as error:
        unavailable(f"no library to hash passwords with: {error}")
    library.crypt.restype = ctypes.c_char_p
    hashed: bytes = library.crypt(password.encode(), b"$6$saltofthelab")
    return hashed.decode()


def with_files(files: Mapping[str, Path]) -> list[str]:
    """A command prefix: the command after it sees these files in place of the system's own.

    The mount namespace is private to that process; the system's files stay as they are.
    """
    mount, unshare = find("mount"), find("unshare")
    prefix = [unshare, "--mount"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        unavailable("not permitted to make a mount namespace (needs CAP_SYS_ADMIN)")
    script = "".join(f'"$0" --bind {ours} {theirs} && ' for theirs, ours in files.items())
    return [*prefix, "sh", "-c", script + 'exec "$@"', mount]


class Program:
    """A child process that serves ``host``:``port``; entering waits until it accepts connections.

    ``log`` receives its output, ``folder`` is removed after its end.
    """

    def __init__(
        self,
        log: Path,
        command: Sequence[str],
        port: int,
        host: str = "127.0.0.1",
        *,
        tls_port: int = 0,
        stop: signal.Signals = signal.SIGTERM,
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self.host, self.port, self.tls_port = host, port, tls_port
        self._log, self._command, self._stop, self._folder = log, command, stop, folder
        self._ended = False

    @property
    def output(self) -> str:
        """Its output."""
        return self._log.read_text(errors="replace")

    def url(self, scheme: str) -> str:
        """The URL of an origin, by an IP literal of IPv4."""
        return f"{scheme}://{self.host}:{self.tls_port if scheme == 'https' else self.port}/"

    def behind(self, prefix: Sequence[str]) -> Self:
        """The same program with ``prefix`` before its command: on another host, or with other
        files."""
        self._command = [*prefix, *self._command]
        return self

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(15):
                await self._listening()
        except BaseException:
            await self.end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and all its children."""
        os.killpg(self._process.pid, number)

    async def kill(self) -> None:
        """End it by SIGKILL. It can be entered again."""
        self.signal(signal.SIGKILL)
        await self._process.wait()

    async def end(self) -> None:
        """End it, with any children that outlive it."""
        if self._process.returncode is None:
            self._process.send_signal(self._stop)
        elif self._ended:
            return
        self._ended = True
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._folder:
            self._folder.cleanup()

    async def _listening(self) -> None:
        while True:
            if self._process.returncode is not None:
                raise RuntimeError(f"{self._command[0]} has ended:\n{self.output}")
            try:
                _, writer = await asyncio.open_connection(self.host, self.port)
            except OSError:
                await asyncio.sleep(0.02)  # there is nothing else that tells
                continue
            writer.close()
            await writer.wait_closed()
            return
