"""Runs the management API beside the proxy, as the options say."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mitmproxy import ctx, exceptions

from ...errors import EgressError, InvalidEntry
from ...log import get_logger
from ...management.management import Management
from ...model.settings import OPTIONS, Listen, parse_settings

if TYPE_CHECKING:
    from ...api.server import ApiServer

logger = get_logger(__name__)


class EgressManage:
    """Starts the API when mitmproxy runs, and again when its options change."""

    name = "egressmanage"

    def __init__(self, management: Management) -> None:
        self.management = management
        self._server: ApiServer | None = None
        self._place: tuple[Listen, Path] | None = None
        self._running = False

    def configure(self, updated: set[str]) -> None:
        if self._running and updated & {"egress_listen", "egress_token_file"}:
            try:
                self._restart()
            except EgressError as error:
                raise exceptions.OptionsError(str(error)) from error

    def running(self) -> None:
        self._running = True
        try:
            self._restart()
        except EgressError as error:
            if self.management.settings is None:
                return  # told already by whoever reads all of the options
            # Logged as an ERROR this ends a mitmproxy that has just started.
            logger.error(str(error))  # noqa: TRY400 (what to do is more use than a traceback)

    def done(self) -> None:
        self._running = False
        self._stop()

    @property
    def link(self) -> str | None:
        """A link to the page that logs in once; ``None`` while nothing listens."""
        return self._server.one_time_link() if self._server else None

    def _restart(self) -> None:
        values = {option.name: getattr(ctx.options, option.name) for option in OPTIONS}
        settings = parse_settings(values, os.environ, Path(ctx.options.confdir).expanduser())
        if settings.listen is None:
            self._stop()
            return
        if settings.token_file is None:
            raise InvalidEntry(
                "egress_token_file: it must name a file, or egress_listen be empty",
                "egress_token_file",
            )
        place = (settings.listen, settings.token_file)
        if place == self._place:
            return
        from ...api.server import ApiServer  # who does not listen needs no web server

        self._stop()
        server = ApiServer(self.management, *place)
        server.start()
        self._server, self._place = server, place
        self.management.listening = server.url
        self.management.service.listeners.of_api = tuple(server.addresses)
        logger.info(f"Egress management API and page: {server.url}")
        if not settings.listen.is_loopback:
            logger.warning(
                f"The egress management API listens on {settings.listen}, which others can reach; "
                "whoever has the token can change by which way traffic leaves"
            )

    def _stop(self) -> None:
        server, self._server, self._place = self._server, None, None
        if server:
            server.stop()
        self.management.listening = ""
        self.management.service.listeners.of_api = ()
