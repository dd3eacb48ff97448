"""Children that a test forks in a rank: a child that returns from the test's code ends, and never acts as a rank."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_derail.ranks.worker import breakpoints
from pytest_derail.ranks.worker.held_os import Held

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import TypeAlias

    When: TypeAlias = Literal["setup", "call", "teardown"]


class ForkedChildren:
    """Plugin that ends forked children at the end of their phase, before the rank's own protocol continues.

    The wrappers are the innermost ones: in a child, no other plugin's clean-up runs, no fixture is torn down, and no
    report is written.
    """

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """End children that were forked in the set-up."""
        with children_end(item, "setup"):
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """End children that were forked in the body."""
        with children_end(item, "call"):
            try:
                return (yield)
            except BaseException as error:
                breakpoints.add_hint(error)
                raise

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """End children that were forked in the tear-down."""
        with children_end(item, "teardown"):
            return (yield)


@contextmanager
def children_end(item: pytest.Item, when: When) -> Iterator[None]:
    """End each process that was forked in this block when it reaches the end of the block."""
    pid, error = Held.getpid(), None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        if Held.getpid() != pid:
            _exit_as(item, when, error)


def _exit_as(item: pytest.Item, when: When, error: BaseException | None) -> None:
    """End this process, with 0 only if the test's code did not fail in it, or requested exit code 0."""
    code = 1
    try:
        if error is None and getattr(item, "_excinfo", None):  # where unittest.TestCase keeps what was raised
            error = item._excinfo[0].value  # type: ignore[attr-defined] # noqa: SLF001
        code, text = _outcome(item, when, error)
        if text:
            sys.stderr.write(f"forked child (pid {Held.getpid()}): {text}\n")
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            Held.exit(code)


def _outcome(item: pytest.Item, when: When, error: BaseException | None) -> tuple[int, str]:
    """Return the exit code and the text to print."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF, ""
        return 1, str(error.code)
    if isinstance(error, pytest.exit.Exception):
        return error.returncode or 1, str(error)
    if isinstance(error, pytest.skip.Exception | pytest.xfail.Exception):
        return 0, ""

    def raise_error() -> None:
        if error is not None:
            raise error

    call: pytest.CallInfo[Any] = pytest.CallInfo.from_call(raise_error, when)
    report = pytest.TestReport.from_item_and_call(item, call)
    item.config.hook.pytest_report_teststatus(report=report, config=item.config)  # pytest counts failed subtests here
    return (1, f"failed in {when}\n{report.longreprtext}") if report.failed else (0, "")
