"""mitmproxy in a program of one's own, with the policy in it; prints what became of each request.

python examples/embed.py examples/direct_ipv6_only.yaml 8080
"""

import asyncio
import logging
import sys

from mitmproxy.http import HTTPFlow
from mitmproxy.options import Options
from mitmproxy.tools.dump import DumpMaster

import egress_policy


class Report:
    def response(self, flow: HTTPFlow) -> None:
        found = {key: value for key, value in flow.metadata.items() if key.startswith("egress.")}
        print(flow.request.pretty_url, found, flush=True)


async def main(policy: str, port: str) -> None:
    logging.getLogger().setLevel(logging.INFO)
    master = DumpMaster(Options(listen_host="127.0.0.1", listen_port=int(port)), with_dumper=False)
    master.addons.add(*egress_policy.default_addons(), Report())
    master.options.update(egress_policy=policy, egress_listen="")
    await master.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
