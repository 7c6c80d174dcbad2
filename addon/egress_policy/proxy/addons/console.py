"""Commands for mitmproxy's and mitmweb's prompt."""

from typing import cast

from mitmproxy import command, types
from mitmproxy.exceptions import CommandError

from ...management.management import Management
from .config import EgressConfig
from .manage import EgressManage


class EgressConsole:
    """``egress.status`` and ``egress.reload``."""

    name = "egressconsole"

    def __init__(self, management: Management, config: EgressConfig, manage: EgressManage) -> None:
        self.management = management
        self.config = config
        self.manage = manage

    @command.command("egress.status")
    def status(self) -> types.Data:
        """What is in force: the policy, its default, and what is wrong with the last edit."""
        status, snapshot = self.management.status(), self.management.service.snapshot
        rows = [
            ["state", status.problem or "in force"],
            ["policy", self.config.describe()],
            ["default", snapshot.default],
            ["proxies", ", ".join(snapshot.proxies) or "none"],
            ["last reload", status.policy.error or "good"],
        ]
        return cast(types.Data, [["name", "value"], *rows])

    @command.command("egress.reload")
    def reload(self) -> None:
        """Read the policy file again; a broken one keeps the last good policy in force."""
        if problem := self.config.reload():
            raise CommandError(problem)
