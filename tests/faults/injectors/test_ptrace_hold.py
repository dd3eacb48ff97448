"""Ranks held by ptrace, observed in /proc and by signals."""

import os
import signal
from pathlib import Path

import pytest

from derail import faults, when
from derail.platform.capabilities import why_no_ptrace
from derail.platform.proc_status import read_process_state
from derail.platform.tracing import Hold
from faults.real_job import DEADLINE, ENDED, LATER_THAN_RANK_0, ended, record_of, result_of, running, wait_for
from program_files import UNTIL

pytestmark = pytest.mark.skipif(bool(why_no_ptrace()), reason=why_no_ptrace())
READY = when.line("ready")
HEARS = """
import signal, threading
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda *_: print("heard", flush=True))
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
while True:
    time.sleep(0.05)  # and not pause: the other thread may be given the signal, and this one runs the handler
"""


def tracer_of(pid):
    """Return the tracer of a process, from the kernel."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("TracerPid")))


def states_of(pid):
    """Return the states of all threads."""
    return {Path(f"/proc/{pid}/task/{tid}/stat").read_text().rpartition(")")[2].split()[0]
            for tid in os.listdir(f"/proc/{pid}/task")}  # fmt: skip


def test_a_held_rank_stops_and_handles_no_signal(tmp_path):
    """Both of its threads are in state t; SIGCONT changes nothing; SIGUSR1 is pending."""
    with running(tmp_path, HEARS, faults.trace_stop(rank=0, when=READY)) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGCONT)

        assert states_of(pid) == {"t"}
        assert len(os.listdir(f"/proc/{pid}/task")) == 2
        assert str(tracer_of(pid)) in os.listdir("/proc/self/task")
        assert signal.SIGUSR1 in read_process_state(pid).pending
        assert job.poll() is None  # a stop is no exit, though a tracer is told of it
        assert job.log(0, "stdout").read_text() == "ready\n"


def test_a_released_rank_continues_and_handles_pending_signals(tmp_path):
    """It then has no tracer."""
    with running(tmp_path, HEARS, faults.trace_stop(rank=0, when=READY, for_=0.3)) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        os.kill(pid, signal.SIGUSR1)
        record_of(job, "healed")
        wait_for(lambda: "heard" in job.log(0, "stdout").read_text(), "the signal")

        assert tracer_of(pid) == 0


def test_a_held_rank_is_killed_and_its_exit_is_reported(tmp_path):
    """SIGTERM stays pending, SIGKILL ends it; the other rank ends by SIGTERM."""
    with running(
        tmp_path, HEARS.replace("signal.SIGTERM", "signal.SIGUSR2"), faults.trace_stop(rank=0, when=READY),
        ranks=2, grace=0.3,
    ) as job:  # fmt: skip
        assert result_of(job) == "injected"
        job.stop("enough")
        result = job.wait(DEADLINE)

    assert [str(result.ranks[rank].status) for rank in (0, 1)] == ["SIGKILL (9)", "SIGTERM (15)"]


def test_the_exit_of_a_held_rank_killed_from_outside_is_reported(tmp_path):
    """By itself, as far as the job can observe."""
    with running(tmp_path, HEARS, faults.trace_stop(rank=0, when=READY)) as job:
        assert result_of(job) == "injected"
        os.kill(job.pids()[0], signal.SIGKILL)
        seen = job.wait(DEADLINE)

    assert str(seen.ranks[0].status) == "SIGKILL (9)"
    assert seen.failed == (0,)


def test_a_rank_that_has_ended_is_not_held(tmp_path):
    """A line of rank 1 fires the fault after rank 0 has ended."""
    seen, _ = ended(tmp_path, LATER_THAN_RANK_0, faults.trace_stop(rank=0, when=when.line("ready", rank=1)), ranks=2)

    assert [result.status for result in seen.faults] == ["not_reached"], seen.faults
    assert "its target ended with exit 0" in seen.faults[0].detail


def test_a_traced_process_cannot_be_held(tmp_path):
    """The second fault on the same rank reports why; the first one is not disturbed."""
    first, second = faults.trace_stop(rank=0, when=READY), faults.trace_stop(rank=0, when=when.line("ready", rank=1))
    program = f"""{UNTIL}
if os.environ["RANK"] == "1":
    until('{ENDED}')
print("ready", flush=True)
time.sleep(60)
"""
    with running(tmp_path, program, first, second, ranks=2, grace=0.3) as job:
        wait_for(lambda: len(job.fault_results()) == 2 and all(r.status in ("injected", "errored")
                 for r in job.fault_results()))  # fmt: skip
        results = {result.fault.id: result for result in job.fault_results()}
        assert states_of(job.pids()[0]) == {"t"}

    assert [results[fault.id].status for fault in job.plan.faults] == ["injected", "errored"]
    assert "Operation not permitted" in str(results[job.plan.faults[1].id])


def test_a_missing_process_is_not_held():
    """Nothing is held, and nothing hangs."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED)
    hold = Hold(pid)
    hold.start()
    hold.release()

    assert hold.error == ""


def test_a_hold_that_gets_no_thread_can_be_released(monkeypatch):
    """Its undo step is registered first."""
    hold = Hold(os.getpid())
    monkeypatch.setattr(hold._thread, "start", lambda: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
    with pytest.raises(RuntimeError, match="new thread"):
        hold.start()

    hold.release()
