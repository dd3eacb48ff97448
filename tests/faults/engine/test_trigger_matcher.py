"""Triggers on real jobs: occurrences, combinations, and messages about triggers that did not fire."""

import pytest

from derail import faults, when
from derail.faults.engine import journal
from derail.faults.engine.trigger_matcher import Elapsed, Setting, condition
from derail.model.events import LineSeen, Started
from faults.real_job import DEADLINE, ENDED, EXITED, ended, running
from program_files import UNTIL, program_text
from wording import Tells

COUNTS = """
import signal, sys, time
from derail.faults import fail_point
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(step))
for step in range(1, 8):
    fail_point("step")
    print("step", step, "got", got, flush=True)
"""
IN_STEP = f"{UNTIL}{COUNTS}    until_told(step)\n"
"""Goes on with the next step when the driver has heard of this one."""
WAITS = "print('ready', flush=True); time.sleep(60)"


def results(seen):
    """Return results by rank, of plans with one fault."""
    return {told.rank: told.status for told in seen.faults}


@pytest.mark.parametrize(
    ("hit", "times", "got"),
    [("2..6+2", None, [2, 4, 6]), ("2..6+2", 2, [2, 4]), ("3..", 3, [3, 4, 5]), (4, 1, [4])],
)
def test_a_fault_acts_at_each_requested_occurrence(run_faults, hit, times, got):
    """The rank waits at the point until the fault has acted from outside."""
    fault = faults.signal("SIGUSR1", rank=0, when=when.point("step", hit=hit), times=times)
    run = run_faults([fault], COUNTS)

    assert run.log(0).splitlines()[-1] == f"step 7 got {got}"
    assert run.one().injected, run.one()
    assert [record["n"] for record in run.events("start") + run.events("again")] == [*range(1, len(got) + 1)]


def test_each_requested_line_fires_one_injection(run_faults):
    """A rank does not wait at lines: the fault acts as soon as its line is read."""
    program = program_text("faults/counts_signals_of_steps")
    run = run_faults([faults.signal("SIGUSR1", rank=0, when=when.line("step", hit="1..5+2"))], program)

    assert run.log(0).splitlines()[-1] == "got 3"
    assert [record["text"] for record in run.events("line")] == ["step 1", "step 3", "step 5"]
    assert run.one().detail.startswith("3 times; the last: ")


def test_missing_occurrences_are_not_reached(run_faults):
    """Two of three injections are not an injected fault."""
    run = run_faults([faults.signal("SIGUSR1", rank=0, when=when.point("step", hit="3..11+4"))], COUNTS)

    assert (run.one().status, run.one().detail) == ("not_reached", Tells("2 of 3", "exit 0"))


def test_an_in_rank_trigger_needs_a_rank_with_the_runtime(run_faults):
    """A program that is not Python has no points."""
    run = run_faults([faults.signal("SIGKILL", rank=0, when=when.point("step"))], ("/bin/sleep", "0.1"))

    assert run.one().status == "unavailable"
    assert run.one().detail == Tells("/bin/sleep", "not Python")


