"""mitmdump with a policy as a process, and the flows that it saved."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mitmproxy import flow, http, io

from tests.helpers.mitm import Mitmdump
from tests.helpers.scene import write_policy


class EgressMitmdump(Mitmdump):
    """mitmdump with the addon; ``prefix`` is a command that starts the command after it."""

    def __init__(self, confdir: Path, *args: str, prefix: Sequence[str] = (), **options: Any):
        super().__init__(confdir, *args, **options)
        self._command = [*prefix, *self._command]

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        if exc[0] is None:
            assert "Traceback" not in self.output, _tracebacks(self.output)

    @property
    def proxy(self) -> tuple[str, ...]:
        """The arguments that send curl through it."""
        return "-x", f"http://127.0.0.1:{self.port}", "--cacert", str(self.ca_cert)


def _tracebacks(output: str) -> str:
    """The log records with a traceback, without the thousands that have none."""
    records = re.split(r"(?m)^(?=\[\d\d:\d\d:\d\d)", output)
    return "".join(record for record in records if "Traceback" in record)


def egress(
    folder: Path,
    *args: str,
    policy: Mapping[str, Any],
    hosts: Mapping[str, Sequence[str]] | None = None,
    dns: int | None = None,
    prefix: Sequence[str] = (),
    **options: object,
) -> EgressMitmdump:
    """Not yet started. ``hosts`` become its hosts file, ``dns`` is the port of its nameserver."""
    hosts_file = folder / "egress-hosts"
    hosts_file.write_text(
        "".join(f"{ip} {name}\n" for name, ips in (hosts or {}).items() for ip in ips)
    )
    if dns:
        options["egress_dns"] = f"127.0.0.1:{dns}"
    return EgressMitmdump(
        folder / "conf",
        *args,
        prefix=prefix,
        egress_policy=write_policy(folder / "policy.yaml", **policy),
        egress_hosts_file=hosts_file if hosts else "",
        **options,
    )


def read_flows(path: Path) -> list[flow.Flow]:
    """All flows of a file that ``-w`` wrote."""
    with path.open("rb") as file:
        return list(io.FlowReader(file).stream())


def read_http(path: Path) -> list[http.HTTPFlow]:
    return [one for one in read_flows(path) if isinstance(one, http.HTTPFlow)]
