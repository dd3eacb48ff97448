"""Job under derail: its faults, its evidence, and its result."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from derail.agents.invocation import (
    LOGS,
    LocalJob,
    as_data,
    entry_point,
    missing_program,
    name_of,
    rank_environment,
    virtual_device,
)
from derail.faults.engine.journal import JOURNAL
from derail.model.exit import signal_number
from derail.model.std import Std
from derail.platform.ports import free_port
from derail.platform.private_files import make_private

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Collection, Mapping, Sequence

    from derail.diagnose.examine import Examination
    from derail.diagnose.verdict import HangVerdict
    from derail.faults.engine.driver import Driver
    from derail.faults.engine.sync_points import SyncPoint
    from derail.faults.model.results import FaultResult
    from derail.launch.context import PContext
    from derail.launch.restarts import Attempts
    from derail.model.events import Event, JobControl, Observer
    from derail.model.outcome import RunProcsResult
    from derail.model.spec import JobSpec, Teardown
    from derail.scenario.model import JobResult


class NativeJob:
    """Job that runs under derail, made by ``start_job``. The caller must ``close`` it.

    Attributes:
        name: its short name.
        plan: the faults.
        workdir: its evidence: journal and logs. It is kept; the caller may remove it.
        journal: the journal of the run.
        rings: the directory of the ranks' ring files; None if they do not record their collectives.
    """

    def __init__(
        self,
        name: str,
        context: PContext | Attempts,
        driver: Driver,
        workdir: Path,
        journal: Path,
        *,
        rings: Path | None,
        exits: _Exits,
    ) -> None:
        self.name = name
        self.plan = driver.plan
        self.workdir = workdir
        self.journal = journal
        self.rings = rings
        self._exits = exits
        self._hang: HangVerdict | None = None
        self._context = context
        self._driver = driver
        self._result: JobResult | None = None

    @property
    def result(self) -> RunProcsResult | None:
        """Result of the launcher, once the job is over."""
        return self._context.wait(0)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks that were started."""
        return tuple(self.pids())

    def pids(self) -> dict[int, int]:
        """Return the pid of each rank."""
        return self._context.pids()

    def log(self, rank: int, stream: str) -> Path:
        """Return the file of a stream ("stdout" or "stderr") of a rank."""
        return Path({"stdout": self._context.stdouts, "stderr": self._context.stderrs}[stream][rank])

    def fault_results(self) -> tuple[FaultResult, ...]:
        """Return the results of the faults so far."""
        return self._driver.results()

    def poll(self) -> JobResult | None:
        """Return the result if the job is over, otherwise None."""
        return self._observe(self._context.wait(0))

    def wait(self, timeout: float | None = None) -> JobResult:
        """Wait for the end of the job, and return its result, the same object every time.

        A job that is not over after ``timeout`` seconds is stopped: its ranks are signalled and then killed, within the
        limits of its teardown, and the result is marked as timed out. If its ranks record their collectives, they are
        examined before, and the result has a verdict on the hang.

        Raises:
            SignalException: in the main thread, if the job handles signals and one asks for its end. It still runs.
        """
        result = self._observe(self._context.wait(-1 if timeout is None else max(0.0, timeout)))
        if result is None:
            if self.rings is not None:
                self.note_hang(self.examine().verdict)
            self.stop(f"not over after {timeout:g} s", timed_out=True)
            result = self._observe(self._context.wait())
        assert result is not None, "waiting without a limit ends with a result"
        return result

    def examine(self, *, ended: Mapping[int, str] | None = None, patience: float | None = None) -> Examination:
        """Examine the ranks of a job that hangs: their states and stacks, and the verdict on them.

        Args:
            ended: ranks that have finished although their processes run, with how, in words.
            patience: maximum seconds to wait for their stacks; by default ``examine.PATIENCE_S``.
        """
        from derail.diagnose.examine import PATIENCE_S, examine

        pids = self.pids()
        stderrs = {rank: self.log(rank, "stderr") for rank in pids}
        over = {**(ended or {}), **self._exits.words}
        return examine(pids, stderrs, self.rings, ended=over, patience=PATIENCE_S if patience is None else patience)

    def note_hang(self, verdict: HangVerdict) -> None:
        """Put a verdict into the journal, and into the result of the job."""
        self._hang = verdict
        with suppress(OSError):  # a full disk: the result has it
            self._driver.journal.write("hang", **verdict.data())

    def stop(self, reason: str, *, timed_out: bool = False, grace: float | None = None) -> None:
        """Request the end of the job, without waiting for it."""
        self._context.stop(reason, grace=grace, timed_out=timed_out)

    def close(self, signal: signal.Signals | None = None) -> None:
        """End the job and wait for its end, within grace and kill_wait of its teardown. Idempotent.

        Args:
            signal: the first signal to the ranks; by default the teardown's.
        """
        # PContext declares whole seconds for torch's sake, but accepts fractions.
        try:
            self._context.close(signal, timeout=self._context.teardown.grace)  # type: ignore[arg-type]
        finally:
            self._driver.heal()

    def _observe(self, result: RunProcsResult | None) -> JobResult | None:
        if result is not None and self._result is None:
            from dataclasses import replace

            from derail.scenario.observe import observe

            self._result = observe(
                result,
                self._driver.results(),
                workdir=self.workdir,
                journal=self.journal,
                hang=self._hang,
                restarts=self._exits.restarts,
            )
            if self._exits.restarts and self._exits.began is not None:  # the outcome is that of the last attempt
                self._result = replace(self._result, started_at=self._exits.began)
        return self._result


