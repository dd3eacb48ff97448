"""The ``derail`` fixture: what a test may call. Its lifecycle is the plugin's."""

from __future__ import annotations

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
from pytest_derail.jobs.sync_points import Hold
from pytest_derail.options import seconds
from pytest_derail.options import start_method as choose_start_method
from pytest_derail.protocol import IN_RANK

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from derail.agents.custom import Declaration
    from derail.agents.invocation import Run
    from derail.faults.engine.trigger_matcher import Inside
    from derail.faults.model.plan import Fault
    from derail.model.spec import StartMethod
    from derail.scenario.model import JobResult
    from pytest_derail.jobs.lifecycle import Lifecycle
    from pytest_derail.jobs.ports import Port

MYPY = False  # true for mypy, which knows no names of a module that is an attribute; pyright and editors do
if MYPY:
    from derail.faults import _Functions as _FaultFunctions

    class _WhenFunctions:
        """What mypy sees in the attribute ``when``."""

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
    """What the ``derail`` fixture gives to a test.

    Attributes:
        faults: the package ``derail.faults``, whose name the fixture hides in a test function.
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
        """The folder of this test's evidence: one folder per job, with logs and journal. Kept if the test fails."""
        return self._lifecycle.workdir

    def plan(self, *faults: Fault, seed: int = 0) -> Plan:
        """Put faults under one seed, for ``start(plan=...)``."""
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
            ranks: how many.
            args: for the function, or behind the program's argv; the same for each rank.
            env: more variables for the ranks.
            faults: what is broken.
            plan: faults and seed in one, instead.
            seed: of the decisions that ``faults`` leave open.
            timeout: seconds that ``wait`` waits; by default what ``--derail-timeout`` says.
            grace: seconds from SIGTERM to SIGKILL; by default what ``--derail-grace`` says.
            cwd: working directory of the ranks.
            start_method: how a function gets its process: "warm", "spawn", "fork" or "forkserver"; by default what
                ``--derail-start-method`` says.

        Raises:
            UsageError: if there is no such start method.
            TypeError: if the function cannot be imported by a rank.
            InputError: if a fault cannot be aimed at these ranks.
            OSError: if a rank cannot be started; nothing is left then.
        """
        __tracebackhide__ = True
        lifecycle, config = self._lifecycle, self._lifecycle.item.config
        method = choose_start_method(config, start_method, source="derail.start(start_method=)")
        preloaded = warm_modules(config, run) if callable(run) and method == "warm" else None
        if callable(run) and method != "fork":
            check_importable(run)
            run = RankFunction(run)
        native = start_job(
            LocalJob(
                run,
                ranks=ranks,
                args=args,
                env={**lifecycle.environment(), **(env or {})},
                plan=self._whole_plan(plan, faults, seed),
                teardown=default_teardown(seconds(config, "grace") if grace is None else grace),
                cwd=cwd,
                start_method=method,
                preload=preloaded,
                master_port=lifecycle.claim_port(),
                tee=Std.NONE if IN_RANK in config.stash else console(config),
            ),
            lifecycle.next_workdir(),
            gates=[hold.new_gate() for hold in lifecycle.holds],
        )
        patience = seconds(config, "timeout") if timeout is None else timeout
        job = Job(native, timeout=patience, is_program=not callable(run))
        lifecycle.add(job)
        return job

    def run(
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
    ) -> JobResult:
        """Start a job as ``start`` does, wait until it is over, and return its result."""
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
        return job.wait()

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
        """Run a job under a supervisor that is not derail, and return its result: what derail saw, and what it says.

        Args:
            agent: its name, as ``derail verify-agent`` takes it ("torchrun"); or its command line, in which
                placeholders stand for the job ("{ranks}", "{script}", "{command}" ...), or which knows all that itself.
            run: the program of each rank, where the command line does not know it.
            ranks: how many there are to be, on all nodes together.
            args: of the program.
            env: more variables for the agent, which hands them on to the ranks.
            faults: what is broken, as in ``start``; ``rank="the agent"`` aims at the agent itself.
            plan: faults and seed in one, instead.
            seed: of the decisions that ``faults`` leave open.
            timeout: seconds until everything is ended.
            grace: what "{grace}" stands for.
            nodes: for how many nodes it is started, once for each.
            restarts: how often it may start all ranks again.
            declaration: where it reports what it says of the ranks, and what it promises: a TOML file, or as value.

        Raises:
            InputError: if there is no such agent.
            ValueError: if it cannot run such a job.
            Skipped: if it is not installed.
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

    def free_port(self) -> Port:
        """Claim a port until the end of the test: a number that can give a socket which is bound to it."""
        return self._lifecycle.free_port()

    def hold(self, at: str | Inside, *, ranks: int | Collection[int] | None = None, hit: int | str = 1) -> Hold:
        """Hold ranks at a point, in each job that is started from now on, until they are let go.

        Args:
            at: the name of a ``fail_point``; or a trigger that only a rank sees, as ``when.call("module:function")``.
            ranks: which; all by default.
            hit: which times they come to the point count.
        """
        return self._hold(Point(at, hit) if isinstance(at, str) else at, ranks, together=False)

    def release(self, *names: str) -> None:
        """Let ranks go on that stay at these points; at all, if none is named."""
        for hold in self._lifecycle.holds:
            if not names or getattr(hold.at, "name", None) in names:
                hold.release()

    def barrier(self, at: str | Inside, *, ranks: int | Collection[int] | None = None) -> Hold:
        """Let ranks meet at a point, each time that they come there, in each job that is started from now on.

        None goes on before all are there, but for those that have ended.
        """
        return self._hold(Point(at, "1..") if isinstance(at, str) else at, ranks, together=True)

    def _whole_plan(self, plan: Plan | None, faults: Sequence[Fault], seed: int) -> Plan:
        """Return the plan that was given, in one way or the other; without one that of the test's marks."""
        if plan is not None and (faults or seed):
            raise ValueError("a plan has its own faults and seed; give either plan= or faults= and seed=")
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
        """Allow the test's own process (or, for files, its ranks) to leave these kinds of things behind.

        Jobs may leave processes if ``assert_leftovers`` named them.
        """
        self._lifecycle.allow(kinds)
