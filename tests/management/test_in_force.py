import asyncio
import contextlib
import json
import logging
import resource
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import Conflict, InvalidEntry, RegistryDown, RegistryUnavailable
from egress_policy.management.file_source import FileContent
from egress_policy.management.management import Management
from egress_policy.management.writes import MadeOnly, NotMade
from egress_policy.model.decision import Target
from egress_policy.model.settings import Settings, parse_settings
from egress_policy.policy.engine import decide
from egress_policy.registry.registry import Edit, Registry
from egress_policy.registry.secrets import load_key
from tests.helpers.management import KEY, hop, managed
from tests.helpers.registry import edits


def outcome(management: Management, host: str = "x.test") -> str:
    decided = decide(management.router.snapshot, Target(host, 443, "127.0.0.1"))
    return decided.members[0].name if decided.members else decided.outcome


async def until(management: Management, true: Callable[[], object]) -> None:
    """Wait for a change of the snapshot to make it true."""
    changed = asyncio.Event()
    management.in_force.on_change = changed.set
    async with asyncio.timeout(20):
        while not true():
            await changed.wait()
            changed.clear()


async def test_nothing_is_in_force_before_it_is_configured_and_after_it_stopped(
    tmp_path: Path,
) -> None:
    async with managed(tmp_path) as management:
        assert outcome(management) == "direct"
    assert outcome(management) == "refuse"
    assert management.status().problem == "the egress policy is not configured"


