"""What Linux says of a running process: its CPU time and its memory."""

import time
from pathlib import Path

_CPUCLOCK_SCHED = 2  # Linux: of the clock ids that clock_getcpuclockid(3) makes
_LOOK = 0.3
_IDLE = 0.005
"""CPU seconds within a look that count as none: watching files takes some."""
_PATIENCE = 60.0


def cpu_of(pid: int) -> float:
    """CPU seconds of all threads, past ones included."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def resident(pid: int) -> float:
    """Memory that the process has in RAM, in KB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def await_idle(pid: int) -> None:
    """Return when the process has nothing to do. Raises ``TimeoutError``."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        before = cpu_of(pid)
        time.sleep(_LOOK)
        if cpu_of(pid) - before < _IDLE:
            return
    raise TimeoutError(f"process {pid} does not come to rest")
