"""Controller side of ``ranks(n, reuse="module")``: ranks that are reused for later tests.

The ranks are one job. The controller sends a test to each rank through a connection, and each rank reports back; no
process is started. Fixtures that the ranks kept are torn down at the end; a failure there is an error of the last test
that used them. All ranks are ended after a test that failed, or that left state in a rank that cannot be restored: they
share a process group, and a rank in a collective with a rank that has exited hangs there. The next test gets new ranks.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, cast

import pytest

from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from derail.model.clock import SYSTEM_CLOCK
from derail.scenario.model import JobResult
from derail.scenario.observe import tail
from pytest_derail import integrations
from pytest_derail.jobs.leaks import LASTING_FILES, RankFiles
from pytest_derail.jobs.ports import claimed_port
from pytest_derail.options import keep, records
from pytest_derail.protocol import EVERY, KEPT, bell_path, names_path, ranks_marker, report_path
from pytest_derail.ranks import late_teardown, phase_reports, stacks
from pytest_derail.ranks.debugger import Debugger
from pytest_derail.ranks.notify import Bell
from pytest_derail.ranks.phase_reports import RankRecord
from pytest_derail.ranks.pool.connection import Line, RankMessages
from pytest_derail.ranks.pool.launched import start_launched
from pytest_derail.ranks.pool.worker import LATE, serve
from pytest_derail.ranks.prefork import preload
from pytest_derail.ranks.result import judge_ranks
from pytest_derail.ranks.spmd import difference
from pytest_derail.ranks.time_limit import SETTLE_SECONDS, BrokenOff
from pytest_derail.ranks.tracker_names import unlink_orphaned
from pytest_derail.ranks.watch import break_off, watch
from pytest_derail.reporting.artifacts import evidence_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path
    from typing import TypeAlias

    from derail.model.events import Stream
    from pytest_derail.protocol import Order
    from pytest_derail.ranks.marker import RanksMark
    from pytest_derail.ranks.notify import Readable
    from pytest_derail.ranks.phase_reports import When
    from pytest_derail.ranks.result import Verdict
    from pytest_derail.ranks.stacks import RanksJob, Whereabouts
    from pytest_derail.ranks.time_limit import TimeLimit

    End: TypeAlias = Connection[Any, Any]
    Key: TypeAlias = tuple[int, Stream]

STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


def kept_ranks(item: pytest.Function, mark: RanksMark, paths: pytest.TempPathFactory) -> KeptRanks:
    """Return the ranks that this test shares with others of its class, module or session; they end with that scope."""
    scope: Any = item.getparent(pytest.Class if mark.reuse == "class" else pytest.Module)
    scope = item.session if mark.reuse == "session" else scope
    every = item.config.stash.setdefault(KEPT, {})
    key = (scope.nodeid, mark.ranks, mark.start_method, mark.preload, mark.grace, EVERY in mark.in_ranks)
    ranks = every.get(key)
    if ranks is None:
        ranks = every[key] = KeptRanks(mark, paths, list(_modules(item, mark)))

        def end() -> None:
            if ranks is every.get(key):
                every.pop(key).finish()

        scope.addfinalizer(end)
    return ranks


def finish_all(config: pytest.Config) -> None:
    """End all ranks that are still kept, and report failures of their last tear-down."""
    every = config.stash.get(KEPT, {})
    while every:
        every.popitem()[1].finish()


def _modules(item: pytest.Function, mark: RanksMark) -> Iterable[str]:
    """Return the files of the tests that may follow."""
    if mark.reuse != "session":
        return [str(item.path)]
    marked = ((each, ranks_marker(each)) for each in item.session.items)
    return dict.fromkeys(str(each.path) for each, mark in marked if mark and mark.kwargs.get("reuse") == "session")


class KeptRanks:
    """Ranks shared by several tests. ``run`` starts them if there are none; the owner must call ``close``.

    Attributes:
        is_new: whether the last test was the first one on these ranks.
        replaced: why the last test was also their last one; empty if it was not.
        spawned: why they had to be spawned; empty if they were forked.
    """

    def __init__(self, mark: RanksMark, paths: pytest.TempPathFactory, modules: Sequence[str]) -> None:
        self.is_new = False
        self.replaced = self.spawned = ""
        self._mark = mark
        self._paths = paths
        self._modules = tuple(modules)
        self._stack = ExitStack()
        self._job: RanksJob | None = None
        self._bell = Bell(paths.getbasetemp())
        self._lines: list[Line] = []
        self._files = RankFiles(paths)
        self._remained: set[str] = set()
        self._last: pytest.Function | None = None
        self._debugger: Debugger | None = None
        self._folder = paths.getbasetemp()
        self._tests = 0

    @property
    def is_running(self) -> bool:
        """Whether there are ranks for the next test."""
        return self._job is not None

    @property
    def _is_warm(self) -> bool:
        return self._mark.start_method == "warm" and not self._mark.launcher

    def run(
        self, item: pytest.Function, order: Order, limit: TimeLimit, evidence: Callable[[], Path], debugger: Debugger
    ) -> Verdict:
        """Run a test. Its output, if any, goes to files in ``evidence``."""
        __tracebackhide__ = True
        self.replaced, self.is_new, self._debugger = "", self._job is None, debugger
        try:
            job = self._start(item, order) if self._job is None else self._job
            messages = [RankMessages() for _ in self._lines]
            logs, before = self._logs(job)
            records = self._make_folder(f"test-{self._tests}")
            self._tests += 1
            for line in self._lines:
                line.send(replace(order, folder=records))
            ranks = _KeptProgress(self, messages, records)
            try:
                found, late = watch(job, ranks, limit, debugger)
            except BaseException as error:
                verdict = break_off(job, ranks, limit, error)
                raise BrokenOff(error, with_slices(verdict, logs, before, evidence, keeps=True)) from error
            self._report_earlier()
            self._last = item
            verdict = self._judge(item, job, messages, found, late, order.timeout, records)
            shutil.rmtree(records, ignore_errors=True)
            verdict = replace(with_slices(verdict, logs, before, evidence), limit=limit.passed_limit)
        except BaseException:
            self._end()
            raise
        if self.replaced:
            self._end()
        return verdict

    def finish(self) -> None:
        """Tear down what the ranks have kept, and end them; a failure is an error of the last test on them."""
        job, last = self._job, self._last
        try:
            if job is not None:
                messages = [RankMessages() for _ in self._lines]
                with (
                    nullcontext() if last is None else Debugger(last.config).open(self._paths.getbasetemp()) as debugger
                ):
                    self._debugger = debugger
                    self._tear_down(job, messages, seconds=self._mark.timeout, hang_counts=True, left_counts=True)
        finally:
            self._end()

    def close(self) -> None:
        """End the ranks. Idempotent."""
        self._end()

    def _make_folder(self, name: str) -> Path:
        """Create a folder for records of ranks."""
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        return folder

    @property
    def job_is_over(self) -> bool:
        """Whether the job of the ranks has ended."""
        return self._bell.job_is_over

    @property
    def first_gone(self) -> tuple[int, float] | None:
        """The first rank that has gone, and when its launcher must have ended the others; None under derail's own."""
        gone = [(line.closed_at, rank) for rank, line in enumerate(self._lines) if line.closed_at is not None]
        return (min(gone)[1], min(gone)[0] + self._mark.grace) if gone and self._mark.launcher else None

    def _read(self, records: Path) -> dict[int, RankRecord]:
        """Return what the ranks have recorded in a folder."""
        return phase_reports.read_all(records, self._mark.ranks)

    def _take_late(self, otherwise: When) -> dict[int, RankRecord]:
        """Return and remove the records of a late tear-down; ranks without one get the phase ``otherwise``."""
        folder = self._folder / LATE
        records = {
            rank: RankRecord(otherwise) if record.phase == "collect" else record
            for rank, record in self._read(folder).items()
        }
        for rank in records:
            report_path(folder, rank).unlink(missing_ok=True)
        return records

    def _report_earlier(self) -> None:
        """Report failures when ranks tore down what this test did not use, as errors of the test before."""
        if self._last is None or not os.listdir(self._folder / LATE):
            return  # ranks record a late tear-down only if there was anything to tear down
        reports = self._take_late("done")
        verdict = judge_ranks(JobResult(), reports, {}, late={}, timeout=self._mark.timeout, whole=False)
        late_teardown.report(self._last, verdict)

    def _tear_down(
        self, job: RanksJob, messages: list[RankMessages], *, seconds: float, hang_counts: bool, left_counts: bool
    ) -> JobResult:
        """Make the ranks tear down what they have kept, and end them; report failures of the tear-down.

        Args:
            job: the job of the ranks.
            messages: records to which the messages of the ranks are added.
            seconds: time limit of the tear-down.
            hang_counts: whether exceeding the limit is a failure.
            left_counts: whether leftover processes and files are failures of the tear-down, and not of a test.

        Returns:
            The result of their job.
        """
        logs, before = self._logs(job)
        debugger = self._debugger
        for line in self._lines:
            line.send("" if debugger is None else debugger.address)
        now, settled = SYSTEM_CLOCK.now(), float("inf")
        found: Mapping[int, Whereabouts] = {}
        deadline = now + seconds
        while not self.job_is_over:
            self.receive(
                messages, min(deadline, settled) - SYSTEM_CLOCK.now(), () if debugger is None else debugger.sources
            )
            paused = 0.0 if debugger is None else debugger.attend(lambda _: "")
            deadline, settled = deadline + paused, settled + paused
            now = SYSTEM_CLOCK.now()
            if any(each.late_bad for each in messages):
                settled = min(settled, now + SETTLE_SECONDS)
            if not self.job_is_over and now >= min(deadline, settled):
                found = stacks.look(job, range(len(messages)), "hang" if now >= deadline else "failure")
                job.stop(f"the last tear-down was not over after {seconds:g} s", timed_out=now >= deadline)
                break
        seen = job.wait()
        reports = self._take_late("teardown")
        late = {rank: reports[rank] for rank in found} if hang_counts and now >= deadline else {}
        judged = seen if left_counts else replace(seen, leftovers=())
        files = [name for name in self._files.left() if left_counts and name not in self._remained]
        verdict = judge_ranks(judged, reports, found, late=late, timeout=seconds, files=files, whole=False)
        last = self._last
        if last is not None and verdict.failed:
            late_teardown.report(last, with_slices(verdict, logs, before, lambda: evidence_folder(self._paths, last)))
        return seen

    def _end(self) -> None:
        self._job, self._lines, self._remained = None, [], set()
        stack, self._stack = self._stack, ExitStack()
        stack.close()

    def _start(self, item: pytest.Function, order: Order) -> RanksJob:
        with ExitStack() as stack:
            folder = self._folder = self._paths.mktemp("kept")
            self._make_folder(LATE)
            if not keep(item.config):
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(unlink_orphaned, [names_path(folder, rank) for rank in range(self._mark.ranks)])
            files = self._files = RankFiles(self._paths)
            stack.callback(files.remove)
            self._bell = stack.enter_context(Bell(bell_path(folder)))
            port = stack.enter_context(claimed_port())
            if self._mark.launcher:
                own = replace(order, folder=folder, handed={})
                launched, lines = start_launched(item, own, self._mark, self._modules, self._bell, port, stack)
                self._lines = [*lines]
                self._stack, self._job = stack.pop_all(), launched
                return launched
            pairs = [Pipe() for _ in range(self._mark.ranks)]
            for pair in pairs:
                stack.enter_context(pair[0])
            with ExitStack() as theirs:
                for pair in pairs:
                    theirs.enter_context(pair[1])
                job = start_job(
                    LocalJob(
                        serve,
                        ranks=self._mark.ranks,
                        args=(replace(order, folder=folder, handed={}), self._modules, [pair[1] for pair in pairs]),
                        env={
                            **self._mark.environment(files),
                            **integrations.environment(item.config),
                        },
                        teardown=default_teardown(self._mark.grace),
                        start_method=self._mark.start_method,
                        preload=preload.parts(item, self._mark.preload, order.handed) if self._is_warm else None,
                        name="kept ranks",
                        record=records(item.config),
                        master_port=port,
                    ),
                    workdir=folder,
                    observers=(self._bell,),
                )
            stack.callback(job.close)
            self.spawned = preload.why_spawned(item, self._mark.preload, job) if self._is_warm else ""
            self._lines = [Line(pair[0]) for pair in pairs]
            self._stack, self._job = stack.pop_all(), job
        return job

    def _logs(self, job: RanksJob) -> tuple[Mapping[Key, Path], Mapping[Key, int]]:
        """Return the logs of the ranks, and their current sizes."""
        logs = {(rank, stream): job.log(rank, stream) for rank in range(self._mark.ranks) for stream in STREAMS}
        return logs, {key: _size(path) for key, path in logs.items()}

    def receive(self, messages: list[RankMessages], seconds: float, others: Sequence[Readable] = ()) -> None:
        """Receive messages of ranks and of the job.

        Wait for the first one, or until one of ``others`` is readable, for at most ``seconds``.
        """
        __tracebackhide__ = True
        ends = {line.end: rank for rank, line in enumerate(self._lines) if line.is_open}
        bell = self._bell.fileno()
        for each in wait(
            [*ends, bell, *(each.fileno() for each in others)], None if seconds == float("inf") else max(0.0, seconds)
        ):
            if each == bell:
                self._bell.wait(0)
                continue
            rank = ends.get(cast("End", each))
            if rank is not None:
                self._lines[rank].receive(messages[rank])

    def _judge(
        self,
        item: pytest.Function,
        job: RanksJob,
        messages: list[RankMessages],
        found: Mapping[int, Whereabouts],
        late: Mapping[int, RankRecord],
        timeout: float,
        records: Path,
    ) -> Verdict:
        new = [name for name in self._files.left() if name not in self._remained]
        new = [name for name in new if not name.startswith(LASTING_FILES)]  # checked again when the ranks have ended
        self._remained.update(new)
        problems = [f"left behind: file in the ranks' TMPDIR: {name}" for name in new]
        for rank, each in enumerate(messages):
            problems += [f"left behind: {words}, in rank {rank}" for kind, words in each.left if kind == "process"]
        if self.is_new and EVERY in self._mark.in_ranks:
            problems += filter(None, [difference(self._folder, self._mark.ranks, item.config.rootpath)])
        reports = self._read(records)
        verdict = judge_ranks(JobResult(), reports, found, late=late, timeout=timeout)
        self.replaced = self._why_not_again(messages, reports, failed=bool(verdict.failed or problems or found))
        if self.replaced:
            over = all(each.done for each in messages) and not found and not self.job_is_over
            failed = bool(verdict.failed or problems)
            if over:
                seconds = self._mark.grace if failed else timeout
                seen = self._tear_down(job, messages, seconds=seconds, hang_counts=not failed, left_counts=False)
            else:
                seen = job.wait(self._mark.grace)
                reports = self._read(records)  # the end of the job may arrive before a rank's last record
            verdict = judge_ranks(seen, reports, found, late=late, timeout=timeout, over=over)
        return replace(verdict, problems=(*verdict.problems, *problems))

    def _why_not_again(
        self, messages: Sequence[RankMessages], reports: Mapping[int, RankRecord], *, failed: bool
    ) -> str:
        if failed or self.job_is_over:
            return "the test did not pass"
        results = {tuple((phase.when, phase.result) for phase in each.phases) for each in reports.values()}
        if len(results) > 1 and EVERY not in self._mark.in_ranks:  # a suite for torchrun expects the same ranks again
            return "its results differ between the ranks"
        left = {rank: ", ".join(words for _, words in each.left) for rank, each in enumerate(messages) if each.left}
        return "; ".join(f"rank {rank}: {words}" for rank, words in left.items())


