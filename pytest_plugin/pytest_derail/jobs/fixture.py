"""API of the ``derail`` fixture; its lifecycle is in ``lifecycle.py``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from derail import faults as _faults
from derail import when as _when
from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from derail.faults.model.plan import Plan
from derail.faults.model.triggers import Point
from derail.model.std import Std
from pytest_derail.integrations import console
from pytest_derail.jobs.importable import RankFunction, check_importable, warm_modules
from pytest_derail.jobs.job import Job
from pytest_derail.jobs.pool import Pool
from pytest_derail.jobs.pool_rank import serve
from pytest_derail.jobs.sync_points import Hold
from pytest_derail.options import records, seconds
from pytest_derail.options import start_method as choose_start_method
from pytest_derail.protocol import IN_RANK

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from derail.agents.custom import Declaration
    from derail.agents.invocation import Run
    from derail.faults.engine.trigger_matcher import Inside
    from derail.faults.model.plan import Fault
    from derail.model.events import Observer
    from derail.model.spec import StartMethod
    from derail.recovery.report import Report
    from derail.scenario.model import JobResult
    from pytest_derail.jobs.lifecycle import Lifecycle
    from pytest_derail.jobs.ports import Port

MYPY = False  # true for mypy, which rejects names of a module that is an attribute; pyright and editors accept them
if MYPY:
    from derail.faults import _Functions as _FaultFunctions

    class _WhenFunctions:
        """Type of the attribute ``when`` for mypy."""

        start = staticmethod(_when.start)
        after = staticmethod(_when.after)
        line = staticmethod(_when.line)
        point = staticmethod(_when.point)
        call = staticmethod(_when.call)
        import_of = staticmethod(_when.import_of)
        signal_received = staticmethod(_when.signal_received)
        own_exit = staticmethod(_when.own_exit)
        exit_of = staticmethod(_when.exit_of)
        restart = staticmethod(_when.restart)
        phase = staticmethod(_when.phase)
        barrier = staticmethod(_when.barrier)
        probability = staticmethod(_when.probability)
        all_of = staticmethod(_when.all_of)
        any_of = staticmethod(_when.any_of)
        then = staticmethod(_when.then)


class Derail:
    """Object that the ``derail`` fixture returns.

    Attributes:
        faults: the package ``derail.faults``, because the fixture's name hides ``derail`` in a test function.
        when: the module ``derail.when``.
    """

    if not MYPY:
        faults = _faults
        when = _when
    else:
        faults = _FaultFunctions()
        when = _WhenFunctions()

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    @property
    def workdir(self) -> Path:
        """Folder of this test's evidence: one folder per job, with logs and journal. It is kept if the test fails."""
        return self._lifecycle.workdir

    def plan(self, *faults: Fault, seed: int = 0) -> Plan:
        """Combine faults and a seed in a plan, for ``start(plan=...)``."""
        return Plan(faults, seed)

    def start(
        self,
        run: Run,
        *,
        ranks: int = 2,
        args: Sequence[Any] = (),
        env: Mapping[str, str] | None = None,
        faults: Sequence[Fault] = (),
        plan: Plan | None = None,
        seed: int = 0,
        timeout: float | None = None,
        grace: float | None = None,
        cwd: Path | None = None,
        start_method: StartMethod | None = None,
    ) -> Job:
        """Start a job, and return when its ranks run.

        Args:
            run: a function at the top level of a module, test modules included; a program's path (``.py`` is run by
                this Python); or an argv.
            ranks: the number of ranks.
            args: arguments of the function, or appended to the program's argv; the same for each rank.
            env: more variables for the ranks.
            faults: the faults.
            plan: a plan, instead of ``faults`` and ``seed``.
            seed: seed for decisions that ``faults`` leave open.
            timeout: time limit of ``wait`` in seconds; default: ``--derail-timeout``.
            grace: seconds from SIGTERM to SIGKILL; default: ``--derail-grace``.
            cwd: working directory of the ranks.
            start_method: how the process of a function is created: "warm", "spawn", "fork" or "forkserver"; default:
                ``--derail-start-method``.

        Raises:
            UsageError: if the start method does not exist.
            TypeError: if a rank cannot import the function.
            InputError: if a fault cannot be aimed at these ranks.
            OSError: if a rank cannot be started; nothing is left then.
        """
        __tracebackhide__ = True
        config = self._lifecycle.item.config
        method = choose_start_method(config, start_method, source="derail.start(start_method=)")
        preloaded = warm_modules(config, run) if callable(run) and method == "warm" else None
        if callable(run) and method != "fork":
            check_importable(run)
            run = RankFunction(run)
        job = LocalJob(
            run,
            ranks=ranks,
            args=args,
            env=env,
            plan=self._whole_plan(plan, faults, seed),
            cwd=cwd,
            start_method=method,
            preload=preloaded,
        )
        return self._start(job, timeout=timeout, grace=grace)

    def _start(
        self, job: LocalJob, *, timeout: float | None, grace: float | None, observers: Sequence[Observer] = ()
    ) -> Job:
        """Start a job with the settings of the session, and make it one of the test's jobs."""
        lifecycle, config = self._lifecycle, self._lifecycle.item.config
        native = start_job(
            replace(
                job,
                env={**lifecycle.environment(), **(job.env or {})},
                teardown=default_teardown(seconds(config, "grace") if grace is None else grace),
                master_port=lifecycle.claim_port(),
                tee=Std.NONE if IN_RANK in config.stash else console(config),
                record=records(config),
            ),
            lifecycle.next_workdir(),
            observers=observers,
            sync_points=[hold.new_sync_point() for hold in lifecycle.holds],
        )
        patience = seconds(config, "timeout") if timeout is None else timeout
        started = Job(native, timeout=patience, is_program=not callable(job.run))
        lifecycle.add(started)
        return started

    def run(  # noqa: PLR0913 - those of ``start``, and one
        self,
        run: Run,
        *,
        ranks: int = 2,
        args: Sequence[Any] = (),
        env: Mapping[str, str] | None = None,
        faults: Sequence[Fault] = (),
        plan: Plan | None = None,
        seed: int = 0,
        timeout: float | None = None,
        grace: float | None = None,
        cwd: Path | None = None,
        start_method: StartMethod | None = None,
        expect_failure: bool | Collection[int] = False,
    ) -> JobResult:
        """Start a job as ``start`` does, wait until it is over, and return its result.

        With ``expect_failure`` failures of these ranks, or of any rank if it is true, do not fail the test.
        """
        __tracebackhide__ = True
        job = self.start(
            run,
            ranks=ranks,
            args=args,
            env=env,
            faults=faults,
            plan=plan,
            seed=seed,
            timeout=timeout,
            grace=grace,
            cwd=cwd,
            start_method=start_method,
        )
        if expect_failure:
            job.expect_failure(*(() if expect_failure is True else expect_failure))
        return job.wait()

    def pool(
        self,
        ranks: int,
        *,
        env: Mapping[str, str] | None = None,
        faults: Sequence[Fault] = (),
        plan: Plan | None = None,
        seed: int = 0,
        timeout: float | None = None,
        grace: float | None = None,
        start_method: StartMethod | None = None,
    ) -> Pool:
        """Start ranks that stay and call functions: ``with derail.pool(4) as pool: pool.map(f, xs)``.

        Args:
            ranks: the number of ranks.
            env: more variables for the ranks.
            faults: the faults. They break the ranks that are started now, and not those that replace them.
            plan: a plan, instead of ``faults`` and ``seed``.
            seed: seed for decisions that ``faults`` leave open.
            timeout: time limit of each call in seconds; default: ``--derail-timeout``.
            grace: seconds from SIGTERM to SIGKILL; default: ``--derail-grace``.
            start_method: how the processes are created: "warm", "spawn", "fork" or "forkserver"; default:
                ``--derail-start-method``.

        Raises:
            UsageError: if the start method does not exist.
            InputError: if a fault cannot be aimed at these ranks.
            OSError: if a rank cannot be started; nothing is left then.
        """
        __tracebackhide__ = True
        lifecycle, config = self._lifecycle, self._lifecycle.item.config
        method = choose_start_method(config, start_method, source="derail.pool(start_method=)")
        module = getattr(lifecycle.item, "module", None)
        first = LocalJob(
            RankFunction(serve),
            ranks=ranks,
            env=env,
            plan=self._whole_plan(plan, faults, seed),
            start_method=method,
            preload=warm_modules(config, serve if module is None else module) if method == "warm" else None,
            name="pool",
        )

        def start(job: LocalJob, observer: Observer) -> Job:
            return self._start(job, timeout=timeout, grace=grace, observers=(observer,))

        pool = Pool(
            start,
            first,
            folder=lifecycle.workdir,
            timeout=seconds(config, "timeout") if timeout is None else timeout,
        )
        lifecycle.close_later(pool.release)
        pool.open()
        return pool

    def agent(  # noqa: PLR0913 - each is one fact about the job
        self,
        agent: str | Sequence[str | os.PathLike[str]],
        run: str | Path | None = None,
        *,
        ranks: int = 2,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        faults: Sequence[Fault] = (),
        plan: Plan | None = None,
        seed: int = 0,
        timeout: float | None = None,
        grace: float | None = None,
        nodes: int = 1,
        restarts: int = 0,
        declaration: Path | Declaration | None = None,
    ) -> JobResult:
        """Run a job under an external agent, and return its result: derail's observation and the agent's report.

        Args:
            agent: its name, as for ``derail verify-agent`` ("torchrun"); or its command line, with placeholders for the
                job ("{ranks}", "{script}", "{command}" ...), or without if it contains these facts itself.
            run: the program of each rank, unless the command line contains it.
            ranks: the number of ranks on all nodes together.
            args: arguments of the program.
            env: more variables for the agent, which passes them to the ranks.
            faults: the faults, as in ``start``; ``rank="the agent"`` aims at the agent itself.
            plan: a plan, instead of ``faults`` and ``seed``.
            seed: seed for decisions that ``faults`` leave open.
            timeout: seconds until everything is ended.
            grace: the value of "{grace}".
            nodes: the number of nodes; the agent is started once for each.
            restarts: how often it may restart all ranks.
            declaration: its promises, and where it reports about the ranks: a TOML file, or a value.

        Raises:
            InputError: if the agent does not exist.
            ValueError: if the agent does not support the job.
            Skipped: if the agent is not installed.
        """
        __tracebackhide__ = True
        from pytest_derail.jobs.agent_job import find_agent, job_of, run_agent

        lifecycle, config = self._lifecycle, self._lifecycle.item.config
        job = job_of(
            run,
            ranks=ranks,
            args=args,
            env={**lifecycle.environment(), **(env or {})},
            plan=self._whole_plan(plan, faults, seed),
            timeout=seconds(config, "timeout") if timeout is None else timeout,
            grace=seconds(config, "grace") if grace is None else grace,
            nodes=nodes,
            restarts=restarts,
        )
        over = run_agent(find_agent(agent, declaration), job, lifecycle.next_workdir())
        lifecycle.add(over)
        return over.poll()

    def survive(  # noqa: PLR0913 - those of the command line
        self,
        run: Callable[[], object] | str | Path | Sequence[str | os.PathLike[str]],
        *,
        watch: str | Sequence[str],
        equal: str | Sequence[str] = (),
        step: str = "",
        breaks: str | Sequence[str] = ("kill",),
        points: int | None = 20,
        seed: int = 0,
        close: float | None = None,
        same: str | Sequence[str] = (),
        allow: str | Sequence[str] = (),
        max_restarts: int = 3,
        scale: float = 1.0,
        jobs: int = 1,
        cwd: Path | None = None,
    ) -> Report:
        """Break a training program at its points, start it again, and return how the runs ended.

        The arguments are those of ``derail survive``. Call ``assert_survived`` of the report.

        Args:
            run: a function without arguments at the top level of its file, the path of a program, or an argv.
            watch: patterns of the files that it persists, relative to ``cwd``.
            equal: patterns of values in its output that must be the same in the end.
            step: pattern of the lines that report a step, with its number as a group.
            breaks: kinds of break.
            points: maximum number of broken runs: one for each kind of point first; None for all.
            seed: seed of the choice of points, and of torn data.
            close: tolerance of numbers.
            same: patterns of files that must be the same in the end.
            allow: patterns of files that a broken run may leave.
            max_restarts: how often a broken run is started again.
            scale: factor of the times of profiles and slow calls.
            jobs: runs at the same time.
            cwd: the directory that each run gets a copy of; by default the current one.

        Raises:
            InputError: if the program cannot be judged.
            Skipped: if this machine cannot show the operations of a program.
        """
        __tracebackhide__ = True
        from pytest_derail.jobs.survival import survive

        return survive(
            run, self._lifecycle.next_workdir() / "survive",
            watch=watch, equal=equal, step=step, breaks=breaks, points=points, seed=seed, close=close, same=same,
            allow=allow, max_restarts=max_restarts, scale=scale, jobs=jobs, cwd=cwd,
        )  # fmt: skip

    def free_port(self) -> Port:
        """Claim a port until the end of the test: a number with an optional bound socket."""
        return self._lifecycle.free_port()

    def hold(self, at: str | Inside, *, ranks: int | Collection[int] | None = None, hit: int | str = 1) -> Hold:
        """Hold ranks at a point, in each job that is started from now on, until they are released.

        Args:
            at: the name of a ``fail_point``; or an in-rank trigger, such as ``when.call("module:function")``.
            ranks: the ranks to hold; all by default.
            hit: the occurrences of the point that count.
        """
        return self._hold(Point(at, hit) if isinstance(at, str) else at, ranks, together=False)

    def release(self, *names: str) -> None:
        """Release ranks that are held at these points; at all points, if none is named."""
        for hold in self._lifecycle.holds:
            if not names or getattr(hold.at, "name", None) in names:
                hold.release()

    def barrier(self, at: str | Inside, *, ranks: int | Collection[int] | None = None) -> Hold:
        """Make ranks wait for each other at a point, each time that they reach it, in each job started from now on.

        No rank continues before all have arrived, except those that have ended.
        """
        return self._hold(Point(at, "1..") if isinstance(at, str) else at, ranks, together=True)

    def _whole_plan(self, plan: Plan | None, faults: Sequence[Fault], seed: int) -> Plan:
        """Return the given plan; without one, the plan of the test's marker."""
        if plan is not None and (faults or seed):
            raise ValueError("plan: it has its own faults and seed. Give either plan= or faults= and seed=")
        if plan is None and not faults:
            plan = self._lifecycle.marked_plan()
        return Plan(tuple(faults), seed) if plan is None else plan

    def _hold(self, at: Inside, ranks: int | Collection[int] | None, *, together: bool) -> Hold:
        chosen = (ranks,) if isinstance(ranks, int) else ranks
        patience = seconds(self._lifecycle.item.config, "timeout")
        hold = Hold(f"gate-{len(self._lifecycle.holds)}", at, ranks=chosen, together=together, timeout=patience)
        self._lifecycle.holds.append(hold)
        return hold

    def allow_left(self, *kinds: Literal["process", "descriptor", "thread", "handler", "file", "shm", "port"]) -> None:
        """Allow leaks of these kinds in the test's own process (or, for files, leftovers of its ranks).

        Jobs may leave processes that ``assert_leftovers`` names.
        """
        self._lifecycle.allow(kinds)
