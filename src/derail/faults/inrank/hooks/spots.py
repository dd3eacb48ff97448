"""Watchpoints on functions, set without a change of their source.

From Python 3.12 on, a Python function is watched by ``sys.monitoring``: local events of its code object, removed when
nothing waits any more. Before 3.12 its code object is replaced by a detour, so that modules that have already imported
the function are covered. A function written in C is replaced where it is looked up: in its module or class.
"""

from __future__ import annotations

import itertools
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, FunctionType
    from typing import Any

    from .hit_counter import Lookout

MONITORING: Any = getattr(sys, "monitoring", None)
TOOLS = (4, 3)
"""Tool ids that sys.monitoring does not reserve."""
HIDDEN = "__derail_call_{}__"

_spots: dict[int, Spot] = {}
_codes: dict[CodeType, Spot] = {}
_tools: list[int] = []
_detours = itertools.count(1)


class Spot:
    """Watched function."""

    def __init__(self) -> None:
        self._listeners: list[tuple[str, Lookout]] = []
        self.remove: Callable[[], None] = _nothing
        self.changed: Callable[[], None] = _nothing

    def add(self, at: str, reached: Lookout) -> None:
        """Report the calls (or their ends) from now on, until ``reached`` is over."""
        self._listeners.append((at, reached))
        self.changed()

    def tell(self, at: str, frame: FrameType | None) -> None:
        """Report that a caller enters or leaves it; ``frame`` is the caller's."""
        for listener in list(self._listeners):
            wanted, reached = listener
            if wanted == at and not reached.over:
                try:
                    reached(frame)
                finally:
                    if reached.over:
                        self._drop(listener)

    def waits(self, at: str) -> bool:
        """Return whether a listener waits for this."""
        return any(wanted == at for wanted, _ in self._listeners)

    def _drop(self, listener: tuple[str, Lookout]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
        if self._listeners:
            self.changed()
        else:
            self.remove()


def watch(module: object, path: str) -> Spot:
    """Return the spot of a function, made if there is none yet.

    Raises:
        LookupError: if there is no such function, or it cannot be watched.
    """
    owner, name, thing = resolve(module, path)
    if isinstance(thing, type):
        owner, name, thing = thing, "__init__", thing.__init__  # type: ignore[misc]
    function = getattr(thing, "__func__", thing)
    known = _spots.get(id(function))
    if known is not None:
        return known
    if not callable(thing):
        raise LookupError(f"{_name(module)}:{path} is not callable: it is {type(thing).__name__}")  # noqa: TRY004
    spot = Spot()
    _spots[id(function)] = spot
    if not isinstance(function, types.FunctionType):
        _replace(spot, owner, name, function)
    elif function.__closure__ or hasattr(function, "__wrapped__") or not monitor(function.__code__, spot):
        divert(function, spot)  # all closures made from one function share its code
    after = spot.remove

    def remove() -> None:
        _spots.pop(id(function), None)
        after()

    spot.remove = remove
    return spot


def resolve(module: object, path: str) -> tuple[object, str, object]:
    """Return the owner of a thing, its name there, and the thing.

    Raises:
        LookupError: if there is none; the message has the nearest name.
    """
    owner, thing = module, module
    for name in path.split("."):
        owner = thing
        try:
            thing = getattr(owner, name)
        except AttributeError:
            from difflib import get_close_matches

            near = get_close_matches(name, dir(owner), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise LookupError(f"{_name(owner)} has no {name!r}{hint}") from None
    return owner, path.rpartition(".")[2], thing


def _name(thing: object) -> str:
    return str(getattr(thing, "__qualname__", None) or getattr(thing, "__name__", thing))


def monitor(code: CodeType, spot: Spot) -> bool:
    """Let ``sys.monitoring`` report a code object; return False if it cannot."""
    if MONITORING is None or not (_tools or _take_tool()):
        return False
    events = MONITORING.events
    _codes[code] = spot

    def changed() -> None:
        local = events.PY_START * spot.waits("enter") | events.PY_RETURN * spot.waits("exit")
        MONITORING.set_local_events(_tools[0], code, local)
        # Exits by exception can only be reported for all functions together.
        unwind = events.PY_UNWIND * any(known.waits("exit") for known in _codes.values())
        MONITORING.set_events(_tools[0], unwind)

    def remove() -> None:
        MONITORING.set_local_events(_tools[0], code, 0)
        del _codes[code]
        if not _codes:
            _free_tool()

    spot.changed, spot.remove = changed, remove
    return True


def _take_tool() -> bool:
    for tool in TOOLS:
        if MONITORING.get_tool(tool) is None:
            MONITORING.use_tool_id(tool, "derail")
            _tools.append(tool)
            events = MONITORING.events
            MONITORING.register_callback(tool, events.PY_START, lambda code, _: _told(code, "enter"))
            MONITORING.register_callback(tool, events.PY_RETURN, lambda code, *_: _told(code, "exit"))
            MONITORING.register_callback(tool, events.PY_UNWIND, lambda code, *_: _told(code, "exit"))
            return True
    return False


def _free_tool() -> None:
    tool, events = _tools.pop(), MONITORING.events
    MONITORING.set_events(tool, 0)
    for event in (events.PY_START, events.PY_RETURN, events.PY_UNWIND):
        MONITORING.register_callback(tool, event, None)
    MONITORING.free_tool_id(tool)


def _told(code: CodeType, at: str) -> None:
    spot = _codes.get(code)
    if spot is not None:
        spot.tell(at, sys._getframe(2).f_back)  # noqa: SLF001 - beyond the lambda and the function itself


def divert(function: FunctionType, spot: Spot) -> None:
    """Have the calls of a function reported to a spot, until it is removed."""
    spot.remove = detour(function, lambda original: _asking(spot, original, 1))


def detour(function: FunctionType, make: Callable[[FunctionType], Callable[..., Any]]) -> Callable[[], None]:
    """Replace the code of a function by a call of ``make(original)``, whatever refers to the function.

    Returns:
        A function that restores it. Detours of one function must be removed in reverse order.
    """
    code = function.__code__
    original = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    original.__kwdefaults__ = function.__kwdefaults__
    hidden = HIDDEN.format(next(_detours))
    function.__globals__[hidden] = make(original)
    template = _template.__code__
    function.__code__ = template.replace(
        co_names=tuple(hidden if name == "_detour" else name for name in template.co_names),
        co_freevars=code.co_freevars,
        co_name=code.co_name,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
    )
    shown = not hasattr(function, "__wrapped__")
    if shown:
        function.__wrapped__ = original  # type: ignore[attr-defined] # inspect.signature looks there

    def remove() -> None:
        function.__code__ = code
        function.__globals__.pop(hidden, None)
        if shown:
            del function.__wrapped__  # type: ignore[attr-defined]

    return remove


def _template(*args: Any, **options: Any) -> Any:
    return _detour(*args, **options)  # type: ignore[name-defined] # noqa: F821 - divert replaces the name


def _replace(spot: Spot, owner: object, name: str, thing: Any) -> None:
    """Put a reporting function where a function written in C is looked up."""
    # `object.__init__` refuses arguments once the class has its own `__init__`.
    asking = _asking(spot, _no_init if thing is object.__init__ else thing, 0)
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        try:
            setattr(asking, attribute, getattr(thing, attribute))
        except (AttributeError, TypeError):
            pass  # the original lacks it or the wrapper cannot have it
    asking.__wrapped__ = thing  # type: ignore[attr-defined]
    own = vars(owner).get(name) if hasattr(owner, "__dict__") else None
    bound = isinstance(owner, type) and not isinstance(thing, (types.MethodDescriptorType, types.WrapperDescriptorType))
    try:
        setattr(owner, name, staticmethod(asking) if bound else asking)
    except (AttributeError, TypeError) as error:
        _spots.pop(id(thing), None)
        raise LookupError(f"{_name(owner)}.{name} cannot be watched: {error}") from None

    def remove() -> None:
        if own is None and isinstance(owner, type):
            delattr(owner, name)
        else:
            setattr(owner, name, thing if own is None else own)

    spot.remove = remove


def _no_init(*_: Any, **__: Any) -> None:
    """Do nothing, like ``object.__init__``."""


def _asking(spot: Spot, original: Callable[..., Any], depth: int) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        spot.tell("enter", sys._getframe(depth).f_back)  # noqa: SLF001 - the caller
        try:
            return original(*args, **options)
        finally:
            spot.tell("exit", sys._getframe(depth).f_back)  # noqa: SLF001 - the caller

    return call


def _nothing() -> None:
    """Do nothing."""