class _KeptProgress:
    """Progress of a test on reused ranks: each sends messages, and keeps records."""

    def __init__(self, kept: KeptRanks, messages: list[RankMessages], folder: Path) -> None:
        self._kept = kept
        self._messages = messages
        self._folder = folder

    @property
    def is_over(self) -> bool:
        return self._kept.job_is_over or all(each.done for each in self._messages)

    @property
    def has_begun(self) -> bool:
        return all(each.begun for each in self._messages)

    @property
    def first_bad(self) -> int | None:
        bad = next((rank for rank, each in enumerate(self._messages) if each.bad), None)
        gone = self._kept.first_gone
        return gone[0] if bad is None and gone is not None and SYSTEM_CLOCK.now() >= gone[1] else bad

    @property
    def first_gone(self) -> int | None:
        gone = self._kept.first_gone
        return None if gone is None else gone[0]

    def wait(self, seconds: float, others: Sequence[Readable]) -> None:
        __tracebackhide__ = True
        gone = self._kept.first_gone
        until = seconds if gone is None else min(seconds, max(0.0, gone[1] - SYSTEM_CLOCK.now()))
        self._kept.receive(self._messages, until, others)

    def records(self) -> dict[int, RankRecord]:
        return phase_reports.read_all(self._folder, len(self._messages))

    def unfinished(self, _: Mapping[int, RankRecord]) -> list[int]:
        return [rank for rank, each in enumerate(self._messages) if not each.done]


