"""The ``derail`` fixture: starts jobs, ends them with the test, and says what went wrong in them unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from derail.agents.native_job import default_teardown, start_job
from derail.faults.model.plan import Plan
from derail.faults.model.triggers import Point
from derail.model.std import Std
from pytest_derail.integrations import console
from pytest_derail.jobs.importable import RankFunction, check_importable
from pytest_derail.jobs.job import Job
from pytest_derail.jobs.lifecycle import Bench
from pytest_derail.jobs.ports import Port
from pytest_derail.jobs.sync_points import Hold
from pytest_derail.options import seconds
from pytest_derail.protocol import IN_RANK

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    import pytest

    from derail.agents.custom import Declaration
    from derail.agents.invocation import Run
    from derail.faults.engine.trigger_matcher import Inside
    from derail.faults.model.plan import Fault
    from derail.scenario.model import Observation


class Derail(Bench):
    """What the ``derail`` fixture gives to a test."""

    def plan(self, *faults: Fault, seed: int = 0) -> Plan:
        """Faults under one seed, for ``start(plan=...)``."""
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
        start_method: str = "spawn",
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
            start_method: how a function gets its process: "spawn", "fork" or "forkserver".

        Raises:
            TypeError: if the function cannot be imported by a rank.
            PlanError: if a fault cannot be aimed at these ranks.
            OSError: if a rank cannot be started; nothing is left then.
        """
        __tracebackhide__ = True
        marked = None if plan is not None or faults else self._marked_plan()
        if callable(run) and start_method != "fork":
            check_importable(run)
            run = RankFunction(run)
        native = start_job(
            run,
            ranks=ranks,
            args=args,
            env={**self._environment(), **(env or {})},
            faults=faults,
            plan=plan if marked is None else marked,
            seed=seed if marked is None else 0,
            workdir=self.workdir / f"job-{len(self._jobs)}",
            teardown=default_teardown(seconds(self._item.config, "grace") if grace is None else grace),
            cwd=cwd,
            start_method=start_method,
            master_port=self._claim(),
            tee=Std.NONE if IN_RANK in self._item.config.stash else console(self._item.config),
            gates=[hold.new_gate() for hold in self._holds],
        )
        patience = seconds(self._item.config, "timeout") if timeout is None else timeout
        job = Job(native, timeout=patience, is_program=not callable(run))
        self._add(job)
        return job

    def run(self, run: Run, **how: Any) -> Observation:
        """Start a job, wait until it is over, and return what was observed. Takes what ``start`` takes."""
        __tracebackhide__ = True
        return self.start(run, **how).wait()

    def agent(
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
    ) -> Observation:
        """Run a job under a supervisor that is not derail, and return what was observed of both.

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
            AgentError: if there is no such agent.
            ValueError: if it cannot run such a job.
            Skipped: if it is not installed.
        """
        __tracebackhide__ = True
        from pytest_derail.jobs.agent_job import find_agent, job_of, run_agent

        marked = None if plan is not None or faults else self._marked_plan()
        job = job_of(
            run,
            ranks=ranks,
            args=args,
            env={**self._environment(), **(env or {})},
            plan=marked or plan or Plan(tuple(faults), seed),
            timeout=seconds(self._item.config, "timeout") if timeout is None else timeout,
            grace=seconds(self._item.config, "grace") if grace is None else grace,
            nodes=nodes,
            restarts=restarts,
        )
        over = run_agent(find_agent(agent, declaration), job, self.workdir / f"job-{len(self._jobs)}")
        self._add(over)
        return over.poll()

    def free_port(self) -> Port:
        """A port that is nobody's, until the end of the test: a number that can give a socket which is bound to it."""
        port = Port(self._claim())
        self._ports.append(port)
        return port

    def hold(self, at: str | Inside, *, ranks: int | Collection[int] | None = None, hit: int | str = 1) -> Hold:
        """Have ranks stay at a point, of each job that is started from now on, until they are let go.

        Args:
            at: the name of a ``fail_point``; or a trigger that only a rank sees, as ``when.call("module:function")``.
            ranks: which; all by default.
            hit: which times they come to the point count.
        """
        return self._hold(Point(at, hit) if isinstance(at, str) else at, ranks, together=False)

    def release(self, *names: str) -> None:
        """Let ranks go on that stay at these points; at all, if none is named."""
        for hold in self._holds:
            if not names or getattr(hold.at, "name", None) in names:
                hold.release()

    def barrier(self, at: str | Inside, *, ranks: int | Collection[int] | None = None) -> Hold:
        """Have ranks meet at a point, each time that they come there, in each job that is started from now on: none
        goes on before all are there, but for those that have ended."""
        return self._hold(Point(at, "1..") if isinstance(at, str) else at, ranks, together=True)

    def _hold(self, at: Inside, ranks: int | Collection[int] | None, *, together: bool) -> Hold:
        chosen = (ranks,) if isinstance(ranks, int) else ranks
        patience = seconds(self._item.config, "timeout")
        hold = Hold(f"gate-{len(self._holds)}", at, ranks=chosen, together=together, timeout=patience)
        self._holds.append(hold)
        return hold

    def allow_left(self, *kinds: Literal["process", "descriptor", "thread", "handler", "file", "shm", "port"]) -> None:
        """What the test's own process (or, for files, its ranks) may leave behind. Jobs may leave processes if
        ``assert_left`` named them."""
        self._allowed.update(kinds)


def open_bench(item: pytest.Item, paths: pytest.TempPathFactory) -> Derail:
    """What the fixture gives; nothing is started or created yet."""
    bench = Derail(item, paths)
    bench.begin()
    return bench
