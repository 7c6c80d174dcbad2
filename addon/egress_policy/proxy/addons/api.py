"""Runs the management API beside the proxy, as the options say."""

from pathlib import Path
from typing import TYPE_CHECKING

from mitmproxy import ctx

from ...errors import EgressError, InvalidEntry
from ...log import get_logger
from ...management.management import Management
from ...management.run_file import RunFile
from ...management.upkeep import Taken
from ...model.settings import Listen, Settings
from .named import Named
from .terminal import say_on_terminal

if TYPE_CHECKING:
    from ...api.server import ApiServer

logger = get_logger(__name__)

Place = tuple[Listen | None, Path | None]
"""Where to listen, and the file of the token."""


class EgressApi(Named):
    """Starts the API when mitmproxy runs; ``open`` is for later changes of the options."""

    def __init__(self, management: Management) -> None:
        self.management = management
        self._server: ApiServer | None = None
        self._place: Place = (None, None)
        self._running = False
        self._run_file = RunFile()

    def running(self) -> None:
        self._running = True
        settings = self.management.options
        if settings is None:
            return  # the options are wrong, which has been logged
        try:
            self.open(settings).settle()
        except EgressError as error:
            self._place = _place_of(settings)
            # Logged as an ERROR this ends a mitmproxy that has just started.
            logger.error(str(error))  # noqa: TRY400 (what to do is more use than a traceback)
        self._publish()

    def done(self) -> None:
        self._running = False
        server, self._server, self._place = self._server, None, (None, None)
        if server:
            server.stop()
        self._publish()

    @property
    def server(self) -> "ApiServer | None":
        """The API; ``None`` while nothing listens."""
        return self._server

    def open(self, settings: Settings) -> Taken:
        """Listen where the settings say, and no longer where it was until now.

        Raises ``EgressError`` where that cannot be: then everything stays as it was. Before
        mitmproxy runs nothing listens.
        """
        place, before, at = _place_of(settings), self._server, self._place
        if not self._running or place == at:
            return Taken(lambda: None, lambda: None)
        server = self._start(*place)
        self._server, self._place = server, place
        self._publish()

        def undo() -> None:
            if server:
                server.stop()
            if before and not before.is_listening:
                try:
                    before.start()
                except EgressError:
                    logger.exception("The management API cannot go on where it was")
            self._server, self._place = before, at
            self._publish()

        def settle() -> None:
            if before:
                before.stop()
            if server and server is self._server and place[0]:
                _announce(server, place[0])

        return Taken(undo, settle)

    def _start(self, listen: Listen | None, token_file: Path | None) -> "ApiServer | None":
        if listen is None:
            return None
        if token_file is None:
            raise InvalidEntry(
                "egress_token_file: it must name a file, or egress_listen be empty",
                "egress_token_file",
            )
        from ...api.server import ApiServer  # needed only where something listens

        folder, before = Path(ctx.options.confdir).expanduser(), self._server
        server = ApiServer(self.management, listen, token_file, folder)
        if before and listen == self._place[0]:
            server.start(before)
            return server
        try:
            server.start()
        except InvalidEntry:
            if not before or before.addresses[0][1] != listen.port:
                raise
            before.stop()  # it may be in the way itself, at another address of this port
            try:
                server.start()
            except InvalidEntry:
                before.start()
                raise
        return server

    def _publish(self) -> None:
        """Say where the API listens: to the router, because no flow may get there, and to the
        command line, which asks there."""
        self.management.listening = self._server.url if self._server else ""
        addresses = self._server.addresses if self._server else ()
        self.management.router.listeners.of_api = tuple(addresses)
        if not self._running:
            self._run_file.remove()
            return
        listens = self._server and self._server.is_listening
        url = self._server.local_url if self._server and listens else ""
        confdir = Path(ctx.options.confdir).expanduser()
        try:
            self._run_file.write(confdir, url, self._place[1])
        except OSError as error:
            logger.warning(
                f"No run file can be written in {confdir}: {error.strerror}. The command "
                "egress-policy will not know that this mitmproxy runs"
            )


def _place_of(settings: Settings) -> Place:
    return settings.listen, settings.token_file


def _announce(server: "ApiServer", listen: Listen) -> None:
    logger.info(f"Egress management API and page: {server.url}")
    say_on_terminal(f"Log in to the page (once, within 15 minutes): {server.links.link()}")
    if not listen.is_loopback:
        logger.warning(
            f"The egress management API listens on {listen}, which others can reach; "
            "anybody with the token can change how traffic leaves"
        )
