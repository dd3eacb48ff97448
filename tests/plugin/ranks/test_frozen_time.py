"""Tests on ranks whose time is frozen, in the controller, in the ranks, or in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

FREEZERS = {
    "freezegun": "freezegun.freeze_time('2001-02-03')",
    "time-machine": "time_machine.travel('2001-02-03', tick=False)",
}
SOURCE = """
import time
import freezegun, time_machine
import pytest
from pytest_derail import assert_timed_out

def year():
    return time.gmtime().tm_year

@pytest.fixture(autouse=True)
def frozen():
    with {freeze}:
        yield

@pytest.fixture(scope="module", autouse=True)
def frozen_in_the_controller():
    with {freeze}:
        yield

@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver", "warm"])
def test_passes(method, request):
    assert year() == 2001

test_passes_on_ranks = pytest.mark.ranks(2)(test_passes)

@pytest.mark.ranks(2, start_method="warm")
def test_warm(rank):
    assert year() == 2001

@pytest.mark.ranks(2, timeout=1, start_method="fork")
def test_hangs(rank):
    if rank:
        while True:
            time.sleep(60)

def test_job(derail):
    seen = derail.run("/bin/sleep", args=["600"], ranks=1, timeout=0.3)
    assert_timed_out(seen)
"""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("freeze", FREEZERS)
def test_hangs_are_ended_and_others_pass_while_the_time_is_frozen(run_pytest: RunPytest, freeze: str) -> None:
    """A timeout of ranks and of jobs counts real seconds."""
    result = run_pytest(SOURCE.format(freeze=FREEZERS[freeze]))

    result.assert_outcomes(passed=10, failed=1)
    result.stdout.fnmatch_lines(["*test_hangs*"])
