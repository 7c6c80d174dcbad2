"""The curl program as a client."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.system import find


@dataclass(frozen=True)
class Answer:
    """The result of curl. ``status`` is that of a CONNECT which was not answered 200; ``headers``
    are the heads of all answers, including the answer to CONNECT."""

    status: int
    version: str
    headers: str
    body: str

    @property
    def reached(self) -> tuple[int, str, str]:
        """Status, and how ``nginx`` was reached: from which address, in which protocol."""
        if self.status != 200:
            return self.status, self.headers, self.body
        answer = json.loads(self.body)
        return self.status, answer["peer"], answer["protocol"]

    @property
    def refused(self) -> tuple[int, str, str]:
        """Status, code and reason of a refusal."""
        code = re.search(r"(?mi)^x-egress-error: (\w+)", self.headers)
        reason = re.search(r'(?mi)^proxy-status: .*details="(\w+)"', self.headers)
        return self.status, code[1] if code else "", reason[1] if reason else self.headers


async def curl(url: str, *args: str, prefix: Sequence[str] = ()) -> Answer:
    """One request; only ``args`` set a proxy. ``prefix`` is a command that starts curl."""
    written = "\n%{http_code} %{http_version} %{http_connect}"
    command = [find("curl"), "-q", "-sS", "-g", "--max-time", "20", "-D", "/dev/stderr"]
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *command,
        *("-w", written, *args, url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.defpath},
    )
    output, headers = await process.communicate()
    body, _, line = output.decode().rpartition("\n")
    status, version, connect = line.split()
    declined = connect if connect not in ("000", "200") else status
    return Answer(int(declined), version, headers.decode(), body)
