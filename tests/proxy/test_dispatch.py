"""Hooks that run here do what mitmproxy's own functions do, in the same order."""

import asyncio
import functools
import importlib.util
import linecache
import logging
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import addonmanager, exceptions, flow, hooks, options
from mitmproxy.addonmanager import AddonManager
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from egress_policy.proxy import dispatch
from tests.helpers.clients import http_get, session
from tests.helpers.origin import Origin
from tests.helpers.scene import egress

STOCK = ProxyConnectionHandler.handle_hook
HOOKS = sorted(hooks.all_hooks)
SPEAKS = ("returns", "returns a value", "async", "gives an awaitable", "falsy callable")
RAISES = ("raises", "async raises", "raises StopIteration", "halts", "async halts", "bad option")
CHANGES = ("adds", "removes itself", "removes another", "empties itself", "intercepts", "cancelled")
ATTRIBUTES = ("number", "nought", "module", "read", "no such attribute", "broken attribute")
KINDS = ("none", *SPEAKS, *RAISES, *CHANGES, *ATTRIBUTES)
ENDS = ("halts", "async halts", "bad option", "cancelled")
NESTING = ("none", "list", "new list", "any attribute", "nothing", "no such attribute", "broken")


@dataclass(frozen=True)
class Recipe:
    """An addon: what its handler of the hook is, what that of ``update`` is, and what it holds."""

    handler: str
    update: str = "none"
    nesting: str = "none"
    nested: tuple["Recipe", ...] = ()


class World:
    """A mitmproxy with addons by recipes, and all that happens in it."""

    def __init__(self, name: str, recipes: tuple[Recipe, ...]) -> None:
        self.name = name
        self.trace: list[tuple[object, ...]] = []
        self.count = self.added = 0
        self.flow = tflow.tflow()
        opts = options.Options()
        opts.add_option("tcp_timeout", int, 600, "")
        self.manager = AddonManager(SimpleNamespace(options=opts))
        self.handler = connection_handler(self.manager, opts)
        for recipe in recipes:
            self.add(recipe)

    def add(self, recipe: Recipe) -> None:
        addon = self.make(recipe, [])
        self.manager.chain.append(addon)
        self.manager.lookup[addon.name] = addon

    def make(self, recipe: Recipe, siblings: list[Any]) -> Any:
        self.count += 1
        label = f"addon {self.count}"
        nested: list[Any] = []
        nested += [self.make(one, nested) for one in recipe.nested]
        members = {
            "name": label,
            "siblings": siblings,
            "__repr__": lambda self: self.name,
            **self.member(self.name, recipe.handler),
            **self.member("update", recipe.update),
            **self.addons(recipe.nesting, nested),
        }
        return type("Addon", (), members)()

    def note(self, addon: Any, what: str, data: object = None) -> None:
        """Data by what it is, since two worlds have flows of their own."""
        known = {id(self.flow): "flow"}
        if isinstance(data, list):
            data = [known.get(id(one), one) for one in data]
        blocked = self.handler.timeout_watchdog.blocker
        self.trace.append((addon.name, what, known.get(id(data), data), blocked))

    def addons(self, nesting: str, nested: list[Any]) -> dict[str, object]:
        def read(addon: Any) -> list[Any]:
            self.note(addon, "addons")
            if nesting == "no such attribute":
                raise AttributeError("addons")
            if nesting == "broken":
                raise RuntimeError("no addons")
            return [*nested]

        match nesting:
            case "none":
                return {}
            case "list":
                return {"addons": nested}
            case "nothing":
                return {"addons": None}
            case "any attribute":
                return {"__getattr__": lambda addon, name: lambda data: self.note(addon, name)}
        return {"addons": property(read)}

    def member(self, name: str, kind: str) -> dict[str, object]:
        """The handler of a hook as a member of a class."""
        if kind == "none":
            return {}

        def say(addon: Any, data: object) -> None:
            self.note(addon, name, data)

        async def wait(addon: Any, data: object) -> None:
            self.note(addon, name, data)
            await asyncio.sleep(0)
            self.note(addon, f"{name} goes on")

        def fail(error: BaseException) -> Callable[[Any, object], None]:
            def failing(addon: Any, data: object) -> None:
                self.note(addon, name, data)
                raise error

            return failing

        def fail_later(error: Exception) -> Callable[[Any, object], Any]:
            async def failing(addon: Any, data: object) -> None:
                await wait(addon, data)
                raise error

            return failing

        def read(error: Exception | None) -> property:
            def reading(addon: Any) -> Callable[[object], None]:
                self.note(addon, f"reads {name}")
                if error:
                    raise error
                return functools.partial(say, addon)

            return property(reading)

        def returning(addon: Any, data: object) -> int:
            say(addon, data)
            return 7

        def remove(addon: Any, data: object) -> None:
            say(addon, data)
            if addon in self.manager.chain:
                self.manager.remove(addon)

        def remove_another(addon: Any, data: object) -> None:
            say(addon, data)
            self.manager.chain.pop()

        def add(addon: Any, data: object) -> None:
            say(addon, data)
            self.added += 1
            if self.added < 9:
                self.add(Recipe("returns", "async"))
                addon.siblings.append(self.make(Recipe("async"), []))

        def empty(addon: Any, data: object) -> None:
            say(addon, data)
            addon.addons = []

        def intercept(addon: Any, data: object) -> None:
            say(addon, data)
            if isinstance(data, flow.Flow):
                data.intercept()

        def awaitable(addon: Any, data: object) -> asyncio.Future[None]:
            say(addon, data)
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, None)
            return future

        handlers: dict[str, object] = {
            "returns": say,
            "returns a value": returning,
            "async": wait,
            "gives an awaitable": awaitable,
            "falsy callable": Falsy(),
            "raises": fail(ValueError(f"bad {name}")),
            "async raises": fail_later(ValueError(f"bad {name}")),
            "raises StopIteration": fail(StopIteration()),
            "halts": fail(exceptions.AddonHalt()),
            "async halts": fail_later(exceptions.AddonHalt()),
            "bad option": fail(exceptions.OptionsError("bad option")),
            "cancelled": fail(asyncio.CancelledError("enough")),
            "adds": add,
            "removes itself": remove,
            "removes another": remove_another,
            "empties itself": empty,
            "intercepts": intercept,
            "number": 7,
            "nought": 0,
            "module": math,
            "read": read(None),
            "no such attribute": read(AttributeError(name)),
            "broken attribute": read(RuntimeError(f"no {name}")),
        }
        return {name: handlers[kind]}

    async def run(self, hook: hooks.Hook) -> tuple[object, ...]:
        """What comes of a hook: its end, the turns of the event loop it took, calls and flow."""
        task = asyncio.ensure_future(self.handler.handle_hook(hook))  # type: ignore[arg-type]
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
            if turns == 60:
                self.trace.append(("nobody", "resumes", self.flow.intercepted))
                self.flow.resume()
        end = "cancelled" if task.cancelled() else repr(task.exception())
        return end, turns, self.trace, self.handler.timeout_watchdog.blocker