async def test_change_is_in_force_when_it_is_answered(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.upkeep.change(lambda edit: edit.proxies.create(hop()))
        await management.upkeep.change(lambda edit: edit.rules.create({"use": "one"}))
        assert outcome(management) == "one"
        assert stat.S_IMODE((tmp_path / "egress.db").stat().st_mode) == 0o600


async def test_change_that_is_rejected_changes_nothing(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        before = management.router.snapshot
        with pytest.raises(InvalidEntry, match="host"):
            await management.upkeep.change(lambda edit: edit.proxies.create(hop(host="a/b")))
        assert management.router.snapshot is before


async def test_change_of_somebody_else_comes_in_by_itself(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        other = Registry.open(str(tmp_path / "egress.db"), load_key(tmp_path, KEY))
        edits(other).settings.put({"default": "refuse"})
        await until(management, lambda: outcome(management) == "refuse")
        other.close()


async def test_two_who_edit_the_same_entry_do_not_overwrite_each_other(tmp_path: Path) -> None:
    async with managed(tmp_path) as one, managed(tmp_path) as two:
        made = await one.proxies.create(hop())
        await until(two, lambda: "one" in two.router.snapshot.proxies)
        await one.proxies.update(made.id, {"port": 1}, made.etag)
        with pytest.raises(Conflict):
            await two.proxies.update(made.id, {"port": 2}, made.etag)
        assert one.proxies.show("one").port == 1


async def test_edit_of_the_file_keeps_the_registry_in_force(tmp_path: Path) -> None:
    async with managed(tmp_path, policy={}) as management:
        await management.proxies.create(hop())
        await management.rules.create({"hosts": ["a.test"], "use": "one"})
        stated = {"version": 1, "rules": [{"hosts": ["b.test"], "use": "refuse"}]}
        (tmp_path / "policy.yaml").write_text(json.dumps(stated))
        await until(management, lambda: outcome(management, "b.test") == "refuse")
        assert outcome(management, "a.test") == "one"


async def test_broken_file_keeps_the_last_good_policy_and_lets_the_registry_change(
    tmp_path: Path,
) -> None:
    async with managed(tmp_path, policy={"default": "refuse"}) as management:
        (tmp_path / "policy.yaml").write_text("version: 2\n")
        assert await management.upkeep.reload()
        assert "version" in management.status().policy.error
        await management.proxies.create(hop())
        await management.rules.create({"hosts": ["a.test"], "use": "one"})
        assert outcome(management, "a.test") == "one"
        assert outcome(management) == "refuse"


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


async def test_edit_that_could_not_be_read_is_not_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with managed(tmp_path, policy={"default": "direct"}) as management:
        await management.upkeep.change(lambda edit: edit.load())  # its thread is there
        (tmp_path / "policy.yaml").write_text('{"version": 1, "default": "refuse"}')
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no file descriptors left
        try:
            async with asyncio.timeout(20):
                while not management.in_force.file_error:
                    await asyncio.sleep(0.05)
            source = management.in_force.opened.file
            assert source.watcher
            for _ in range(3):  # as time does
                await source.watcher.poll()
            assert outcome(management) == "direct"
            assert "Too many open files" in management.in_force.file_error
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(management, lambda: outcome(management) == "refuse")
        assert management.in_force.file_error == ""
    (warning,) = warnings_in(caplog)
    assert "the last good one stays in force; it is tried again" in warning


async def test_password_file_that_is_mended_needs_no_edit_of_the_policy(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    async with managed(tmp_path, policy={"default": "refuse"}) as management:
        exit_ = {"name": "exit", "host": "192.0.2.1", "password_file": "secret"}
        stated = {"version": 1, "proxies": [exit_], "rules": [{"use": "exit"}]}
        (tmp_path / "policy.yaml").write_text(json.dumps(stated))
        assert await management.upkeep.reload()
        assert "password_file: cannot be read" in management.in_force.file_error
        assert outcome(management) == "refuse"
        secret.touch(mode=0o600)
        secret.write_text("s3cret")
        await until(management, lambda: outcome(management) == "exit")


async def test_edit_of_the_file_that_could_not_be_put_in_force_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managed(tmp_path, policy={"default": "direct"}) as management:
        breaks = Breaks(management, monkeypatch)
        (tmp_path / "policy.yaml").write_text('{"version": 1, "default": "refuse"}')
        await breaks.wait()
        async with asyncio.timeout(20):
            while "broken on purpose" not in management.in_force.file_error:
                await asyncio.sleep(0)  # it is said when the attempt has ended
        assert outcome(management) == "direct"
        assert management.in_force.file is not None
        assert management.in_force.file.default == "direct"  # later changes are made of that
        breaks.mend()
        await until(management, lambda: outcome(management) == "refuse")
        assert management.in_force.file_error == ""


async def test_reload_that_could_not_be_put_in_force_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managed(tmp_path, policy={"default": "direct"}) as management:
        breaks = Breaks(management, monkeypatch)
        (tmp_path / "policy.yaml").write_text('{"version": 1, "default": "refuse"}')
        assert await management.upkeep.reload()
        assert outcome(management) == "direct"
        breaks.mend()
        await until(management, lambda: outcome(management) == "refuse")


async def test_slow_reading_of_a_file_blocks_nothing_and_never_replaces_a_later_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managed(tmp_path, policy={"default": "direct"}) as management:
        source = management.in_force.opened.file
        read, slow, go_on = source.read, threading.Event(), threading.Event()

        def read_slowly() -> FileContent:
            content = read()
            if not slow.is_set():
                slow.set()
                assert go_on.wait(20)
            return content

        monkeypatch.setattr(source, "read", read_slowly)
        first = asyncio.create_task(management.upkeep.reload())
        async with asyncio.timeout(20):  # the loop goes on meanwhile
            while not slow.is_set():
                await asyncio.sleep(0)
        (tmp_path / "policy.yaml").write_text('{"version": 1, "default": "refuse"}')
        later = asyncio.create_task(management.upkeep.reload())
        await asyncio.sleep(0)
        go_on.set()
        assert [await first, await later] == ["", ""]
        assert outcome(management) == "refuse"


async def test_change_of_the_registry_that_could_not_be_put_in_force_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managed(tmp_path) as management:
        breaks = Breaks(management, monkeypatch)
        with pytest.raises(MadeOnly, match="the log says more"):
            await management.settings.change({"default": "refuse"})
        assert outcome(management) == "direct"
        breaks.mend()
        await until(management, lambda: outcome(management) == "refuse")


class Breaks:
    """What makes a snapshot fails until it is mended."""

    def __init__(self, management: Management, patch: pytest.MonkeyPatch) -> None:
        self._broken = True
        self._failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        make = management.in_force.make

        def breaks(*given: Any) -> Any:
            if self._broken:
                self._loop.call_soon_threadsafe(self._failed.set)
                raise RuntimeError("broken on purpose")
            return make(*given)

        patch.setattr(management.in_force, "make", breaks)

    async def wait(self) -> None:
        async with asyncio.timeout(20):
            await self._failed.wait()
            await asyncio.sleep(0)

    def mend(self) -> None:
        self._broken = False


async def test_refuse_all_holds_whatever_changes(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        management.in_force.refuse_all("something else is wrong")
        await management.settings.change({"default": "direct"})
        assert outcome(management) == "refuse"
        assert management.status().state == "refusing"


async def test_without_a_registry_changes_say_what_is_missing(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="") as management:
        with pytest.raises(RegistryUnavailable, match="egress_registry is empty"):
            await management.proxies.create(hop())
        assert outcome(management) == "direct"
        assert management.status().registry is None
    assert not (tmp_path / "egress.db").exists()


async def test_database_that_is_lost_leaves_its_last_state_in_force(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.proxies.create(hop())
        await management.rules.create({"use": "one"})
        place, aside = tmp_path / "egress.db", tmp_path / "aside.db"
        place.rename(aside)
        with pytest.raises(RegistryUnavailable):
            await management.proxies.update("one", {"port": 9})
        assert outcome(management) == "one"
        async with asyncio.timeout(20):
            while not management.status().registry or not management.in_force.registry_error:
                await asyncio.sleep(0.05)
        aside.rename(place)
        async with asyncio.timeout(20):
            while management.in_force.registry_error:
                await asyncio.sleep(0.05)
        await management.proxies.update("one", {"port": 9})
        assert management.proxies.show("one").port == 9


async def test_backup_restored_while_the_database_is_lost_comes_in_with_its_later_edits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its revisions are counted anew, so that etags seen before stand for something else."""
    place, aside = tmp_path / "egress.db", tmp_path / "backup.db"
    async with managed(tmp_path) as management:
        await management.proxies.create(hop())
        await management.proxies.create(hop("two", host="two.test", family="ipv6"))
        await management.rules.create({"use": "one"})
        copy_database(place, aside)
        await management.proxies.update("one", {"name": "three"})
        source = management.in_force.opened.registry
        assert source
        with monkeypatch.context() as lost:
            lost.setattr(source.registry, "wait", raises(RegistryDown("lost")))
            async with asyncio.timeout(20):
                while not management.in_force.registry_error:
                    await asyncio.sleep(0.05)
            copy_database(aside, place)
            other = Registry.open(str(place), load_key(tmp_path, KEY))
            one, two = other.load().proxies
            edits(other).proxies.update(one.id, {"family": "ipv4", "name": "four"})
            edits(other).proxies.update(two.id, {"name": "three"})
            other.close()
        await until(management, lambda: outcome(management) == "four")
        assert management.router.snapshot.proxies["four"].family == "ipv4"


def copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as read,
        contextlib.closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written)


def raises(error: Exception) -> Callable[..., Any]:
    def call(*_: object) -> Any:
        raise error

    return call


def settings_of(folder: Path, registry: str) -> Settings:
    return parse_settings({"egress_registry": registry, "egress_hosts_file": ""}, {}, folder)


async def test_registry_that_cannot_be_opened_is_an_error_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    async with managed(tmp_path) as management:
        await management.proxies.create(hop())
        (tmp_path / "copy.db").write_bytes((tmp_path / "egress.db").read_bytes())
        with pytest.raises(RegistryUnavailable, match="another key"):
            management.configure(
                settings_of(tmp_path, str(tmp_path / "copy.db")),
                tmp_path,
                {"EGRESS_KEY": "another key, also long"},
            )
        (tmp_path / "bad.db").write_bytes(b"not a database" * 100)
        with pytest.raises(RegistryUnavailable):
            management.configure(settings_of(tmp_path, str(tmp_path / "bad.db")), tmp_path, KEY)
        await management.proxies.update("one", {"port": 9})
    with contextlib.closing(sqlite3.connect(tmp_path / "egress.db")) as database:
        assert database.execute("SELECT count(*) FROM proxy_registry").fetchone() == (1,)


async def test_another_registry_replaces_the_one_before(tmp_path: Path) -> None:
    async with managed(tmp_path) as management:
        await management.settings.change({"default": "refuse"})
        assert outcome(management) == "refuse"
        management.configure(settings_of(tmp_path, ":memory:"), tmp_path, KEY)
        assert outcome(management) == "direct"
        await management.proxies.create(hop())
        assert management.proxies.show("one").name == "one"


# -- what hangs


async def hang(management: Management, release: threading.Event) -> asyncio.Task[bool]:
    """A change of the registry that goes on until it is released."""
    begun = threading.Event()

    def edit(_: Edit) -> bool:
        begun.set()
        return release.wait(60)

    task = asyncio.create_task(management.upkeep.change(edit))
    async with asyncio.timeout(20):
        while not begun.is_set():
            await asyncio.sleep(0.01)
    return task


async def test_file_waits_for_no_change_of_the_registry(tmp_path: Path) -> None:
    release = threading.Event()
    async with managed(tmp_path, policy={"default": "direct"}) as management:
        hanging = await hang(management, release)
        try:
            (tmp_path / "policy.yaml").write_text('{"version": 1, "default": "refuse"}')
            await until(management, lambda: outcome(management) == "refuse")
            assert not hanging.done()
        finally:
            release.set()
            await hanging


async def test_change_of_the_registry_waits_for_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    async with managed(tmp_path, policy={"default": "direct"}) as management:
        source = management.in_force.opened.file
        read = source.read

        def slow() -> Any:
            loop.call_soon_threadsafe(begun.set)
            release.wait(60)
            return read()

        monkeypatch.setattr(source, "read", slow)
        (tmp_path / "policy.yaml").write_text('{"version": 1, "default": "refuse"}')
        try:
            async with asyncio.timeout(20):
                await begun.wait()
            await management.proxies.create(hop())
            await management.rules.create({"hosts": ["a.test"], "use": "one"})
            assert outcome(management, "a.test") == "one"
        finally:
            release.set()
        await until(management, lambda: outcome(management) == "refuse")
        assert outcome(management, "a.test") == "one"


async def test_what_holds_is_made_of_the_newest_file_and_the_newest_state(tmp_path: Path) -> None:
    """Edits of both at once, each of which is done when it holds: none undoes one before."""
    async with managed(tmp_path, policy={}) as management:
        source = management.in_force.opened.file
        await management.proxies.create(hop())

        async def edit_file(number: int) -> None:
            rule = {"hosts": [f"file-{number}.test"], "use": "refuse"}
            (tmp_path / "policy.yaml").write_text(json.dumps({"version": 1, "rules": [rule]}))
            assert await source.reload()
            assert outcome(management, f"file-{number}.test") == "refuse"

        async def edit_registry(number: int) -> None:
            await management.rules.create({"hosts": [f"r-{number}.test"], "use": "one"})
            assert outcome(management, f"r-{number}.test") == "one"

        async def edit_files() -> None:
            for number in range(20):
                await edit_file(number)
                assert outcome(management, f"file-{number - 1}.test") == "direct"

        await asyncio.gather(edit_files(), *(edit_registry(number) for number in range(20)))
        assert outcome(management, "file-19.test") == "refuse"
        assert all(outcome(management, f"r-{number}.test") == "one" for number in range(20))


async def test_own_change_is_read_back_and_put_in_force_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with managed(tmp_path) as management:
        source, in_force = management.in_force.opened.registry, management.in_force
        assert source
        load, make, counts = source.registry.load, in_force.make, {"load": 0, "make": 0}

        def counted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any) -> Any:
                counts[what] += 1
                return function(*given)

            return call

        monkeypatch.setattr(source.registry, "load", counted("load", load))
        monkeypatch.setattr(in_force, "make", counted("make", make))
        for number in range(1, 4):
            await management.settings.change({"default": "direct"})
            # The follower has had its turn when it waits for the next revision.
            await management.upkeep._catch_up(source.state.revision - 1)
            assert counts == {"load": number, "make": number}
        await asyncio.gather(
            *(management.settings.change({"default": "direct"}) for _ in range(10))
        )
        assert counts["load"] <= 6


async def test_changes_behind_a_hanging_change_raise_not_made(
    tmp_path: Path,
) -> None:
    release = threading.Event()
    async with managed(tmp_path) as management:
        hanging = await hang(management, release)
        try:
            with pytest.raises(NotMade, match="this one was not made") as caught:
                await management.upkeep.change(lambda edit: edit.load(), 0.2)
            assert caught.value.retry_after
        finally:
            release.set()
            await hanging


async def test_hanging_registry_is_reported_and_does_not_delay_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr("egress_policy.management.upkeep._CLOSING", 0.1)
    monkeypatch.setattr("egress_policy.management.registry_source.PATIENCE", 0.3)
    async with managed(tmp_path) as management:
        source = management.in_force.opened.registry
        assert source
        monkeypatch.setattr(source.registry, "wait", lambda *_: release.wait(60) and 0)
        async with asyncio.timeout(20):
            while "has not answered for 0.3 s" not in management.in_force.registry_error:
                await asyncio.sleep(0.05)
        assert outcome(management) == "direct"
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 5
    release.set()
    closing = source.threads.finish(lambda: None)
    await asyncio.wrap_future(closing)
