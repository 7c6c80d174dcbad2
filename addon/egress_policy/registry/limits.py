"""How long a database may be silent."""

from dataclasses import dataclass
from typing import Final

SILENCE: Final = 4.5
"""Seconds that a server may be silent before it counts as lost."""
SILENCE_AT_START: Final = 2.5
"""Seconds for a server while the registry is opened, which holds up the whole process."""


@dataclass(slots=True)
class DatabaseLimits:
    """What may change while connections are open: ``silence`` in seconds, for a server only."""

    silence: float = SILENCE
