"""Ranks that call functions of a test, and stay for the next call: ``derail.pool(n)``."""

from __future__ import annotations

import pickle
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from derail.faults.model.plan import Plan
from derail.model.clock import SYSTEM_CLOCK
from pytest_derail.jobs.importable import check_importable
from pytest_derail.jobs.pool_rank import Raised, pack
from pytest_derail.ranks.notify import Bell
from pytest_derail.ranks.pool.connection import Line
from pytest_derail.ranks.result import RanksFailed
from pytest_derail.ranks.time_limit import SETTLE_SECONDS, START_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path
    from types import TracebackType

    from derail.agents.invocation import LocalJob
    from derail.model.events import Observer
    from pytest_derail.jobs.job import Job

Item = TypeVar("Item")
Value = TypeVar("Value")

REMEDY = "define it at the top level of a module and hand values over as items, or with functools.partial"


class RankTraceback(Exception):  # noqa: N818 - it is a cause, and no error by itself
    """Traceback of an exception in a rank: the cause of the same exception in the test."""


class Pool:
    """Ranks that call functions: item i on rank i, item i + n on the same rank after that.

    The ranks stay from call to call, with what they have imported and their process group. When a rank dies or hangs,
    the call fails, all ranks are ended, and the next call has new ones. Use it as a context manager: at its end the
    ranks exit as a program does at its own end.

    Attributes:
        ranks: the number of ranks.
    """

    def __init__(
        self, start: Callable[[LocalJob, Observer], Job], first: LocalJob, *, folder: Path, timeout: float
    ) -> None:
        self.ranks = first.ranks
        self._start = start
        self._next = first
        self._folder = folder
        self._timeout = timeout
        self._stack = ExitStack()
        self._job: Job | None = None
        self._lines: list[Line] = []
        self._bell = Bell(folder / "pool.bell")
        self._is_ready = False
        self._is_idle = True

    def open(self) -> Job:
        """Start the ranks, unless they run, and return their job."""
        if self._job is not None and self._job.poll() is None:
            return self._job
        self.release()
        with ExitStack() as stack:
            self._bell = stack.enter_context(Bell(self._folder / "pool.bell"))
            pairs = [Pipe() for _ in range(self.ranks)]
            for ours, _ in pairs:
                stack.enter_context(ours)
            with ExitStack() as of_ranks:
                for _, theirs in pairs:
                    of_ranks.enter_context(theirs)
                job = self._start(replace(self._next, args=([theirs for _, theirs in pairs],)), self._bell)
            self._lines = [Line(ours) for ours, _ in pairs]
            self._stack = stack.pop_all()
        self._next = replace(self._next, plan=Plan(()))
        self._job, self._is_ready, self._is_idle = job, False, True
        return job

    def __enter__(self) -> Self:
        """Return the pool, with its ranks started."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the ranks."""
        self.close()

    def map(
        self, function: Callable[[Item], Value], items: Iterable[Item], *, timeout: float | None = None
    ) -> list[Value]:
        """Call ``function(item)`` for each item on its rank, and return the values in the order of the items.

        Args:
            function: a function at the top level of a module, test modules included, or a ``functools.partial`` of one.
            items: the items. If there are more of them than ranks, the next round begins when all ranks have returned.
            timeout: time limit of all rounds together; by default the pool's.

        Raises:
            Exception: the exception of the first rank that raised one, with a note that names the rank, and with the
                rank's traceback as its cause.
            RanksFailed: if a rank died or hung, or if its exception cannot be unpickled here.
            TypeError: if a rank cannot import the function, or if an item cannot be pickled.
        """
        __tracebackhide__ = True
        return self._call("map", function, [(item,) for item in items], timeout)

    def starmap(
        self, function: Callable[..., Value], items: Iterable[Iterable[Any]], *, timeout: float | None = None
    ) -> list[Value]:
        """Call ``function(*item)`` for each item on its rank; otherwise the same as ``map``."""
        __tracebackhide__ = True
        return self._call("starmap", function, [tuple(item) for item in items], timeout)

    def close(self) -> None:
        """Let the ranks exit, and wait for that. Idempotent; a later call has new ranks."""
        job = self._job
        if job is not None:
            for line in self._lines if self._is_idle else ():
                line.send(None)
            if not self._is_idle:
                job.stop("a call was interrupted")
            job.wait()
        self.release()

    def release(self) -> None:
        """Close the connections to ranks that have ended. Idempotent."""
        self._job, self._lines = None, []
        stack, self._stack = self._stack, ExitStack()
        stack.close()

    def _call(
        self, name: str, function: Callable[..., Value], items: Sequence[tuple[Any, ...]], timeout: float | None
    ) -> list[Value]:
        __tracebackhide__ = True
        check_importable(function, REMEDY)
        packed = [_packed(function, item, index) for index, item in enumerate(items)]
        limit = self._timeout if timeout is None else timeout
        call = _Call(f"pool.{name}({getattr(function, '__qualname__', type(function).__name__)})", limit)
        job = self.open()
        try:
            if not self._is_ready:
                call.begin(dict.fromkeys(range(self.ranks)), SYSTEM_CLOCK.now() + START_SECONDS)
                self._wait(call, job)
                self._is_ready = True
            deadline = SYSTEM_CLOCK.now() + limit
            rounds = range(0, len(packed), self.ranks)
            return [value for first in rounds for value in self._round(call, job, packed, first, deadline)]
        except RanksFailed:
            raise
        except BaseException:
            if not self._is_idle and job.poll() is None:  # Ctrl-C, or pytest-timeout
                job.look()
            raise

    def _round(self, call: _Call, job: Job, packed: Sequence[bytes], first: int, deadline: float) -> Sequence[Any]:
        """Call the function with the items of one round, and return its values."""
        __tracebackhide__ = True
        paths = {rank: job.workdir / f"call-{rank}" for rank in range(len(packed[first : first + self.ranks]))}
        call.begin({rank: first + rank for rank in paths}, deadline)
        try:
            for rank, path in paths.items():
                path.write_bytes(packed[first + rank])
                self._lines[rank].send(str(path))
            self._wait(call, job)
            outcomes = {rank: _outcome(call, rank, paths[rank].read_bytes()) for rank in call.answers}
        finally:
            for path in paths.values():
                path.unlink(missing_ok=True)
        if call.raised:
            call.fail(outcomes)
        return [outcomes[rank] for rank in paths]

    def _wait(self, call: _Call, job: Job) -> None:
        """Wait until each rank with a task has answered, or end the ranks."""
        __tracebackhide__ = True
        self._is_idle = False
        ends: dict[Connection[Any, Any], int] = {self._lines[rank].end: rank for rank in call.tasks}
        while call.missing and not self._bell.job_is_over and (seconds := call.deadline - SYSTEM_CLOCK.now()) > 0:
            for ready in wait([*ends, self._bell.fileno()], seconds):
                if ready == self._bell.fileno():
                    self._bell.wait(0)
                    continue
                end: Any = ready
                try:
                    call.take(ends[end], end.recv())
                except (EOFError, OSError):
                    call.take(ends.pop(end), None)
        if not call.missing:
            self._is_idle = True
            return
        self._end(call, job)

    def _end(self, call: _Call, job: Job) -> None:
        """End ranks that do not answer; the next call has new ones.

        Raises:
            RanksFailed: if a rank died, or if none has raised an exception for which the others wait.
        """
        __tracebackhide__ = True
        gone = [rank for rank in call.missing if rank in call.gone]
        if not self._bell.job_is_over and (call.raised or gone):
            job.stop(f"{call.name} failed in rank {[*call.raised, *gone][0]}, and other ranks waited for it")
        elif not self._bell.job_is_over:
            job.look()
            job.stop(f"{call.name} was not over after {call.limit:g} s", timed_out=True)
        result = job.expect_failure().wait()
        job.account.timeout_seen = True
        self.release()
        if result.failed or gone:
            ends = [f"{result.ranks[rank]} ({call.task(rank)})" for rank in result.failed]
            ends = ends or [f"rank {rank} has closed its connection ({call.task(rank)})" for rank in gone]
            raise RanksFailed(f"{call.name}: {'; '.join(ends)}")
        if not call.raised:
            hung = [f"rank {rank} {call.task(rank)}" for rank in call.missing]
            raise RanksFailed(f"{call.name}: not over after {call.limit:g} s: {'; '.join(hung)}")


