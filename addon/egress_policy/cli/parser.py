"""The tree of commands."""

import argparse

from ..version import VERSION


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="egress-policy",
        description="By which egress does a flow leave mitmproxy? Keep the registry, check "
        "policies, ask them. What is changed here holds in a running mitmproxy within two seconds.",
    )
    root.add_argument("--version", action="version", version=VERSION)
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    from .asking import add_asking
    from .completion import add_completion
    from .doctor import add_doctor

    add_asking(commands)
    from .entries import add_assign, add_pools, add_proxies, add_rules, add_settings
    from .transfer import add_transfer

    for add in (add_proxies, add_pools, add_rules, add_assign, add_settings, add_transfer):
        add(commands)
    add_doctor(commands)
    add_completion(commands, root)
    return root
