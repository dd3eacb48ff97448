"""Parallel subprocesses, each with a timeout and guaranteed clean-up.

A process gets a mark in its environment, which its descendants inherit. When the process has ended, every process with
the mark is ended as well, and reported. If this process is killed, a keeper process does it.

derail's own launcher with one-rank jobs is not used, for three reasons. The order of a process lies in an unnamed
memory file, and the launcher, like torch's, gives ranks no separate stdin. Only the process itself is asked to end,
so that it can end the launcher under test as the scenario requires; the launcher signals a rank's whole group. And the
runner waits for the first end among several, with one keeper for all; a context waits for one job.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from derail.launch.signals import SignalException
from derail.model.clock import SYSTEM_CLOCK
from derail.model.exit import ExitStatus
from derail.model.spec import JOB_ENV
from derail.platform import exits
from derail.platform.groups import signal_process
from derail.platform.leftovers import end_processes, find_processes
from derail.platform.lifeline import Lifeline
from derail.platform.private_files import open_private
from derail.spawn.return_values import create_memory_file

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import FrameType, TracebackType

    from derail.platform.leftovers import FoundProcess

FAREWELL = 15.0
"""Seconds for a process that was asked to end to clean up, until it is killed."""
PASSING = 1.0
"""Seconds for descendants to end by themselves, after the process that started them has ended."""
SWEEP = 5.0  # seconds for processes to end after SIGKILL
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # signals that ask for the end


@dataclass(slots=True)
class _Process:
    """Running process.

    Attributes:
        name: name of its work.
        bound: monotonic seconds at which it is asked to end.
        kill_at: monotonic seconds at which it is killed.
        overran: whether it was ended because it took too long.
    """

    name: str
    child: subprocess.Popen[bytes]
    exit_fd: exits.ExitFd
    mark: str
    bound: float
    kill_at: float = field(default=float("inf"))
    overran: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """Finished process.

    Attributes:
        name: name of its work.
        status: its exit status.
        overran: whether it had to be ended because it took too long.
        leftovers: descriptions of its leftovers, and whether they were ended.
    """

    name: str
    status: ExitStatus
    overran: bool
    leftovers: tuple[str, ...]


class Runner:
    """Context manager that starts processes and waits for their ends, and leaves none of them behind.

    Args:
        signals: signal handling; it raises exceptions only while the runner waits for an end.
    """

    def __init__(self, signals: Signals | None = None) -> None:
        self._signals = signals
        self._id = f"verify-{os.urandom(6).hex()}"
        self._lifeline = Lifeline(self._id)
        self._running: dict[str, _Process] = {}
        self._started = 0
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self._exit.callback(self._lifeline.stop)
        self._lifeline.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._exit:
            self.end_all()

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the running processes."""
        return tuple(self._running)

    def start(self, name: str, argv: Sequence[str], *, output: Path, seconds: float, stdin: bytes = b"") -> None:
        """Start a process in a new session, so that a Ctrl-C on the terminal does not reach it.

        Args:
            name: name of its work; unique among the running processes.
            argv: its command.
            output: file for its stdout and stderr.
            seconds: time limit, after which it is ended.
            stdin: its input, in a memory file without a name that another process could open or replace.

        Raises:
            OSError: if it cannot be started.
        """
        import subprocess

        self._started += 1
        mark = f"{self._id}-{self._started}"
        marks = ":".join(filter(None, (os.environ.get(JOB_ENV), self._id, mark)))
        with (
            open(create_memory_file("derail-order"), "r+b") as given,
            open(open_private(output, os.O_WRONLY | os.O_TRUNC), "wb") as file,
        ):
            given.write(stdin)
            given.seek(0)
            child = subprocess.Popen(
                argv, stdin=given, stdout=file, stderr=file, start_new_session=True,
                env={**os.environ, JOB_ENV: marks},
            )  # fmt: skip
        self._lifeline.register(child.pid)
        exit_fd = exits.open_exit_fd(child.pid)
        self._running[name] = _Process(name, child, exit_fd, mark, SYSTEM_CLOCK.now() + seconds)

    def wait(self) -> Ended:
        """Wait until one of the processes has ended and its leftovers are ended; return its end.

        Raises:
            ValueError: if no process runs.
        """
        if not self._running:
            raise ValueError("runner: no running process to wait for")
        while True:
            now = SYSTEM_CLOCK.now()
            for process in self._running.values():
                self._enforce(process, now)
            if (ended := self._poll(min(min(p.bound, p.kill_at) for p in self._running.values()) - now)) is not None:
                return self._buried(ended)

    def end_all(self) -> None:
        """End all running processes: ask, wait, kill. A signal during that skips the wait."""
        try:
            for process in self._running.values():
                self._ask(process, SYSTEM_CLOCK.now())
            while self._running:
                self.wait()
        finally:
            for process in list(self._running.values()):
                self._signal(process, signal.SIGKILL)
                self._buried(process)
            _sweep(self._id)

    def _enforce(self, process: _Process, now: float) -> None:
        if now >= process.kill_at:
            self._signal(process, signal.SIGKILL)
            process.kill_at = float("inf")
        elif now >= process.bound:
            process.overran = True
            self._ask(process, now)

    def _ask(self, process: _Process, now: float) -> None:
        self._signal(process, signal.SIGTERM)
        process.bound, process.kill_at = float("inf"), now + FAREWELL

    def _signal(self, process: _Process, number: signal.Signals) -> None:
        signal_process(process.child.pid, process.exit_fd.pidfd, number)

    def _poll(self, seconds: float) -> _Process | None:
        """Wait for an end, at most ``seconds``."""
        poll = select.poll()
        by_fd = {process.exit_fd.fileno(): process for process in self._running.values()}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        with nullcontext() if self._signals is None else self._signals.may_raise():
            ready = poll.poll(max(0.0, min(seconds, 3600.0)) * 1000)
        return by_fd[ready[0][0]] if ready else None

    def _buried(self, process: _Process) -> Ended:
        """Reap a process that has ended or was killed, and end all processes with its mark."""
        exits.wait_readable(process.exit_fd, SWEEP)
        pid = process.child.pid
        status = exits.reap(pid, process.exit_fd) or ExitStatus(lost="it was killed, and is still there")
        process.child.returncode = status.returncode
        process.exit_fd.close()
        self._lifeline.unregister(pid)
        del self._running[process.name]
        return Ended(process.name, status, process.overran, _sweep(process.mark))


