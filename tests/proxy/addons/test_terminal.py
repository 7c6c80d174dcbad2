"""The login link at the start: at a terminal, for once, and in no other log."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.addons.termlog import TermLog

from egress_policy import default_addons
from tests.helpers.clients import plain_client
from tests.helpers.mitm import Mitm


class Terminal(io.StringIO):
    def __init__(self, is_terminal: bool = True) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


async def started(folder: Path, out: Terminal, **options: Any) -> tuple[str, str, str]:
    """The word of the link that was shown, what a login by it was answered, and all other logs."""
    termlog = TermLog(out)
    try:
        async with Mitm(
            folder / "conf",
            termlog,
            *default_addons(),
            egress_listen="127.0.0.1:0",
            egress_token_file=str(folder / "token"),
            **options,
        ) as mitm:
            found = re.search(r"Log in .*: (http://127\.0\.0\.1:\d+/)#([\w-]{40,})", out.getvalue())
            if found is None:
                return "", "", mitm.text
            async with plain_client() as client:
                path = f"{found[1]}api/v1/session"
                answers = [await client.post(path, json={"link": found[2]}) for _ in range(2)]
            return found[2], " ".join(str(one.status_code) for one in answers), mitm.text
    finally:
        termlog.uninstall()


async def test_link_at_a_terminal_opens_one_session_and_is_in_no_log(tmp_path: Path) -> None:
    word, answers, logs = await started(tmp_path, Terminal())
    assert answers == "200 401"
    assert "API and page" in logs
    assert word not in logs


@pytest.mark.parametrize(
    ("is_terminal", "options"), [(False, {}), (True, {"termlog_verbosity": "warn"})]
)
async def test_no_link_in_a_file_or_where_little_is_to_be_said(
    tmp_path: Path, is_terminal: bool, options: dict[str, str]
) -> None:
    out = Terminal(is_terminal)
    word, _, _ = await started(tmp_path, out, **options)
    assert not word
    assert "#" not in out.getvalue()
