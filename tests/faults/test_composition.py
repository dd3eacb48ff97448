"""Random plans on real jobs: the launcher survives every combination, and the results are true."""

import re
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from derail import faults, when
from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from derail.faults.engine import journal
from derail.faults.engine.journal import unfinished
from derail.faults.mechanisms import namespaces
from derail.faults.registry import entries
from derail.model.exit import signal_name
from derail.model.input_error import InputError
from derail.scenario.load import shipped_root
from faults.real_job import output_of, result_of, running
from pytest_derail.strategies import available_faults, fault_plans

RANKS = 4
WORKER = shipped_root() / "workers" / "step_loop.py"
PATIENCE, GRACE, MARGIN = 2.5, 0.5, 60.0
"""Seconds that a job may take, that its ranks get to end, and that a busy machine may need besides."""
OURS = re.compile(r"Error: .*\(\w+\.py:\d+\)$|exit 125")
"""How the result of an injector that threw looks, or of a rank that our shim could not start."""
DEADLY = ("SIGKILL", "SIGSEGV")


def check(plan):
    """Check for no exception, hang or leftover, an end for every start, and exits that agree with injected faults."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as workdir:
        try:
            job = start_job(
                LocalJob(
                    WORKER,
                    ranks=RANKS,
                    args=["--steps", "6", "--pause", "0.03"],
                    plan=plan,
                    teardown=default_teardown(GRACE),
                    cwd=Path(workdir),
                ),
                Path(workdir),
            )
        except InputError:  # it cannot be aimed at this job, which is said before anything is started
            return
        try:
            seen = job.wait(PATIENCE)
        finally:
            job.close()
        took = time.monotonic() - began
        records = journal.read(seen.journal)
        story = "\n".join(map(str, [*seen.faults, *seen.ranks.values(), *seen.leftovers, *records]))

    ends = [(record["fault"], record["rank"], record["result"]) for record in records if record["event"] == "end"]
    assert sorted(ends) == sorted((told.fault.id, told.rank, told.status) for told in seen.faults), story
    assert {"heal_failed"} & {record["event"] for record in records} == set(), story
    assert unfinished(records) == (), story
    assert took < PATIENCE + GRACE + MARGIN, story
    assert all(left.ended for left in seen.leftovers), story  # helpers that faults start are found and ended
    assert {told.status for told in seen.faults} <= {"injected", "not_reached", "errored", "unavailable"}, story
    assert not [told for told in seen.faults if told.status == "errored" and OURS.search(told.detail)], story
    for told in seen.faults:
        agrees_with_the_exit(told, seen.ranks[told.rank].status)


def agrees_with_the_exit(told, status):
    """Check that an injected fault that ends a rank shows in its exit status."""
    name, what = told.fault.name, {param: told.fault.param(param) for param, _ in told.fault.params}
    if not told.injected:
        return
    if name == "exit" and isinstance(what["code"], int):
        assert status.code == what["code"]
    if name == "signal" and what["signal"] in DEADLY:
        assert signal_name(status.signal) == what["signal"]
    if name == "exit_zero_handler":
        assert status.code == 0
    if name == "reraising_handler":
        assert signal_name(status.signal) == told.fault.param("signal")


@pytest.mark.timeout(1200)
@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(fault_plans(ranks=RANKS))
def test_results_of_random_plans_agree_with_the_ranks(plan):
    """A few plans, drawn from the whole catalogue."""
    check(plan)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck), print_blob=True)
@given(fault_plans(ranks=RANKS))
def test_two_hundred_plans_break_no_launcher(plan):
    """The same, often."""
    check(plan)


@pytest.mark.timeout(1200)
@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(fault_plans(ranks=RANKS, min_size=2, max_size=3))
def test_plans_are_drawn_from_the_whole_catalogue_and_survive_a_file(plan):
    """Each is valid, and equal after TOML or JSON."""
    from derail.faults.codec import from_data

    assert 2 <= len(plan.faults) <= 3
    assert from_data(plan.data()) == plan


@pytest.mark.parametrize("name", available_faults())
def test_each_fault_can_be_drawn(name):
    """No fault is missing, except those that break the test's own process."""
    drawn = []

    @settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck), database=None)
    @given(fault_plans(ranks=RANKS, names=[name], max_size=1))
    def draw(plan):
        drawn.append(plan.faults[0])

    draw()

    assert {fault.name for fault in drawn} == {name}
    assert len(set(drawn)) > 1
    assert entries()[name].family != "supervisor"


def test_faults_in_one_rank_each_have_a_result():
    """A rank that is stopped, throttled, limited and killed has four results, and ends by the signal."""
    check(
        faults.plan(
            [
                faults.stop(rank=0, when=when.line("step 1"), for_=0.1),
                faults.throttle(2.0, rank=0),
                faults.limit("NOFILE", 64, rank=0),
                faults.signal("SIGKILL", rank=0, when=when.line("step 2$")),
            ]
        )
    )


@pytest.mark.skipif(bool(namespaces.why_not("mount")), reason=namespaces.why_not("mount"))
@pytest.mark.parametrize("make", [faults.full_disk, faults.full_inodes], ids=lambda make: make.__name__)
def test_a_rank_starts_although_a_small_disk_hides_its_working_directory(tmp_path, make):
    """Found by random plans: it ended with 125, as its directory did not exist in the new file system."""
    hidden = tmp_path / "hidden"
    below = hidden / "below"
    below.mkdir(parents=True)
    (below / "data").write_text("still here")
    program = "import os, sys, time; print(open('data').read(), os.listdir(sys.argv[1]), flush=True); time.sleep(60)"
    with running(tmp_path, [sys.executable, "-c", program, hidden], make(str(hidden), rank=0), cwd=below) as job:
        said = output_of(job)
        result = result_of(job)

    assert (said, result) == ("still here []\n", "injected")
