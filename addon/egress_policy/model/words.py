"""Times and counts in the form that people and programs read."""

from datetime import UTC, datetime


def iso_time(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds: ``2026-01-31T23:59:59.123Z``."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def count(number: int, one: str, many: str) -> str:
    """``1 proxy``, ``2 proxies``."""
    return f"{number} {one if number == 1 else many}"


def milliseconds(ms: float) -> str:
    """``0.4 ms``, ``12 ms``, ``1.2 s``."""
    if ms >= 1000:
        return f"{ms / 1000:.1f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def span(seconds: float) -> str:
    """``42 s``, ``3 min 5 s``, ``2 h 7 min``, ``3 d 4 h``."""
    left, parts = round(seconds), []
    for word, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {word}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"
