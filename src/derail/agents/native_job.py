"""A job under derail: its faults, its evidence, and what was observed of it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derail.agents.invocation import (
    LOOPBACK,
    as_data,
    entry_point,
    missing_program,
    name_of,
    rank_environment,
)
from derail.model.std import Std
from derail.platform.ports import free_port
from derail.platform.private_files import make_private

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Collection, Mapping, Sequence

    from derail.agents.invocation import Run
    from derail.faults.engine.driver import Driver
    from derail.faults.engine.sync_points import Gate
    from derail.faults.model.plan import Fault, Plan
    from derail.faults.model.results import FaultResult
    from derail.launch.context import PContext
    from derail.model.events import Observer
    from derail.model.outcome import RunProcsResult
    from derail.model.spec import JobSpec, Preload, Teardown
    from derail.scenario.model import Observation

JOURNAL = "journal.jsonl"
LOGS = "logs"


class NativeJob:
    """A job that runs under derail. Made by ``start_job``; whoever has it must ``close`` it.

    Attributes:
        name: what runs, in a word.
        plan: the faults.
        workdir: its evidence: journal and logs. Kept; removing it is the caller's business.
        journal: the journal of the run.
    """

    def __init__(self, name: str, context: PContext, driver: Driver, workdir: Path, journal: Path) -> None:
        self.name = name
        self.plan = driver.plan
        self.workdir = workdir
        self.journal = journal
        self._context = context
        self._driver = driver
        self._observation: Observation | None = None

    @property
    def result(self) -> RunProcsResult | None:
        """What the launcher says, once the job is over."""
        return self._context.wait(0)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that were started."""
        return tuple(self.pids())

    def pids(self) -> dict[int, int]:
        """The process of each rank."""
        return self._context.pids()

    def log(self, rank: int, stream: str) -> Path:
        """The file that a stream ("stdout" or "stderr") of a rank goes to."""
        return Path({"stdout": self._context.stdouts, "stderr": self._context.stderrs}[stream][rank])

    def fault_results(self) -> tuple[FaultResult, ...]:
        """What has come of the faults so far."""
        return self._driver.results()

    def poll(self) -> Observation | None:
        """What was observed, if the job is over."""
        return self._observe(self._context.wait(0))

    def wait(self, timeout: float | None = None) -> Observation:
        """Wait for the end of the job, and say what was observed; the same object every time.

        A job that is not over after ``timeout`` seconds is ended: its ranks are asked and then killed, which takes as
        long as its teardown allows, and what was observed says that it timed out.

        Raises:
            SignalException: in the main thread, if the job handles signals and one asks for its end. It still runs.
        """
        observation = self._observe(self._context.wait(-1 if timeout is None else max(0.0, timeout)))
        if observation is None:
            self.stop(f"it was not over after {timeout:g} s", timed_out=True)
            observation = self._observe(self._context.wait())
        assert observation is not None, "waiting without a limit ends with a result"
        return observation

    def stop(self, reason: str, *, timed_out: bool = False, grace: float | None = None) -> None:
        """Ask for the end of the job, without waiting for it."""
        self._context.stop(reason, grace=grace, timed_out=timed_out)

    def close(self, signal: signal.Signals | None = None) -> None:
        """End the job and wait for its end, which comes within grace and kill_wait of its teardown. Idempotent.

        Args:
            signal: what ranks are asked with; by default the teardown's.
        """
        # PContext wants whole seconds for torch's sake, but takes any.
        try:
            self._context.close(signal, timeout=self._context.teardown.grace)  # type: ignore[arg-type]
        finally:
            self._driver.heal()

    def _observe(self, result: RunProcsResult | None) -> Observation | None:
        if result is not None and self._observation is None:
            from derail.scenario.observe import observe

            self._observation = observe(result, self._driver.results(), workdir=self.workdir, journal=self.journal)
        return self._observation


