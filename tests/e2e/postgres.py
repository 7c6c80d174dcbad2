"""PostgreSQL as a child process, on a temporary data directory."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg

from tests.e2e.programs import IPV4
from tests.e2e.system import Program, find, unavailable
from tests.helpers.ports import free_port

USER, PASSWORD = "egress", "s3cret:p@ss"
_ACCOUNT = "postgres"
"""The user who runs the server if root runs the tests, because it refuses root."""


class Postgres(Program):
    """Its only user is ``USER``. It may be entered again after its end: the data stay."""

    _names = count(1)

    def url(self, database: str = "postgres") -> str:
        """The value for the option ``egress_registry``."""
        user = f"{USER}:{quote(PASSWORD, safe='')}"
        return f"postgresql+psycopg://{user}@{self.host}:{self.port}/{database}"

    def new_database(self, copied: str = "template1") -> str:
        """The URL of a new database: empty, or a copy of another one without connections."""
        name = f"egress{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {copied}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Run one statement, apart from all code under test."""
        plain = self.url().replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop its processes: the kernel accepts connections, and none is answered."""
        leader = self._process.pid
        os.kill(leader, signal.SIGSTOP)  # it makes no more children
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        pids = [leader, *map(int, children)]
        try:
            for pid in pids[1:]:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in reversed(pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def locked(self, database: str, table: str) -> Iterator[None]:
        """Lock the table of a database, given by the end of its URL."""
        plain = self.url(database).replace("+psycopg", "")
        with psycopg.connect(plain) as connection:
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            yield

    async def _listening(self) -> None:
        """The server accepts connections before it answers them."""
        await super()._listening()
        while True:
            try:
                return self.execute("SELECT 1")
            except psycopg.OperationalError:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[Postgres]:
    """A server that accepts connections; its log is in ``folder``."""
    server, initdb = _find("postgres"), _find("initdb")
    # The account cannot look into the test's own folder.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        home = Path(name)
        (home / "password").write_text(PASSWORD)
        prefix = _as_account(home)
        create = [*prefix, initdb, "-D", f"{home}/data", "-U", USER, "--locale=C", "-E", "UTF8"]
        create += ["--auth=scram-sha-256", f"--pwfile={home}/password", "--no-sync"]
        made = subprocess.run(create, check=False, capture_output=True, text=True, cwd=home)
        assert made.returncode == 0, made.stderr
        port = free_port()
        command = [*prefix, server, "-D", f"{home}/data", "-p", str(port), "-h", IPV4]
        command += ["-k", str(home), "-c", "fsync=off"]
        async with Postgres(folder / "postgres.log", command, port, stop=signal.SIGINT) as running:
            yield running


def _find(program: str) -> str:
    """Debian installs versions side by side; this is the newest."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    return find(program, *(str(folder) for folder in reversed(folders)))


def _as_account(home: Path) -> list[str]:
    """The prefix of a command that must not run as root; ``home`` is given to its user."""
    if os.geteuid() != 0:
        return []
    try:
        account = pwd.getpwnam(_ACCOUNT)
    except KeyError:
        unavailable(f"there is no account {_ACCOUNT}, and root cannot run PostgreSQL")
    for path in (home, *home.iterdir()):
        shutil.chown(path, account.pw_uid, account.pw_gid)
    ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
    return [find("setpriv"), *ids, "--clear-groups"]
