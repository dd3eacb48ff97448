"""A rank that runs a Python function: started by spawn, fork, fork server or warm, with one kind of handle."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from derail.model.spec import Function
from derail.spawn import command, payload, streams
from derail.spawn.spawn_error import StartError, UnfitError, start_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.model.exit import ExitStatus
    from derail.model.spec import RankSpec
    from derail.spawn.handle import FunctionHandle, NotReturned, ProcessHandle, Returned
    from derail.spawn.return_values import Returns, Slot
    from derail.spawn.zygote.client import AskedRank

_SHORTAGES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


def ask_function(spec: RankSpec, returns: Returns) -> AskedRank | None:
    """Have the process of a function rank made ready, for ``start_function`` to let it run.

    Returns None if its start method has no such step, or if it fails: ``start_function`` reports the reason.
    """
    function = spec.run
    if not isinstance(function, Function) or function.start_method != "warm":
        return None
    from pickle import PicklingError

    from derail.spawn.zygote import warm

    try:
        return warm.ask(spec, function, returns.slot(spec.rank))
    except (OSError, ValueError, PicklingError):
        return None


def start_function(
    spec: RankSpec,
    returns: Returns,
    *,
    in_child: Callable[[], None] | None = None,
    asked: AskedRank | None = None,
) -> FunctionHandle:
    """Start the process of a function rank.

    Its stdin is empty, as with multiprocessing.

    Args:
        spec: ``spec.run`` is a ``Function``.
        returns: opened; receives the value of this rank.
        in_child: called first in a rank that is forked from this very process, before it leaves its session. At that
            time signals have their default actions, and descriptors registered by ``descriptors.own`` are closed.
        asked: result of ``ask_function`` for this rank.

    Raises:
        pickle.PicklingError: if the function or an argument cannot be sent to the rank.
        StartError: if the process could not be started, a stream not opened, or the environment not set up.

        In both cases nothing of the rank is left.
    """
    function = spec.run
    if not isinstance(function, Function):
        raise TypeError(f"rank {spec.rank} runs {function!r}, which is no function; start it by start_command")
    start = _WAYS.get(function.start_method)
    if start is None:
        raise ValueError(f"unknown start method {function.start_method!r}; use {', '.join(map(repr, _WAYS))}")
    slot = returns.slot(spec.rank)
    try:
        try:
            process = _warm(spec, function, slot, asked) if asked is not None else start(spec, function, slot, in_child)
            return FunctionProcess(process, returns)
        except UnfitError as error:
            return FunctionProcess(_spawn(spec, function, slot, in_child), returns, spawned_because=str(error))
    except (OSError, ValueError) as error:
        raise _start_error(spec, function, error) from error


class FunctionProcess:
    """A process and the return value of its function: a ``FunctionHandle``."""

    def __init__(self, process: ProcessHandle, returns: Returns, *, spawned_because: str = "") -> None:
        self.process = process
        self.spawned_because = spawned_because
        """Why it was spawned although another start method was requested; empty if it was not."""
        self._returns = returns

    @property
    def rank(self) -> int:
        """Local rank."""
        return self.process.rank

    @property
    def pid(self) -> int:
        """Its process, process group and session."""
        return self.process.pid

    @property
    def exit_fd(self) -> int:
        """Descriptor that polls readable once the process has ended."""
        return self.process.exit_fd

    @property
    def pidfd(self) -> int | None:
        """The same descriptor if it is a pidfd."""
        pidfd: int | None = getattr(self.process, "pidfd", None)
        return pidfd

    def peek(self) -> ExitStatus | None:
        """Return the exit status without reaping; None while it lives."""
        return self.process.peek()

    def signal(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to the process or its group; return False if there was no receiver."""
        return self.process.signal(number, group=group)

    def reap(self) -> ExitStatus | None:
        """Reap the process once it has ended. Idempotent."""
        return self.process.reap()

    def close(self) -> None:
        """Close the handle's resources; the value stays available until the job's ``Returns`` is closed."""
        self.process.close()

    def result(self) -> Returned | NotReturned:
        """Return the return value of the function, or that there is none."""
        return self._returns.take(self.rank)


def _spawn(spec: RankSpec, function: Function, slot: Slot, _: Callable[[], None] | None) -> ProcessHandle:
    """Start a fresh interpreter that reads its payload: the process is completely set up at exec."""
    import subprocess

    with ExitStack() as stack:
        sent = payload.create_payload(spec, function, slot)
        stack.callback(sent.close)
        stdout, stderr = stack.enter_context(streams.opened(spec.streams))
        return command.start_program(
            spec,
            payload.interpreter(sent.file_fd, "worker", f"derail-rank-{spec.rank}"),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(sent.file_fd, *sent.fds),
        )


def _fork(spec: RankSpec, function: Function, slot: Slot, in_child: Callable[[], None] | None) -> ProcessHandle:
    from derail.spawn import fork

    return fork.start(spec, function, slot, in_child)


def _forkserver(spec: RankSpec, function: Function, slot: Slot, _: Callable[[], None] | None) -> ProcessHandle:
    from derail.spawn.zygote import forkserver

    return forkserver.start(spec, function, slot)


def _warm(spec: RankSpec, function: Function, slot: Slot, asked: AskedRank | None) -> ProcessHandle:
    from derail.spawn.zygote import warm

    return warm.start(spec, function, slot, asked)


def _newly_warm(spec: RankSpec, function: Function, slot: Slot, _: Callable[[], None] | None) -> ProcessHandle:
    return _warm(spec, function, slot, None)


_WAYS = {"spawn": _spawn, "fork": _fork, "forkserver": _forkserver, "warm": _newly_warm}


def _start_error(spec: RankSpec, function: Function, error: OSError | ValueError) -> OSError:
    """Return the error for a rank that was not started, with the text for programs where it fits."""
    from multiprocessing import spawn

    about_a_file = isinstance(error, OSError) and error.filename is not None
    no_directory = spec.cwd is not None and not os.path.isdir(spec.cwd)
    if function.start_method == "spawn" or about_a_file or no_directory or getattr(error, "errno", 0) in _SHORTAGES:
        return start_error(spec, (os.fsdecode(spawn.get_executable()),), error)
    # A forked rank has no program: a text about one would mislead.
    number, text = (error.errno, error.strerror) if isinstance(error, OSError) else (errno.EINVAL, str(error))
    return StartError(number, f"rank {spec.rank} could not be started: {text}")
