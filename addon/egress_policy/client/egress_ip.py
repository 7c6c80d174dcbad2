"""The address that a target saw, as it says in its answer. Pure."""

import json

from ..model.host import canonical_ip


def find_egress_ip(body: bytes) -> str | None:
    """The IP literal that ``body`` consists of, or that stands under ``ip`` in a JSON object.

    In its canonical form; ``None`` for anything else, whatever it is.
    """
    try:
        text = body.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    if text.startswith("{"):
        try:
            stated = json.loads(text).get("ip")
        except (ValueError, RecursionError):
            return None
        text = stated if isinstance(stated, str) else ""
    literal = canonical_ip(text)
    return None if literal is None or "%" in literal else literal
