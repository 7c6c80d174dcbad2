"""Commands for mitmproxy's and mitmweb's prompt."""

from typing import cast

from mitmproxy import command, types
from mitmproxy.exceptions import CommandError

from ...service import EgressService
from .config import EgressConfig


class EgressConsole:
    """``egress.status`` and ``egress.reload``."""

    name = "egressconsole"

    def __init__(self, service: EgressService, config: EgressConfig) -> None:
        self.service = service
        self.config = config

    @command.command("egress.status")
    def status(self) -> types.Data:
        """What is in force: the policy, its default, and what is wrong with the last edit."""
        config, snapshot = self.config, self.service.snapshot
        rows = [
            ["state", config.problem or "in force"],
            ["policy", config.describe()],
            ["default", snapshot.default],
            ["proxies", ", ".join(snapshot.proxies) or "none"],
            ["last reload", config.reload_error or "good"],
        ]
        return cast(types.Data, [["name", "value"], *rows])

    @command.command("egress.reload")
    def reload(self) -> None:
        """Read the policy file again; a broken one keeps the last good policy in force."""
        if not self.config.reload():
            raise CommandError(self.config.reload_error or "egress_policy names no file")
