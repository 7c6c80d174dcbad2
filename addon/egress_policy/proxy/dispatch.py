"""Runs the hooks of a connection by calling only the addons that have a handler for them.

mitmproxy takes each hook to some forty addons, to each through a context manager and two
generators, and once more for ``update``. That is nearly half of its work. ``take_over`` gives the
handler of one connection a ``handle_hook`` that has the same effects in the same order and skips
the addons that have nothing to call. It remembers nothing: each hook reads the chain, the handlers
and the nested addons anew.

The functions here are copies of mitmproxy's. They run only while mitmproxy's are the ones that
were copied: ``_COPIED`` holds digests of their source. If one differs, or an addon replaces one
later, mitmproxy's own functions run instead. They always run for a replayed flow.
"""

import functools
import hashlib
import inspect
import linecache
import sys
import tokenize
import types
from collections.abc import Iterable
from typing import Any

from mitmproxy import addonmanager, exceptions, flow, hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.proxy import commands, server
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from ..log import get_logger

logger = get_logger(__name__)

_HANDLE_HOOK: Any = getattr(ProxyConnectionHandler, "handle_hook", None)
_TRAVERSE: Any = getattr(addonmanager, "traverse", None)
_METHODS: dict[str, Any] = {
    name: getattr(AddonManager, name, None)
    for name in ("handle_lifecycle", "trigger_event", "invoke_addon", "_iter_hooks")
}
_FUNCTIONS = {
    "ProxyConnectionHandler.handle_hook": _HANDLE_HOOK,
    **{f"AddonManager.{name}": method for name, method in _METHODS.items()},
    "traverse": _TRAVERSE,
}
"""What is copied, ``None`` where this mitmproxy has no function of that name."""
_COPIED = {
    "ProxyConnectionHandler.handle_hook": (
        "9f8b52fd798203c9d2401c3e5d8c7f9976c490ac124b17cd55d8afce73b66acf"
    ),
    "AddonManager.handle_lifecycle": (
        "38c97e792d1db5b7cb8a6b71ff30fe882160e56e9e701fa8b035c64deeea7a5a"
    ),
    "AddonManager.trigger_event": (
        "b763c59bc4992e33030d38fe5a62368b0437ad4f327ea609b0664db32286a4d9"
    ),
    "AddonManager.invoke_addon": (
        "13180532440359de4072c45e3f24aa3ad3b75292ef1ebfa5caa6385160a0be12"
    ),
    "AddonManager._iter_hooks": (
        "350b419ab7284091f6341cbeb463bf6071dca027396ab37d0615789def57e7c0"
    ),
    "traverse": "bad3d9f88bdf9269a3a1380948222f64da429fcfa2801a38bbed467289d7bd60",
}
"""SHA-256 of the source of each, the same in mitmproxy 12.2.0 to 12.3.1."""


def take_over(handler: server.ConnectionHandler) -> None:
    """Run the hooks of this connection here, unless a function is not the one that was copied."""
    is_known = getattr(getattr(handler, "handle_hook", None), "__func__", None) is _HANDLE_HOOK
    if different := unknown() or (None if is_known else "ProxyConnectionHandler.handle_hook"):
        _say_once(different)
    else:
        handler.handle_hook = types.MethodType(handle_hook, handler)  # type: ignore[method-assign]


@functools.cache
def unknown() -> str | None:
    """The name of a function that is not the one that was copied, ``None`` if there is none."""
    digests = _COPIED.items()
    return next((name for name, known in digests if digest(_FUNCTIONS[name]) != known), None)


async def handle_hook(self: ProxyConnectionHandler, hook: commands.StartHook) -> None:
    """``ProxyConnectionHandler.handle_hook``, with ``AddonManager.handle_lifecycle`` in it."""
    manager = self.master.addons
    if different := _replaced(self, manager):
        _say_once(different)
        await type(self).handle_hook(self, hook)
        return
    with self.timeout_watchdog.disarm():
        (data,) = hook.args()
        await trigger_event(manager, hook.name, data)
        if isinstance(data, flow.Flow):
            await trigger_event(manager, hooks.UpdateHook.name, [data])
            await data.wait_for_resume()


async def trigger_event(manager: AddonManager, name: str, data: object) -> None:
    """``AddonManager.trigger_event`` for a hook with one argument.

    Raises ``OptionsError`` where a handler does, as mitmproxy's does.
    """
    for addon in manager.chain:
        try:
            if handler := getattr(addon, name, None):
                await invoke_addon(addon, name, handler, data)
            if hasattr(addon, "addons"):
                await _descend(addon.addons, name, data)
        except Exception:  # noqa: BLE001 (safecall reports it)
            try:
                with addonmanager.safecall():
                    raise
            except exceptions.AddonHalt:
                return


async def _descend(addons: Iterable[object], name: str, data: object) -> None:
    below = [iter(addons)]
    while below:
        for addon in below[-1]:
            if handler := getattr(addon, name, None):
                await invoke_addon(addon, name, handler, data)
            if hasattr(addon, "addons"):
                if len(below) > sys.getrecursionlimit():  # addons that hold each other
                    raise RecursionError("addons are nested without end")
                below.append(iter(addon.addons))
                break
        else:
            below.pop()


async def invoke_addon(addon: object, name: str, handler: Any, data: object) -> None:
    """Call one handler. mitmproxy shows of a traceback what is below a function of this name."""
    if callable(handler):
        result = handler(data)
        if result is not None and inspect.isawaitable(result):
            await result
    elif not isinstance(handler, types.ModuleType):  # a script may import a module of that name
        raise exceptions.AddonManagerError(f"Addon handler {name} ({addon}) not callable")


def _replaced(handler: ProxyConnectionHandler, manager: AddonManager) -> str | None:
    """The name of a function that is not mitmproxy's own any more."""
    if type(handler).handle_hook is not _HANDLE_HOOK:
        return "ProxyConnectionHandler.handle_hook"
    if addonmanager.traverse is not _TRAVERSE:
        return "traverse"
    for name, method in _METHODS.items():
        if getattr(getattr(manager, name, None), "__func__", None) is not method:
            return f"AddonManager.{name}"
    return None


def digest(function: object) -> str:
    """SHA-256 of the source of a function, and not of what it may wrap; empty if it has none."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return ""
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    try:
        block = inspect.getblock(lines)
    except (SyntaxError, tokenize.TokenError):  # the file was replaced after it was loaded
        return ""
    return hashlib.sha256("".join(block).encode()).hexdigest()


@functools.cache
def _say_once(different: str) -> None:
    logger.info(
        f"Egress: {different} of this mitmproxy is not the function that egress_policy knows: "
        "hooks run through mitmproxy's own functions, which is slower"
    )
