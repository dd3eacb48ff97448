"""Torch's classes for tests in several processes: substitutes for the processes and queues that they make.

``MultiProcessTestCase`` starts a process for each rank and test. ``MultiProcContinuousTest`` starts processes once for
a class, which take the names of tests from queues.
"""

from __future__ import annotations

import itertools
import sys
import unittest
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from derail.model.exit import ExitStatus
from pytest_derail.adopt.calls import ContinuousCall, ProcessCall
from pytest_derail.shapes import TORCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_derail.adopt.controller import AdoptedTest
    from pytest_derail.ranks.result import RankVerdict, Verdict


_numbers = itertools.count(1)


class IdleProcess:
    """Process that is not started, because a rank runs its function.

    Attributes:
        exitcode: for code that asks whether it is over.
        pid: a negative number, as a key for torch.
    """

    exitcode = 0

    def __init__(
        self,
        *,
        target: Callable[..., object],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        self.pid = -next(_numbers)
        self._target, self._args, self._kwargs = target, args, dict(kwargs or {})

    def start(self) -> None:
        """Do nothing."""

    terminate = kill = close = start

    def join(self, timeout: float | None = None) -> None:
        """Do nothing."""

    def is_alive(self) -> bool:
        """Return that the process is over."""
        return False

    def as_call(self) -> ProcessCall:
        """Return what a rank runs, and close the pipe to the controller, which the rank replaces."""
        args = []
        for each in self._args:
            if isinstance(each, Connection):
                each.close()
            args.append(None if isinstance(each, Connection) else each)
        return ProcessCall(self._target, tuple(args), self._kwargs)


@contextmanager
def process_class(cls: Any, test: AdoptedTest) -> Iterator[None]:
    """While a test of ``MultiProcessTestCase`` runs: have ranks run what it would start as processes."""
    set_up, start_processes, join_processes = cls.setUp, cls._start_processes, cls._join_processes
    files = set()

    def set_up_and_note_file(self: Any) -> None:
        __tracebackhide__ = True
        try:
            set_up(self)
        finally:
            files.add(getattr(self, "file_name", ""))

    def start(self: Any, _: object) -> None:
        start_processes(self, IdleProcess)

    def join(self: Any, function: Callable[..., object]) -> None:
        __tracebackhide__ = True
        if not self.processes or not all(isinstance(each, IdleProcess) for each in self.processes):
            join_processes(self, function)
            return
        for pipe in self.pid_to_pipe.values():
            pipe.close()
        special, skipped = self.special_return_code_checks, self.skip_return_code_checks
        verdict = test.call(
            [process.as_call() for process in self.processes],
            timeout=time_limit(self.id()),
            stop_others=function not in special and function not in skipped,
        )
        if function in skipped:
            verdict = with_any_code(verdict)
        elif function in special:
            verdict = with_code(verdict, special[function])
        test.raise_failure(verdict)
        raise_skip(verdict)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "setUp", set_up_and_note_file)
        patch.setattr(cls, "_start_processes", start)
        patch.setattr(cls, "_join_processes", join)
        try:
            yield
        finally:
            for name in filter(None, files):
                Path(name).unlink(missing_ok=True)


def time_limit(test_id: str) -> float:
    """Return torch's time limit of a test in seconds."""
    return float(sys.modules[TORCH].get_timeout(test_id))


def raise_skip(verdict: Verdict) -> None:
    """Skip the test if a rank did.

    Raises:
        SkipTest: with the reason of the first rank that skipped.
    """
    if (reason := verdict.reason("skipped")) is not None:
        raise unittest.SkipTest(reason)


def with_any_code(verdict: Verdict) -> Verdict:
    """Return the verdict on a test of which ranks may end with any exit code."""
    return replace(verdict, ranks={number: _excused(rank) for number, rank in verdict.ranks.items()})


def with_code(verdict: Verdict, code: int) -> Verdict:
    """Return the verdict on a test of which rank 0 must end with an exit code, and the others may."""
    expected, ranks = ExitStatus.from_returncode(code), {}
    for number, rank in verdict.ranks.items():
        status = verdict.seen.ranks[number].status if number in verdict.seen.ranks else None
        ends_so = status is not None and (status.code, status.signal) == (expected.code, expected.signal)
        ranks[number] = _excused(rank) if ends_so else rank
        if number == 0 and not ends_so and rank.fate in ("passed", "stopped"):
            ranks[number] = replace(rank, fate="died", words=f"expected {expected}, got {status}")
    return replace(verdict, ranks=ranks)


def _excused(rank: RankVerdict) -> RankVerdict:
    return replace(rank, fate="passed") if rank.fate == "died" else rank


@contextmanager
def continuous_class(cls: Any, test: AdoptedTest) -> Iterator[None]:
    """While a test of ``MultiProcContinuousTest`` runs: have reused ranks take the place of its processes."""

    def spawn(cls: Any, world_size: int) -> None:
        folder = test.paths.mktemp("rendezvous")
        cls.rdvz_file = str(folder / "file")
        processes = ContinuousRanks(cls, int(world_size), test)
        for name in ("processes", "task_queues", "completion_queues"):
            setattr(cls, name, [processes] * int(world_size))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "_spawn_processes", classmethod(spawn))
        for processes in getattr(cls, "processes", ()):
            if isinstance(processes, ContinuousRanks):
                processes.test = test
        yield


class ContinuousRanks(IdleProcess):
    """Substitute for the processes and the queues of a ``MultiProcContinuousTest``.

    Attributes:
        test: the test that runs.
    """

    def __init__(self, cls: Any, world_size: int, test: AdoptedTest) -> None:
        super().__init__(target=cls)
        self.test = test
        self._cls, self._world_size = cls, world_size
        self._test_id = ""
        self._result: object = None
        self._files = 0

    def put(self, test_id: str | None) -> None:
        """Take the test that runs next; None at the end of the class."""
        self._test_id, self._result = test_id or "", None

    def get(self, *_: object, **__: object) -> object:
        """Return the result of the test: its name, an exception or a skip. The first queue that is asked runs it."""
        __tracebackhide__ = True
        if self._result is None:
            self._result = self._run()
        return self._result

    def _run(self) -> object:
        __tracebackhide__ = True
        if not self.test.has_kept_ranks(self._world_size):
            self._files += 1  # new ranks cannot meet in the file of earlier ones
        file = f"{self._cls.rdvz_file}-{self._files}"
        verdict = self.test.call(
            [
                ContinuousCall(self._cls, self._test_id, rank, self._world_size, file)
                for rank in range(self._world_size)
            ],
            timeout=time_limit(self._test_id),
            reuse="class",
        )
        try:
            self.test.raise_failure(verdict)
            raise_skip(verdict)
        except Exception as error:
            return error
        return self._test_id
