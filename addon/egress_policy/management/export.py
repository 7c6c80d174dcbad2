"""Proxies as text that can be imported again, as JSON that can, and as CSV for spreadsheets."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal
from urllib.parse import quote

from ..model.proxy import Proxy
from ..model.proxy_url import ParsedProxyUrl

Format = Literal["text", "csv", "json"]

_COLUMNS: Final = (
    *("name", "type", "host", "port", "family", "username", "password", "target_family"),
    *("plain_http", "region", "notes", "status"),
)
_FORMULA: Final = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a cell begins with that spreadsheets run (the last four in full width)."""


def export_proxies(proxies: Iterable[Proxy], form: Format, *, secrets: bool) -> str:
    """All of them in one format. Passwords are in it with ``secrets`` only.

    Text has a URL a line. What a URL cannot say about how a proxy is used (its status, its
    ``target_family``, its ``plain_http``) would be undone by an import, so such a proxy stands
    there as a comment; region and notes are left out. JSON has all, in the form in which the API
    imports it. CSV has all too, but is for reading: no cell of it is run as a formula.
    """
    if form == "text":
        return "".join(f"{line}\n" for line in _lines(proxies, secrets))
    if form == "json":
        items = [_fields(proxy, secrets) for proxy in proxies]
        return json.dumps({"items": items}, indent=1, ensure_ascii=False) + "\n"
    sheet = io.StringIO(newline="")
    writer = csv.DictWriter(sheet, [name for name in _COLUMNS if secrets or name != "password"])
    writer.writeheader()
    for proxy in proxies:
        writer.writerow({key: _cell(value) for key, value in _fields(proxy, secrets).items()})
    return sheet.getvalue()


def _fields(proxy: Proxy, secrets: bool) -> dict[str, Any]:
    fields = {name: getattr(proxy, name) for name in _COLUMNS}
    password = fields.pop("password").get_secret_value()
    return {**fields, "password": password} if secrets else fields


def _lines(proxies: Iterable[Proxy], secrets: bool) -> Iterator[str]:
    yield f"# proxies {'with' if secrets else 'without'} passwords; region and notes left out"
    for proxy in proxies:
        password = proxy.password.get_secret_value() if secrets else ""
        place = (proxy.type, proxy.host, proxy.port)  # valid as they are
        url = ParsedProxyUrl(*place, proxy.username, password, proxy.family).url()
        line = f"{url}#{quote(proxy.name, safe='')}"
        beyond = ", ".join(_beyond_a_url(proxy))
        yield f"# not as a line, {beyond}: {line}" if beyond else line


def _beyond_a_url(proxy: Proxy) -> Iterator[str]:
    for name in ("status", "target_family", "plain_http"):
        value = getattr(proxy, name)
        if value != Proxy.model_fields[name].default:
            yield f"{name} {value}"


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip()[:1] in _FORMULA else text
