"""Proxies as text, from which an import restores them."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from ..model.proxy import Proxy
from ..model.proxy_list import LEFT_OUT
from ..model.proxy_url import ParsedProxyUrl, url_with_name
from ..model.spreadsheet import neutralise

Format = Literal["text", "csv", "json", "clash"]

_COLUMNS: Final = (
    *("name", "type", "host", "port", "family", "username", "password", "target_family"),
    *("plain_http", "region", "notes", "status", "health", "max_connections"),
    *("exit_family", "exit_in", "exit_enforce", "tags"),
)
_ALWAYS: Final = ("name", "type", "host", "port")
_EMPTY: Final[tuple[object, ...]] = ("", [], {"set": False})
_IN_A_URL: Final = (*_ALWAYS, "family", "username", "password")


def export_proxies(proxies: Iterable[Proxy], form: Format, *, secrets: bool) -> str:
    """All proxies in one format, as ``model/proxy_list.py`` reads it.

    Without ``secrets`` no password is in it, and what has one says so. Text has a URL a line, or
    the fields as JSON where a URL cannot say all of a proxy. No cell of CSV is run as a formula.
    Text and JSON are ASCII. Clash YAML leaves out, and names, what Clash would take for less than
    it is: a proxy that is inactive, or guarded by its target family or its exit.
    """
    return "".join(export_pieces(proxies, form, secrets=secrets))


def export_pieces(proxies: Iterable[Proxy], form: Format, *, secrets: bool) -> Iterator[str]:
    """The text proxy by proxy, for a caller that lets others run in between."""
    if form == "text":
        return (f"{line}\n" for line in _lines(proxies, secrets))
    if form == "clash":
        return _clash(proxies, secrets)
    return _json(proxies, secrets) if form == "json" else _csv(proxies, secrets)


def _json(proxies: Iterable[Proxy], secrets: bool) -> Iterator[str]:
    before = "\n  "
    yield '{\n "items": ['
    for proxy in proxies:
        item = json.dumps(_fields(proxy, secrets), indent=1)
        yield before + item.replace("\n", "\n  ")
        before = ",\n  "
    yield "\n ]\n}\n"


def _clash(proxies: Iterable[Proxy], secrets: bool) -> Iterator[str]:
    yield "proxies:\n"
    none = True
    for proxy in proxies:
        if guards := [word for word, holds in _guards(proxy) if holds]:
            yield f"  # {_yaml(proxy.name)} is left out: it {' and '.join(guards)}\n"
        else:
            yield f"  - {_yaml(_clash_fields(proxy, secrets))}\n"
            none = False
    if none:
        yield "  []\n"


def _guards(proxy: Proxy) -> Iterator[tuple[str, bool]]:
    """What a proxy has that Clash ignores: flows would leave that are refused here."""
    yield "is inactive", proxy.status == "inactive"
    yield "has a target family", proxy.target_family is not None
    yield "has an exit that is enforced", proxy.exit_enforce


def _clash_fields(proxy: Proxy, secrets: bool) -> dict[str, Any]:
    type_ = "http" if proxy.type == "https" else proxy.type
    password = proxy.password.get_secret_value()
    fields: dict[str, Any] = {
        "name": proxy.name,
        "type": type_,
        "server": proxy.host,
        "port": proxy.port,
        "tls": proxy.type == "https",
        "username": proxy.username,
        "password": password if secrets else "",
        LEFT_OUT: bool(password) and not secrets,
        "ip-version": "" if proxy.family == "auto" else proxy.family,
    }
    return {name: value for name, value in fields.items() if value not in ("", False)}


def _yaml(value: object) -> str:
    """JSON that is YAML too: pairs of surrogates are not, and what is not printed is escaped."""
    return "".join(
        one
        if one.isprintable()
        else f"\\u{ord(one):04x}"
        if ord(one) < 1 << 16
        else f"\\U{ord(one):08x}"
        for one in json.dumps(value, ensure_ascii=False)
    )


def _csv(proxies: Iterable[Proxy], secrets: bool) -> Iterator[str]:
    sheet = io.StringIO(newline="")
    columns = [LEFT_OUT if name == "password" and not secrets else name for name in _COLUMNS]
    writer = csv.DictWriter(sheet, columns)
    writer.writeheader()
    for proxy in proxies:
        fields = _fields(proxy, secrets)
        if not secrets:
            fields[LEFT_OUT] = str(fields.pop("password")["set"]).lower()
        writer.writerow({key: neutralise(_cell(value)) for key, value in fields.items()})
        yield sheet.getvalue()
        sheet.seek(0)
        sheet.truncate()
    yield sheet.getvalue()


def _fields(proxy: Proxy, secrets: bool) -> dict[str, Any]:
    """As the API shows a proxy: in place of a password that is left out, whether it is set."""
    fields = {name: getattr(proxy, name) for name in _COLUMNS}
    fields |= {"exit_in": [str(network) for network in proxy.exit_in], "tags": [*proxy.tags]}
    password = proxy.password.get_secret_value()
    return {**fields, "password": password if secrets else {"set": bool(password)}}


def _lines(proxies: Iterable[Proxy], secrets: bool) -> Iterator[str]:
    yield f"# proxies {'with' if secrets else 'without'} passwords"
    for proxy in proxies:
        if _fits_a_url(proxy, secrets):
            place = (proxy.type, proxy.host, proxy.port)  # valid as they are
            credentials = (proxy.username, proxy.password.get_secret_value())
            url = ParsedProxyUrl(*place, *credentials, proxy.family).url()
            yield url_with_name(url, proxy.name)
        else:
            yield json.dumps(dict(_beyond_defaults(proxy, secrets)))


def _fits_a_url(proxy: Proxy, secrets: bool) -> bool:
    if proxy.password.get_secret_value() and not secrets:
        return False
    beyond = (name for name in _COLUMNS if name not in _IN_A_URL)
    return all(getattr(proxy, name) == Proxy.model_fields[name].default for name in beyond)


def _beyond_defaults(proxy: Proxy, secrets: bool) -> Iterator[tuple[str, Any]]:
    for name, value in _fields(proxy, secrets).items():
        if name in _ALWAYS or value not in (Proxy.model_fields[name].default, *_EMPTY):
            yield name, value


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value or "")
