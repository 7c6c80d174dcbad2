"""The demo passes, fails if a row is wrong, and says what it needs."""

import asyncio
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.helpers.clients import plain_client
from tests.lab.demo import CASES, QUESTIONS, Case, Outcome, main, print_table

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
NO_NETWORK = ["unshare", "--map-root-user", "--net"]


async def run(*command: str) -> tuple[int, str]:
    """Exit status and output of a process in the directory in which a user starts it."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_the_demo_shows_the_policy_and_a_table_in_which_all_is_well() -> None:
    status, output = await run(sys.executable, "-m", "tests.lab.demo")
    assert status == 0, output
    assert output.index("default: refuse") < output.index("What happens:")
    table = [line for line in output.splitlines() if line.endswith(("ok", "WRONG"))]
    assert [line.split()[-1] for line in table] == ["ok"] * len(CASES)


async def test_kept_demo_leads_to_the_page_until_ctrl_c() -> None:
    pipe = asyncio.subprocess.PIPE
    words = ["-u", "-m", "tests.lab.demo", "--keep"]
    kept = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT, stdout=pipe)
    try:
        assert kept.stdout
        async for line in kept.stdout:
            if found := re.fullmatch(r" +(http://127\.0\.0\.1:\d+/)#(\S+)\n", line.decode()):
                break
        assert found
        async with plain_client(base_url=found[1]) as client:
            answer = await client.post("/api/v1/session", json={"link": found[2]})
            assert answer.status_code == 200
        kept.send_signal(signal.SIGINT)
        rest, _ = await kept.communicate()
    finally:
        if kept.returncode is None:
            kept.kill()
            await kept.wait()
    assert kept.returncode == 0
    assert rest.decode().endswith("The demo is over.\n")


WRONG = (
    [("another egress", "http://work.test/", Outcome("home", "IPv4", 200))],
    {"office.test A"},
)
UNASKED = ([("as it is", "http://work.test/", Outcome("office", "IPv4", 200))], QUESTIONS)


@pytest.mark.parametrize(("cases", "questions"), [WRONG, UNASKED])
async def test_a_wrong_row_or_an_unasked_question_fails_the_demo(
    cases: list[Case], questions: set[str], capsys: Capture
) -> None:
    assert await main(cases, questions) == 1
    output = capsys.readouterr().out
    assert "Not as it should be!" in output
    assert "listening at" in output  # what mitmdump said, to see why


SEEN = Outcome("home", "IPv6", 503, "proxy_auth")


@pytest.mark.parametrize(
    "wanted",
    [
        Outcome("office", "IPv6", 503, "proxy_auth"),
        Outcome("home", "IPv4", 503, "proxy_auth"),
        Outcome("home", "IPv6", 200, "proxy_auth"),
        Outcome("home", "IPv6", 503, "rule"),
    ],
)
def test_every_part_of_an_outcome_counts(wanted: Outcome, capsys: Capture) -> None:
    rows: list[tuple[Case, Outcome]] = [
        (("x", "http://x/", expected), SEEN) for expected in (SEEN, wanted)
    ]
    assert not print_table(rows)
    _, good, wrong = capsys.readouterr().out.splitlines()
    assert good.endswith("ok")
    assert wrong.endswith("WRONG")


async def test_without_ipv6_on_loopback_it_says_so() -> None:
    if not shutil.which("unshare") or (await run(*NO_NETWORK, "true"))[0]:
        pytest.skip("this user may not make network namespaces")
    status, output = await run(*NO_NETWORK, sys.executable, "-m", "tests.lab.demo")
    assert status == 2
    assert "The demo needs IPv6 on loopback" in output
    assert "Traceback" not in output
