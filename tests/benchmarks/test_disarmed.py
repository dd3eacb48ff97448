"""Where no fault acts, nothing of derail is there; one short round measures that. Times are never judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import disarmed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("unmeasured")
def test_without_a_fault_for_it_a_rank_runs_as_if_derail_were_not_there(tmp_path: Path) -> None:
    """No thread, hook, handler or finder; without a plan no module, and with one for others little."""
    envs = disarmed.environments(tmp_path)
    found = {name: disarmed.facts(envs[name]) for name in disarmed.STARTS}

    assert found["no plan"] == found["bare"]
    assert found["a plan for others"].pop("modules") == [
        "_derail_inrank", "_derail_inrank.bootstrap", "_derail_inrank.rank_plan",
    ]  # fmt: skip
    assert found["bare"].pop("modules") == []
    assert found["a plan for others"] == found["bare"]


@pytest.mark.usefixtures("unmeasured")
def test_a_rank_with_a_plan_is_what_the_others_are_compared_with(tmp_path: Path) -> None:
    """The facts tell an armed interpreter from a bare one, or they would mean nothing."""
    envs = disarmed.environments(tmp_path)

    assert disarmed.facts(envs["a plan"]) != disarmed.facts(envs["bare"])


@pytest.mark.benchmark
def test_a_short_round_measures_starts_and_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two tables; the rank with a plan has its point armed, and ``fail_point`` was called for another one."""
    envs = disarmed.environments(tmp_path)
    starts = disarmed.start_times(envs, 3)
    calls, armed = disarmed.call_times(envs, 1, 20_000)
    with capsys.disabled():
        print(f"\n{disarmed.table('start of Python', 'ms', starts)}\n\n{disarmed.table('one call', 'ns', calls)}")

    assert {name: len(found) for name, found in starts.items()} == dict.fromkeys(disarmed.STARTS, 3)
    assert {name: len(found) for name, found in calls.items()} == dict(zip(disarmed.CALLS, (2, 1, 1), strict=True))
    assert armed == ["never"]
