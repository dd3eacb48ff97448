"""Lifecycle of the ``derail`` fixture: the jobs, ports and files of a test, and their end, judgement and clean-up."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail import integrations
from pytest_derail.faults_marker import marked_plan
from pytest_derail.jobs.expectations import could_clean_up, judge, judge_left
from pytest_derail.jobs.job import Job
from pytest_derail.jobs.leaks import Leaks, RankFiles, note, processes_of
from pytest_derail.jobs.ports import Port, claimed_port, listened_on
from pytest_derail.options import keep
from pytest_derail.protocol import BROKEN_OFF, IN_RANK
from pytest_derail.ranks.outer_timeout import is_of_timeout
from pytest_derail.reporting import summary
from pytest_derail.reporting.artifacts import evidence_folder
from pytest_derail.reporting.job import job_sections
from pytest_derail.reporting.sections import add_sections

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from derail.faults.model.plan import Plan
    from pytest_derail.jobs.agent_job import AgentJob
    from pytest_derail.jobs.sync_points import Hold


class Lifecycle:
    """Jobs, ports and files of one test, from the set-up of the fixture to its tear-down.

    Attributes:
        item: the test.
        jobs: the jobs of the test, in the order in which they were started.
        holds: the sync points of its jobs.
    """

    def __init__(self, item: pytest.Item, paths: pytest.TempPathFactory) -> None:
        self.item = item
        self._paths = paths
        self._workdir: Path | None = None
        self.jobs: list[Job | AgentJob] = []
        self._judged: set[int] = set()
        self._in_body = False
        self._of_body: set[int] = set()
        self._failed = self._broken_off = self._is_cut_short = False
        self._allowed: set[str] = set()
        self._files = RankFiles(paths)
        self._leaks = Leaks()
        self._claims = ExitStack()
        self._ports: list[Port] = []
        self.holds: list[Hold] = []
        self._shown: set[int] = set()
        self._last_words: list[tuple[str, str]] = []

    @property
    def workdir(self) -> Path:
        """Folder of this test's evidence: one folder per job, with logs and journal. It is kept if the test fails."""
        if self._workdir is None:
            self._workdir = evidence_folder(self._paths, self.item)
        return self._workdir

    def begin(self) -> None:
        """Record the state of this process before the test."""
        self._leaks.begin()

    def enter_body(self) -> None:
        """Begin the test's own code. Jobs that fixtures started are judged at the fixtures' tear-down."""
        self._in_body = True

    def leave_body(self, error: BaseException | None) -> None:
        """End the jobs after the test's own code; failures that the test did not check fail it.

        Raises:
            Failed: for an unchecked failure in a job, unless ``error`` aborted the test.
        """
        self._in_body = False
        self._broken_off = error is not None
        self._failed |= error is not None and not isinstance(error, pytest.skip.Exception)
        if is_of_timeout(error):
            for job in self.jobs:
                if isinstance(job, Job) and not job.where and job.poll() is None:
                    job.look()
        with self._closing():
            self._judge(sorted(self._of_body))

    def close(self) -> None:
        """End all jobs, judge the remaining ones, look for leftovers, and remove the evidence of a passed test.

        Raises:
            Failed: for an unchecked failure in a job, or for leftovers.
        """
        try:
            with self._closing():
                self._judge(range(len(self.jobs)))
                left = [] if self._is_cut_short else self._left()
            if left:
                self._failed = True
                pytest.fail("\n  ".join([f"{self.item.nodeid} left behind:", *left]), pytrace=False)
        finally:
            self.end_jobs()
            self._files.remove()
            self._close_ports()
            for job in self.jobs:
                job.forget()
            if not self._failed and self._workdir is not None and not keep(self.item.config):
                shutil.rmtree(self._workdir, ignore_errors=True)

    def end_jobs(self) -> None:
        """End all running jobs, and raise only interrupts: then the ranks are killed."""
        with self._closing():
            for job in self.jobs:
                try:
                    job.close()
                except Exception as error:  # the other jobs must be ended as well
                    self.item.warn(pytest.PytestWarning(f"derail could not end {job.name}: {error!r}"))

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """While the body ends jobs, end all of them at once if it is interrupted, by a second Ctrl-C."""
        try:
            yield
        except KeyboardInterrupt:
            for job in self.jobs:
                job.stop("interrupted while closing", grace=0)
            raise

    def note_report(self, report: pytest.TestReport, *, excinfo: pytest.ExceptionInfo[BaseException] | None) -> None:
        """Count the jobs, and add their results to the report of a phase that failed."""
        if report.when == "teardown":
            over = [seen for job in self.jobs if (seen := job.poll()) is not None]
            summary.note(report, over)
            fates = [fate for seen in over for fate in seen.ranks.values()]
            summary.note_words(report, spawned=next((f.spawned_because for f in fates if f.spawned_because), ""))
        if excinfo is None or report.skipped or report.passed:
            return
        self._failed = True
        text = report.longreprtext
        for index, job in enumerate(self.jobs):
            if index not in self._shown:
                marked = self.marked_plan() is not None
                add_sections(report, job_sections(self.item, index, job, text=text, marked=marked))
                self._shown |= {index} if job.poll() is not None else set()

    def break_off(self, error: BaseException) -> None:
        """Record the state of the ranks when Ctrl-C or ``pytest.exit`` ends the session in the test.

        There is no report then, and pytest tears the test down later, when the state of this process has changed.
        """
        self._broken_off = self._failed = self._is_cut_short = True
        self._last_words = [(f"{type(error).__name__}: {title}", text) for title, text in self._running()]
        self.item.config.stash.setdefault(BROKEN_OFF, []).append(self)

    def show_broken_off(self, terminal: pytest.TerminalReporter) -> None:
        """Show the jobs that ran when the session was aborted."""
        for title, text in self._last_words:
            terminal.write_sep("-", title)
            terminal.write_line(text)

    def show_running(self, terminal: Any) -> None:
        """Show the jobs that still run, before this process ends."""
        for title, text in self._running():
            terminal.sep("~", title=title)
            terminal.line(text)

    def _running(self) -> Iterator[tuple[str, str]]:
        for index, job in enumerate(self.jobs):
            if job.poll() is None:
                if isinstance(job, Job) and not job.where:
                    job.look()
                yield from job_sections(self.item, index, job, text="", marked=False)

    def marked_plan(self) -> Plan | None:
        """Return the plan of the test's marker; in a rank it has been applied to the rank itself."""
        return None if IN_RANK in self.item.config.stash else marked_plan(self.item)

    def _left(self) -> list[str]:
        """Return the leftovers of the test's jobs and the leaks of this process."""
        ended = [(job.close(), job.account) for job in self.jobs]
        left = [line for seen, account in ended for line in judge_left(seen, account)]
        clean = all(not seen.ran or could_clean_up(seen) for seen, _ in ended)
        if "file" not in self._allowed and clean:
            left += [f"file in the ranks' TMPDIR: {name}" for name in self._files.left()]
        self._files.remove()
        pids = [pid for job in self.jobs for pid in job.pids().values()]
        pids += [leftover.pid for seen, _ in ended for leftover in seen.leftovers if leftover.pid is not None]
        listening = self._close_ports(pids)
        if "port" not in self._allowed:
            left += [f"port: a process of the test still listens on {port}" for port in listening]
        allowed = self._allowed if clean else {*self._allowed, "shm"}  # a rank that was killed could not remove it
        remaining = self._leaks.left(allowed=allowed, pids=pids)
        if "shm" not in self._allowed:
            note(self.item, "teardown", unknown=self._leaks.of_unknown_makers(remaining))
        return left + [str(leftover) for leftover in remaining]

    def _close_ports(self, pids: Collection[int] = ()) -> list[int]:
        """Release the ports of the test; return those on which a process of the test still listens."""
        for port in self._ports:
            port.close()
        listening = listened_on(self._ports, processes_of(self.item.nodeid, pids)) if self._ports else []
        self._ports.clear()
        self._claims.close()
        return listening

    def _judge(self, indexes: Sequence[int]) -> None:
        """End jobs, and fail if one had an unchecked failure; an aborted test has failed already."""
        wrong = []
        open_ = [index for index in indexes if index not in self._judged]
        for index in open_:
            self.jobs[index].stop("closed")  # request the end of all before waiting for one
        for index in open_:
            self._judged.add(index)
            job = self.jobs[index]
            wrong += [f"job {index} ({job.name}): {line}" for line in judge(job.close(), job.account)]
        if not self._in_body:
            wrong += [line for hold in self.holds for line in hold.unreached()]
        if wrong and not self._failed and not self._broken_off:
            self._failed = True
            pytest.fail("\n".join(wrong), pytrace=False)

    def environment(self) -> dict[str, str]:
        """Return the variables of all jobs: where their files go, and whether coverage is measured."""
        return {**self._files.environment(), **integrations.environment(self.item.config)}

    def close_later(self, close: Callable[[], object]) -> None:
        """Call a function when the jobs of the test have ended, before leaks are looked for."""
        self._claims.callback(close)

    def claim_port(self) -> int:
        """Claim a port that no other job gets until the end of the test."""
        return self._claims.enter_context(claimed_port())

    def free_port(self) -> Port:
        """Claim a port with a socket, which is closed at the end of the test."""
        port = Port(self.claim_port())
        self._ports.append(port)
        return port

    def allow(self, kinds: Collection[str]) -> None:
        """Allow leaks of these kinds."""
        self._allowed.update(kinds)

    def next_workdir(self) -> Path:
        """Return the directory of the next job, which does not exist yet."""
        return self.workdir / f"job-{len(self.jobs)}"

    def add(self, job: Job | AgentJob) -> None:
        """Add a job: it is judged with the test's own code or with the fixtures, depending on where it was started."""
        if self._in_body:
            self._of_body.add(len(self.jobs))
        self.jobs.append(job)
