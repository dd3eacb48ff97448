"""One scenario from its file to its verdict: load it, check that it can run here, run it, judge it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from derail.faults.engine import journal
from derail.model.clock import SYSTEM_CLOCK
from derail.model.input_error import InputError
from derail.scenario.expect import judge
from derail.scenario.load import find, load
from derail.scenario.model import Verdict
from derail.scenario.observe import not_run
from derail.scenario.recovery import MEASURES, Recovery, read_run, recovery

if TYPE_CHECKING:
    from pathlib import Path

    from derail.agents.agent import Agent
    from derail.scenario.model import JobResult, Scenario


PROBE_S = 0.03
"""Seconds of processor time in which the load of the machine is measured: several time slices of the scheduler."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario on an agent, and its verdict."""

    scenario: Scenario
    agent: str
    result: JobResult
    verdict: Verdict


def load_scenario(name: str) -> Scenario:
    """Return the scenario of a file, or one that comes with derail, by name.

    Raises:
        InputError: if there is no such scenario, or it has an error.
    """
    return load(find(name))


def run_scenario(scenario: Scenario, agent: Agent, *, workdir: Path) -> Run:
    """Run a scenario on an agent and judge the result.

    A scenario that needs something this machine cannot do, or the agent never promised, is SKIPPED and not started.

    Raises:
        InputError: if a fault cannot be aimed at the scenario's ranks.
        SignalException: if this process was asked to end during the run; nothing is left of the job.
    """
    if (skipped := gate(scenario, agent)) is not None:
        return skipped
    return judged(scenario, agent, workdir)


def judged(scenario: Scenario, agent: Agent, workdir: Path) -> Run:
    """Run and judge a scenario that ``gate`` has let through."""
    before = slowdown()
    result = agent.run(scenario.placed(workdir), workdir)
    result = replace(result, slowdown=max(before, slowdown()), recovery=_recovery(scenario, result))
    return Run(scenario, agent.name, result, judge(scenario, result, agent.promises))


def _recovery(scenario: Scenario, result: JobResult) -> Recovery:
    """Return the recovery that the journal of a run shows; nothing if the launcher is the subject of the scenario."""
    if scenario.launches or result.journal is None:
        return Recovery()
    try:
        records = journal.read(result.journal)
    except (OSError, InputError):
        return Recovery()
    return recovery(read_run(records))


def slowdown() -> float:
    """Return how much slower than idle this machine is right now: wall-clock seconds per second of processor time."""
    began, used = SYSTEM_CLOCK.now(), time.thread_time()
    while (worked := time.thread_time() - used) < PROBE_S:
        pass
    return max(1.0, (SYSTEM_CLOCK.now() - began) / worked)


def gate(scenario: Scenario, agent: Agent) -> Run | None:
    """Return the run of a scenario that must not be started, with the reason; None if it can run here."""
    from derail.scenario.model import JobResult

    if reason := agent.unavailable() or agent.unsupported(scenario) or _missing(scenario):
        return Run(scenario, agent.name, JobResult(), Verdict("SKIPPED", (f"{agent.name}: {reason}",)))
    if (seen := not_run(scenario.faults)) is not None:
        return Run(scenario, agent.name, seen, judge(scenario, seen, agent.promises))
    return None


def _missing(scenario: Scenario) -> str:
    """Return the modules that the ranks of a scenario cannot import here; empty if they can import all."""
    from importlib.util import find_spec

    missing = [name for name in scenario.needs if find_spec(name) is None]
    return f"its ranks import {', '.join(missing)}, which is not installed here" if missing else ""


def as_data(run: Run) -> dict[str, object]:
    """Return a run as plain data, for JSON."""
    seen = run.result
    return {
        "scenario": run.scenario.name,
        "title": run.scenario.title,
        "agent": run.agent,
        "verdict": run.verdict.kind,
        "reasons": list(run.verdict.reasons),
        "violations": list(run.verdict.violations),
        "root_cause": seen.root_cause,
        "exit_code": seen.exit_code,
        "seconds": seen.seconds,
        "teardown_seconds": seen.teardown_seconds,
        "recovery": {measure: seen.recovery.value(measure) for measure in MEASURES},
        "timed_out": seen.timed_out,
        "stop_reason": seen.stop_reason,
        "hang": None if seen.hang is None else seen.hang.data(),
        "ranks": [
            {
                "rank": fate.rank,
                "pid": fate.pid,
                "exit": None if fate.status is None else fate.status.returncode,
                "ended_with": "still there" if fate.status is None else str(fate.status),
                "cause": fate.cause.value,
                "succeeded": fate.succeeded,
                "message": seen.failures[fate.rank].message if fate.rank in seen.failures else "",
                "stdout_tail": list(seen.log_tail.get((fate.rank, "stdout"), ())),
                "stderr_tail": list(seen.log_tail.get((fate.rank, "stderr"), ())),
            }
            for _, fate in sorted(seen.ranks.items())
        ],
        "faults": [
            {"fault": result.fault.data(), "id": result.fault.id, "rank": result.rank, "result": result.status}
            | {"detail": result.detail, "at": result.at}
            for result in seen.faults
        ],
        "leftovers": [str(left) for left in seen.leftovers],
        "plan": run.scenario.faults.data(),
        "journal": None if seen.journal is None else str(seen.journal),
        "error": seen.error,
    }
