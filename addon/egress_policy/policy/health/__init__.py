"""How each proxy fares: its circuit, and who is to blame for what failed.

``Health`` keeps the circuits of all proxies. Pure: clock and randomness are parameters.
"""

from .circuit import State as State
from .health import Health as Health
from .track_record import CircuitEvent as CircuitEvent
from .track_record import CircuitState as CircuitState
