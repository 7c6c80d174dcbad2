"""Takes each ``add_log`` event only to the addons that have a handler for it.

mitmproxy makes such an event of each record of its log, and takes it past all addons like a hook. A
fresh connection logs six. ``take_over`` gives an ``AddonManager`` a ``trigger`` that has the same
effects on these events, in the same order; all other events go to mitmproxy's own. As in
``dispatch.py`` nothing is remembered from one event to the next, and mitmproxy's own functions run
where they are not the ones that were copied.
"""

import functools
import inspect
import types
from collections.abc import Iterable
from typing import Any, Final

from mitmproxy import addonmanager, exceptions
from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import Hook
from mitmproxy.log import AddLogHook

from .dispatch import digest, unknown

_METHODS: Final[dict[str, Any]] = {
    name: getattr(AddonManager, name, None)
    for name in ("trigger", "invoke_addon_sync", "_iter_hooks")
}
_TRAVERSE: Final[Any] = getattr(addonmanager, "traverse", None)
_COPIED: Final = {
    "trigger": "b19e37ceb209642186dca0de54d4d9cf0c79b28b140192bffeaa6b9b4fca9dd5",
    "invoke_addon_sync": "212818268a95797ba9fe7d79846636cef271dbccfd2491855a051d20d1d4db00",
}
"""SHA-256 of the source of each, the same in mitmproxy 12.2.0 to 12.3.1."""


def take_over(manager: AddonManager) -> None:
    """Run its ``add_log`` events here, unless a function is not the one that was copied."""
    own = getattr(manager.trigger, "__func__", None) is _METHODS["trigger"]
    if own and _is_untouched(manager) and is_known():
        manager.trigger = types.MethodType(trigger, manager)  # type: ignore[method-assign]


def give_back(manager: AddonManager) -> None:
    """Undo ``take_over``, unless another addon has put a function of its own there."""
    mine = vars(manager).get("trigger")
    if getattr(mine, "__func__", None) is trigger:
        del manager.trigger


@functools.cache
def is_known() -> bool:
    """Whether mitmproxy's functions are the ones that were copied."""
    return unknown() is None and all(
        digest(_METHODS[name]) == known for name, known in _COPIED.items()
    )


def trigger(self: AddonManager, event: Hook) -> None:
    """``AddonManager.trigger``. Raises ``OptionsError`` where a handler does, as mitmproxy's."""
    if type(event) is not AddLogHook or not _is_untouched(self):
        type(self).trigger(self, event)
        return
    for addon in self.chain:
        try:
            _call(addon, event)
            if hasattr(addon, "addons"):
                _descend(addon.addons, event)
        except Exception:  # noqa: BLE001 (safecall reports it)
            try:
                with addonmanager.safecall():
                    raise
            except exceptions.AddonHalt:
                return


def _descend(addons: Iterable[object], event: Hook) -> None:
    for addon in addons:
        _call(addon, event)
        if hasattr(addon, "addons"):
            _descend(addon.addons, event)


def _call(addon: object, event: Hook) -> None:
    handler = getattr(addon, event.name, None)
    if not handler:
        return
    if callable(handler):
        invoke_addon_sync(addon, event, handler)
    elif not isinstance(handler, types.ModuleType):  # a script may import a module of that name
        raise exceptions.AddonManagerError(f"Addon handler {event.name} ({addon}) not callable")


def invoke_addon_sync(addon: object, event: Hook, handler: Any) -> None:
    """Call one handler. mitmproxy shows of a traceback what is below a function of this name."""
    if inspect.iscoroutinefunction(handler):
        raise exceptions.AddonManagerError(
            f"Async handler {event.name} ({addon}) cannot be called from sync context"
        )
    handler(*event.args())


def _is_untouched(manager: AddonManager) -> bool:
    """Whether mitmproxy's functions, of which a manager has its ``trigger`` from here, are still
    those of the start."""
    return (
        addonmanager.traverse is _TRAVERSE
        and type(manager).trigger is _METHODS["trigger"]
        and all(
            getattr(getattr(manager, name, None), "__func__", None) is _METHODS[name]
            for name in ("invoke_addon_sync", "_iter_hooks")
        )
    )
