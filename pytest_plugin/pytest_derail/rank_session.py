"""In a rank: a pytest session of its own for the one test, which tells how each phase of the test went."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from derail.model.clock import SYSTEM_CLOCK
from pytest_derail import bell, breakpoints, gathered, handover, rank_report
from pytest_derail.forked_child import ForkedChildren
from pytest_derail.neighbours import start_coverage
from pytest_derail.plugin import IN_RANK
from pytest_derail.prepared import Preparation
from pytest_derail.rank_report import PhaseTold, RankTold
from pytest_derail.session import begin, collect, command_line, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pytest_derail.rank_report import Result, When


@dataclass(frozen=True, slots=True)
class Order:
    """What a rank is told about its test.

    Attributes:
        nodeid: of the test.
        node: where it is, for the collection.
        args: the command line of pytest.
        options: what is added to it.
        directory: where pytest was started.
        folder: where ranks tell how it went, and where the bell hangs.
        handed: the values of fixtures that were set up in the controller, pickled.
        in_ranks: fixtures that each rank sets up although their scope is wider.
        worker: what plugins find in ``config.workerinput``.
        timeout: seconds that the test may take.
        debugger: where somebody waits who looks into the rank that fails first; empty if nobody does.
        kept: whether the rank, and its process group, stay for the next test.
    """

    nodeid: str
    node: str
    args: tuple[str, ...]
    options: tuple[str, ...]
    directory: str
    folder: Path
    handed: Mapping[str, bytes]
    in_ranks: tuple[str, ...]
    worker: Mapping[str, Any]
    timeout: float
    debugger: str = ""
    kept: bool = False


def report_path(folder: Path, rank: int) -> Path:
    """Where a rank tells how the test went in it."""
    return folder / f"rank-{rank}.json"


def bell_path(folder: Path) -> Path:
    """Where the bell hangs."""
    return folder / "bell"


def run_rank(order: Order) -> None:
    """Run the test of ``order`` in this process, which is a rank and nothing else."""
    rank = become_rank()
    teller = Teller(order.folder, rank)
    teller.enter("collect")
    try:
        with open_session(order, rank) as session:
            item = find(*collect(session, [order.node]), order.nodeid)
            session.config.pluginmanager.register(Protocol(teller, order))
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
    except pytest.Collector.CollectError as error:
        teller.tell(PhaseTold("collect", "failed", SYSTEM_CLOCK.now(), str(error)))
    teller.enter("done")


def become_rank() -> int:
    """What each rank does first; its number."""
    start_coverage()
    gc.freeze()  # pytest collects garbage at its end: what was here before the test is none
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    return int(os.environ["RANK"])


class Teller:
    """Keeps the file of a rank up to date, and rings the bell if the test does not pass."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.told = RankTold()
        self._folder, self.rank = folder, rank

    def ring(self, what: Literal["begun", "bad", "debug"]) -> None:
        """Ring the bell."""
        bell.ring(bell_path(self._folder), self.rank, what)

    def enter(self, phase: When) -> None:
        """The next phase begins."""
        self.told.phase = phase
        self.write()
        if phase == "setup":
            self.ring("begun")

    def tell(self, phase: PhaseTold) -> None:
        """A phase is over; a good one is told of with the next."""
        self.told.phases.append(phase)
        if phase.result != "passed":
            self.write()
        if phase.result in ("failed", "xfailed"):  # after a skip, other ranks may take their time
            self.ring("bad")

    def write(self) -> None:
        """Have the controller know what was told so far."""
        rank_report.write(report_path(self._folder, self.rank), self.told)


class Protocol:
    """Runs the test in place of pytest's own protocol, in its wrappers: they explain assertions and filter warnings.

    Attributes:
        teller: who is told.
        order: the test.
        keeps: whether what belongs to its class, its module and the session stays set up.
    """

    keeps = False

    def __init__(self, teller: Teller, order: Order) -> None:
        self.teller = teller
        self.order = order

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> bool:
        """Set the test up, call it, tear it down, and tell of each."""

        def set_up() -> None:
            self.prepare(item)
            item.ihook.pytest_runtest_setup(item=item)

        if self._run(item, "setup", set_up):
            self._run(item, "call", lambda: item.ihook.pytest_runtest_call(item=item))
        end, stays = item.ihook.pytest_runtest_teardown, item.parent if self.keeps else None
        self._run(item, "teardown", lambda: end(item=item, nextitem=stays))
        return True

    def _run(self, item: pytest.Function, when: When, run: Callable[[], None]) -> bool:
        return run_phase(item, when, self.teller, run, debugger=self.order.debugger)

    def prepare(self, item: pytest.Function) -> None:
        """The first part of its set-up: have it find what was set up in the controller."""
        handover.place(item, self.order.handed)

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self) -> bool:
        """The controller has the only timer of pytest-timeout."""
        return True


def run_phase(item: pytest.Function, when: Any, teller: Teller, run: Callable[[], None], *, debugger: str = "") -> bool:
    """Run one phase of a test, and tell how it went; whether it passed."""
    teller.enter(when)
    call: pytest.CallInfo[None] = pytest.CallInfo.from_call(run, when)
    at = SYSTEM_CLOCK.now()
    if call.excinfo is None:
        teller.tell(PhaseTold(when, "passed", at))
        return True
    report = pytest.TestReport.from_item_and_call(item, call)
    value = call.excinfo.value
    result: Result = report.outcome
    reason = ""
    if isinstance(value, pytest.xfail.Exception):
        result, reason = "xfailed", value.msg or ""
    elif isinstance(value, pytest.skip.Exception):
        reason = value.msg or str(value)
    wanted = debugger and result == "failed" and item.get_closest_marker("xfail") is None
    if wanted:
        teller.ring("debug")
    teller.tell(
        PhaseTold(
            when=when,
            result=result,
            at=at,
            reason=reason,
            report=item.config.hook.pytest_report_to_serializable(config=item.config, report=report),
            exception=_pickled(value),
        )
    )
    if wanted:
        from pytest_derail.debugger import look_into

        look_into(debugger, teller.rank, call.excinfo.tb)
    return False


def _pickled(error: BaseException) -> bytes:
    """The exception without its traceback, if it survives the way there and back."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # pickling runs the code of others; the report has its text
        return b""
    return data


@contextmanager
def open_session(order: Order, rank: int) -> Iterator[pytest.Session]:
    """A pytest session that has begun, here or in the process that this one was forked from."""
    os.chdir(order.directory)
    preparation = Preparation.of(command_line(order.args, order.options), order.directory)
    basetemp = str(order.folder / f"tmp-{rank}")
    session = gathered.take(preparation, basetemp) or begin(preparation, order.worker, basetemp)
    config = session.config
    config.workerinput = dict(order.worker)  # type: ignore[attr-defined]
    config.stash[IN_RANK] = order
    config.pluginmanager.register(ForkedChildren())
    breakpoints.explain()
    try:
        yield session
    finally:
        try:
            config.hook.pytest_sessionfinish(session=session, exitstatus=session.exitstatus)
        finally:
            config._ensure_unconfigure()  # noqa: SLF001 - what pytest's own main does
