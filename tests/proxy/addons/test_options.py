"""A change of options applies completely or not at all, whatever rejects it and whenever."""

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from mitmproxy.exceptions import OptionsError

from egress_policy import default_addons
from egress_policy.proxy.addons.api import EgressApi
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.clients import Wire, connect, plain_client
from tests.helpers.mitm import Mitm
from tests.helpers.origin import TcpEcho
from tests.helpers.scene import part, write_policy
from tests.helpers.server import LabServer

GOOD = {
    "egress_policy": "FOLDER/other.yaml",
    "egress_registry": "FOLDER/other.db",
    "egress_default": "refuse",
    "egress_dns": "192.0.2.53",
    "egress_dns_timeout_ms": "100",
    "egress_hosts_file": "FOLDER/hosts",
    "egress_socks5": "false",
    "egress_listen": "127.0.0.2:0",
    "egress_token_file": "FOLDER/other-token",
    "egress_comment": "false",
    "egress_log": "refusals",
    "confdir": "FOLDER/other",
}
BAD = {
    "a policy file that is missing": ("egress_policy", "FOLDER/missing.yaml"),
    "a policy file that is broken": ("egress_policy", "FOLDER/broken.yaml"),
    "a registry of another kind": ("egress_registry", "mysql://host/name"),
    "a registry that cannot be made": ("egress_registry", "/proc/nowhere/egress.db"),
    "a default": ("egress_default", "nope"),
    "a nameserver": ("egress_dns", "no server"),
    "a limit of zero": ("egress_dns_timeout_ms", "0"),
    "a limit that is no number": ("egress_dns_timeout_ms", "soon"),
    "a hosts file of nobody": ("egress_hosts_file", "~nobody-of-this-name/hosts"),
    "a switch": ("egress_socks5", "maybe"),
    "no place to listen": ("egress_listen", "nowhere"),
    "an address of others": ("egress_listen", "192.0.2.1:0"),
    "a port that is taken": ("egress_listen", "TAKEN"),
    "a token that others can read": ("egress_token_file", "FOLDER/open-token"),
    "no token": ("egress_token_file", ""),
    "a comment": ("egress_comment", "maybe"),
    "a log": ("egress_log", "some"),
    "upstream_auth": ("upstream_auth", "user:secret"),
    "an option of an addon before ours": ("stream_large_bodies", "many"),
    "an option of an addon behind ours": ("stickycookie", "~"),
}


@dataclass
class ConfiguredMitm:
    """A mitmproxy with the named options in force, and a tunnel through it."""

    mitm: Mitm
    folder: Path
    taken: LabServer
    tunnel: Wire

    @property
    def config(self) -> EgressConfig:
        config = find(EgressConfig)
        assert config
        return config

    def spec(self, name: str, value: str) -> str:
        value = value.replace("FOLDER", str(self.folder)).replace("TAKEN", self.taken.authority)
        return f"{name}={value}"

    def state(self) -> dict[str, object]:
        """All state in force, by identity where that says more."""
        management, api = self.config.management, part(EgressApi)
        in_force, router = management.in_force, management.router
        return {
            "options": {name: one.current() for name, one in self.mitm.options.items()},
            "settings": management.settings,
            "problem": in_force.problem,
            "snapshot": id(router.snapshot),
            "generation": id(router.generation),
            "policy": id(in_force.policy),
            "file": id(in_force.opened.file),
            "registry": id(in_force.opened.registry),
            "resolver": id(router.resolver),
            "more": (in_force.socks5, in_force.opened.default, in_force.file_error),
            "listener": (id(api._server), management.listening, router.listeners.of_api),
            "tasks": sorted(
                task.get_name()
                for task in asyncio.all_tasks()
                if "egress" in task.get_name() and not task.cancelling()
                # It reads what the registry has beside the policy once, and ends.
                if task.get_name() != "egress recall"
            ),
        }

    async def echoes(self) -> bool:
        await self.tunnel.send(b"ping")
        return await self.tunnel.receive(4) == b"ping"

    async def status(self, token: str = "egress-token") -> dict[str, Any]:
        """The listener's address as the management API reports it now."""
        headers = {"Authorization": f"Bearer {(self.folder / token).read_text().strip()}"}
        url = f"{self.config.management.listening}api/v1/management/status"
        async with plain_client(headers=headers) as client:
            answer = await client.get(url)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found