def start_job(
    run: Run,
    *,
    ranks: int,
    workdir: Path,
    logs: Path | None = None,
    args: Sequence[Any] = (),
    env: Mapping[str, str] | None = None,
    plan: Plan | None = None,
    faults: Sequence[Fault] = (),
    seed: int = 0,
    teardown: Teardown | None = None,
    cwd: Path | None = None,
    start_method: str = "spawn",
    preload: Collection[Preload] | None = None,
    tee: Std | dict[int, Std] = Std.NONE,
    name: str = "",
    observers: Sequence[Observer] = (),
    master_addr: str = LOOPBACK,
    master_port: int | None = None,
    forward_signals: Sequence[str] = (),
    handle_signals: bool = False,
    gates: Collection[Gate] = (),
    prepare: Callable[[JobSpec], JobSpec] | None = None,
) -> NativeJob:
    """Start a job on this machine, with its faults armed.

    Both streams of each rank go to files, whether they are shown or not: triggers read them, and the
    last lines of a rank are evidence. A rank's environment is this process's own, what torchrun would set, and ``env``.

    Args:
        run: a function; a program's path (``.py`` is run by this Python); or an argv.
        ranks: how many.
        workdir: where the evidence goes; created if it is not there.
        logs: where runs that are all kept put their files: a directory of its own for each, with its journal, which
            a link in ``logs`` names. By default the streams' files are in ``workdir``, beside the journal.
        args: for the function, or behind the program's argv; the same for each rank.
        env: more variables, which win.
        plan: faults and a seed; or
        faults: faults, with ``seed``.
        seed: of the decisions that ``faults`` leave open.
        teardown: how the job is ended; by default as ``Teardown.from_env`` says, and everybody who is left is ended.
        cwd: working directory of the ranks.
        start_method: how a function gets its process: "spawn", "fork", "forkserver" or "warm".
        preload: for "warm": modules that are imported once; by default the installed ones that the function's module
            imports.
        tee: streams that are shown on the console as well.
        name: what runs, in a word; by default taken from ``run``.
        observers: who else hears what happens.
        master_addr: what MASTER_ADDR says.
        master_port: what MASTER_PORT says; by default a port that nobody has bound.
        forward_signals: signals to this process that every rank gets too.
        handle_signals: whether SIGTERM and the others raise ``SignalException`` in the main thread while the job runs.
        gates: places at which ranks stay until they are let go.
        prepare: what changes the job before faults are put into it.

    Raises:
        ValueError: if there is nothing to run, or no rank to run it.
        FileNotFoundError: if the script is not there.
        InputError: if a fault cannot be aimed at these ranks.
        OSError: if a rank cannot be started; nothing is left then.
    """
    from derail.faults.engine.driver import Driver
    from derail.launch.start import start_processes
    from derail.logs.specs import DefaultLogsSpecs

    if ranks < 1:
        raise ValueError(f"a job of {ranks} ranks has nothing to run; give 1 rank or more")
    if missing := missing_program(run, cwd):
        raise FileNotFoundError(missing)
    entry, first = entry_point(run)
    name = name or name_of(run)
    make_private(workdir)
    teardown = default_teardown() if teardown is None else teardown
    told = as_data(run, ranks=ranks, args=args, env=env, cwd=cwd, name=name, teardown=teardown)
    port = free_port() if master_port is None else master_port
    run_id = f"derail-{os.urandom(4).hex()}"
    whole = _whole_plan(plan, faults, seed)
    specs = DefaultLogsSpecs(str(workdir / LOGS if logs is None else logs), redirects=Std.ALL, tee=tee)
    journal = workdir / JOURNAL if logs is None else Path(specs.run_directory(run_id)) / JOURNAL
    driver = Driver(whole, journal=journal, run=told, gates=gates)
    context = start_processes(
        "rank",
        entry,
        args=dict.fromkeys(range(ranks), (*first, *args)),
        envs={
            rank: {
                **rank_environment(rank, ranks=ranks, run_id=run_id, master_addr=master_addr, master_port=port),
                **(env or {}),
            }
            for rank in range(ranks)
        },
        logs_specs=specs,
        start_method=start_method,
        preload=preload,
        teardown=teardown,
        observers=(driver, *observers),
        prepare=driver.prepare if prepare is None else lambda spec: driver.prepare(prepare(spec)),
        cwd=None if cwd is None else str(cwd),
        forward_signals=forward_signals,
        handle_signals=handle_signals,
    )
    if logs is not None:
        with suppress(OSError):  # a file system without links: the journal is in the directory of the run
            _link_to_newest(logs / JOURNAL, journal)
    return NativeJob(name, context, driver, workdir, journal)


def _link_to_newest(link: Path, journal: Path) -> None:
    """Make a link to the journal of the newest run; a file in its place, of an older derail, is renamed."""
    if link.is_file() and not link.is_symlink():
        link.replace(link.with_name(f"{link.name}.old"))
    draft = journal.with_name(f"{JOURNAL}.link")
    draft.symlink_to(Path(journal.parent.name, JOURNAL))
    draft.replace(link)


def default_teardown(grace: float | None = None) -> Teardown:
    """How jobs of the toolkit end: everybody who is left is ended, whatever session they have gone to."""
    from dataclasses import replace

    from derail.model.spec import Teardown

    teardown = replace(Teardown.from_env(), sweep="all")
    return teardown if grace is None else replace(teardown, grace=grace)


def _whole_plan(plan: Plan | None, faults: Sequence[Fault], seed: int) -> Plan:
    from derail.faults.model.plan import Plan

    if plan is None:
        return Plan(tuple(faults), seed)
    if faults or seed:
        raise ValueError("a plan has its own faults and seed; give either plan= or faults= and seed=")
    return plan
