"""No log line of the package controls a terminal, whoever wrote what stands in it."""

import importlib
import logging
import pkgutil

import pytest

import egress_policy
from egress_policy.log import get_logger
from tests.model.test_text import HIDDEN


@pytest.mark.parametrize("character", [one for one in HIDDEN if one != "\n"], ids=ascii)
def test_hidden_characters_are_escaped(character: str, caplog: pytest.LogCaptureFixture) -> None:
    get_logger("egress_policy.test").warning("a%sb", character)
    assert caplog.messages == [f"a{ascii(character)[1:-1]}b"]


def break_with(text: str) -> None:
    raise ValueError(text)


@pytest.mark.parametrize("text", ["\x1b[2J\u202e", "plain"])
def test_those_of_an_exception_too(text: str, caplog: pytest.LogCaptureFixture) -> None:
    try:
        break_with(text)
    except ValueError:
        get_logger("egress_policy.test").exception("it broke\r")
    (record,) = caplog.records
    assert "\x1b" not in caplog.text
    assert record.getMessage().startswith("it broke\\r")
    shown = logging.Formatter().format(record)
    assert shown.startswith("it broke\\r\nTraceback")
    assert shown.endswith(ascii(text)[1:-1])
    assert (record.exc_info is not None) == (text == "plain")


def test_every_logger_of_the_package_is_one_of_these() -> None:
    made = {}
    for module in pkgutil.walk_packages(egress_policy.__path__, "egress_policy."):
        if ".migrations." not in module.name and not module.name.endswith("__main__"):
            made[module.name] = getattr(importlib.import_module(module.name), "logger", None)
    loggers = {name: logger for name, logger in made.items() if logger is not None}
    assert len(loggers) > 10
    for name, logger in loggers.items():
        assert logger.filters == get_logger("egress_policy.test").filters, name
