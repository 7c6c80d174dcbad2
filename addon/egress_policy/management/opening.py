"""Opening what settings name. What is in force stays in force; nothing opened is, until it is held.

What did not change is taken over: an open file or registry is not opened again.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from ..collector import Collector
from ..errors import PolicyFileError
from ..model.settings import Settings
from .file_source import FileSource
from .in_force import Opened, PolicyInForce
from .registry_source import RegistrySource


class HowToOpen(TypedDict, total=False):
    """With ``refuse_all_because`` everything is refused once it is held. With ``mended_later`` a
    policy file that cannot be used is opened too, and everything is refused until it is mended."""

    mended_later: bool
    refuse_all_because: str


class Opener:
    """``file_at`` makes the source of a policy file."""

    def __init__(
        self,
        in_force: PolicyInForce,
        file_at: Callable[[Path | None], FileSource],
        collector: Collector,
    ) -> None:
        self._in_force = in_force
        self._file_at = file_at
        self._collector = collector

    def open(
        self,
        settings: Settings,
        confdir: Path,
        environ: Mapping[str, str],
        **how: Unpack[HowToOpen],
    ) -> Opened:
        """Open and read what ``settings`` name.

        Raises ``PolicyFileError``, ``InvalidEntry`` and ``RegistryUnavailable``: then nothing is
        left open.
        """
        now = self._in_force.opened
        is_open = (settings.policy, settings.registry) == (now.file.path, _location(now.registry))
        with nullcontext() if is_open else self._collector.while_opening():
            file = self._open_file(settings.policy, mended_later=how.get("mended_later", False))
            registry = now.registry
            if settings.registry != _location(registry):
                registry = RegistrySource.open(settings.registry, confdir, environ)
            try:
                return self._make(file, registry, settings, how.get("refuse_all_because", ""))
            except BaseException:
                if registry and registry is not now.registry:
                    registry.close()
                raise

    def _open_file(self, path: Path | None, *, mended_later: bool) -> FileSource:
        now = self._in_force.opened
        if path == now.file.path:
            return now.file
        file = self._file_at(path)
        try:
            file.open()
        except PolicyFileError:
            if not mended_later:
                raise
        return file

    def _make(
        self, file: FileSource, registry: RegistrySource | None, settings: Settings, because: str
    ) -> Opened:
        now = self._in_force.opened
        opened = Opened(file, registry, settings.socks5, settings.default, because, now.made)
        if not now.refuse_all_because and now.made.inputs.is_same(opened.inputs):
            return opened
        return replace(opened, made=self._in_force.make(opened.inputs))


def _location(registry: RegistrySource | None) -> str:
    return registry.location if registry else ""
