"""Controller side of ``@pytest.mark.ranks(n)``: run the body of a test on n ranks as one job.

The controller runs pytest's usual protocol, and replaces only the parts of the item. Set-up prepares what the ranks
share; the body is the job. Each rank runs the whole protocol as well, and the results of its hooks decide: the test
failed if it failed in any rank, else xfailed, else skipped, else passed unexpectedly if any rank reports that.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.skipping import xfailed_key

from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from pytest_derail import integrations
from pytest_derail.faults_marker import again, marked_plan
from pytest_derail.jobs.leaks import Arrivals, RankFiles, note
from pytest_derail.jobs.ports import claimed_port
from pytest_derail.options import keep, records
from pytest_derail.protocol import BROKEN_OFF, RANKS, Order, bell_path, names_of, names_path
from pytest_derail.ranks import phase_reports, shared_fixtures
from pytest_derail.ranks.debugger import PDB_OF_PYTEST, Debugger
from pytest_derail.ranks.late_teardown import LateTeardownFailed
from pytest_derail.ranks.marker import read_mark
from pytest_derail.ranks.notify import Bell
from pytest_derail.ranks.outer_timeout import OuterTimeout
from pytest_derail.ranks.prefork import preload
from pytest_derail.ranks.result import RanksFailed, judge_ranks
from pytest_derail.ranks.spmd import position
from pytest_derail.ranks.time_limit import SPARE_SECONDS, START_SECONDS, BrokenOff, TimeLimit
from pytest_derail.ranks.tracker_names import unlink_orphaned
from pytest_derail.ranks.watch import break_off, watch
from pytest_derail.ranks.worker.main import XPASS_STRICT, run_rank
from pytest_derail.ranks.worker.same_draws import is_given, keep_examples, without_draws
from pytest_derail.ranks.worker.warnings import report_warnings
from pytest_derail.reporting import summary
from pytest_derail.reporting.artifacts import evidence_folder
from pytest_derail.reporting.ranks import (
    captured,
    count_subtest,
    extra_report,
    merge_named,
    note_records,
    outputs,
    rank_sections,
    sections_of,
    shown,
    with_sections,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from derail.model.spec import Teardown
    from derail.scenario.model import JobResult
    from pytest_derail.ranks.notify import Readable
    from pytest_derail.ranks.phase_reports import RankRecord
    from pytest_derail.ranks.result import Verdict

NOT_EXPECTED = (
    "xfail applies to an exception of a rank, not to a rank that died or hung. To expect those, use "
    "xfail(raises=pytest_derail.RanksFailed)"
)


def install(item: pytest.Function, mark: pytest.Mark) -> RanksTest:
    """Make a test run on ranks; errors in its marker are reported at its set-up."""
    test = RanksTest(item, mark)
    item.stash[RANKS] = test
    test.install()
    return test


class RanksTest:
    """Test on ranks that replaces the set-up and the body of its item.

    Attributes:
        item: the test.
        in_body: whether its body runs, so that its tear-down is still pending.
        outer: the timer of pytest-timeout.
        verdict: result of the body; None while it is not known.
    """

    def __init__(self, item: pytest.Function, mark: pytest.Mark) -> None:
        self.item = item
        self.in_body = False
        self.verdict: Verdict | None = None
        self.outer = OuterTimeout()
        self._broken_off: BaseException | None = None
        self.limit: TimeLimit
        self._given = mark
        self._shared: dict[str, object] = {}
        self._raised: BaseException | None = None
        self._unraised: BaseException | None = None
        self._folder: Path | None = None
        self._spawned = self._replaced = ""
        self._counted = True
        self._debugger = Debugger(item.config)
        self._body: Any = None
        self._of_marker: str | None = None

    def install(self) -> None:
        """Replace the item's own set-up, body and tear-down."""
        item: Any = self.item
        item.setup, item.runtest, item.teardown = self.set_up, self.run, self.tear_down
        item.repr_failure = self.show_failure

    def set_up(self) -> None:
        """Set up the fixtures that the ranks share; plugins that rerun tests call this again."""
        integrations.append_to_log_file(self.item.config)
        self.mark = read_mark(self.item, self._given)
        self.reset()
        for name in shared_fixtures.shared_fixtures(self.item, self.mark.in_ranks):
            self._shared[name] = self.item._request.getfixturevalue(name)  # noqa: SLF001 - as pytest's own set-up
        if is_given(self.item):
            self._body, self.item.obj = self.item.obj, without_draws(self.item)

    def reset(self) -> None:
        """Forget an earlier run of the test."""
        self.verdict, self._folder, self._debugger = None, None, Debugger(self.item.config)
        self._raised = self._unraised = None
        self._spawned = self._replaced = ""
        self._broken_off = None
        self._shared = {}

    def tear_down(self) -> None:
        """Restore the item; this class sets up no fixture."""
        if self._body is not None:
            self.item.obj, self._body = self._body, None

    def run(self) -> None:
        """Run the body on the ranks.

        A skip or an expected failure of ranks is not raised here: ``before_report`` adds it, because the hooks of the
        body have already run in the ranks.

        Raises:
            Exception: the exception of the root cause if it can be unpickled here, else ``RanksFailed``.
        """
        __tracebackhide__ = True
        packed = shared_fixtures.pack(self.item, self._shared)
        self._conclude(self.run_limited(packed))

    def run_limited(self, packed: dict[str, bytes]) -> Verdict:
        """Run what the ranks are to run, within the time limit, and return the result.

        Args:
            packed: the pickled values of the fixtures that the ranks share.

        Raises:
            BaseException: whatever interrupts the controller.
        """
        __tracebackhide__ = True
        self._raised = self._unraised = None
        paths: pytest.TempPathFactory = self.item._request.getfixturevalue("tmp_path_factory")  # noqa: SLF001
        limit = self.limit = TimeLimit(self.mark.timeout, self.outer)
        if self._debugger.ide is not None:
            limit.lift()
        self.outer.suspend(self.item, START_SECONDS + 2 * self.mark.grace + SPARE_SECONDS)
        try:
            self.verdict = self._run_ranks(packed, paths, limit)
        except BrokenOff as broken:
            self.verdict, self._broken_off = broken.verdict, broken.cause
            if not isinstance(broken.cause, Exception | pytest.fail.Exception | pytest.skip.Exception):
                self.item.config.stash.setdefault(BROKEN_OFF, []).append(self)
            raise broken.cause from None
        finally:
            self.outer.resume(self.item, limit.used)
        return self.verdict

    def _run_ranks(self, packed: dict[str, bytes], paths: pytest.TempPathFactory, limit: TimeLimit) -> Verdict:
        __tracebackhide__ = True
        with self._debugger.open(paths.getbasetemp()):
            alone = self._debugger.needs_own_ranks or self.item.get_closest_marker("faults")
            if self.mark.launcher or (self.mark.reuse is not None and not alone):
                return self._run_on_kept(packed, paths, limit)
            self._folder = evidence_folder(paths, self.item)
            files = RankFiles(paths)
            try:
                return self._run_job(self._folder, packed, files)
            finally:
                files.remove()

    def _run_on_kept(self, packed: dict[str, bytes], paths: pytest.TempPathFactory, limit: TimeLimit) -> Verdict:
        __tracebackhide__ = True
        from pytest_derail.ranks.pool.pool import kept_ranks

        def evidence() -> Path:
            self._folder = evidence_folder(paths, self.item)
            return self._folder

        kept = kept_ranks(self.item, self.mark, paths)
        order = replace(self._order(paths.getbasetemp(), packed), kept=True)
        self.in_body = True
        try:
            return kept.run(self.item, order, limit, evidence, self._debugger)
        finally:
            self.in_body = False
            self._replaced, self._spawned, self._counted = kept.replaced, kept.spawned, kept.is_new

    def _run_job(self, folder: Path, packed: dict[str, bytes], files: RankFiles) -> Verdict:
        __tracebackhide__ = True
        limit, arrivals = self.limit, Arrivals()
        with ExitStack() as stack:
            bell = stack.enter_context(Bell(bell_path(folder)))
            port = stack.enter_context(claimed_port())
            plan = marked_plan(self.item)
            parts = preload.parts(self.item, self.mark.preload, packed, broken=plan is not None)
            job = start_job(
                LocalJob(
                    run_rank,
                    ranks=self.mark.ranks,
                    args=(self._order(folder, packed),),
                    env={
                        **self.mark.environment(files),
                        **integrations.environment(self.item.config),
                    },
                    plan=plan,
                    teardown=self.teardown(),
                    start_method=self.mark.start_method,
                    preload=parts if self.mark.start_method == "warm" else None,
                    name=self.item.name,
                    record=records(self.item.config),
                    master_port=port,
                    tee=integrations.console(self.item.config),
                ),
                workdir=folder,
                observers=(bell,),
            )
            stack.callback(job.close)
            ranks = _OwnRanks(folder, bell, self.mark.ranks)
            try:
                found, late = watch(job, ranks, limit, self._debugger)
                seen = job.wait()
            except BaseException as error:
                raise BrokenOff(error, break_off(job, ranks, limit, error)) from error
        self._spawned = preload.note_spawned(self.item, self.mark.preload, seen)
        names = [names_path(folder, rank) for rank in range(self.mark.ranks)]
        note(self.item, "call", unlinked=unlink_orphaned(names), unknown=arrivals.unused())
        verdict = judge_ranks(seen, ranks.records(), found, late=late, timeout=self.mark.timeout, files=files.left())
        return replace(verdict, limit=limit.passed_limit)

    def teardown(self) -> Teardown:
        """Return how the ranks are ended."""
        return default_teardown(self.mark.grace)

    def look_into(self) -> None:
        """With ``--pdb``, finish debugging once the report of the failure exists."""
        if self.verdict is not None:
            self._debugger.conclude(self.verdict)

    def _order(self, folder: Path, packed: dict[str, bytes]) -> Order:
        config, item = self.item.config, self.item
        names = names_of(item)
        return Order(
            nodeid=item.nodeid,
            node="::".join(names),
            args=integrations.arguments(config),
            options=integrations.options(config),
            directory=os.fspath(config.invocation_params.dir),
            folder=folder,
            handed=packed,
            in_ranks=self.mark.in_ranks,
            worker=integrations.worker_input(config),
            timeout=self.mark.timeout,
            seed=os.urandom(8).hex(),
            debugger=self._debugger.address,
            post_mortem=self._debugger.post_mortem,
            debugger_for_ide=self._debugger.address_for_ide,
            ide=self._debugger.ide,
            names=names,
            position=position(item),
        )

    def _conclude(self, verdict: Verdict) -> None:
        """Log the log records of the ranks, and raise the result of the test."""
        __tracebackhide__ = True
        if self._body is not None:
            self.tear_down()
            keep_examples(self.item, {number: rank.record for number, rank in verdict.ranks.items()})
        self._log_records(verdict)
        marked = self.item.stash.get(xfailed_key, None)
        self._of_marker = None if marked is None else marked.reason
        if verdict.failed:
            raise self.failure(verdict)
        if (reason := verdict.reason("xfailed", of_test=self._of_marker)) is not None:
            self._unraised = pytest.xfail.Exception(reason)
        elif (reason := verdict.reason("skipped")) is not None:
            self._unraised = pytest.skip.Exception(reason, _use_item_location=True)

    def failure(self, verdict: Verdict) -> Exception:
        """Return the exception for a failure on ranks: that of the root cause if it may be expected."""
        first = verdict.bad[0] if verdict.bad else None
        exception = None if first is None or not self._may_be_expected() else first.exception
        raised = exception if isinstance(exception, Exception) else RanksFailed(shown(self.item.config, verdict))
        self._raised = raised
        return raised

    def _log_records(self, verdict: Verdict) -> None:
        """Report what the ranks have recorded besides their results: properties, warnings, subtests."""
        properties = self.item.user_properties
        named = merge_named({number: rank.record.properties for number, rank in verdict.ranks.items()})
        present = phase_reports.plain(properties)
        properties += [each for each in named if each not in present]
        report_warnings(self.item, {number: rank.record.warned for number, rank in verdict.ranks.items()})
        self._log_extras(verdict)

    def _may_be_expected(self) -> bool:
        """Return whether an xfail marker may cover this failure.

        It may cover exceptions of ranks, and effects of the test's own faults. It covers a rank that died or hung
        without a fault only if the marker names ``RanksFailed``.
        """
        if self.verdict is None:
            return True
        broken = {fault.rank for fault in self.verdict.seen.faults if fault.injected}
        if all(rank.fate == "failed" or rank.rank in broken for rank in self.verdict.bad):
            return True
        raises = [mark.kwargs.get("raises") for mark in self.item.iter_markers("xfail")]
        return any(RanksFailed in (each if isinstance(each, tuple) else (each,)) for each in raises)

    def _log_extras(self, verdict: Verdict) -> None:
        """Log reports of subtests and other plugins the way they do; the terminal shows them at once."""
        reports = [extra_report(self.item.config, number, extra) for number, extra in verdict.extras]
        capture: Any = self.item.config.pluginmanager.get_plugin("capturemanager")
        with nullcontext() if capture is None else capture.global_and_fixture_disabled():
            for report in filter(None, reports):
                self.item.ihook.pytest_runtest_logreport(report=report)
                count_subtest(self.item, report)

    def show_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        """Return the report text of a failure; of a failure on ranks, what the ranks recorded."""
        if self.verdict is not None and excinfo.value is self._raised:
            plan = marked_plan(self.item)
            command = () if plan is None or self._folder is None else again(self.item, plan, self._folder)
            shown_all = sections_of(self.item, self.verdict, command)
            if not self._may_be_expected() and self.item.get_closest_marker("xfail") is not None:
                shown_all.addsection("xfail", NOT_EXPECTED)
            return shown_all
        shown_error = type(self.item).repr_failure(self.item, excinfo)
        if self.verdict is not None and excinfo.value is self._broken_off:
            return with_sections(shown_error, rank_sections(self.item, self.verdict, ()))
        return shown_error

    def show_broken_off(self, terminal: pytest.TerminalReporter) -> None:
        """Show the ranks of a test without a report, because the session was aborted during the test."""
        if self.verdict is None:
            return
        name = type(self._broken_off).__name__
        terminal.write_sep("=", f"{name}: ranks of {self.item.nodeid}")
        for title, text in rank_sections(self.item, self.verdict, ()):
            terminal.write_sep("-", title)
            terminal.write_line(text)

    def before_report(self, call: pytest.CallInfo[None]) -> None:
        """Make the report describe what the ranks did, whatever hooks made of it in the controller.

        The same hooks have run in the ranks. Hooks may still fail a test that has not failed in the ranks. pytest does
        not evaluate the xfail marker again if the ranks have done so, or if the marker cannot cover the failure.
        """
        if call.when != "call" or self.verdict is None:
            return
        has_failed_here = call.excinfo is not None and not call.excinfo.errisinstance(
            (pytest.skip.Exception, pytest.xfail.Exception)
        )
        if self._raised is not None or (self._unraised is not None and not has_failed_here):
            call.excinfo = _raised_again(self._raised or self._unraised)
        if self.verdict.is_of_reports or not self._may_be_expected():
            self.item.stash[xfailed_key] = None

    def note_report(self, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException] | None) -> None:
        """Add the records of the ranks to a report, and keep the evidence of a failure."""
        if excinfo is not None and isinstance(excinfo.value, LateTeardownFailed):
            report.longrepr = sections_of(self.item, excinfo.value.verdict, ())
        if report.when == "call" and self._replaced:
            report.sections.append(("kept ranks", f"the next test gets new ranks: {self._replaced}"))
        if report.failed and self._debugger.post_mortem and self.verdict is not None:
            # pytest's own debugger would open in this process. It is registered again when the test is over.
            self.item.config.pluginmanager.unregister(name=PDB_OF_PYTEST)
        if report.when == "call" and self.verdict is not None:
            self._note_call(report, self.verdict)
        if report.when == "teardown" and self.verdict is not None:
            if not report.failed:  # JUnit XML takes them from here; the terminal shows them only for failures
                report.sections += outputs(self.verdict)
            if self._counted:
                summary.note(report, self.jobs(), ranks=self.mark.ranks)
            summary.note_words(report, spawned=self._spawned, replaced=self._replaced)
            self._counted = False  # a late tear-down may add another report
        if report.when == "teardown" and self._folder is not None and not self._keeps():
            shutil.rmtree(self._folder, ignore_errors=True)

    def jobs(self) -> list[JobResult]:
        """Return the results of the jobs of the test."""
        return [] if self.verdict is None else [self.verdict.seen]

    def _note_call(self, report: pytest.TestReport, verdict: Verdict) -> None:
        unexpected = verdict.first("xpassed")
        if report.passed and unexpected is not None and unexpected.report is not None:
            reason = verdict.reason("xpassed", of_test=self._of_marker) or ""
            if unexpected.report.is_strict:
                report.outcome, report.longrepr = "failed", f"{XPASS_STRICT}{reason}"
            else:
                report.wasxfail = reason
        if not report.failed:
            report.sections += [(_captured(name), text) for name, text in captured(verdict)]
        note_records(report, self.item.config, verdict)

    def _keeps(self) -> bool:
        return (
            keep(self.item.config)
            or self._broken_off is not None
            or (self.verdict is not None and self.verdict.failed)
            or self.verdict is None
        )


