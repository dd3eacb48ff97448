"""In a rank: a pytest session for one test, which runs it by pytest's own protocol and records every logged report."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import pytest
from _pytest.runner import check_interactive_exception, runtestprotocol

from derail.faults.inrank import recorder
from derail.model.clock import SYSTEM_CLOCK
from pytest_derail.integrations import log_to_file, start_coverage
from pytest_derail.protocol import IN_RANK, bell_path, names_path, report_path
from pytest_derail.ranks import notify, shared_fixtures
from pytest_derail.ranks.phase_reports import MOST_PARTS, RecordedReport, RecordFile, add_report, pairs, plain, text_of
from pytest_derail.ranks.prefork import collection
from pytest_derail.ranks.prefork.pytest_session import Preparation
from pytest_derail.ranks.tracker_names import record
from pytest_derail.ranks.worker import breakpoints, calls
from pytest_derail.ranks.worker.forked_children import ForkedChildren, children_end
from pytest_derail.ranks.worker.held_os import Held
from pytest_derail.ranks.worker.same_draws import draw_alike
from pytest_derail.ranks.worker.session import add_hooks, begin, collect, command_line, find
from pytest_derail.ranks.worker.streams import RankStreams
from pytest_derail.ranks.worker.terminal import Terminal
from pytest_derail.ranks.worker.warnings import NotedWarnings
from pytest_derail.ranks.worker.write_through import (
    convert_exit_of_torch,
    note_additions,
    note_log_records,
    note_suite_properties,
)
from pytest_derail.reporting import own_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from pytest_derail.protocol import Order
    from pytest_derail.ranks.phase_reports import Kind, Result, When


def run_rank(order: Order) -> None:
    """Run the test of ``order`` in this process, which is only a rank."""
    rank = become_rank()
    record(names_path(order.folder, rank))
    recorder = RankRecorder(order.folder, rank)
    recorder.enter("collect")
    try:
        with open_session(order, rank) as session:
            item = find(*collect(session, [order.node]), order)
            add_hooks(session.config, Protocol(session.config, recorder, order))
            calls.run_protocol(item, order)
    except (pytest.Collector.CollectError, pytest.skip.Exception) as error:
        recorder.record_not_collected(error)
    recorder.finish()


def become_rank() -> int:
    """Do the first steps of each rank; return its number."""
    start_coverage()
    gc.freeze()  # pytest collects garbage at its end: objects from before the test are not garbage of the test
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    recorder.present()  # before the test: it keeps a descriptor, which no test has left open
    return int(os.environ["RANK"])


class RankRecorder:
    """Recorder of a rank, which also rings the bell if the test does not pass.

    Attributes:
        rank: number of the rank.
        phase: the current phase.
    """

    def __init__(self, folder: Path, rank: int, carry: Callable[[bytes], None] | None = None) -> None:
        self._folder, self.rank = folder, rank
        self._pid = Held.getpid()
        self.phase: When = "collect"
        self._file = RecordFile(report_path(folder, rank), carry)

    def ring(self, what: Literal["begun", "bad"]) -> None:
        """Ring the bell."""
        notify.ring(bell_path(self._folder), self.rank, what)

    def enter(self, phase: When) -> None:
        """Record the start of the next phase."""
        self.phase = phase
        self._file.add("phase", phase)
        if phase == "setup":
            self.ring("begun")

    def add(self, report: RecordedReport) -> None:
        """Record a report, and ring the bell unless the test continues.

        A failed subtest does not ring, since its test continues; nor does a skip, since other ranks may take longer.
        """
        if Held.getpid() != self._pid:
            return  # a forked child reports nothing: its exit status covers its subtests
        add_report(self._file, report)
        if report.result in ("failed", "xfailed") and not report.is_extra:
            self.ring("bad")

    def record_not_collected(self, error: BaseException) -> None:
        """Record that this rank has no such test: its module skips itself here, or could not be imported."""
        result: Result = "skipped" if isinstance(error, pytest.skip.Exception) else "failed"
        self.add(RecordedReport("collect", result, SYSTEM_CLOCK.now(), reason=str(error), text=str(error)))
        if result == "skipped":
            self.ring("begun")  # the time of the test starts when all ranks have begun

    def note(self, kind: Kind, *values: object) -> None:
        """Record an entry between reports."""
        if kind == "log":
            values = (self.phase, *values)
        self._file.add(kind, *values)

    def finish(self) -> None:
        """Record the end of the test.

        Raises:
            OSError: if an entry could not be recorded.
        """
        self.enter("done")
        self._file.finish()


class Protocol:
    """Replacement for the controller's protocol: runs the test by pytest's own protocol; its hooks decide the result.

    Attributes:
        recorder: keeps the record.
        order: the test.
        keeps: whether fixtures of its class, its module and the session stay set up.
    """

    keeps = False

    def __init__(self, config: pytest.Config, recorder: RankRecorder, order: Order) -> None:
        self.recorder = recorder
        self.order = order
        self._config = config
        self._streams = RankStreams()
        self._item: pytest.Function | None = None
        self._made: pytest.TestReport | None = None
        self._call: pytest.CallInfo[None] | None = None
        self._terminal: Terminal | None = None
        note_log_records(config, self.note)
        note_suite_properties(config, self.note)
        add_hooks(config, NotedWarnings(self.note))

    def note(self, kind: Kind, *values: object) -> None:
        """Record an entry about the running test."""
        self.recorder.note(kind, *values)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> bool:
        """Set the test up, call it, tear it down, and record each report."""
        if self.order.ide in ("all", self.recorder.rank):
            from pytest_derail.ranks.worker.ide import wait_for_ide

            wait_for_ide(self.order.debugger_for_ide)
        self._item = item
        note_additions(item, self.note)
        self._streams = RankStreams()
        if self.order.call:
            self._run_call(item)
            return True
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        stays: Any = item.parent if self.keeps else None
        try:
            runtestprotocol(item, nextitem=stays)
        except BaseException as error:
            self._record_end_of_session(item, error)
        Terminal.close_all()
        self._streams.restore()
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run_call(self, item: pytest.Function) -> None:
        """Run the call of the order instead of the test, and record its result."""
        self.recorder.enter("setup")
        loaded = self._run_phase(item, "setup", lambda: calls.load_call(self.order, self.recorder.rank))
        if loaded.excinfo is None:
            self.recorder.enter("call")
            self._run_phase(item, "call", loaded.result)
        Terminal.close_all()
        self._streams.restore()

    def _run_phase(self, item: pytest.Function, when: Literal["setup", "call"], act: Any) -> pytest.CallInfo[Any]:
        def run() -> object:
            with self._streams.phase(), children_end(item, when):
                return act()

        call = calls.call_of(when, run)
        self.record_call(item, call)
        return call

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Function) -> Generator[None, object, object]:
        """Prepare the test with the fixtures that were set up in the controller."""
        self.recorder.enter("setup")
        self.prepare(item)
        with self._streams.phase():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Function) -> Generator[None, object, object]:
        """Make Hypothesis draw the same values in all ranks."""
        self.recorder.enter("call")
        with self._streams.phase(), draw_alike(item, self.order.seed, self.note):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Record that the tear-down begins."""
        self.recorder.enter("teardown")
        with self._streams.phase():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Remember the report of a phase: other logged reports are those of subtests and of other plugins."""
        convert_exit_of_torch(item, call)
        report = yield
        self._made, self._call = report, call
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Record the report after all hooks, since they may change it, as may the hook for the terminal's words."""
        result = yield
        self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        call = self._call
        if self.order.post_mortem and report.failed and call is not None and check_interactive_exception(call, report):
            self._terminal = Terminal("failure")
            with suppress(OSError):  # the controller does not listen any more
                self._terminal.connect()  # before the bell for the failure, because debugging stops the clock
        self.recorder.add(self._recorded(report, is_extra=report is not self._made))
        return result

    @pytest.hookimpl
    def pytest_exception_interact(self, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """With ``--pdb``, wait for the user."""
        terminal, self._terminal = self._terminal, None
        if terminal is not None and report.failed and call.excinfo is not None:
            from pytest_derail.ranks.pdb import RankPdb

            RankPdb(terminal=terminal).look_at(call.excinfo.tb)

    def _recorded(self, report: pytest.TestReport, *, is_extra: bool) -> RecordedReport:
        error = None if self._call is None or self._call.excinfo is None else self._call.excinfo.value
        result, reason = _result(report, error)
        try:
            data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report) or {}
            if "user_properties" in data:
                data["user_properties"] = [
                    (plain(name), plain(value, MOST_PARTS)) for name, value in pairs(data["user_properties"])
                ]
        except Exception:  # hooks are third-party code; their earlier decisions count anyway
            data = {}
        return RecordedReport(
            when=report.when,
            result=result,
            at=SYSTEM_CLOCK.now(),
            reason=reason,
            text="" if result == "passed" else text_of(report, _longreprtext),
            report=data,
            exception=b"" if error is None or result != "failed" else _pickled(error),
            is_extra=is_extra,
            is_strict=result == "xpassed" and report.failed,
        )

    def _record_end_of_session(self, item: pytest.Function, error: BaseException) -> None:
        def raise_error() -> None:
            raise error

        when: Any = self.recorder.phase
        self.record_call(item, pytest.CallInfo.from_call(raise_error, when))

    def record_call(self, item: pytest.Function, call: pytest.CallInfo[Any]) -> None:
        """Record a call about which pytest asks no hook."""
        if call.excinfo is not None:
            own_frames.hide(call.excinfo)
        try:
            self._call, self._made = call, calls.report_of(item, call)
            report = self._recorded(self._made, is_extra=False)
        except BaseException as error:
            raised = None if call.excinfo is None else call.excinfo.value
            reason = f"{text_of(raised, repr)} could not be reported: {text_of(error, repr)}"
            report = RecordedReport(self.recorder.phase, "failed", SYSTEM_CLOCK.now(), reason=reason, text=reason)
        self.recorder.add(report)

    def prepare(self, item: pytest.Function) -> None:
        """Insert the values of fixtures that were set up in the controller, at the start of the set-up."""
        shared_fixtures.place(item, self.order.handed)

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self) -> bool:
        """Set no timer: only the controller has one for pytest-timeout."""
        return True


