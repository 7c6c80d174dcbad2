"""The echo of one's own as a command: what it says at the start, and how it ends."""

import errno
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from egress_policy.cli import main
from tests.helpers.shell import Capture


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    words = ["echo", "--listen", "127.0.0.1:0", "--confdir", str(folder), *more]
    command = [sys.executable, "-m", "egress_policy.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_what_the_settings_need_answers_and_ends_well(
    tmp_path: Path, ending: signal.Signals
) -> None:
    with start(tmp_path) as running:
        assert running.stdout
        said = [running.stdout.readline() for _ in range(5)]
        url = said[2].split()[-1]
        assert said[2] == f"  egress-policy settings --set-echo-ipv4 {url}\n"
        assert str(tmp_path / "egress-echo-key") in said[0]
        with urllib.request.urlopen(f"{url}?nonce={'n' * 20}", timeout=10) as answer:
            found = json.load(answer)
        assert (found["ip"], found["nonce"]) == ("127.0.0.1", "n" * 20)
        running.send_signal(ending)
        assert running.wait(10) == 0
    assert (tmp_path / "egress-echo-key").stat().st_mode & 0o777 == 0o600


def test_in_json_it_says_the_same(tmp_path: Path) -> None:
    key = tmp_path / "my-key"
    with start(tmp_path, "--json", "--key-file", str(key)) as running:
        assert running.stdout
        lines = iter(running.stdout.readline, "}\n")
        said = json.loads("".join([*lines, "}"]))
        running.terminate()
        assert running.wait(10) == 0
    assert said["key_file"] == str(key)
    assert said["ipv4"] == f"http://{said['listen']}/"
    assert said["ipv6"] is None


def failed(capsys: Capture, folder: Path, *words: str) -> str:
    assert main(["echo", "--confdir", str(folder), *words]) == 1
    return capsys.readouterr().err


def test_what_keeps_it_from_running_is_said(tmp_path: Path, capsys: Capture) -> None:
    assert "--listen: 'x' is no address" in failed(capsys, tmp_path, "--listen", "x")
    taken = failed(capsys, tmp_path, "--listen", "192.0.2.1:0")
    assert f"--listen: cannot listen at 192.0.2.1:0: {os.strerror(errno.EADDRNOTAVAIL)}\n" in taken
    (tmp_path / "egress-echo-key").chmod(0o644)
    assert "mode 0600" in failed(capsys, tmp_path, "--listen", "127.0.0.1:0")