def with_slices(
    verdict: Verdict,
    logs: Mapping[Key, Path],
    before: Mapping[Key, int],
    evidence: Callable[[], Path],
    *,
    keeps: bool = False,
) -> Verdict:
    """Return the verdict with logs that contain only the output of this test.

    The logs are kept if the test failed, or if ``keeps`` is true.
    """
    printed = [key for key, path in logs.items() if _size(path) > before[key]]
    keeps = keeps or verdict.failed
    if not printed and not keeps:
        return verdict
    folder = evidence()
    slices = {}
    for key in printed:
        rank, stream = key
        path = slices[key] = folder / f"rank-{rank}.{stream}.log"
        with logs[key].open("rb") as source, path.open("wb") as target:
            source.seek(before[key])
            shutil.copyfileobj(source, target)
    journal = verdict.seen.journal
    if journal is not None:
        shutil.copy(journal, folder)
    seen = replace(
        verdict.seen,
        logs=slices,
        log_tail={key: tail(path) for key, path in slices.items()},
        workdir=folder if keeps else None,
        journal=None if journal is None else folder / journal.name,
    )
    places = {
        rank: replace(place, stderr_end=max(0, place.stderr_end - before[rank, "stderr"]))
        for rank, place in verdict.where.items()
    }
    return replace(verdict, seen=seen, where=places)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
