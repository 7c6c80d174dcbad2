"""The address that a target saw, as it says in its answer. Pure."""

import json

from ..model.host import canonical_ip


def find_egress_ip(body: bytes) -> str | None:
    """The IP literal that ``body`` consists of, or that a JSON object has under ``ip``.

    It is given in its canonical form. Any other body gives ``None``.
    """
    try:
        text = body.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    if text.startswith("{"):
        try:
            value = json.loads(text).get("ip")
        except (ValueError, RecursionError):
            return None
        text = value if isinstance(value, str) else ""
    literal = canonical_ip(text)
    return None if literal is None or "%" in literal else literal