XPASS_STRICT = "[XPASS(strict)] "
"""Prefix of the reason for a strict xfail test that passed."""


def _result(report: pytest.TestReport, error: BaseException | None) -> tuple[Result, str]:
    """Return the decision of the hooks, and its reason."""
    expected = getattr(report, "wasxfail", None)
    if expected is not None and not report.failed:
        return "xfailed" if report.skipped else "xpassed", str(expected)
    if report.failed and error is None and (text := text_of(report, _longreprtext)).startswith(XPASS_STRICT):
        return "xpassed", text.removeprefix(XPASS_STRICT)
    if report.skipped and isinstance(report.longrepr, tuple):
        return "skipped", str(report.longrepr[2]).removeprefix("Skipped: ")
    return report.outcome, ""


def _pickled(error: BaseException) -> bytes:
    """Return the pickled exception without its traceback, or nothing if it does not survive a round trip."""
    try:
        data = Held.dumps(error)
        Held.loads(data)
    except BaseException:
        return b""
    return data


def _longreprtext(report: object) -> str:
    text: str = report.longreprtext  # type: ignore[attr-defined]
    return text


@contextmanager
def open_session(order: Order, rank: int) -> Iterator[pytest.Session]:
    """Open a pytest session that was begun in this process, or in the zygote that it was forked from."""
    os.chdir(order.directory)
    preparation = Preparation.of(command_line(order.args, order.options), order.directory)
    basetemp = str(order.folder / f"tmp-{rank}")
    session = collection.take(preparation, basetemp) or begin(preparation, order.worker, basetemp)
    config = session.config
    config.workerinput = dict(order.worker)  # type: ignore[attr-defined]
    config.stash[IN_RANK] = order
    add_hooks(config, ForkedChildren())
    breakpoints.take_over(order.debugger)
    try:
        with log_to_file(config):
            yield session
    finally:
        try:
            config.hook.pytest_sessionfinish(session=session, exitstatus=session.exitstatus)
        finally:
            config._ensure_unconfigure()  # noqa: SLF001 - what pytest's own main does
