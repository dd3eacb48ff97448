"""A scenario that passes without its faults, or with others hit by them, tests nothing.

All negative controls of all scenarios: ``pytest -n 4 -m slow tests/scenario``.
"""

import re
from dataclasses import replace

import pytest

from derail import faults, when
from derail.agents.native import NativeAgent
from derail.campaign.campaign import run_scenario
from derail.faults.model.plan import Plan
from derail.report.text import render_verdict
from derail.scenario.load import load, shipped
from derail.scenario.model import Expect, Scenario
from derail.scenario.negative_controls import negative_control, negative_controls, unmet
from scenario.test_shipped import LIBRARY, marked

QUICK = {
    "crash/killed_at_step_3": "wrong-target",
    "error_file/empty": "no-fault",
    "logs/no_utf8": "no-fault",
    "network/refused_at_first": "no-fault",
    "signal/paused_and_continued": "wrong-target",
    "startup/variable_is_missing": "wrong-target",
    "supervisor/nobody_reads_its_console": "no-fault",
    "values/crash_after_return": "wrong-target",
}
ALL = [
    pytest.param(name, kind, marks=marked(name).marks)
    for name, scenario in LIBRARY.items()
    for kind in scenario.control
    if QUICK.get(name) != kind
]


def step_loop(plan, **fields):
    """Return a scenario of two ranks."""
    worker = LIBRARY["calm/all_succeed"].worker
    values = {"args": ("--steps", "3"), "expect": Expect(succeeded=True), "grace": 1.0, **fields}
    return Scenario("", 2, worker, faults=Plan(tuple(plan)), **values)


def tells_apart(scenario, kind, workdir):
    """Run a negative control, and check that it does not meet every expectation."""
    made = negative_control(scenario, kind)
    if made is None:
        pytest.fail(f"{scenario.name} names a {kind} control, which would be the same scenario")
    done = run_scenario(made, NativeAgent(), workdir=workdir)
    if done.verdict.kind == "SKIPPED":
        pytest.skip("; ".join(done.verdict.reasons))

    assert unmet(done.verdict) != (), f"vacuous\n{render_verdict(made, done.result, done.verdict)}"


@pytest.mark.parametrize(("name", "kind"), QUICK.items())
def test_negative_controls_of_some_scenarios_do_not_pass(name, kind, tmp_path):
    """The others are slow."""
    tells_apart(LIBRARY[name], kind, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), ALL)
def test_negative_controls_of_all_scenarios_do_not_pass(name, kind, tmp_path):
    """The expected effects depend on the faults and on their targets."""
    tells_apart(LIBRARY[name], kind, tmp_path)


def test_a_scenario_without_a_possible_negative_control_gives_the_reason():
    """The reason is a comment after the key."""
    chosen = {name: re.search(r"^control = .*", path.read_text(), re.MULTILINE) for name, path in shipped().items()}

    assert [name for name, line in chosen.items() if line and not re.search(r"# \w", line[0])] == []


@pytest.mark.parametrize("name", LIBRARY)
def test_negative_controls_of_shipped_scenarios_are_possible(name):
    """All named controls exist."""
    assert len(negative_controls(LIBRARY[name])) == len(LIBRARY[name].control)


def test_a_vacuous_scenario_is_found(tmp_path):
    """No expectation is about the pause: the job succeeds with it, without it, and with another rank paused."""
    pause = faults.stop(rank=1, for_=0.1, when=when.line("step 1"))
    vacuous = step_loop([pause])
    seen = [unmet(run_scenario(negative_control(vacuous, kind), NativeAgent(), workdir=tmp_path / kind).verdict)
            for kind in ("no-fault", "wrong-target")]  # fmt: skip

    assert seen == [(), ()]


def test_a_negative_control_with_an_impossible_fault_is_judged_by_its_findings(tmp_path):
    """It is INCONCLUSIVE, which does not hide that the expectation was met."""
    never = faults.exit(3, rank=0, when=when.line("never"))
    done = run_scenario(negative_control(step_loop([never]), "wrong-target"), NativeAgent(), workdir=tmp_path)

    assert (done.verdict.kind, unmet(done.verdict)) == ("INCONCLUSIVE", ())


def test_the_no_fault_control_is_the_same_otherwise():
    """Expectations, arguments and seed stay the same."""
    scenario = LIBRARY["crash/killed_at_step_3"]
    made = negative_control(scenario, "no-fault")

    same = replace(scenario, name="crash/killed_at_step_3 (no-fault)", faults=Plan(seed=scenario.faults.seed))
    assert replace(made, control=scenario.control) == same


@pytest.mark.parametrize(
    ("target", "moved"),
    [(0, 1), (2, 0), ((0, 2), (0, 1)), ((0, 1, 2), None), ("all", None), ("one", None)],
)
def test_the_wrong_target_control_aims_each_fault_at_the_next_rank(target, moved):
    """After the last rank comes the first; faults on all ranks, or on one chosen by the seed, have no such control."""
    made = negative_control(replace(step_loop([faults.exit(3, rank=target)]), ranks=3), "wrong-target")

    assert (None if made is None else made.faults.faults[0].target) == moved


def test_a_scenario_without_faults_has_no_negative_control():
    """It would be the same scenario."""
    assert negative_controls(replace(step_loop([]), control=("no-fault", "wrong-target"))) == ()


def test_a_job_of_one_rank_has_no_other_target(tmp_path):
    """By default it has one negative control."""
    path = tmp_path / "one.toml"
    (tmp_path / "w.py").write_text("")
    fault = '[[faults]]\nfault = "exit"\ncode = 3\nrank = 0\n'
    path.write_text(f'title = "t"\nranks = 1\nworker = "w.py"\n{fault}[expect]\nsucceeded = false\n')

    assert load(path).control == ("no-fault",)
