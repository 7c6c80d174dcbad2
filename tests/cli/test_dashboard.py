"""The page of a running mitmproxy: in a browser by a file of one's own, or as a link."""

import asyncio
from pathlib import Path

import pytest

from egress_policy import default_addons
from tests.helpers.clients import plain_client
from tests.helpers.mitm import Mitm
from tests.helpers.shell import Shell


def mitm_on(folder: Path) -> Mitm:
    token = str(folder / "token")
    listen = "127.0.0.1:0"
    return Mitm(folder, *default_addons(), egress_listen=listen, egress_token_file=token)


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("words", [["--print"], [], ["--json"]])
async def test_link_opens_one_session(tmp_path: Path, shell: Shell, words: list[str]) -> None:
    async with mitm_on(tmp_path) as mitm:
        if words == ["--json"]:
            link = (await asyncio.to_thread(shell.json, "dashboard"))["link"]
        else:
            link = (await asyncio.to_thread(shell, "dashboard", *words)).strip()
            assert "once, within 15 minutes" in shell.err
        page, _, word = link.partition("#")
        async with plain_client() as client:
            answers = [
                await client.post(f"{page}api/v1/session", json={"link": word}) for _ in range(2)
            ]
        assert [one.status_code for one in answers] == [200, 401]
        assert word not in mitm.text


async def test_browser_is_sent_to_a_file_that_others_cannot_read(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def browse(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr("webbrowser.open", browse)
    async with mitm_on(tmp_path):
        assert await asyncio.to_thread(shell, "dashboard") == ""
        file = Path(opened[0].removeprefix("file://"))
        assert file.stat().st_mode & 0o077 == 0
        assert "#" in file.read_text()
    assert not file.exists()


async def test_link_is_printed_where_the_browser_cannot_be_opened(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    async with mitm_on(tmp_path):
        assert "/#" in await asyncio.to_thread(shell, "dashboard")


def test_without_a_mitmproxy_it_says_how_to_start_one(shell: Shell) -> None:
    shell("dashboard", status=1)
    assert "make run" in shell.err
