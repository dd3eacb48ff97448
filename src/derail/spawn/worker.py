"""The first and the last code of a rank that runs a function, for every start method."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Any

from derail.spawn import payload, return_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import BinaryIO, TypeAlias

    from derail.spawn.return_values import Slot

    Load: TypeAlias = Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]

_OWN = ("derail", "pytest_derail")
_ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})


def main(file: BinaryIO) -> None:
    """Run the function of the payload in ``file``; called in a fresh interpreter, see ``payload.interpreter``."""
    try:
        run_payload(file, None)
    except Exception as error:  # as the interpreter would, except for our own frames
        error = error.with_traceback(without_own_frames(error.__traceback__))
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


def without_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback from the first frame outside derail on; all of it if there is none."""
    part = trace
    while part is not None and part.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        part = part.tb_next
    return trace if part is None else part


def run_payload(file: BinaryIO, fds: Sequence[int] | None) -> None:
    """Run the function of the payload at the current position of ``file``.

    Args:
        file: closed once it is read.
        fds: the descriptors that were sent along; None if they have the same numbers here as in the launcher.
    """
    head = payload.read_head(file)
    numbers = head.fds if fds is None else tuple(fds)
    for fd in numbers:
        os.set_inheritable(fd, False)
    slot = return_values.Slot(head.rank, *numbers[:3])
    tracker_fd = numbers[3] if head.has_tracker else None
    payload.take_over(numbers[payload.first_argument_fd(head) :], tracker_fd)
    mark_as_rank(head.rank, head.launcher_pid, slot)

    def load() -> tuple[Callable[..., Any], tuple[Any, ...]]:
        with file:
            return payload.read_work(file)

    run_function(load, slot)


def run_function(load: Load, slot: Slot) -> None:
    """Run a function to its end: record its failure, deliver its return value, wait for the other ranks.

    Any exception of the function is raised again after it is recorded. ``load`` returns the function and its
    arguments; it imports the user's modules, so that their failures are recorded as well.
    """
    from derail.errors.recorder import record

    delivery = Delivery(slot)

    def work() -> None:
        function, args = load()
        delivery.called = True
        delivery.deliver(function(*args))

    record(work)()
    if delivery.called and not delivery.delivered:
        delivery.deliver(None)  # ``record`` treats sys.exit(0) as a return, as torch's does
    delivery.wait_for_the_others()


class Delivery:
    """The delivery of one rank's value, and its progress."""

    def __init__(self, slot: Slot) -> None:
        self.called = False
        self.delivered = False
        self._slot = slot
        self._signals_fd = -1
        # User code may close descriptors that it did not open, and its own files may reuse our numbers.
        self._identity = [_identity(fd) for fd in slot.fds]

    def deliver(self, value: object) -> None:
        """Write the value to the launcher's file, and inform the launcher.

        Raises:
            TypeError: if the value cannot be pickled; the launcher gets the reason.
            OSError: if there is no space for it, or the descriptor is gone.
        """
        self._check()
        fd, rank = self._slot.value_fd, self._slot.rank
        try:
            return_values.write_value(fd, value)
        except Exception as error:  # pickling runs third-party code
            reason = f"rank {rank} returned a value of type {type(value).__qualname__}"
            if isinstance(error, OSError):
                reason += f" that could not be written: {return_values.describe(error)}"
            else:
                reason += f" that cannot be pickled: {return_values.describe(error)}"
            return_values.write_reason(fd, reason)
            raise TypeError(reason) from error
        self.delivered = True
        self._signals_fd = _watch_signals()
        return_values.write_done(self._slot.done_fd, rank)

    def wait_for_the_others(self) -> None:
        """Wait until every rank of the job has returned, the launcher has ended, or a signal asks this rank to end.

        The rank may serve the others until then. A signal handler that only sets a flag has no code left to read it.
        """
        if self.delivered and self._is_ours(2):
            poll = select.poll()
            poll.register(self._slot.release_fd, select.POLLIN)
            poll.register(self._signals_fd, select.POLLIN)
            while not self._released(dict(poll.poll())):
                pass

    def _released(self, ready: dict[int, int]) -> bool:
        if self._slot.release_fd in ready:
            os.read(self._slot.release_fd, 1)
            return True
        return not _ENDING.isdisjoint(os.read(self._signals_fd, 4096))

    def _check(self) -> None:
        for index in range(2):
            if not self._is_ours(index):
                raise OSError(
                    f"rank {self._slot.rank} cannot return its value: the function closed descriptor "
                    f"{self._slot.fds[index]}, which derail needs for that; close only what you opened"
                )

    def _is_ours(self, index: int) -> bool:
        return _identity(self._slot.fds[index]) == self._identity[index]


def _watch_signals() -> int:
    """Return a descriptor for the numbers of handled signals, readable once their handlers have run."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    return read_end


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        stat = os.fstat(fd)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def mark_as_rank(rank: int, launcher_pid: int, slot: Slot) -> None:
    """Register this process with multiprocessing as a child of the launcher, for code that checks for one."""
    from multiprocessing import process

    module: Any = process
    own: Any = process.current_process()
    module._parent_process = module._ParentProcess(own.name, launcher_pid, slot.release_fd)  # noqa: SLF001
    own._name = f"Rank-{rank}"  # noqa: SLF001


def exit_code(error: SystemExit) -> int:
    """Return the code that the interpreter would exit with; print a code that is not a number, as it does."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