class Falsy:
    def __bool__(self) -> bool:
        return False

    def __call__(self, data: object) -> None:
        raise AssertionError("is not called")


class Records(logging.Handler):
    """What was logged, and which functions of this file a traceback shows."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[object, ...]] = []

    def emit(self, record: logging.LogRecord) -> None:
        kind, value, tb = record.exc_info or (None, None, None)
        frames = [
            frame.f_code.co_name
            for frame, _ in traceback.walk_tb(tb)
            if frame.f_code.co_filename == __file__
        ]
        message = (record.name, record.levelname, record.funcName, record.getMessage())
        self.found.append((*message, kind, str(value), frames))


class Tracebacks(Records):
    """Tracebacks as people see them."""

    def emit(self, record: logging.LogRecord) -> None:
        assert record.exc_info
        self.found.append((logging.Formatter().formatException(record.exc_info),))


@contextmanager
def logged(records: Records) -> Iterator[list[tuple[object, ...]]]:
    """What mitmproxy says of addons; kept from pytest, which would format every traceback."""
    logger = logging.getLogger(addonmanager.__name__)
    logger.addHandler(records)
    logger.propagate = False
    try:
        yield records.found
    finally:
        logger.propagate = True
        logger.removeHandler(records)


def connection_handler(manager: AddonManager, opts: options.Options) -> ProxyConnectionHandler:
    writer = SimpleNamespace(
        get_extra_info=lambda name, default=None: (
            ("192.0.2.1", 1) if name in ("peername", "sockname") else default
        )
    )
    master = SimpleNamespace(addons=manager)
    mode = ProxyMode.parse("regular")
    return ProxyConnectionHandler(master, None, writer, opts, mode)


def hook_of(name: str, data: object) -> hooks.Hook:
    kind = hooks.all_hooks[name]
    return kind(*[data for _ in getattr(kind, "__dataclass_fields__", ())])


def both(name: str, recipes: tuple[Recipe, ...], is_flow: bool) -> list[object]:
    """What comes of a hook with mitmproxy's own functions, and here."""

    async def ran(here: bool) -> object:
        world = World(name, recipes)
        if here:
            dispatch.take_over(world.handler)
            assert "handle_hook" in vars(world.handler)
        with logged(Records()) as records:
            end = await world.run(hook_of(name, world.flow if is_flow else "data"))
        return end, records

    return [asyncio.run(ran(here)) for here in (False, True)]