class _Exits:
    """Observer of the exits and restarts of ranks.

    Attributes:
        began: when the first rank was started; None before.
        words: how ranks of this attempt have ended.
        restarts: the number of restarts of all ranks so far.
    """

    wants_lines = False

    def __init__(self) -> None:
        self.began: float | None = None
        self.words: dict[int, str] = {}
        self.restarts = 0

    def attach(self, _: JobControl) -> None:
        """Do nothing: the events are enough."""

    def observe(self, event: Event) -> None:
        """Note a start, an exit or a restart."""
        from derail.model.events import Exited, Restarted, Started

        match event:
            case Started():
                self.began = event.at if self.began is None else self.began
            case Exited():
                self.words[event.rank] = f"has ended ({event.status})"
            case Restarted():
                self.restarts = event.number
                self.words.clear()


def start_job(
    job: LocalJob,
    workdir: Path,
    *,
    logs: Path | None = None,
    observers: Sequence[Observer] = (),
    forward_signals: Sequence[str] = (),
    handle_signals: bool = False,
    sync_points: Collection[SyncPoint] = (),
    prepare: Callable[[JobSpec], JobSpec] | None = None,
) -> NativeJob:
    """Start a job on this machine, with its faults.

    Both streams of each rank go to files, shown or not: triggers read them, and the last lines of a rank are evidence.
    A rank's environment consists of this process's own, the variables that torchrun sets, and ``job.env``.

    Args:
        job: the job.
        workdir: the directory for the evidence; created if it does not exist.
        logs: the directory for the files of several kept runs: each run has its own directory with its journal, and a
            link in ``logs`` leads to the newest journal. By default the streams' files are in ``workdir``, beside the
            journal.
        observers: observers of the job's events.
        forward_signals: signals to this process that are forwarded to every rank.
        handle_signals: whether SIGTERM and the others raise ``SignalException`` in the main thread while the job runs.
        sync_points: sync points, at which ranks wait until they are released.
        prepare: changes the job before the faults do.

    Raises:
        ValueError: if there is no program to run, or no rank to run it.
        FileNotFoundError: if the script does not exist.
        InputError: if a fault cannot target these ranks.
        OSError: if a rank cannot be started; then no process is left.
    """
    from derail.diagnose.examine import RINGS
    from derail.faults.engine.driver import Driver
    from derail.faults.engine.prepare import record_ranks
    from derail.faults.model.plan import Plan
    from derail.launch.restarts import Attempts
    from derail.launch.signals import signals_to_handle
    from derail.launch.start import start_processes
    from derail.logs.specs import DefaultLogsSpecs

    if job.ranks < 1:
        raise ValueError(f"ranks: expected 1 or more, got {job.ranks}")
    if missing := missing_program(job.run, job.cwd):
        raise FileNotFoundError(missing)
    entry, first = entry_point(job.run)
    make_private(workdir)
    teardown = default_teardown() if job.teardown is None else job.teardown
    run_id = f"derail-{os.urandom(4).hex()}"
    specs = DefaultLogsSpecs(
        str(workdir / LOGS if logs is None else logs),
        redirects=Std.ALL,
        tee=job.tee,
        local_ranks_filter=set(job.shown_ranks),
    )
    journal = workdir / JOURNAL if logs is None else Path(specs.run_directory(run_id)) / JOURNAL
    rings = make_private(journal.parent / RINGS) if job.record else None
    exits = _Exits()
    driver = Driver(
        job.plan or Plan(()),
        journal=journal,
        run=as_data(job, teardown),
        sync_points=sync_points,
        restarts=job.restarts,
        steps=job.steps,
    )

    def change(spec: JobSpec) -> JobSpec:
        prepared = driver.prepare(spec if prepare is None else prepare(spec))
        return prepared if rings is None else record_ranks(prepared, rings)

    def start(attempt: int, observers: Sequence[Observer]) -> PContext:
        port = free_port() if job.master_port is None else job.master_port

        def environment(rank: int) -> dict[str, str]:
            own = rank_environment(
                rank,
                ranks=job.ranks,
                run_id=run_id,
                master_addr=job.master_addr,
                master_port=port,
                attempt=attempt,
                restarts=job.restarts,
            )
            return {**own, **(virtual_device(rank) if job.virtual_local_rank else {}), **(job.env or {})}

        return start_processes(
            "rank",
            entry,
            args=dict.fromkeys(range(job.ranks), (*first, *job.args)),
            envs={rank: environment(rank) for rank in range(job.ranks)},
            logs_specs=specs,
            log_line_prefixes=None if job.prefixes is None else dict(job.prefixes),
            start_method=job.start_method,
            preload=job.preload,
            teardown=teardown,
            observers=observers,
            prepare=change,
            cwd=None if job.cwd is None else str(job.cwd),
            forward_signals=forward_signals,
            handle_signals=handle_signals,
        )

    context: PContext | Attempts
    if job.restarts:
        context = Attempts(
            start,
            restarts=job.restarts,
            observers=(driver, exits, *observers),
            ending=signals_to_handle() if handle_signals else (),
            forwarding=tuple(signal_number(name) for name in forward_signals),
        )
        context.start()
    else:
        context = start(0, (driver, exits, *observers))
    if logs is not None:
        with suppress(OSError):  # a file system without links: the journal is in the directory of the run
            _link_to_newest(logs / JOURNAL, journal)
    return NativeJob(job.name or name_of(job.run), context, driver, workdir, journal, rings=rings, exits=exits)


def _link_to_newest(link: Path, journal: Path) -> None:
    """Link to the journal of the newest run, after renaming a file of an older derail in its place."""
    if link.is_file() and not link.is_symlink():
        link.replace(link.with_name(f"{link.name}.old"))
    draft = journal.with_name(f"{JOURNAL}.link")
    draft.symlink_to(Path(journal.parent.name, JOURNAL))
    draft.replace(link)


def default_teardown(grace: float | None = None) -> Teardown:
    """Return the teardown of the toolkit's jobs: all remaining processes are ended, in any session."""
    from dataclasses import replace

    from derail.model.spec import Teardown

    teardown = replace(Teardown.from_env(), sweep="all")
    return teardown if grace is None else replace(teardown, grace=grace)