class _Call:
    """One call of a function on the ranks of a pool.

    Attributes:
        name: its text for reports.
        limit: its time limit in seconds.
        deadline: when it ends; soon after a rank has raised an exception.
        tasks: the ranks that take part in the current round, with what they do.
        answers: their answers, in the order in which they came.
        gone: ranks that have closed their connection: they exit.
    """

    def __init__(self, name: str, limit: float) -> None:
        self.name = name
        self.limit = limit
        self.deadline = 0.0
        self.tasks: Mapping[int, int | None] = {}
        self.answers: dict[int, str] = {}
        self.gone: set[int] = set()

    def begin(self, tasks: Mapping[int, int | None], deadline: float) -> None:
        """Begin a round: the item of each rank; None for its start."""
        self.tasks, self.answers, self.deadline = tasks, {}, deadline

    @property
    def missing(self) -> list[int]:
        """Ranks that have not answered."""
        return [rank for rank in self.tasks if rank not in self.answers]

    @property
    def raised(self) -> list[int]:
        """Ranks that have raised an exception."""
        return [rank for rank, answer in self.answers.items() if answer == "raised"]

    def take(self, rank: int, answer: str | None) -> None:
        """Record an answer, or None for the end of a rank.

        After an exception or an end the others get little time: they may wait for that rank.
        """
        if answer is None:
            self.gone.add(rank)
        else:
            self.answers[rank] = answer
        if answer in (None, "raised"):
            self.deadline = min(self.deadline, SYSTEM_CLOCK.now() + SETTLE_SECONDS)

    def task(self, rank: int) -> str:
        """Describe what a rank does, or did."""
        item = self.tasks.get(rank)
        if rank not in self.tasks:
            return "had no item"
        if item is None:
            return "was starting"
        return f"had returned from item {item}" if rank in self.answers else f"was running item {item}"

    def fail(self, outcomes: Mapping[int, Any]) -> NoReturn:
        """Raise the exception of the rank that raised first."""
        __tracebackhide__ = True
        first, *others = self.raised
        raised: Raised = outcomes[first]
        place = f"rank {first}, item {self.tasks[first]} of {self.name}"
        cause = RankTraceback(f"{place}:\n{raised.text}")
        also = [f"rank {rank} also raised: {outcomes[rank].summary}" for rank in others]
        if not raised.exception:
            raise RanksFailed("\n".join([f"{place}: {raised.summary}", *also])) from cause
        error: BaseException = pickle.loads(raised.exception)
        for note in (f"raised on {place}", *also):
            error.add_note(note)
        raise error from cause


def _packed(function: Callable[..., Any], item: tuple[Any, ...], index: int) -> bytes:
    __tracebackhide__ = True
    try:
        return pack(function, item)
    except Exception as error:  # an exception of an object's own __reduce__ is the reason
        raise TypeError(f"item {index} cannot be pickled for a rank: {error}") from error


def _outcome(call: _Call, rank: int, data: bytes) -> Any:
    __tracebackhide__ = True
    try:
        return pickle.loads(data)
    except Exception as error:
        error.add_note(f"raised while unpickling what rank {rank} returned from {call.name}")
        raise