RECIPES = st.recursive(
    st.builds(Recipe, st.sampled_from(KINDS), st.sampled_from(KINDS)),
    lambda inner: st.builds(
        Recipe,
        st.sampled_from(KINDS),
        st.sampled_from(KINDS),
        st.sampled_from(NESTING),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=6,
)


def nest(*nested: Recipe) -> Recipe:
    return Recipe("none", nesting="list", nested=nested)


GO_ON = [kind for kind in KINDS if kind not in ENDS]
EACH = (
    *(Recipe(kind, kind) for kind in GO_ON),
    *(nest(Recipe(kind, kind)) for kind in GO_ON),
    nest(nest(Recipe("async"), Recipe("returns")), Recipe("returns")),
    *(
        Recipe("returns", "async", nesting, (Recipe("async"), Recipe("returns")))
        for nesting in NESTING
    ),
    Recipe("async halts", "halts"),
    Recipe("returns", "returns"),
)


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("is_flow", [False, True])
def test_every_hook_has_the_same_effects(name: str, is_flow: bool) -> None:
    theirs, ours = both(name, EACH, is_flow)
    assert ours == theirs


@given(st.lists(RECIPES, max_size=6).map(tuple), st.sampled_from(HOOKS), st.booleans())
def test_any_mix_of_addons_has_the_same_effects(
    recipes: tuple[Recipe, ...], name: str, is_flow: bool
) -> None:
    theirs, ours = both(name, recipes, is_flow)
    assert ours == theirs


class Ring:
    """Addons that hold each other."""

    def __init__(self, size: int, calls: list[object]) -> None:
        self.name, self.calls = f"ring {size}", calls
        self.addons = [self if size == 1 else Ring(size - 1, calls)]
        if size > 1:
            self.addons[0].addons = [self]

    def request(self, data: object) -> None:
        self.calls.append(data)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("here", [False, True])
async def test_addons_that_hold_each_other_are_reported_and_the_flow_goes_on(
    size: int, here: bool
) -> None:
    world = World("request", (Recipe("none"), Recipe("returns")))
    calls: list[object] = []
    world.manager.chain.insert(1, Ring(size, calls))
    if here:
        dispatch.take_over(world.handler)
    with logged(Records()) as records:
        await world.run(hook_of("request", world.flow))
    errors = [kind for *_, kind, _, _ in records if kind is not None]
    assert set(errors) == {RecursionError}
    assert 1 < len(calls) < 5000
    assert [entry[:2] for entry in world.trace] == [("addon 2", "request")]


@pytest.mark.parametrize("kind", ["raises", "async raises"])
async def test_the_traceback_of_an_error_is_the_one_that_mitmproxy_shows(kind: str) -> None:
    recipe = Recipe("none", nesting="list", nested=(Recipe(kind),))
    shown: list[tuple[object, ...]] = []
    for here in (False, True):
        world = World("request", (recipe,))
        if here:
            dispatch.take_over(world.handler)
        with logged(Tracebacks()) as records:
            await world.run(hook_of("request", world.flow))
        shown += records
    assert shown[0] == shown[1]
    assert "in invoke_addon" not in str(shown)


# --- whose functions run


class Counter:
    """An addon that counts requests."""

    name = "counter"
    seen = 0

    def request(self, flow: flow.Flow) -> None:
        self.seen += 1


class Guarded:
    """A connection whose hooks run here, with one addon that counts."""

    def __init__(self) -> None:
        self.world = World("request", ())
        self.counter = Counter()
        self.world.manager.chain.append(self.counter)
        dispatch.take_over(self.world.handler)

    async def request(self) -> None:
        await self.world.run(hook_of("request", self.world.flow))


@pytest.fixture(autouse=True)
def forget_what_was_said() -> Iterator[None]:
    yield
    dispatch.unknown.cache_clear()
    dispatch._say_once.cache_clear()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == dispatch.logger.name]


def test_the_installed_mitmproxy_is_the_one_that_was_copied() -> None:
    assert dispatch.unknown() is None


async def test_only_the_handler_of_a_guarded_connection_is_changed() -> None:
    first, second = World("request", ()).handler, World("request", ()).handler
    dispatch.take_over(first)
    assert first.handle_hook.__func__ is dispatch.handle_hook  # type: ignore[attr-defined]
    assert second.handle_hook.__func__ is STOCK  # type: ignore[attr-defined]
    assert ProxyConnectionHandler.handle_hook is STOCK


async def test_a_handler_that_an_addon_has_changed_keeps_the_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    changed = World("request", ()).handler
    theirs = functools.partial(STOCK, changed)
    changed.handle_hook = theirs  # type: ignore[method-assign]
    for _ in range(2):
        dispatch.take_over(changed)
    assert vars(changed)["handle_hook"] is theirs
    assert len(lines(caplog)) == 1


