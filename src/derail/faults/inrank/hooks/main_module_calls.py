"""Watchpoints on functions of the program itself: its module is run rather than imported."""

from __future__ import annotations

import sys
import types

from .spots import Spot, divert, monitor, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from .hit_counter import Lookout

_wanted: list[tuple[str, str, Lookout, Callable[[], None], Callable[[str], None]]] = []
_profiled: dict[CodeType, tuple[str, Spot]] = {}


def look_out(
    path: str, at: str, reached: Lookout, *, found: Callable[[], None], impossible: Callable[[str], None]
) -> None:
    """Report the calls of a function of the program; it is resolved just before the program's first line runs."""
    _wanted.append((path, at, reached, found, impossible))


def wanted() -> bool:
    """Return whether a function of the program is awaited."""
    return bool(_wanted)


def begin(main: FrameType) -> None:
    """Resolve the awaited functions when the program is about to run its first line: its code contains them already."""
    spots: dict[CodeType, Spot] = {}
    for path, at, reached, found, impossible in _wanted:
        code = _code(main.f_code, path.split("."))
        if code is None:
            impossible(f"{main.f_code.co_filename} defines no function {path!r}")
            continue
        spot = spots.get(code)
        if spot is None:
            spot = spots[code] = Spot()
            if not monitor(code, spot):
                _profiled[code] = path, spot
        spot.add(at, reached)
        found()
    _wanted.clear()
    if _profiled:
        sys.setprofile(_profile)


def _code(code: CodeType, path: list[str]) -> CodeType | None:
    """Return the code object of a function within that of the module; of several with one name the last one wins."""
    for name in path:
        inside = [const for const in code.co_consts if isinstance(const, types.CodeType) and const.co_name == name]
        if not inside:
            return None
        code = inside[-1]
    return code


def _profile(frame: FrameType, event: str, _: object) -> None:
    """Check every call (before Python 3.12) until the first call of the function, which then gets a detour."""
    path, spot = _profiled.get(frame.f_code, ("", None))
    if spot is None or event not in ("call", "return"):
        return
    if event == "return" or not spot.waits("exit"):
        _divert(frame, path, spot)
    spot.tell("enter" if event == "call" else "exit", frame.f_back)


def _divert(frame: FrameType, path: str, spot: Spot) -> None:
    try:
        _, _, thing = resolve(sys.modules["__main__"], path)
    except LookupError:
        return
    function = getattr(thing, "__func__", thing)
    if isinstance(function, types.FunctionType) and function.__code__ is frame.f_code:
        divert(function, spot)
        del _profiled[frame.f_code]
        if not _profiled:
            sys.setprofile(None)
