"""The options: their declaration, and their values parsed once into a frozen ``Settings``.

mitmproxy is not imported here: ``proxy/addons/config.py`` declares ``OPTIONS`` and passes values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from ..errors import InvalidEntry
from .host import canonical_ip, url_host
from .nameserver import parse_nameserver
from .rule import Default

DEFAULT_CONFDIR: Final = Path("~/.mitmproxy").expanduser()
"""Where mitmproxy keeps its files unless its option ``confdir`` says otherwise."""

_MAX_TIMEOUT_MS: Final = 60_000
_MAX_PORT: Final = 65_535
_OFF: Final = frozenset({"false", "0", "no", "off"})


CONFDIR: Final = "<confdir>"
"""The beginning of a path in mitmproxy's own folder."""


class Option(NamedTuple):
    """An option as mitmproxy's loader takes it."""

    name: str
    default: object
    help: str

    @property
    def type(self) -> Any:
        return Sequence[str] if self.default == () else type(self.default)


OPTIONS: Final = (
    Option("egress_policy", "", "Policy file (YAML or JSON). It is watched for changes."),
    Option(
        "egress_registry",
        f"{CONFDIR}/egress.db",
        "Registry of proxies: a file, :memory:, or a URL such as postgresql+psycopg://host/name. "
        "Empty: none.",
    ),
    Option(
        "egress_default",
        "direct",
        "What a flow takes if no rule matches and the policy has no default: direct or refuse.",
    ),
    Option(
        "egress_dns",
        (),
        "Nameservers for pinned families, repeatable: 192.0.2.53, 127.0.0.1:5354, "
        "tls://192.0.2.53, https://dns.example/dns-query. Empty: those of the system. Family auto "
        "is always resolved by the system.",
    ),
    Option(
        "egress_dns_timeout_ms",
        3000,
        f"Limit of the DNS pre-flight with all its retries, 1 to {_MAX_TIMEOUT_MS}.",
    ),
    Option("egress_hosts_file", "/etc/hosts", "Consulted before DNS. Empty: no file is consulted."),
    Option(
        "egress_socks5",
        True,
        "Allow socks5 proxies. ENABLE_SOCKS5_PROXY=false in the environment forbids them too.",
    ),
    Option(
        "egress_listen",
        "127.0.0.1:20128",
        "Where the management API and its page listen. Empty: nowhere.",
    ),
    Option(
        "egress_token_file",
        f"{CONFDIR}/egress-token",
        "Bearer token of the management API. It is made on the first start.",
    ),
    Option(
        "egress_comment",
        True,
        "Say in a flow's comment which way it left, unless the comment is in use.",
    ),
    Option(
        "egress_log",
        "all",
        "Of which flows mitmdump says which way they left: none, refusals or all.",
    ),
)
Log = Literal["none", "refusals", "all"]
_BY_NAME: Final = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: an IP literal and a port, 0 for any free port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"{url_host(self.host)}:{self.port}"


