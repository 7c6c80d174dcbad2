"""The user of a flow, as mitmproxy's ``proxyauth`` notes it, and the filter for one user."""

import json
import re
from collections.abc import Mapping
from typing import Final

from ..errors import InvalidEntry
from ..sentence import Sentence

_FILTER: Final = re.compile(r'~user\s+(".*")', re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOTED: Final = "proxyauth"


def user_filter(user: str) -> str:
    """The filter expression for flows of ``user``: ``~user "alice"``, with the name in JSON."""
    return f"~user {json.dumps(user, ensure_ascii=False)}"


def parse_user_filter(expression: str) -> str | None:
    """The user of a ``user_filter`` expression, ``None`` for any other expression.

    Raises ``InvalidEntry`` (field "filter") for a name that is not a JSON text.
    """
    found = _FILTER.fullmatch(expression.strip())
    if found is None:
        return None
    try:
        return str(json.loads(found[1], strict=False))
    except ValueError as error:
        message = Sentence("user_quoted", 'The name of a user is expected in quotes: ~user "alice"')
        raise InvalidEntry(message, "filter") from error


def user_in(metadata: Mapping[str, object]) -> str | None:
    """The user in a flow's metadata, ``None`` if there is none.

    Only the form that ``proxyauth`` writes counts: a pair of texts without control characters,
    which loading from a file turns into a list. A flow file may hold anything there.
    """
    noted = metadata.get(_NOTED)
    if not isinstance(noted, tuple | list) or len(noted) != 2:
        return None
    for text in noted:
        if not isinstance(text, str) or _CONTROL.search(text):
            return None
    return str(noted[0])
