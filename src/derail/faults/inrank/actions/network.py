"""Name resolution failures inside a rank."""

from __future__ import annotations

from .. import real_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Effect, Runtime
    from ..rank_plan import Task

CALLS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex")


def lose_names(runtime: Runtime, task: Task) -> Effect:
    """Make the resolver functions of ``socket`` raise for some names, for ever or for a limited time."""
    import socket

    given = task.params["names"]
    names = [str(name) for name in given] if isinstance(given, list) else []
    number = int(getattr(socket, task.text("error")))
    end = None if task.seconds is None else real_time.monotonic() + task.seconds
    reported: list[str] = []

    def failing(call: str, real: Callable[..., object]) -> Callable[..., object]:
        def resolve(host: object, *args: object, **options: object) -> object:
            name = host.decode(errors="replace") if isinstance(host, (bytes, bytearray)) else host
            over = end is not None and real_time.monotonic() >= end
            if over or not isinstance(name, str) or not (name in names or ("*" in names and not _is_address(name))):
                return real(host, *args, **options)
            if not reported:
                reported.append(name)
                _say(runtime, task, call, name)
            raise socket.gaierror(number, f"{task.text('error')} (injected by derail)")

        resolve.__name__ = resolve.__qualname__ = call
        return resolve

    def lose() -> None:
        for call in CALLS:
            setattr(socket, call, failing(call, getattr(socket, call)))

    return lose


def _say(runtime: Runtime, task: Task, call: str, name: str) -> None:
    try:
        runtime.write("lookup", fault=task.id, call=call, name=name)
    except OSError:
        pass  # then there is no evidence; the program must not see the error


def _is_address(name: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
        except (OSError, ValueError):
            continue
        return True
    return not name