def _sweep(mark: str) -> tuple[str, ...]:
    """End all processes with a mark; return descriptions of them. Those that end by themselves soon do not count."""
    if not (processes := find_processes(mark, ())):
        return ()
    deadline = SYSTEM_CLOCK.now() + PASSING
    with ExitStack() as held:
        for process in processes:
            _wait_for(process, deadline, held)
    swept = end_processes(
        find_processes(mark, ()), deadline=SYSTEM_CLOCK.now() + SWEEP, find_more=lambda: find_processes(mark, ())
    )
    ended = [str(process.to_leftover(ended=True)) for process in swept.ended]
    return (*ended, *(str(process.to_leftover(ended=False)) for process in swept.surviving))


def _wait_for(process: FoundProcess, deadline: float, held: ExitStack) -> None:
    try:
        fd = os.pidfd_open(process.pid)
    except (OSError, AttributeError):
        return
    held.callback(os.close, fd)
    exits.is_readable(fd, max(0.0, deadline - SYSTEM_CLOCK.now()))


def unblock_signals() -> None:
    """Stop ignoring or blocking signals, whatever this process has inherited (from ``nohup``, or ``&`` in a script).

    Its children inherit the settings, and would not receive signals either. Call it first in the main thread.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python itself ignores those
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Signals:
    """Context manager in which a signal that asks for the end raises ``SignalException`` in the main thread.

    At most ``times`` signals raise; further ones do nothing. An ignored signal stays ignored. Use it in the main
    thread.

    Args:
        times: the number of signals that raise.
        anywhere: whether they raise at any point of the thread, or only within ``may_raise``, as soon as it is entered.
    """

    def __init__(self, *, times: int = 1, anywhere: bool = True) -> None:
        self._left = times
        self._open = self._anywhere = anywhere
        self._pending: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in ENDING:
            before = signal.getsignal(number)
            if before not in (None, signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)

    @contextmanager
    def may_raise(self) -> Iterator[None]:
        """Raise the pending signal now, and further ones as they arrive."""
        self._open = True
        try:
            self._raise()
            yield
        finally:
            self._open = self._anywhere

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._left > 0:
            self._left -= 1
            self._pending = signal.Signals(number)
        if self._open:
            self._raise()

    def _raise(self) -> None:
        if (asked := self._pending) is not None:
            self._pending = None
            raise SignalException(f"process {os.getpid()} got {asked.name}", sigval=asked)


_BOOTSTRAP = (
    "import os,sys,marshal;f=open(os.dup(0),'rb');n=os.open(os.devnull,0);os.dup2(n,0);os.close(n);"
    "sys.path[:]=marshal.load(f);from {module} import main;main(f)"
)


def interpreter(module: str, *, name: str) -> list[str]:
    """Return the command of a fresh interpreter that calls ``main`` of ``module`` with its stdin.

    The stdin begins with ``path_front()``, and is positioned after it. ``name`` is shown in the process list.
    """
    return [sys.executable, "-c", _BOOTSTRAP.format(module=module), name]
