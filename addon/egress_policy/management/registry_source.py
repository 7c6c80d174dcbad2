"""The registry: the database, and what it held when it was read last."""

import contextlib
import gc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..store.records import RegistryState

if TYPE_CHECKING:
    from ..store.registry import Registry


class RegistrySource:
    """An open registry; ``error`` says why the database cannot be read just now."""

    def __init__(self, location: str, registry: "Registry", state: RegistryState) -> None:
        self.location = location
        self.registry = registry
        self.state = state
        self.error = ""

    @classmethod
    def open(
        cls, location: str, confdir: Path, environ: Mapping[str, str]
    ) -> "RegistrySource | None":
        """Open what the option ``egress_registry`` names, ``None`` for an empty ``location``.

        Raises ``InvalidEntry`` and ``RegistryUnavailable``.
        """
        if not location:
            return None
        # Only here: who has no registry needs no database to start.
        from ..store.registry import Registry
        from ..store.secrets import load_key

        registry = Registry.open(location, load_key(confdir, environ))
        try:
            with _uncollected():
                return cls(location, registry, registry.load())
        except BaseException:
            registry.close()
            raise


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Read thousands of entries that stay, and tell the collector so.

    It would go through all of them again and again while they are read, and with each full
    collection later, which takes a tenth of a second in which no flow moves.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()
