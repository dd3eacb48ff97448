"""Time that a test has frozen: whatever freezegun and time-machine replace, derail's clock still advances."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import freezegun
import pytest
import time_machine

from derail import faults, get_subprocess_handler, when
from derail.agents.invocation import LocalJob
from derail.agents.native_job import default_teardown, start_job
from derail.faults import Plan
from derail.faults.engine.journal import read
from derail.faults.engine.sync_points import SyncPoint
from derail.model.clock import SYSTEM_CLOCK
from derail.model.spec import Teardown
from derail.platform.bounded import run_bounded
from program_files import program_text
from rank_functions import give

LONG_AGO = "2001-02-03"
FREEZERS = {
    "freezegun": lambda: freezegun.freeze_time(LONG_AGO),
    "freezegun ticking": lambda: freezegun.freeze_time(LONG_AGO, tick=True),
    "time-machine": lambda: time_machine.travel(LONG_AGO, tick=False),
    "time-machine ticking": lambda: time_machine.travel(LONG_AGO),
}
_steady = time.clock_gettime

pytestmark = pytest.mark.timeout(120)  # with a clock that stops, a test never ends


@pytest.fixture(params=FREEZERS)
def frozen(request):
    """Freeze the time in this process during the test."""
    with FREEZERS[request.param]():
        assert time.gmtime().tm_year == 2001
        yield


def steady():
    """Return the seconds of a clock that no library replaces."""
    return _steady(time.CLOCK_MONOTONIC)


def test_the_clock_advances(frozen):
    """``now`` advances, and ``wall`` is exactly the time in another process."""
    before = SYSTEM_CLOCK.now()
    while SYSTEM_CLOCK.now() == before:
        pass
    program = "import time; print(time.time())"
    before = SYSTEM_CLOCK.wall()
    wall = float(run_bounded((sys.executable, "-I", "-S", "-c", program), 60).stdout)

    assert before <= wall <= SYSTEM_CLOCK.wall()


@pytest.mark.parametrize("tool", ["freezegun", "time-machine"])
def test_derail_may_be_imported_while_the_time_is_frozen(run_python, tool):
    """The launcher then holds no fakes."""
    done = run_python(program_text("launch/frozen_import", TOOL=tool))

    assert done.stdout == "None True True\n"


def test_wait_returns_after_its_timeout(jobs, frozen):
    """Neither at the exit of the rank nor earlier."""
    context, begun = jobs.sh("exec sleep 600"), steady()

    assert context.wait(0.3) is None
    assert steady() - begun >= 0.3


def test_the_grace_period_passes(jobs, frozen):
    """A rank that ignores SIGTERM is killed."""
    context = jobs.sh(
        'trap "" TERM; echo ready > "$DIR/ready"; while :; do sleep 0.05; done', teardown=Teardown(grace=0.2)
    )
    jobs.file("ready")
    context.close(signal.SIGTERM, 1)

    assert context.wait().ranks[0].status.signal == signal.SIGKILL


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver", "warm"])
def test_functions_return_their_values(jobs, frozen, method):
    """For every start method."""
    context = jobs.start(give, args={0: (1,), 1: (2,)}, start_method=method)

    assert context.wait().return_values == {0: 1, 1: 2}


def test_waiting_for_a_program_times_out(tmp_path, frozen):
    """The handler of a single program counts real seconds."""
    handler = get_subprocess_handler("/bin/sleep", ("600",), {}, str(tmp_path / "out"), str(tmp_path / "err"), 0)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            handler.proc.wait(0.2)
    finally:
        handler.close(signal.SIGKILL)


def test_a_trial_that_hangs_is_ended(frozen):
    """``subprocess`` would wait for its timeout for ever."""
    with pytest.raises(subprocess.TimeoutExpired):
        run_bounded(("/bin/sleep", "600"), 0.2)


@pytest.mark.parametrize("freeze_in_rank", ["", *FREEZERS], ids=lambda name: name or "not in the rank")
def test_faults_start_and_end_on_time(tmp_path, frozen, freeze_in_rank):
    """With the time frozen in the launcher, in the rank, or in both."""
    freeze = {
        "": "",
        "freezegun": f"import freezegun; freezegun.freeze_time({LONG_AGO!r}).start()",
        "freezegun ticking": f"import freezegun; freezegun.freeze_time({LONG_AGO!r}, tick=True).start()",
        "time-machine": f"import time_machine; time_machine.travel({LONG_AGO!r}, tick=False).start()",
        "time-machine ticking": f"import time_machine; time_machine.travel({LONG_AGO!r}).start()",
    }[freeze_in_rank]
    program = tmp_path / "program.py"
    program.write_text(f"import sys\n{freeze}\nprint('ready', flush=True)\nsys.stdin.read()\n")
    plan = [
        faults.hang(rank=0, when=when.line("ready"), for_=0.2),
        faults.exit(7, rank=0, when=when.then(when.line("ready"), when.after(0.4))),
    ]
    read_end, write_end = os.pipe()
    before = os.dup(0)
    os.dup2(read_end, 0)
    try:
        job = start_job(
            LocalJob(program, ranks=1, teardown=default_teardown(5), plan=Plan(tuple(plan))), workdir=tmp_path / "work"
        )
    finally:
        os.dup2(before, 0)
        for fd in (before, read_end):
            os.close(fd)
    try:
        seen = job.wait(60)
    finally:
        job.close()
        os.close(write_end)

    assert [result.status for result in job.fault_results()] == ["injected", "injected"], seen
    assert str(seen.ranks[0].status) == "exit 7"
    assert any(record["event"] == "healed" for record in read(job.journal))


@pytest.mark.parametrize(
    ("fault", "year"), [(faults.clock_offset(3e9, rank=0), True), (faults.clock_freeze(rank=0), False)], ids=str
)
def test_faults_still_skew_the_clock_of_a_rank(tmp_path, frozen, fault, year):
    """As well as the times that derail writes in that rank: those of a machine with a wrong clock."""
    program = tmp_path / "program.py"
    program.write_text(
        "import time\nfrom derail.model.clock import SYSTEM_CLOCK\n"
        "print(abs(time.time() - SYSTEM_CLOCK.wall()) < 5, time.gmtime(SYSTEM_CLOCK.wall()).tm_year > 2100)\n"
    )
    job = start_job(LocalJob(program, ranks=1, plan=Plan((fault,))), workdir=tmp_path / "work")
    try:
        job.wait(60)
    finally:
        job.close()

    assert [result.status for result in job.fault_results()] == ["injected"]
    assert job.log(0, "stdout").read_text() == f"True {year}\n"


def test_no_rank_waits_at_a_gate_beyond_its_timeout(tmp_path, frozen):
    """A rank that never arrives there is an error."""
    sync_point = SyncPoint("never", "never")
    job = start_job(
        LocalJob([sys.executable, "-c", "import time; time.sleep(600)"], ranks=1),
        workdir=tmp_path / "work",
        sync_points=[sync_point],
    )
    try:
        with pytest.raises(TimeoutError):
            sync_point.wait(0.2)
    finally:
        job.close()


def test_a_scenario_that_takes_too_long_is_ended(tmp_path, frozen):
    """``timeout`` of a job counts real seconds."""
    job = start_job(LocalJob(Path("/bin/sleep").as_posix(), args=["600"], ranks=1), workdir=tmp_path / "work")
    try:
        assert job.wait(0.3).timed_out
    finally:
        job.close()
