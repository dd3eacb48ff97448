"""One scenario from its file to its verdict, with an agent that runs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from derail import faults
from derail.campaign.campaign import as_data, load_scenario, run_scenario
from derail.faults.model.results import FaultResult, Injected
from derail.model.exit import ExitStatus
from derail.model.input_error import InputError
from derail.model.outcome import Cause, RankOutcome
from derail.scenario.model import ALL_PROMISES, Expect, JobResult, Scenario

KILL = faults.plan([faults.signal("SIGKILL", rank=0)])
SCENARIO = Scenario("killed", ranks=1, worker=Path("w"), faults=KILL, expect=Expect(succeeded=False), name="x/killed")
DEAD = RankOutcome(0, 100, ExitStatus(signal=9), Cause.SELF, exit_order=0, exited_at=2.0)
SEEN = JobResult(
    ranks={0: DEAD},
    root_cause=0,
    started_at=1.0,
    ended_at=2.0,
    faults=(FaultResult(KILL.faults[0], 0, Injected("gone"), 1.5),),
    exit_code=137,
)


class Canned:
    """An agent that has seen it all."""

    name = "canned"
    promises = ALL_PROMISES

    def __init__(self, seen: JobResult, *, unsupported: str = "") -> None:
        self.seen = seen
        self.reason = unsupported
        self.runs = 0

    def version(self) -> str:
        """None."""
        return ""

    def unavailable(self) -> str:
        """It is always there."""
        return ""

    def unsupported(self, scenario: Scenario) -> str:
        """What it was made to say."""
        return self.reason

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """What it was made to see."""
        self.runs += 1
        return self.seen


def test_what_an_agent_saw_is_judged(tmp_path: Path) -> None:
    """The verdict is about what the agent observed."""
    done = run_scenario(SCENARIO, Canned(SEEN), workdir=tmp_path)
    seen = replace(SEEN, slowdown=done.result.slowdown)  # that of the machine is added
    assert (done.agent, done.verdict.kind, done.result) == ("canned", "PASS", seen)
    assert done.result.slowdown >= 1


def test_what_an_agent_never_promised_is_skipped_and_not_started(tmp_path: Path) -> None:
    """With the reason."""
    agent = Canned(SEEN, unsupported="it never restarts")
    done = run_scenario(SCENARIO, agent, workdir=tmp_path)
    assert (done.verdict.kind, done.verdict.reasons, agent.runs) == ("SKIPPED", ("canned: it never restarts",), 0)


def test_a_run_is_plain_data(tmp_path: Path) -> None:
    """All of it can be written as JSON and read again."""
    told = json.loads(json.dumps(as_data(run_scenario(SCENARIO, Canned(SEEN), workdir=tmp_path))))
    assert told["ranks"][0]["ended_with"] == "SIGKILL (9)"
    assert told["faults"][0] == {
        "fault": KILL.faults[0].data(),
        "id": KILL.faults[0].id,
        "rank": 0,
        "result": "injected",
        "detail": "gone",
        "at": 1.5,
    }
    assert told["plan"] == KILL.data()


def test_a_run_of_which_nothing_was_seen_is_plain_data_too(tmp_path: Path) -> None:
    """A launcher that broke has no ranks to tell of."""
    told = as_data(run_scenario(SCENARIO, Canned(JobResult(error="it broke")), workdir=tmp_path))
    assert (told["ranks"], told["error"], told["verdict"]) == ([], "it broke", "INCONCLUSIVE")


def test_a_scenario_is_loaded_by_name_or_path() -> None:
    """The names are those of ``derail list scenarios``; what is neither is an error that says so."""
    assert load_scenario("crash/killed_at_step_3").ranks == 4
    with pytest.raises(InputError, match="no/such"):
        load_scenario("no/such")
