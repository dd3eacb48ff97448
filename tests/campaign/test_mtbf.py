"""Measurement of a job that is broken again and again: with a perfect agent on a simulated clock, and for real."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from derail import faults, when
from derail.agents.custom import CommandAgent, Declaration
from derail.agents.native import NativeAgent
from derail.campaign.mtbf import Breaking, breaks_of, measure, unsupported
from derail.faults.engine import journal
from derail.faults.model.plan import Plan
from derail.faults.model.results import FaultResult, Injected, NotReached
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, RankOutcome
from derail.scenario.goodput import goodput, pace, schedule
from derail.scenario.model import ALL_PROMISES, JobResult, Scenario
from derail.scenario.recovery import read_run
from scenario.perfect_job import RANKS, PerfectJob, formula

if TYPE_CHECKING:
    from derail.agents.agent import Agent

SEEDS = (0, 1, 20_261_201)
KILLED = RankOutcome(1, 11, ExitStatus(signal=9), Cause.SELF)
DONE = RankOutcome(1, 11, ExitStatus(code=0), Cause.SELF, succeeded=True)


@dataclass
class PerfectAgent:
    """Agent that runs a perfect job on a simulated clock: it reads only the plan and the time limit of a scenario.

    Attributes:
        job: the job.
        patience: the restarts of a run after which the job fails, whatever the scenario allows.
        steps: the step after which the job succeeds.
        runs: the scenarios that it ran.
    """

    job: PerfectJob = field(default_factory=PerfectJob)
    patience: int = 1_000_000
    steps: int = 1_000_000_000
    name: str = "perfect"
    promises: frozenset[str] = ALL_PROMISES
    restarts: bool = True
    saved: int = 0
    runs: list[Scenario] = field(default_factory=list)

    def version(self) -> str:
        """Return no version."""
        return ""

    def unavailable(self) -> str:
        """Return nothing: it needs nothing."""
        return ""

    def unsupported(self, scenario: Scenario) -> str:
        """Return why it cannot run a scenario."""
        return "it starts each rank once" if scenario.restarts and not self.restarts else ""

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """Write the journal of the run."""
        self.runs.append(scenario)
        at = {fault.id: fault.when.seconds for fault in scenario.faults.faults}
        first = 0 if workdir.name == "quiet" else self.saved
        attempts = list(self.job.attempts(sorted(at.values()), scenario.timeout, first))
        made = attempts[: min(self.patience, scenario.restarts) + 1]
        made = made[: next((n + 1 for n, (_, _, _, last) in enumerate(made) if last > self.steps), len(made))]
        begin, end, low, high = made[-1]
        if done := high > self.steps:
            end = begin + (self.steps - low + 1) * self.job.step
            made[-1] = (begin, end, low, self.steps)
        timed_out = made == attempts and not done  # also in the recovery from its last break
        if workdir.name != "quiet":
            self.saved = (made[-1][3] - 1) // self.job.saves * self.job.saves
        records = self.job.records(made)
        records[-1] = {"event": "finished", "at": scenario.timeout if timed_out else end, "timed_out": timed_out}
        workdir.mkdir(parents=True)
        path = workdir / "journal.jsonl"
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        ends = {ended for _, ended, *_ in made}
        hits = {
            name: Injected("killed") if seconds in ends else NotReached("no process") for name, seconds in at.items()
        }
        return JobResult(
            ranks={1: DONE if done else KILLED},
            root_cause=None if done or timed_out else 1,
            started_at=0.0,
            ended_at=end,
            timed_out=timed_out,
            faults=tuple(FaultResult(fault, 1, hits[fault.id]) for fault in scenario.faults.faults),
            journal=path,
            exit_code=0 if done else 137,
        )


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    """Return a scenario whose worker saves each tenth step in the directory of the job, and never ends."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    return Scenario("a loop", RANKS, worker, args=("{workdir}",), grace=1.0, name="loop")


