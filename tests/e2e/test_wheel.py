"""The wheel is complete: installed from it, without the checkout, everything works.

pip puts it into an environment that takes the libraries from the environment of the tests; pipx
puts it beside a mitmproxy that it has installed itself, as the README says.
"""

import asyncio
import os
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.helpers.clients import http_get
from tests.helpers.mitm import Mitmdump
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy, LabProxy, Socks5Proxy
from tests.helpers.scene import write_policy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]  # pip may have to fetch the build tool
CHECKOUT = Path(__file__).parents[2]
API = CHECKOUT / "addon/egress_policy/api"


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel. Nothing in it knows where the checkout is."""

    bin: Path
    env: Mapping[str, str]

    @property
    def python(self) -> Path:
        return self.bin / "python"

    async def command_line(self, *args: str) -> str:
        return await run(str(self.bin / "egress-policy"), *args, env=self.env)


async def run(*command: str, env: Mapping[str, str] | None = None) -> str:
    """The standard output of a command, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd="/",
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (command, out.decode(), err.decode())
    return out.decode()


PIP = sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"


async def build(folder: Path) -> str:
    await run(*PIP, "wheel", "--no-deps", "--wheel-dir", str(folder), str(CHECKOUT))
    (wheel,) = folder.glob("*.whl")
    return str(wheel)


async def make_environment(home: Path) -> Installed:
    await run(sys.executable, "-m", "venv", "--without-pip", str(home))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return Installed(home / "bin", env)


async def install_by_pip(folder: Path) -> Installed:
    wheel, installed = await build(folder), await make_environment(folder / "venv")
    python, env = str(installed.python), installed.env
    await run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel)
    # A path that is added like this brings its packages, not those that it refers to in turn: the
    # checkout is one of the latter where it is installed editable.
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path((await run(python, "-c", where, env=env)).strip())
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return installed


async def install_by_pipx(folder: Path) -> Installed:
    wheel, tools = await build(folder), await make_environment(folder / "tools")
    # That of a distribution may be too old to inject a wheel by its path.
    await run(*PIP, "--python", str(tools.python), "install", "pipx>=1.7")
    home = {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin")}
    env = {**tools.env, **home, "PIPX_DEFAULT_PYTHON": sys.executable}
    pipx = str(tools.bin / "pipx")
    await run(pipx, "install", "mitmproxy", env=env)
    await run(pipx, "inject", "--include-apps", "mitmproxy", wheel, env=env)
    return Installed(folder / "pipx" / "venvs" / "mitmproxy" / "bin", env)


@pytest.mark.parametrize("install", [install_by_pip, install_by_pipx])
async def test_the_wheel_brings_all_that_is_needed(
    install: Callable[[Path], Awaitable[Installed]], tmp_path: Path
) -> None:
    installed = await install(tmp_path)
    assert "proxies" in await installed.command_line("--help")
    script = Path((await installed.command_line("script")).strip())
    assert script.is_relative_to(tmp_path)
    async with Origin() as origin, HttpProxy() as http, Socks5Proxy() as socks5:
        by_name: dict[str, LabProxy] = {"http": http, "socks5": socks5}
        policy = write_policy(
            tmp_path / "policy.yaml",
            proxies=[
                {"name": name, "type": name, "host": "127.0.0.1", "port": proxy.port}
                for name, proxy in by_name.items()
            ],
            rules=[{"filter": f"~u /{name}$", "use": name} for name in by_name],
            default="refuse",
        )
        async with Mitmdump(
            tmp_path / "conf",
            script=script,
            python=installed.python,
            env=installed.env,
            egress_policy=policy,
            egress_registry=tmp_path / "egress.db",
            egress_listen="127.0.0.1:0",
            egress_token_file=tmp_path / "token",
        ) as mitm:
            for name, proxy in by_name.items():
                assert (await http_get(mitm.port, origin.url(path=f"/{name}"))).status == 200
                assert len(proxy.requests) == 1
            assert (await http_get(mitm.port, origin.url())).json["reason"] == "default"
            page = (await mitm.wait_for_log(r"page: (http\S+/)"))[1]
            async with httpx.AsyncClient(trust_env=False, base_url=page) as client:
                client.headers["Authorization"] = (
                    f"Bearer {(tmp_path / 'token').read_text()}".strip()
                )
                rule = {"name": "stored", "use": "refuse"}
                stored = await client.post("/api/v1/management/rules", json=rule)
                assert stored.status_code == 201
                served = [
                    str(path.relative_to(API))
                    for folder in ("static", "messages")
                    for path in (API / folder).rglob("*.*")
                    if path.name != "index.html"
                ]
                assert len(served) > 3
                for path in ("", "openapi.json", *served):
                    assert (await client.get(f"/{path}")).status_code == 200, path
