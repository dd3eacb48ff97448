"""Starts one function rank without a supervisor, for the tests of spawn."""

# ruff: noqa: D103 - their names say what they do

from __future__ import annotations

import os
import select
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derail.model.spec import Function, RankSpec, Streams
from derail.spawn.function import start_function
from derail.spawn.handle import NotReturned, Returned
from derail.spawn.return_values import Returns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from derail.model.exit import ExitStatus
    from derail.spawn.handle import FunctionHandle

DEADLINE = 60.0
METHODS = ("spawn", "fork", "forkserver", "warm")


@dataclass
class Ran:
    """What one rank left."""

    status: ExitStatus
    result: Returned | NotReturned
    done: list[int]
    stdout: str
    stderr: str
    error: str

    @property
    def value(self) -> Any:
        assert isinstance(self.result, Returned), f"{self.result.reason!r}, {self.status}\n{self.stderr}"
        return self.result.value

    @property
    def reason(self) -> str:
        assert isinstance(self.result, NotReturned), self.result.value
        return self.result.reason


def rank_spec(directory: Path, method: str, function: Any, args: tuple[Any, ...] = (), **changes: Any) -> RankSpec:
    rank = changes.pop("rank", 0)
    error_file = directory / f"error-{rank}.json"
    env = {**os.environ, "TORCHELASTIC_ERROR_FILE": str(error_file), **changes.pop("env", {})}
    env = {name: value for name, value in env.items() if value is not None}
    streams = Streams(directory / f"out-{rank}", directory / f"err-{rank}")
    return RankSpec(
        rank, Function(function, args, method), env, **{"streams": streams, "error_file": error_file, **changes}
    )


@contextmanager
def opened(*ranks: int) -> Iterator[Returns]:
    returns = Returns(ranks or (0,))
    returns.open()
    try:
        yield returns
    finally:
        returns.close()


@contextmanager
def started(spec: RankSpec, returns: Returns, **how: Any) -> Iterator[FunctionHandle]:
    """The handle; in the end the rank is killed if need be, reaped, and its handle closed."""
    handle = start_function(spec, returns, **how)
    try:
        yield handle
    finally:
        handle.signal(9, group=True)
        wait_readable(handle.exit_fd)
        end(handle)


def end(handle: FunctionHandle) -> ExitStatus:
    status = wait_status(handle)
    assert handle.reap() == status
    handle.close()
    return status


def wait_readable(fd: int, seconds: float = DEADLINE) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_status(handle: FunctionHandle) -> ExitStatus:
    assert wait_readable(handle.exit_fd), "the rank does not end"
    end = time.monotonic() + DEADLINE
    while (status := handle.peek()) is None:  # the fork server tells a moment later
        assert time.monotonic() < end, "no status"
    return status


def wait_done_or_end(handle: FunctionHandle, returns: Returns) -> None:
    poll = select.poll()
    poll.register(handle.exit_fd, select.POLLIN)
    poll.register(returns.done_fd, select.POLLIN)
    assert poll.poll(DEADLINE * 1000), "the rank neither returns nor ends"


def run(directory: Path, method: str, function: Any, *args: Any, **changes: Any) -> Ran:
    """Run one rank to its end."""
    spec = rank_spec(directory, method, function, args, **changes)
    with opened(spec.rank) as returns:
        handle = start_function(spec, returns)
        wait_done_or_end(handle, returns)
        done = returns.read_done()
        returns.release()
        status = end(handle)
        result = handle.result()
        assert handle.result() is result or isinstance(result, NotReturned)
    return Ran(status, result, done, *(read(p) for p in (spec.streams.stdout, spec.streams.stderr, spec.error_file)))


def read(path: Path | None) -> str:
    return path.read_text() if path is not None and path.exists() else ""