@pytest.mark.parametrize("name", dispatch._COPIED)
async def test_unknown_functions_of_mitmproxy_run_themselves(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(dispatch._COPIED, name, "another")
    dispatch.unknown.cache_clear()
    for _ in range(2):
        guarded = Guarded()
        await guarded.request()
        assert "handle_hook" not in vars(guarded.world.handler)
        assert guarded.counter.seen == 1
    assert lines(caplog) == [
        f"Egress: {name} of this mitmproxy is not the function that egress_policy "
        "knows: hooks run through mitmproxy's own functions, which is slower"
    ]


OWNERS = {
    "ProxyConnectionHandler": ProxyConnectionHandler,
    "AddonManager": AddonManager,
    "": addonmanager,
}


@pytest.mark.parametrize("name", dispatch._COPIED)
def test_a_function_that_mitmproxy_no_longer_has_is_unknown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, _, function = name.rpartition(".")
    monkeypatch.delattr(OWNERS[owner], function)
    spec = importlib.util.find_spec(dispatch.__name__)
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    assert loaded.unknown() == name


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (ProxyConnectionHandler, "handle_hook"),
        (AddonManager, "handle_lifecycle"),
        (AddonManager, "trigger_event"),
        (AddonManager, "invoke_addon"),
        (AddonManager, "_iter_hooks"),
        (addonmanager, "traverse"),
        ("the instance", "trigger_event"),
    ],
)
async def test_a_function_that_an_addon_replaces_runs_from_then_on(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    guarded = Guarded()
    owner = guarded.world.manager if owner == "the instance" else owner
    original, calls = getattr(owner, name), 0

    @functools.wraps(original)
    def replacement(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*args)

    await guarded.request()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, replacement)
        for _ in range(2):
            await guarded.request()
        assert calls >= 2
        assert guarded.counter.seen == 3
        assert len(lines(caplog)) == 1
        assert "which is slower" in lines(caplog)[0]
        assert dispatch.digest(replacement) not in ("", dispatch.digest(original))
    before = calls
    await guarded.request()
    assert (calls, guarded.counter.seen) == (before, 4)


async def test_an_error_goes_to_a_safecall_that_an_addon_has_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[BaseException] = []

    @contextmanager
    def safecall() -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    monkeypatch.setattr(addonmanager, "safecall", safecall)
    world = World("request", (Recipe("raises"), Recipe("halts"), Recipe("returns")))
    dispatch.take_over(world.handler)
    end, *_ = await world.run(hook_of("request", world.flow))
    assert end == "None"
    assert [type(error) for error in errors] == [ValueError, exceptions.AddonHalt]
    assert [entry[0] for entry in world.trace] == ["addon 1", "addon 2", "addon 3"]


@pytest.mark.parametrize("function", [len, 7, functools.partial(int), compile("1", "gone", "eval")])
def test_what_has_no_source_is_unknown(function: Any) -> None:
    assert dispatch.digest(function) not in dispatch._COPIED.values()


def test_a_file_of_mitmproxy_that_is_replaced_while_it_runs_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an upgrade does: what is then at the place of a function may be the middle of a text."""
    file = _code_of(AddonManager.trigger_event).co_filename
    lines = linecache.getlines(file)
    for shift in range(40):
        entry = (1, None, ["\n"] * shift + lines, file)
        monkeypatch.setitem(linecache.cache, file, entry)
        for name, known in dispatch._COPIED.items():
            function = dispatch._FUNCTIONS[name]
            if shift and _code_of(function).co_filename == file:
                assert dispatch.digest(function) != known


def _code_of(function: Any) -> CodeType:
    code: CodeType = function.__code__
    return code


# --- in a running mitmproxy


async def test_the_hooks_of_clients_run_here(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        egress(tmp_path) as mitm,
        session(mitm.port, origin.url()) as client,
    ):
        assert (await client.get()).status == 200
        (handler,) = mitm.master.addons.get("proxyserver").connections.values()
        assert handler.handle_hook.__func__ is dispatch.handle_hook


async def test_with_an_addon_that_replaces_functions_all_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = AddonManager.trigger_event

    async def spy(self: AddonManager, event: hooks.Hook) -> None:
        seen.append(event.name)
        await original(self, event)

    monkeypatch.setattr(AddonManager, "trigger_event", spy)
    rules = [{"hosts": ["127.0.0.1"], "use": "direct"}]
    async with Origin() as origin, egress(tmp_path, rules=rules, default="refuse") as mitm:
        assert (await http_get(mitm.port, origin.url())).status == 200
        assert (await http_get(mitm.port, "http://refused.test/")).status == 503
        assert {"request", "response", "client_disconnected"} <= {*seen}
        assert mitm.text.count("which is slower") == 1