@pytest.mark.parametrize(
    ("trigger", "steps"),
    [
        (when.any_of(when.line("never"), when.point("step", hit=3)), 2),
        (when.any_of(when.point("step", hit=5), when.point("step", hit=3)), 2),
        (when.then(when.point("step", hit=2), when.point("step", hit=2)), 3),
        (when.then(when.point("step", hit=3), when.call("time:sleep", hit=2)), 4),
        (when.all_of(when.point("step", hit=4), when.point("step", hit=2)), 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [lambda **how: faults.exit(7, **how), lambda **how: faults.signal("SIGKILL", **how)])
def test_triggers_combine(run_faults, make, trigger, steps):
    """The same in a rank and from outside, as the rank waits at its place."""
    program = COUNTS + "    time.sleep(0.02)\n"
    run = run_faults([make(rank=0, when=trigger)], program)

    assert run.one().injected, run.one()
    assert len(run.log(0).splitlines()) == steps


@pytest.mark.parametrize("make", [lambda **how: faults.exit(7, **how), lambda **how: faults.signal("SIGKILL", **how)])
def test_a_line_and_a_point_combine(run_faults, make):
    """The point is reached first; the fault acts when the line has been read."""
    trigger = when.all_of(when.line("step 2"), when.point("step", hit=2))
    run = run_faults([make(rank=0, when=trigger)], IN_STEP)

    assert run.one().injected, run.one()
    assert len(run.log(0).splitlines()) == 2


def test_a_time_in_a_later_step_runs_from_the_previous_step(run_faults):
    """Not from the start of the rank."""
    trigger = when.then(when.line("step 7"), when.after(0.2))
    run = run_faults([faults.signal("SIGKILL", rank=0, when=trigger)], COUNTS + "time.sleep(60)\n")
    (acted,) = [r["at"] for r in run.records if r["event"] == "start"]
    seen = next(e.at for e in run.job.events if isinstance(e, LineSeen) and e.text.startswith("step 7"))

    assert run.one().injected
    assert acted - seen >= 0.2


def test_the_missing_one_of_several_triggers_is_reported(run_faults):
    """The first missing one."""
    trigger = when.all_of(when.line("step 3"), when.line("nonsense"))
    run = run_faults([faults.signal("SIGKILL", rank=0, when=trigger)], COUNTS)

    assert run.one().status == "not_reached"
    assert run.one().detail == Tells("rank 0", "'nonsense'")


BARRIER = """
import os
from derail.faults import fail_point
rank = int(os.environ["RANK"])
for step in range(1, 4):
    time.sleep(0.1 * rank)
    fail_point("step")
    print("step", step, flush=True)
"""


def test_a_barrier_fires_when_the_last_rank_arrives(tmp_path):
    """The others wait there: no rank has passed it when the fault acts."""
    fault = faults.signal("SIGKILL", rank="all", when=when.barrier(when.point("step", hit=2)))
    with running(tmp_path, BARRIER, fault, ranks=3) as job:
        seen = job.wait(DEADLINE)
        lines = {rank: job.log(rank, "stdout").read_text() for rank in range(3)}

    assert results(seen) == dict.fromkeys(range(3), "injected"), seen.faults
    assert lines == dict.fromkeys(range(3), "step 1\n")


def test_a_barrier_that_a_rank_never_reaches_is_not_reached(tmp_path):
    """The others continue when that rank has ended."""
    fault = faults.signal("SIGKILL", rank=0, when=when.barrier("gate"))
    program = "import os\nfrom derail.faults import fail_point\nif os.environ['RANK'] == '0': fail_point('gate')\n"
    seen, _ = ended(tmp_path, program, fault, ranks=2)

    assert results(seen) == {0: "not_reached"}
    assert seen.faults[0].detail == Tells("rank 1", "exit 0")
    assert seen.succeeded
    assert seen.seconds < 55  # a rank waits 60 s for others


@pytest.mark.parametrize(
    ("phase", "signal", "whom"), [("running", "SIGUSR1", 0), ("stopping", "SIGUSR2", 0), ("killing", "SIGUSR1", 0)]
)
def test_phases_of_a_job_fire_faults(tmp_path, phase, signal, whom):
    """Between the launcher's decision and its action."""
    program = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, lambda *_: print("got USR2", flush=True))
print("ready", flush=True)
time.sleep(60)
"""
    given = [faults.signal(signal, rank=whom, when=when.phase(phase))]
    if phase != "running":
        given.append(faults.signal("SIGKILL", rank=1, when=when.all_of(when.line("ready", rank=0), when.line("ready"))))
    with running(tmp_path, program if phase != "running" else "time.sleep(60)", *given, ranks=2, grace=0.3) as job:
        seen = job.wait(DEADLINE)
        events = [(r["event"], r.get("phase")) for r in journal.read(job.journal)]

    assert seen.faults[0].at is not None, seen.faults
    assert seen.faults[0].status == "injected", seen.faults
    acted = next(i for i, event in enumerate(events) if event[0] == "start" and i > events.index(("phase", phase)))
    assert events[acted - 1] == ("phase", phase) or phase == "running"


def test_a_phase_before_the_rank_runs_is_not_reached(tmp_path):
    """There is no target process yet."""
    seen, _ = ended(tmp_path, "pass", faults.signal("SIGKILL", rank=1, when=when.phase("starting rank 1")), ranks=2)

    assert results(seen) == {1: "not_reached"}
    assert seen.faults[0].detail == Tells("not", "started")


def test_the_start_of_another_rank_fires_a_fault(tmp_path):
    """Rank 0 is killed during the start of rank 1."""
    fault = faults.signal("SIGKILL", rank=0, when=when.phase("starting rank 1"))
    with running(tmp_path, WAITS, fault, ranks=2) as job:
        seen = job.wait(DEADLINE)
        order = [(r["event"], r.get("rank")) for r in journal.read(job.journal)]

    assert results(seen) == {0: "injected"}
    assert order.index(("start", 0)) == order.index(("phase", 1)) + 1


def test_the_exit_of_another_rank_fires_a_fault(tmp_path):
    """Before the supervisor acts on that exit."""
    program = "import os\nif os.environ['RANK'] == '1': sys.exit(3)\n" + WAITS
    fault = faults.signal("SIGKILL", rank=0, when=when.exit_of(1))
    seen, _ = ended(tmp_path, program, fault, ranks=2)

    assert results(seen) == {0: "injected"}
    assert (seen.root_cause, seen.ranks[0].status.signal) == (1, 9)


@pytest.mark.parametrize(("n", "status"), [(0, "injected"), (2, "not_reached")])
@pytest.mark.parametrize("make", [lambda **how: faults.exit(7, **how), lambda **how: faults.signal("SIGKILL", **how)])
def test_a_restart_is_identified_by_its_number(tmp_path, make, n, status):
    """Only the requested restart is broken."""
    seen, _ = ended(tmp_path, "pass" if n else "time.sleep(60)", make(rank=0, when=when.restart(n)))

    assert results(seen) == {0: status}, seen.faults
    if n:
        assert seen.faults[0].detail == Tells("2", "0")


def test_the_second_restart_is_the_one_that_fails(run_faults):
    """The supervisor passes the restart number in the environment."""
    for count, ends in ((0, "exit 0"), (1, "exit 7")):
        run = run_faults(
            [faults.exit(7, rank=0, when=when.restart(1))], "pass", env={"TORCHELASTIC_RESTART_COUNT": str(count)}
        )
        assert str(run.job.status[0]) == ends


@pytest.mark.parametrize("handler", ["", "signal.signal(signal.SIGTERM, lambda *_: print('handled', flush=True))"])
def test_an_arriving_signal_fires_a_fault_before_its_handler(run_faults, handler):
    """Or before its default action in Python."""
    program = f"""
import os, signal, time
{handler}
os.kill(os.getpid(), signal.SIGTERM)
print("went on", flush=True)
"""
    run = run_faults([faults.signal("SIGKILL", rank=0, when=when.signal_received("SIGTERM"))], program)

    assert (run.log(0), str(run.job.status[0])) == ("", "SIGKILL (9)")
    assert run.one().injected, run.one()


def test_a_signal_takes_its_action_after_the_fault(run_faults):
    """A handler runs, and a default action ends the rank."""
    program = f"""{UNTIL}
import signal
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
print(signal.getsignal(signal.SIGUSR1).__name__, flush=True)
os.kill(os.getpid(), signal.SIGUSR1)
until('{ENDED}')
os.kill(os.getpid(), signal.SIGTERM)
print("went on", flush=True)
"""
    plan = [
        faults.block_signal(["SIGUSR2"], rank=0, when=when.signal_received("SIGUSR1")),
        faults.signal("SIGWINCH", rank=0, when=when.signal_received("SIGTERM")),
    ]
    run = run_faults(plan, program)

    assert (run.log(0), str(run.job.status[0])) == ("<lambda>\nhandled\n", "SIGTERM (15)")
    assert [result.status for result in run.results] == ["injected", "injected"], run.results


def test_the_signal_that_ended_a_program_was_received(tmp_path):
    """For a program that is not Python, no other signal is known; it fires a fault on the other rank."""
    fault = faults.signal("SIGKILL", rank=0, when=when.signal_received("SIGTERM"))
    seen, _ = ended(tmp_path, ["/bin/sh", "-c", "kill -TERM $$; sleep 60"], fault)

    assert results(seen) == {0: "not_reached"}
    assert seen.ranks[0].status.signal == 15


def test_probability_is_decided_by_seed_fault_and_rank(run_faults):
    """About half of the ranks, the same each time; with ``first``, the first for certain."""
    program = COUNTS.replace("range(1, 8)", "range(1, 41)")

    def got(seed, **options):
        trigger = when.probability(0.25, when.point("step", hit="1.."), **options)
        fault = faults.signal("SIGUSR1", rank=0, when=trigger, times=3, id="a")
        run = run_faults([fault], program, seed=seed)
        run.driver.journal.path.unlink()
        return run.log(0).splitlines()[-1].partition("got ")[2]

    one = got(1)

    assert one == got(1) != got(2)
    assert got(1, first=2).startswith("[1, 2, ")


@pytest.mark.parametrize(("p", "status"), [(0.0, "not_reached"), (1.0, "injected")])
@pytest.mark.parametrize("of", [when.start(), when.line("ready"), when.point("go"), when.exit_of(1)], ids=str)
@pytest.mark.parametrize("make", [lambda **how: faults.exit(7, **how), lambda **how: faults.signal("SIGKILL", **how)])
def test_probability_is_never_or_always_at_its_ends(tmp_path, make, of, p, status):
    """For triggers in a rank and from outside."""
    program = f"""{UNTIL}
from derail.faults import fail_point
if os.environ["RANK"] == "1":
    while not os.path.exists("here"): time.sleep(0.01)
    sys.exit(0)
open("here", "w").close()
print("ready", flush=True); fail_point("go"); {"time.sleep(60)" if p else f"until('{EXITED}')"}
"""
    if of == when.start():
        (tmp_path / "here").touch()  # rank 0 may not come to make it
    seen, _ = ended(tmp_path, program, make(rank=0, when=when.probability(p, of)), ranks=2, cwd=tmp_path)

    assert results(seen) == {0: status}, seen.faults


def test_a_time_has_one_timer_over_all_restarts():
    """Timers of each restart would pile up in a job that is restarted hundreds of times; the first one counts."""
    timers = []
    setting = Setting("f", 0, 0, (0, 1), {}, lambda seconds, of: timers.append((seconds, of)))
    after = condition(when.after(5), setting)
    starts = [after.hear(Started(0, pid, float(pid))) for pid in range(1, 9)]

    assert (timers, any(starts)) == ([(5, after)], False)
    assert (after.hear(Elapsed(object())), after.hear(Elapsed(after))) == (False, True)
    after.hear(Started(0, 9, 9.0))
    assert len(timers) == 2