@asynccontextmanager
async def scene(folder: Path, listen: str = "127.0.0.1:0") -> AsyncIterator[ConfiguredMitm]:
    write_policy(folder / "policy.yaml", rules=[{"name": "first", "use": "direct"}])
    write_policy(folder / "other.yaml", rules=[{"name": "second", "use": "refuse"}])
    (folder / "broken.yaml").write_text("version: 2\n")
    (folder / "open-token").write_text("a token that everybody knows\n")
    options: dict[str, Any] = {
        "egress_policy": str(folder / "policy.yaml"),
        "egress_registry": str(folder / "egress.db"),
        "egress_hosts_file": "",
        "egress_listen": listen,
        "egress_token_file": str(folder / "egress-token"),
    }
    async with (
        TcpEcho() as echo,
        TcpEcho() as taken,
        Mitm(folder / "conf", *default_addons(), **options) as mitm,
        connect(mitm.port, *echo.address) as tunnel,
    ):
        made = ConfiguredMitm(mitm, folder, taken, tunnel)
        assert await made.echoes()
        yield made


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_change_with_one_bad_value_changes_nothing(tmp_path: Path) -> None:
    """Each good value beside each bad one."""
    async with scene(tmp_path) as made:
        before, files = made.state(), []
        for what, (bad, value) in BAD.items():
            for good in GOOD:
                if good == bad:
                    continue
                with pytest.raises(OptionsError):
                    made.mitm.options.set(made.spec(good, GOOD[good]), made.spec(bad, value))
                assert made.state() == before, (what, good)
            assert await made.echoes(), what
            files.append(open_files())
        assert files[-1] == files[0]
        assert (await made.status())["listen"] == made.config.management.listening
        # What is in force is also still kept up to date.
        await made.config.management.settings.change({"default": "refuse"})
        write_policy(tmp_path / "policy.yaml", rules=[{"name": "third", "use": "direct"}])
        await made.mitm.wait_for_log("Egress policy reloaded")
        (rule,) = made.config.management.router.snapshot.rules
        assert rule.rule.name == "third"
        assert await made.echoes()


async def test_all_good_values_are_taken_together_and_back_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        options = made.mitm.options
        old = {name: getattr(options, name) for name in GOOD}
        was = made.config.management.listening
        options.set(*(made.spec(name, value) for name, value in GOOD.items()))
        assert await made.tunnel.closed() == b""  # the new policy refuses it
        management = made.config.management
        assert "127.0.0.2" in management.listening
        assert (await made.status("other-token"))["state"] == "in force"
        assert management.in_force.registry
        assert management.in_force.registry.name.endswith("other.db")
        async with plain_client() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(was)
        options.update(**old)
        assert "127.0.0.1" in management.listening
        assert (await made.status())["state"] == "in force"


async def test_what_is_taken_back_is_as_it_was_also_when_it_could_not_be_read_anew(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as made:
        (tmp_path / "policy.yaml").write_text("version: 2\n")
        await made.mitm.wait_for_log("not reloaded")
        (tmp_path / "egress-token").unlink()
        (tmp_path / "egress.db").rename(tmp_path / "aside.db")
        before = made.state()
        values = [made.spec(name, value) for name, value in GOOD.items()]
        with pytest.raises(OptionsError):
            made.mitm.options.set(*values, "stickycookie=~")
        assert made.state() == before
        assert await made.echoes()


async def test_a_change_that_a_rule_makes_lazy_is_taken_back_with_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        write_policy(tmp_path / "other.yaml", rules=[{"filter": "~m POST", "use": "refuse"}])
        before = made.state()
        with pytest.raises(OptionsError):
            made.mitm.options.set(
                made.spec("egress_policy", GOOD["egress_policy"]), "stickycookie=~"
            )
        assert made.state() == before
        assert made.mitm.options.connection_strategy == "eager"
        assert await made.echoes()


async def test_two_changes_at_once_are_taken_back_one_by_one(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        options, before = made.mitm.options, made.state()
        options.update(egress_default="refuse")
        between = made.state()
        with pytest.raises(OptionsError):
            options.set(made.spec("egress_policy", GOOD["egress_policy"]), "stickycookie=~")
        assert made.state() == between
        options.update(egress_default="direct")
        assert made.state() == before
        assert await made.echoes()


@pytest.mark.parametrize(("first", "second"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
async def test_the_listener_moves_to_another_address_of_its_port(
    tmp_path: Path, first: str, second: str
) -> None:
    async with scene(tmp_path, f"{first}:0") as made:
        _, port = made.config.management.router.listeners.of_api[0]
        with pytest.raises(OptionsError):
            made.mitm.options.set(f"egress_listen={second}:{port}", "stickycookie=~")
        assert made.config.management.router.listeners.of_api == ((first, port),)
        await made.status()
        made.mitm.options.set(f"egress_listen={second}:{port}")
        assert made.config.management.router.listeners.of_api == ((second, port),)
        await made.status()


async def test_a_listener_whose_port_another_has_at_another_address_stays(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        _, port = made.config.management.router.listeners.of_api[0]
        server = await asyncio.start_server(lambda *_: None, "127.0.0.3", port)
        async with server:
            why = f"cannot listen at 0.0.0.0:{port}: {os.strerror(errno.EADDRINUSE)}. Name another"
            with pytest.raises(OptionsError, match=re.escape(why)):
                made.mitm.options.set(f"egress_listen=0.0.0.0:{port}")
        await made.status()


async def test_another_token_is_asked_for_at_the_same_place(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        at = made.config.management.listening
        made.mitm.options.set(made.spec("egress_token_file", GOOD["egress_token_file"]))
        assert made.config.management.listening == at
        await made.status("other-token")
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            await made.status("egress-token")


async def test_an_unexpected_exception_rejects_the_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as made:
        before = made.state()

        def breaks(*_: object, **__: object) -> None:
            raise RuntimeError("broken on purpose")

        monkeypatch.setattr(made.config.management.in_force, "make", breaks)
        with pytest.raises(OptionsError, match="broken on purpose"):
            made.mitm.options.update(egress_default="refuse")
        assert made.state() == before
        assert await made.echoes()