WORKER = """
import os, sys, time
file = f"{sys.argv[1]}/rank-{os.environ['RANK']}"
step = int(open(file).read()) if os.path.exists(file) else 0
while True:
    step += 1
    print("step", step, flush=True)
    time.sleep(0.005)
    if step % 10 == 0:
        with open(f"{file}.new", "w") as draft:
            draft.write(str(step))
        os.replace(f"{file}.new", file)
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_the_goodput_of_a_perfect_job_is_that_of_the_formula(scenario: Scenario, tmp_path: Path, seed: int) -> None:
    """Within two percent, from the schedule to the report; the quiet run is a hundredth of the time."""
    job = PerfectJob()
    how = Breaking(mtbf=job.mtbf, seconds=3000 * job.mtbf, seed=seed, quiet_seconds=30 * job.mtbf)
    measured = measure(scenario, PerfectAgent(job), how, workdir=tmp_path / "runs")

    assert measured.goodput is not None
    assert measured.goodput.value == pytest.approx(formula(job), rel=0.02)
    assert (measured.problem, measured.ended, measured.started_again) == ("", "", ())
    assert measured.goodput.seconds == pytest.approx(how.seconds)
    hits = sum(each.hit for each in measured.outcomes)
    assert measured.goodput.attempts - hits in {0, 1}  # none, if its time is over while it recovers


@pytest.mark.parametrize("restarts", [True, False], ids=["restarts used up", "no restarts"])
def test_a_job_that_is_started_again_has_the_same_schedule_and_the_same_goodput(
    scenario: Scenario, tmp_path: Path, restarts: bool
) -> None:
    """Each further run has the breaks that are left, at the times that are left; the report has the reason."""
    job = PerfectJob()
    how = Breaking(mtbf=job.mtbf, seconds=40 * job.mtbf, seed=3, quiet_seconds=100.0)
    agent = PerfectAgent(job, patience=9, restarts=restarts)
    measured = measure(scenario, agent, how, workdir=tmp_path / "runs")
    planned = {f"break-{each.number}": each.at for each in breaks_of(scenario, how)}

    assert len(agent.runs) == 1 + 1 + len(measured.started_again) > 4
    reason = "all its restarts are used up" if restarts else "perfect restarts no ranks"
    assert all(reason in each and "rank 1: SIGKILL (9)" in each for each in measured.started_again)
    elapsed = 0.0
    for run in agent.runs[1:]:
        assert run.timeout == pytest.approx(how.seconds - elapsed)
        for fault in run.faults.faults:
            assert fault.when.seconds == pytest.approx(planned[fault.id] - elapsed)
        ended = [record["at"] for record in records(tmp_path, agent.runs.index(run)) if record["event"] == "finished"]
        elapsed += ended[0]
    assert measured.goodput is not None
    assert measured.goodput.seconds == pytest.approx(how.seconds)


def records(tmp_path: Path, number: int) -> list[dict[str, object]]:
    """Return the journal of a run."""
    return [dict(record) for record in journal.read(tmp_path / "runs" / f"run-{number}" / "journal.jsonl")]


def test_a_job_that_succeeds_ends_the_measurement(scenario: Scenario, tmp_path: Path) -> None:
    """There is nothing left to do; its goodput is that of the time that it took."""
    agent = PerfectAgent(PerfectJob(), steps=50)
    how = Breaking(mtbf=20.0, seconds=1000.0, quiet_seconds=5.0)
    measured = measure(scenario, agent, how, workdir=tmp_path / "runs")

    assert measured.ended.startswith("the job succeeded after ")
    assert measured.goodput is not None
    assert measured.goodput.useful == 50
    assert measured.goodput.seconds < 1000.0


def test_a_job_that_fails_by_itself_is_not_started_for_ever(scenario: Scenario, tmp_path: Path) -> None:
    """Without a break and without a new step, the next start would fail as well."""
    scenario.worker.write_text("import sys\nprint('step 1', flush=True)\nprint('step 2', flush=True)\nsys.exit(3)")
    how = Breaking(mtbf=1000.0, seconds=60.0, rate=10.0)
    measured = measure(scenario, NativeAgent(), how, workdir=tmp_path / "runs")

    assert "the job failed without a break and without a new step: rank " in measured.problem
    assert len(measured.started_again) == 1


@pytest.mark.parametrize(
    ("program", "quiet", "problem"),
    [
        ("import sys; sys.exit(3)", 60.0, "the quiet run failed: rank "),
        (
            "import time; print('batch 1', flush=True); time.sleep(60)", 0.5,
            "the quiet run showed no two steps in 0.5 s",
        ),
    ],
)  # fmt: skip
def test_without_a_pace_there_is_no_goodput(
    scenario: Scenario, tmp_path: Path, program: str, quiet: float, problem: str
) -> None:
    """The problem is reported, and nothing is broken."""
    scenario.worker.write_text(program)
    how = Breaking(mtbf=1.0, seconds=60.0, quiet_seconds=quiet)
    measured = measure(scenario, NativeAgent(), how, workdir=tmp_path / "runs")

    assert measured.problem.startswith(problem)
    assert (measured.goodput, measured.pace) == (None, None)
    assert not (tmp_path / "runs" / "run-1").exists()


HONEST = Path(__file__).parents[1] / "programs" / "launchers" / "honest.py"
EXTERNAL = CommandAgent(
    f"{shlex.quote(sys.executable)} -u {HONEST} {{ranks}} {{restarts}} {{grace}} {{script}} {{args}}",
    Declaration(name="honest"),
)


@pytest.mark.parametrize("agent", [NativeAgent(), EXTERNAL], ids=["native", "external"])
def test_a_real_job_is_broken_by_its_schedule_and_makes_progress(
    scenario: Scenario, tmp_path: Path, agent: Agent
) -> None:
    """The launcher restarts it after each break. The journal has the schedule, and no step counts twice."""
    how = Breaking(mtbf=0.5, seconds=4.0, seed=2, quiet_seconds=3.0)
    measured = measure(scenario, agent, how, workdir=tmp_path / "runs")
    planned = schedule(2, mtbf=0.5, seconds=4.0, ranks=RANKS)
    read = [dict(record) for record in journal.read(tmp_path / "runs" / "run-1" / "journal.jsonl")]
    run, [plan] = read_run(read), [record["plan"] for record in read if record["event"] == "plan"]

    assert (measured.problem, measured.ended, measured.started_again) == ("", "", ())
    assert [each.planned for each in measured.outcomes] == list(planned)
    assert [(fault["rank"], fault["when"]["after"]) for fault in plan["faults"]] == [
        (each.rank, each.at) for each in planned
    ]
    hits = sum(each.hit for each in measured.outcomes)
    assert 2 <= len(run.attempts) <= hits + 1  # two breaks may hit one attempt, and the last one the end of the time
    assert measured.goodput is not None
    assert measured.pace is not None
    assert measured.goodput == goodput([run], measured.pace)
    lasts = [life.last[0] for attempt in run.attempts for life in attempt.lives if life.last]
    assert measured.goodput.useful == max(lasts)
    assert 1 <= len(measured.recoveries) <= hits  # a fault that acts while an attempt still ends belongs to none
    assert (tmp_path / "runs" / "state" / "rank-0").exists()
    assert pace(read_run(journal.read(tmp_path / "runs" / "quiet" / "journal.jsonl"))) == measured.pace


def test_faults_of_the_scenario_that_act_at_a_time_are_repeated(scenario: Scenario, tmp_path: Path) -> None:
    """Their ranks and values are kept; faults with another trigger, for one run, are left out."""
    plan = Plan((
        faults.signal("SIGTERM", rank=1, when=when.after(5)),
        faults.signal("SIGKILL", rank=0, when=when.line("step 3")),
    ))  # fmt: skip
    agent = PerfectAgent()
    how = Breaking(mtbf=20.0, seconds=200.0, rate=2.0)
    measured = measure(replace(scenario, faults=plan), agent, how, workdir=tmp_path / "runs")
    [run] = agent.runs

    assert {(fault.param("signal"), fault.target) for fault in run.faults.faults} == {("SIGTERM", 1)}
    assert len(run.faults.faults) == len(measured.outcomes) == len(breaks_of(scenario, how)) > 3
    assert {each.fault for each in measured.outcomes} == {"signal SIGTERM"}


def test_a_job_that_is_a_launcher_is_not_broken_by_a_schedule(scenario: Scenario) -> None:
    """Its ranks are not ranks of derail's job."""
    assert "its job is a launcher" in unsupported(NativeAgent(), replace(scenario, ranks=1, launches=2))
    assert unsupported(NativeAgent(), scenario) == ""
