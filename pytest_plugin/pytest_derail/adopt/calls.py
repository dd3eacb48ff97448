"""In a rank: what an adopted test would run in another process."""

from __future__ import annotations

import sys
import traceback
import unittest
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.shapes import TORCH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TRACEBACK = "_derail_traceback"
"""Attribute of an exception with its traceback as text: the exception is pickled without its frames."""

_skipped: dict[type, str] = {}
"""Classes that this rank has initialised, each with the reason why all its tests skip; empty if they do not."""


@dataclass(frozen=True, slots=True)
class ProcessCall:
    """The ``_run`` of a ``MultiProcessTestCase``. None among its arguments means the pipe to the controller."""

    target: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    def __call__(self) -> None:
        """Run the test; raise its exception, or its skip, instead of torch's exit codes."""
        ours, theirs = Pipe()
        pipe: Any = theirs
        pipe.send = _drop  # the record of the rank has the traceback
        args = [pipe if each is None else each for each in self.args]
        try:
            self.target(*args, **self.kwargs)
        except SystemExit as end:
            ended = end
        else:
            return
        finally:
            ours.close()
        raise_for_exit(ended)  # outside the handler, so that the report of the exception does not show the exit
        raise ended


def _drop(_: object) -> None:
    """Send nothing."""


def raise_for_exit(end: SystemExit) -> None:
    """Raise the exception, or the skip, that torch's class converts into an exit code.

    Raises:
        SkipTest: if the code is that of a skip.
        Exception: if the code reports an exception.
    """
    torch: Any = sys.modules[TORCH]
    error = end.__context__
    if end.code == torch.MultiProcessTestCase.TEST_ERROR_EXIT_CODE and isinstance(error, Exception):
        raise error
    if isinstance(error, unittest.SkipTest) and end.code == torch.TEST_SKIPS["generic"].exit_code:
        raise error
    for skip in torch.TEST_SKIPS.values():
        if end.code == skip.exit_code:
            raise unittest.SkipTest(skip.message) from None


@dataclass(frozen=True, slots=True)
class ContinuousCall:
    """A test of a ``MultiProcContinuousTest``, whose process group stays for the next test.

    Attributes:
        cls: the class.
        test_id: what unittest calls the test.
        rank: the rank that runs this.
        world_size: the number of ranks.
        file: where the ranks of a process group meet.
    """

    cls: Any
    test_id: str
    rank: int
    world_size: int
    file: str

    def __call__(self) -> None:
        """Initialise the class before its first test in this rank, and run the test."""
        cls = self.cls
        if cls not in _skipped:
            cls.rank, cls.world_size = self.rank, self.world_size
            _skipped[cls] = self._initialise()
        if reason := _skipped[cls]:
            raise unittest.SkipTest(reason)
        try:
            cls._run_test_given_id(self.test_id)
        except unittest.SkipTest as skip:
            raise RuntimeError(f"{skip}: this class takes a skip by an exception for an error") from skip
        except SystemExit as end:
            raise_for_exit(end)
            raise RuntimeError(f"the test ended its process with exit code {end.code}") from end

    def _initialise(self) -> str:
        try:
            self.cls._init_pg(self.rank, self.world_size, self.file)  # noqa: SLF001 - as its own processes do
        except SystemExit as end:
            try:
                raise_for_exit(end)
            except unittest.SkipTest as skip:
                return str(skip)
            raise
        return ""


@dataclass(frozen=True, slots=True)
class SpawnCall:
    """A function of ``torch.multiprocessing.spawn``."""

    function: Callable[..., object]
    rank: int
    args: tuple[object, ...]

    def __call__(self) -> None:
        """Call the function, and add its traceback to its exception."""
        try:
            self.function(self.rank, *self.args)
        except Exception as error:
            error.__dict__[TRACEBACK] = traceback.format_exc()
            raise


@dataclass(frozen=True, slots=True)
class LaunchCall:
    """A function of accelerate's ``notebook_launcher``."""

    function: Callable[..., object]
    args: tuple[object, ...]

    def __call__(self) -> None:
        """Call the function."""
        self.function(*self.args)


class Skips(list[str]):
    """Substitute for the queue of a DeepSpeed test with the reasons of its skips."""

    def put(self, reason: str) -> None:
        """Add a reason."""
        self.append(reason)


@dataclass(frozen=True, slots=True)
class DistributedCall:
    """The ``_dist_run`` of a DeepSpeed test. Its process group ends with the rank.

    Attributes:
        run: the method of the test.
        args: its arguments.
        is_pooled: whether it returns the reason of a skip; else it puts the reason into a queue.
    """

    run: Callable[..., str | None]
    args: tuple[object, ...]
    is_pooled: bool

    def __call__(self) -> None:
        """Run the test, and raise the skip that it reports."""
        skips = Skips()
        reason = self.run(*self.args, *(() if self.is_pooled else (skips,)))
        if not self.is_pooled:
            reason = next(iter(skips), "")
        if reason:
            pytest.skip(reason)
