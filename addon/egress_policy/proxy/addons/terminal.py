"""Lines for the person at the terminal that mitmproxy was started from, and for no other log."""

import logging

from mitmproxy import ctx


def say_on_terminal(text: str) -> None:
    """Show a line there, as mitmdump and mitmweb show their log: only if it is a terminal, and only
    where messages of level INFO are shown. mitmproxy's console has no such log."""
    termlog = ctx.master.addons.get("termlog")
    if termlog is None:
        return
    handler = termlog.logger
    if handler.level <= logging.INFO and handler.file.isatty():
        record = logging.LogRecord(__name__, logging.INFO, __file__, 0, text, None, None)
        handler.handle(record)
