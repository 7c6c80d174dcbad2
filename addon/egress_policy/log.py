"""The loggers of the package. A log line may contain text of a peer, a file or the registry, but no
character that controls a terminal."""

import logging
from typing import Final

from .model.text import printable

_FORMATTER: Final = logging.Formatter()


def get_logger(name: str) -> logging.Logger:
    """The logger of that name, whose handlers get records without hidden characters."""
    logger = logging.getLogger(name)
    logger.addFilter(_make_printable)
    return logger


def _make_printable(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if record.exc_info:
        traceback = _FORMATTER.formatException(record.exc_info)
        if traceback != printable(traceback, lines=True):
            # Every handler would write the exception as it is.
            text, record.exc_info = f"{text}\n{traceback}", None
    record.msg, record.args = printable(text, lines=True), None
    return True
