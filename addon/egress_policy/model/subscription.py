"""A subscription: a list of proxies behind a URL, which is fetched again and again.

The URL may hold a token of its owner, so it is a secret as passwords are.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from ..errors import InvalidEntry
from ..sentence import Sentence
from .host import require_host
from .pool import Name
from .proxy import ProxyType
from .tags import Tags
from .target_url import TargetUrl, parse_target_url
from .text import first_hidden

DIRECT: Final = "direct"
"""Fetches a list without a proxy."""
_LONGEST: Final = 2000


def parse_list_url(text: str) -> TargetUrl:
    """Parse the URL of a list: http or https, ASCII after its host, at most 2000 characters.
    Raises ``InvalidEntry`` (field "url"), which does not quote the text."""
    if not 0 < len(text) <= _LONGEST:
        raise InvalidEntry(
            Sentence(
                "url_long",
                "Invalid URL: a text of 1 to {limit} characters is expected",
                limit=_LONGEST,
            ),
            "url",
        )
    url = parse_target_url(text)
    if url.scheme not in ("http", "https"):
        raise InvalidEntry(
            Sentence("url_http", "Invalid URL: its scheme must be http or https"), "url"
        )
    if not url.path.isascii():
        raise InvalidEntry(
            Sentence("url_ascii", "Invalid URL: write characters beyond ASCII as % and digits"),
            "url",
        )
    try:
        require_host(url.host)
    except InvalidEntry as error:
        raise InvalidEntry(
            Sentence("target_invalid", "Invalid URL: {why}", why=error.text), "url"
        ) from error
    return url


def _list_url(secret: SecretStr) -> SecretStr:
    parse_list_url(secret.get_secret_value())
    return secret


def _seen(name: str) -> str:
    if (hidden := first_hidden(name)) is not None:
        raise ValueError(Sentence("hidden_at", "character {number} is hidden", number=hidden + 1))
    return name


class ListSubscription(BaseModel):
    """A list that is fetched every ``every_hours`` (0: only when a person asks), ``via`` the proxy
    of that name or ``direct``.

    Its proxies get ``tags``, and ``type`` if the list names none. An ``inactive`` subscription is
    fetched only when a person asks. Raises ``pydantic.ValidationError``, which hides the URL.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[Name, AfterValidator(_seen)]
    url: Annotated[SecretStr, AfterValidator(_list_url)]
    via: Annotated[str, Field(min_length=1, max_length=120)]
    every_hours: Annotated[int, Field(strict=True, ge=0, le=720)] = 24
    type: ProxyType | None = None
    tags: Tags = ()
    status: Literal["active", "inactive"] = "active"
