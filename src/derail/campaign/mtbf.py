"""Measurement of a job's goodput: a quiet run, then runs that are broken by a schedule, for a given time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from derail.faults import signal
from derail.faults.engine import journal
from derail.faults.model.plan import Plan, decide
from derail.faults.model.triggers import After
from derail.model.input_error import InputError
from derail.platform.private_files import make_private
from derail.scenario.goodput import Measurement, Outcome, Pace, goodput, pace, schedule
from derail.scenario.recovery import STEP, Run, read_run, recoveries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from derail.agents.agent import Agent
    from derail.faults.model.plan import Fault
    from derail.faults.model.results import FaultResult
    from derail.scenario.goodput import Break
    from derail.scenario.model import JobResult, Scenario

QUIET, RUN, STATE = "quiet", "run", "state"
"""Names of the directories of the quiet run, of the other runs, and of what ranks keep in ``{workdir}``."""
SHORTEST_S = 0.05
"""Seconds of the time that are left for which the job is not started once more."""


@dataclass(frozen=True, slots=True)
class Breaking:
    """How a job is broken, and compared.

    Attributes:
        mtbf: mean seconds between two breaks.
        seconds: seconds in which the job is broken.
        seed: the seed of the schedule.
        quiet_seconds: seconds of the quiet run.
        rate: steps per second of an undisturbed job, if they are known: there is no quiet run then.
    """

    mtbf: float
    seconds: float
    seed: int = 0
    quiet_seconds: float = 10.0
    rate: float | None = None


def breaks_of(scenario: Scenario, how: Breaking) -> tuple[Break, ...]:
    """Return the schedule of a scenario.

    Raises:
        ValueError: if there are too many breaks.
    """
    return schedule(how.seed, mtbf=how.mtbf, seconds=how.seconds, ranks=scenario.ranks)


def fault_of(scenario: Scenario, planned: Break, seed: int, *, after: float) -> Fault:
    """Return the fault of a break: one of the scenario's own that act at a time, else SIGKILL of the drawn rank.

    Args:
        scenario: the scenario.
        planned: the break.
        seed: the seed of the schedule, which draws one of several faults.
        after: seconds after the first start of the rank in this run.
    """
    own = [fault for fault in scenario.faults.faults if isinstance(fault.when, After)]
    name = f"break-{planned.number}"
    if not own:
        return replace(signal("SIGKILL", rank=planned.rank), when=After(after), id=name)
    return replace(own[decide(seed, "fault", planned.number) % len(own)], when=After(after), id=name)


def unsupported(agent: Agent, scenario: Scenario) -> str:
    """Return why an agent cannot run a scenario even without restarts; empty if it can."""
    if scenario.launches:
        return "its job is a launcher, and the ranks of that one cannot be broken by a schedule"
    return agent.unavailable() or agent.unsupported(replace(scenario, restarts=0))


def measure(
    scenario: Scenario, agent: Agent, how: Breaking, *, workdir: Path, on_news: Callable[[str], None] = lambda _: None
) -> Measurement:
    """Measure the goodput of a scenario's job on an agent. Its expectations are not judged.

    The job has one directory for ``{workdir}``, also after the agent's restarts are used up and the job is started
    again. An agent without restarts can be measured as well: the job is started again after each break.

    Args:
        scenario: the scenario.
        agent: the agent, which can run it (``unsupported``).
        how: the schedule and the quiet run.
        workdir: the directory for the evidence of all runs.
        on_news: receives a line about each step of the measurement.

    Raises:
        InputError: if a fault cannot be aimed at the scenario's ranks.
        SignalException: if this process was asked to end; nothing is left of the job.
    """
    return _Measuring(scenario, agent, how, workdir, on_news).measure()


class _Measuring:
    """Measurement in progress."""

    def __init__(
        self, scenario: Scenario, agent: Agent, how: Breaking, workdir: Path, on_news: Callable[[str], None]
    ) -> None:
        breaks = breaks_of(scenario, how)
        restarts = max(scenario.restarts, 2 * len(breaks) + 10)
        allowing = replace(scenario, restarts=restarts, step=scenario.step or STEP)
        self._scenario = replace(allowing, restarts=0) if agent.unsupported(allowing) else allowing
        self._own = scenario
        self._agent = agent
        self._how = how
        self._workdir = workdir
        self._on_news = on_news
        self._breaks = breaks
        self._outcomes = {
            each.number: Outcome(each, hit=False, detail="the job had ended", fault=_what(self._fault(each, each.at)))
            for each in breaks
        }
        self._runs: list[Run] = []
        self._again: list[str] = []

    def measure(self) -> Measurement:
        """Run the quiet run and the others."""
        undisturbed, problem = self._quiet()
        ended = ""
        if not problem:
            ended, problem = self._break()
        result = None if undisturbed is None else goodput(self._runs, undisturbed)
        if result is None and not problem:
            problem = "no rank was started, or all time went by before a quiet run makes its first step"
        return Measurement(
            scenario=self._own.name or self._own.title,
            agent=self._agent.name,
            mtbf=self._how.mtbf,
            seconds=self._how.seconds,
            seed=self._how.seed,
            outcomes=tuple(self._outcomes.values()),
            pace=undisturbed,
            goodput=result,
            recoveries=tuple(each for run in self._runs for each in recoveries(run)),
            started_again=tuple(self._again),
            ended=ended,
            problem=problem,
        )

    def _quiet(self) -> tuple[Pace | None, str]:
        """Return the progress of an undisturbed job, and why it is unknown."""
        if self._how.rate is not None:
            return Pace(0.0, self._how.rate), ""
        seconds = self._how.quiet_seconds
        result, run = self._run(replace(self._scenario, restarts=0), QUIET, Plan(), seconds, state=f"{QUIET}-{STATE}")
        undisturbed = pace(run)
        if result.error or (result.ran and not result.timed_out and not result.succeeded):
            return None, f"the quiet run failed: {_how_it_ended(result)}"
        if undisturbed is None:
            return None, (
                f"the quiet run showed no two steps in {seconds:g} s: no two lines of a rank match "
                f"{self._scenario.step!r} with different numbers. Set `step` in the scenario, or a longer --quiet"
            )
        self._on_news(f"quiet run: {undisturbed.rate:.4g} steps/s, first step after {undisturbed.startup:.2f} s")
        return undisturbed, ""

    def _break(self) -> tuple[str, str]:
        """Run the job until its time is over; return why it ended before, and why it cannot be measured further."""
        elapsed = 0.0
        while self._how.seconds - elapsed > SHORTEST_S:
            hits, steps = self._hits(), self._steps()
            pending = [each for each in self._breaks if each.at > elapsed and not self._outcomes[each.number].hit]
            plan = Plan(tuple(self._fault(each, each.at - elapsed) for each in pending), self._how.seed)
            name = f"{RUN}-{len(self._runs) + 1}"
            result, run = self._run(self._scenario, name, plan, self._how.seconds - elapsed, state=STATE)
            self._note(result.faults)
            if run.began is None or run.over is None or result.error:
                return "", f"{name}: {_how_it_ended(result)}"
            self._runs.append(run)
            elapsed += run.over - run.began
            if result.timed_out:
                return "", ""
            if result.succeeded:
                return f"the job succeeded after {elapsed:.1f} s of {self._how.seconds:g} s", ""
            if self._hits() == hits and self._steps() == steps:
                return "", f"{name}: the job failed without a break and without a new step: {_how_it_ended(result)}"
            why = "all its restarts are used up" if self._scenario.restarts else f"{self._agent.name} restarts no ranks"
            self._again.append(f"after {elapsed:.1f} s: {why}; {_how_it_ended(result)}")
            self._on_news(f"the job is started again {self._again[-1]}")
        return "", ""

    def _run(self, scenario: Scenario, name: str, plan: Plan, seconds: float, *, state: str) -> tuple[JobResult, Run]:
        folder = self._workdir / name
        placed = replace(scenario, faults=plan, timeout=seconds).placed(make_private(self._workdir / state))
        result = self._agent.run(placed, folder)
        try:
            records = () if result.journal is None else journal.read(result.journal)
        except (OSError, InputError):
            records = ()
        return result, read_run(records)

    def _fault(self, planned: Break, after: float) -> Fault:
        return fault_of(self._own, planned, self._how.seed, after=after)

    def _note(self, results: Sequence[FaultResult]) -> None:
        """Note the result of each break in a run; one that has hit stays hit."""
        by_id = {f"break-{number}": number for number in self._outcomes}
        for each in results:
            before = self._outcomes[by_id[each.fault.id]]
            if not before.hit:
                self._outcomes[before.planned.number] = replace(before, hit=each.injected, detail=each.detail)

    def _hits(self) -> int:
        return sum(each.hit for each in self._outcomes.values())

    def _steps(self) -> int:
        """Return the highest step so far."""
        return max(_last_steps(self._runs), default=-1)


def _what(fault: Fault) -> str:
    """Return a fault as text, without its target and trigger."""
    return str(fault).partition(" on ")[0]


def _last_steps(runs: Sequence[Run]) -> Iterator[int]:
    yield from (attempt.last[0] for run in runs for attempt in run.attempts if attempt.last is not None)


def _how_it_ended(result: JobResult) -> str:
    if result.error:
        return result.error
    if result.root_cause is not None:
        return str(result.ranks[result.root_cause])
    return result.stop_reason or f"exit code {result.exit_code}"