def _raised_again(error: BaseException | None) -> pytest.ExceptionInfo[BaseException] | None:
    def fail() -> None:
        if error is not None:
            raise error

    return pytest.CallInfo.from_call(fail, "call").excinfo


def _captured(name: str) -> str:
    """Return the title of a section as pytest spells it."""
    return name if name.startswith("Captured") else f"Captured {name}"


class _OwnRanks:
    """Progress of a test with a separate job: its ranks write to the bell and keep records."""

    def __init__(self, folder: Path, bell: Bell, ranks: int) -> None:
        self._folder = folder
        self._bell = bell
        self._ranks = ranks

    @property
    def is_over(self) -> bool:
        return self._bell.job_is_over

    @property
    def has_begun(self) -> bool:
        return len(self._bell.begun) == self._ranks

    @property
    def first_bad(self) -> int | None:
        return self._bell.first_bad

    @property
    def first_gone(self) -> int | None:
        return None

    def wait(self, seconds: float, others: Sequence[Readable]) -> None:
        __tracebackhide__ = True
        self._bell.wait(seconds, others)

    def records(self) -> dict[int, RankRecord]:
        return phase_reports.read_all(self._folder, self._ranks)

    def unfinished(self, records: Mapping[int, RankRecord]) -> list[int]:
        return [rank for rank, record in records.items() if not record.done]