def parse_listen(text: str, name: str = "egress_listen") -> Listen:
    """``127.0.0.1:20128``, ``[::1]:20128``, ``localhost:20128``. Raises ``InvalidEntry`` for the
    option ``name``."""
    host, colon, port = text.rpartition(":")
    literal = canonical_ip("127.0.0.1" if host == "localhost" else host)
    bracketed = host.startswith("[") == (":" in host)
    if not colon or literal is None or not bracketed or not port.isdecimal():
        why = f"{text!r} is no address to listen on; write 127.0.0.1:20128 or [::1]:0"
        raise _invalid(name, why)
    if not port.isascii() or int(port) > _MAX_PORT:
        raise _invalid(name, "the port must be a number from 0 to 65535")
    return Listen(literal, int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """The options in force. ``dns`` holds texts for ``parse_nameserver``, empty for the system's
    nameservers; ``dns_timeout`` is in seconds; an empty path is ``None``. ``registry`` is a place
    for ``Registry.open`` and may hold a password; it is empty without a registry. ``log`` says of
    which flows mitmdump writes a line, ``comment`` whether a flow's comment gets it."""

    policy: Path | None
    default: Default
    dns: tuple[str, ...]
    dns_timeout: float
    hosts_file: Path | None
    socks5: bool
    registry: str
    listen: Listen | None
    token_file: Path | None
    comment: bool
    log: Log

    @property
    def dns_part(self) -> tuple[object, ...]:
        """Equal as long as a resolver made for these settings is still right."""
        return self.dns, self.dns_timeout, self.hosts_file


def parse_settings(
    values: Mapping[str, object], environ: Mapping[str, str], confdir: Path = DEFAULT_CONFDIR
) -> Settings:
    """Parse option values; missing options have their defaults.

    Raises ``InvalidEntry``. Its field is the option; its message names the option and legal values.
    """
    for name in values:
        if name.startswith("egress_") and name not in _BY_NAME:
            raise _invalid(name, f"there is no such option, only {', '.join(_BY_NAME)}")
    options = _Values(values, confdir)
    return Settings(
        policy=options.path("egress_policy"),
        default=options.default(),
        dns=options.nameservers(),
        dns_timeout=options.milliseconds("egress_dns_timeout_ms") / 1000,
        hosts_file=options.path("egress_hosts_file"),
        socks5=options.switch("egress_socks5")
        and environ.get("ENABLE_SOCKS5_PROXY", "").strip().casefold() not in _OFF,
        registry=options.place("egress_registry"),
        listen=options.listen("egress_listen"),
        token_file=options.path("egress_token_file"),
        comment=options.switch("egress_comment"),
        log=options.log(),
    )


class _Values:
    def __init__(self, values: Mapping[str, object], confdir: Path) -> None:
        self._values = values
        self._confdir = confdir

    def default(self) -> Default:
        text = self._text("egress_default")
        if text not in get_args(Default):
            raise _invalid("egress_default", f"{text!r} is neither direct nor refuse")
        return cast(Default, text)

    def log(self) -> Log:
        text = self._text("egress_log")
        if text not in get_args(Log):
            raise _invalid("egress_log", f"{text!r} is none of {', '.join(get_args(Log))}")
        return cast(Log, text)

    def nameservers(self) -> tuple[str, ...]:
        texts = self._value("egress_dns")
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise _invalid("egress_dns", "it must be a list of nameservers")
        try:
            return tuple(str(parse_nameserver(str(text))) for text in texts)
        except InvalidEntry as error:
            raise _invalid("egress_dns", str(error)) from error

    def milliseconds(self, name: str) -> int:
        value = self._value(name)
        if type(value) is not int or not 1 <= value <= _MAX_TIMEOUT_MS:
            raise _invalid(name, f"it must be a number from 1 to {_MAX_TIMEOUT_MS}")
        return value

    def switch(self, name: str) -> bool:
        value = self._value(name)
        if not isinstance(value, bool):
            raise _invalid(name, "it must be true or false")
        return value

    def listen(self, name: str) -> Listen | None:
        text = self._text(name)
        return parse_listen(text) if text else None

    def place(self, name: str) -> str:
        text = self._text(name)
        if text.startswith(CONFDIR):
            return str(self._confdir / text.removeprefix(CONFDIR).lstrip("/"))
        return text

    def path(self, name: str) -> Path | None:
        text = self.place(name)
        if "\0" in text:
            raise _invalid(name, "a path cannot hold a NUL character")
        try:
            return Path(text).expanduser() if text else None
        except RuntimeError as error:
            raise _invalid(name, f"the home directory of {text!r} is not known") from error

    def _text(self, name: str) -> str:
        value = self._value(name)
        if not isinstance(value, str):
            raise _invalid(name, "it must be a text")
        return value

    def _value(self, name: str) -> object:
        return self._values.get(name, _BY_NAME[name].default)


def _invalid(name: str, message: str) -> InvalidEntry:
    return InvalidEntry(f"{name}: {message}", name)
