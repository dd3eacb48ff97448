"""Signals from outside, and unusual signal handling in ranks: observed in /proc and in exit statuses."""

import os
import re
import signal
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.catalogue.injector_api import Aim
from derail.faults.injectors import signals
from derail.model.input_error import InputError
from derail.platform.proc_status import ProcessState
from faults.fake_job import IdleJob
from faults.real_job import DEADLINE, ended, output_of, record_of, result_of, running, state_of, wait_for
from program_files import program_text
from wording import Tells

READY = when.line("ready")
SLEEPS = "print('ready', flush=True)\ntime.sleep(60)\n"
ENDS = "print('ready', flush=True)\n"


def mask_of(pid, field):
    """Return the signals in a field of /proc/PID/status."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{field}:"))
    bits = int(line.split()[1], 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def statuses(seen):
    """Return the statuses of the faults."""
    return [result.status for result in seen.faults]


def test_a_stopped_rank_stops_and_then_continues(tmp_path):
    """The engine observes state T; after its time the rank continues to its end."""
    program = "print('ready', flush=True)\nopen('go').read()\nprint('done', flush=True)\n"
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    with running(tmp_path, program.replace("'go'", repr(str(fifo))), faults.stop(rank=0, when=READY, for_=0.3)) as job:
        assert "state T in /proc" in record_of(job, "end")["detail"]
        record_of(job, "healed")
        wait_for(lambda: state_of(job.pids()[0]) == "S", "the end of state T")
        fifo.write_text("go")
        seen = job.wait(DEADLINE)

    assert (statuses(seen), seen.exit_code) == (["injected"], 0)


def test_a_stopped_rank_is_ended_with_its_job(tmp_path):
    """A permanent stop does not outlive the job."""
    with running(tmp_path, SLEEPS, faults.stop(rank=0, when=READY)) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        assert state_of(pid) == "T"

    assert state_of(pid) == ""


CONTINUES = program_text("faults/stops_itself")


def test_a_stopped_rank_is_continued_regardless_of_the_stopper(tmp_path):
    """It had stopped itself, and now continues to its end."""
    seen, text = ended(tmp_path, CONTINUES, faults.cont(rank=0, when=when.line("it stands", rank=1)), ranks=2)

    assert (statuses(seen), text) == (["injected"], "went on\n")


@pytest.mark.parametrize("make", [faults.cont, faults.stop, faults.signal_storm], ids=lambda make: make.__name__)
def test_a_rank_that_had_ended_is_not_reached(tmp_path, make):
    """The line of another rank comes too late."""
    program = """
if os.environ["RANK"] == "1":
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "work")
    while "exited" not in open(os.path.join(path, "journal.jsonl")).read():
        time.sleep(0.01)
    print("ready", flush=True)
    time.sleep(0.2)
"""
    seen, _ = ended(tmp_path, program, make(rank=0, when=when.line("ready", rank=1)), ranks=2)

    assert statuses(seen) == ["not_reached"], seen.faults


def test_a_rank_that_was_not_stopped_cannot_be_continued(tmp_path):
    """Its state shows it."""
    with running(tmp_path, SLEEPS, faults.cont(rank=0, when=READY)) as job:
        assert result_of(job) == "not_reached"
        assert re.search("was not stopped: state [SRD] ", record_of(job, "end")["detail"])  # on its way to its sleep


COUNTS = """
import signal
wanted = [signal.SIGRTMIN + 2, signal.SIGRTMIN + 3]  # the kernel keeps each one of these, however late they are taken
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("ready", flush=True)
got = [int(signal.sigwait(wanted)) for _ in range(10)]
print(*[got.count(number) for number in wanted], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("every", [0.05, 0])
def test_a_storm_of_signals_arrives(tmp_path, every):
    """A rank with handlers counts both kinds."""
    storm = faults.signal_storm(["SIGRTMIN+2", "SIGRTMIN+3"], count=10, every=every, rank=0, when=READY)
    with running(tmp_path, COUNTS, storm) as job:
        counted = output_of(job, lines=2).splitlines()[1:]
        assert result_of(job) == "injected"
        assert "10 of 10 signals" in record_of(job, "end")["detail"]

    assert counted == ["5 5"]


def test_a_storm_that_its_rank_does_not_outlive_can_be_enough(tmp_path):
    """The repeated signals are meant to end it."""
    storm = faults.signal_storm(count=50, enough=1, every=0.2, rank=0, when=READY)
    seen, _ = ended(tmp_path, SLEEPS, storm)

    assert statuses(seen) == ["injected"]
    assert seen.ranks[0].status.signal == signal.SIGTERM


def test_a_storm_ends_with_the_rank_that_dies_of_it(tmp_path):
    """The remaining signals are not sent."""
    seen, _ = ended(tmp_path, SLEEPS, faults.signal_storm(count=50, every=0.2, rank=0, when=READY))

    assert statuses(seen) == ["not_reached"]
    assert seen.ranks[0].status.signal == signal.SIGTERM


TWICE = program_text("faults/two_signals")


@pytest.mark.parametrize(("name", "text"), [("SIGTERM", "1 1"), ("SIGINT", "1 2")])
def test_a_second_signal_arrives_while_the_first_is_handled(tmp_path, name, text):
    """The supervisor's SIGTERM, then the fault's."""
    line = faults.signal("SIGWINCH", rank=0, when=READY)
    # Python, too, makes one of two signals that it has not handled yet: time enough for the first.
    second = faults.second_signal(name, rank=0, delay=1.0)
    seen, out = ended(tmp_path, TWICE, second, line, ranks=2, grace=60.0)

    assert out.splitlines() == ["ready", text]
    assert statuses(seen) == ["injected", "injected"], seen.faults


@pytest.mark.parametrize(
    ("look", "waits"),
    [
        ({"pending": {15}}, True),
        ({"pending": {15}, "blocked": {15}}, False),
        ({"pending": {15}, "state": "T"}, False),
        ({"pending": {10}}, False),
        ({}, False),
    ],
    ids=["on its way", "blocked", "standing", "another", "handled"],
)
def test_a_second_signal_is_not_sent_while_the_first_is_pending(monkeypatch, look, waits):
    """The kernel merges or reorders two pending ones. A blocked one is not waited for."""
    usual = {"state": "R", "pending": set(), "blocked": set(), "ignored": set(), "caught": {15}}
    job, states = IdleJob(), [ProcessState(**{**usual, **look}), ProcessState(**usual)]
    (fault,) = faults.plan([faults.second_signal("SIGTERM", rank=0)]).faults
    monkeypatch.setattr(signals, "read_process_state", lambda pid: states[0])
    step = signals.send_again(Aim(fault, 0, 0, job, sent_by_supervisor=[signal.SIGTERM]))
    step.check()
    job.later.pop()()

    assert (job.sent, len(job.later)) == (([], 1) if waits else ([signal.SIGTERM], 0))

    states.pop(0)
    for action in job.later:
        action()
    assert job.sent == [signal.SIGTERM]


def test_a_rank_ended_by_the_first_signal_gets_no_second_one(tmp_path):
    """A job that is not torn down has no first one."""
    program = "if os.environ['RANK'] == '1': sys.exit(3)\ntime.sleep(60)"
    seen, _ = ended(tmp_path, program, faults.second_signal(rank=0, delay=5), ranks=2)
    assert statuses(seen) == ["not_reached"]

    (tmp_path / "more").mkdir()
    seen, _ = ended(tmp_path / "more", ENDS, faults.second_signal(rank=0))
    assert statuses(seen) == ["not_reached"]
    assert "the supervisor sent no signal" in str(seen.faults[0])


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        (faults.block_signal(["SIGTERM", "SIGUSR1"], rank=0, when=READY), "SigBlk"),
        (faults.ignore_signal(["SIGTERM", "SIGUSR1"], rank=0, when=READY), "SigIgn"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_rank_blocks_or_ignores_signals(tmp_path, fault, field):
    """The mask shows it, and SIGTERM does not end the rank: a blocked one is pending, an ignored one is gone."""
    with running(tmp_path, SLEEPS, fault) as job:
        assert result_of(job) == "injected"
        pid = job.pids()[0]
        os.kill(pid, signal.SIGTERM)
        assert mask_of(pid, field) >= {signal.SIGTERM, signal.SIGUSR1}
        assert mask_of(pid, "ShdPnd") & {signal.SIGTERM} == ({signal.SIGTERM} if field == "SigBlk" else set())
        wait_for(lambda: state_of(pid) == "S", "a rank that sleeps on")


def test_signals_that_another_thread_accepts_are_not_blocked(tmp_path):
    """The main thread's mask is not the process's: the signal would still end it."""
    program = "import threading\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n" + SLEEPS
    with running(tmp_path, program, faults.block_signal(rank=0, when=READY)) as job:
        assert result_of(job) == "errored"
        assert "but the older threads" in record_of(job, "end")["detail"]


HANDLERS = {
    "slow": (faults.slow_handler(0.5, rank=0, when=READY), "SIGTERM (15)"),
    "raising": (faults.raising_handler("KeyError", "torn", rank=0, when=READY), "exit 1"),
    "exit_zero": (faults.exit_zero_handler(rank=0, when=READY), "exit 0"),
    "_exit_zero": (faults.exit_zero_handler("SIGINT", how="_exit", rank=0, when=READY), "exit 0"),
    "reraising": (faults.reraising_handler(rank=0, when=READY), "SIGTERM (15)"),
    "forking": (faults.forking_handler(rank=0, when=READY), "SIGTERM (15)"),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_each_handler_fault_is_verified(tmp_path, name):
    """The kernel shows a handler; the signal comes from outside; the exit status is the handler's."""
    fault, exit_status = HANDLERS[name]
    number = getattr(signal, fault.param("signal"))
    # Python's own handler of SIGINT would be taken for the fault's.
    program = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n" + SLEEPS
    with running(tmp_path, program, fault) as job:
        record_of(job, "start")
        pid = job.pids()[0]
        wait_for(lambda: number in mask_of(pid, "SigCgt"), "a handler")
        ignored_before = mask_of(pid, "SigIgn")
        os.kill(pid, number)
        seen = job.wait(DEADLINE)
        err = job.log(0, "stderr").read_text()
        if name == "slow":
            assert record_of(job, "handled")["at"] - record_of(job, "handling")["at"] >= 0.5

    assert number not in ignored_before
    assert (statuses(seen), str(seen.ranks[0].status)) == (["injected"], exit_status), seen.faults
    assert ("KeyError: 'torn'" in err) == (name == "raising")


def test_the_child_of_a_handler_outlives_its_rank(tmp_path):
    """It is alive after the exit of the rank; the end of the job finds it and ends it."""
    with running(tmp_path, SLEEPS, faults.forking_handler(rank=0, when=READY)) as job:
        wait_for(lambda: signal.SIGTERM in mask_of(job.pids()[0], "SigCgt"), "a handler")
        os.kill(job.pids()[0], signal.SIGTERM)
        child = int(record_of(job, "helper")["pid"])
        seen = job.wait(DEADLINE)

    assert statuses(seen) == ["injected"], seen.faults
    assert f"it forked pid {child}, which lives" in str(seen.faults[0])
    assert [left.pid for left in seen.leftovers] == [child]
    assert state_of(child) in ("", "Z")  # nobody but its new parent can take it away


TICKS = """
import signal
signal.signal(signal.SIGTERM, lambda *_: (print("mine", flush=True), os._exit(5)))
print("ready", flush=True)
while True:
    print("tick", flush=True)
    time.sleep(0.01)
"""


def test_a_slow_handler_sleeps_and_then_takes_the_previous_action(tmp_path):
    """The program's own handler runs after it."""
    with running(tmp_path, TICKS, faults.slow_handler(0.3, rank=0, when=READY)) as job:
        record_of(job, "start")
        ticks = job.log(0, "stdout").read_text().count("tick")
        wait_for(lambda: job.log(0, "stdout").read_text().count("tick") > ticks + 1, "a main thread that went on")
        os.kill(job.pids()[0], signal.SIGTERM)
        seen = job.wait(DEADLINE)
        handled = record_of(job, "handled")["at"] - record_of(job, "handling")["at"]

    assert (statuses(seen), str(seen.ranks[0].status)) == (["injected"], "exit 5")
    assert handled >= 0.3


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_without_a_signal_is_not_reached(tmp_path, name):
    """It is not reached."""
    program = ENDS + "while '\"start\"' not in open(os.environ['JOURNAL']).read(): time.sleep(0.01)\n"
    journal = tmp_path / "work" / "journal.jsonl"
    seen, _ = ended(tmp_path, program, HANDLERS[name][0], env={"JOURNAL": str(journal)})

    assert statuses(seen) == ["not_reached"], seen.faults
    assert "never arrived" in str(seen.faults[0])


def test_a_replaced_handler_is_not_reached(tmp_path):
    """The supervisor's SIGTERM arrived, and the program's own handler ran."""
    program = """
import signal
if os.environ["RANK"] == "0":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(4))
    open(os.environ["THERE"], "w").close()
    time.sleep(60)
while not os.path.exists(os.environ["THERE"]):
    time.sleep(0.01)
sys.exit(3)
"""
    seen, _ = ended(
        tmp_path, program, faults.exit_zero_handler(rank=0), ranks=2, env={"THERE": str(tmp_path / "there")}
    )

    assert statuses(seen) == ["not_reached"], seen.faults
    assert str(seen.faults[0]) == Tells("handled")


def test_an_exit_that_the_program_catches_is_no_exit(tmp_path):
    """SystemExit can be caught, and then the rank does not exit as planned."""
    program = "try:\n    print('ready', flush=True)\n    time.sleep(60)\nexcept SystemExit:\n    os._exit(9)\n"
    with running(tmp_path, program, faults.exit_zero_handler(rank=0, when=READY)) as job:
        record_of(job, "start")
        wait_for(lambda: signal.SIGTERM in mask_of(job.pids()[0], "SigCgt"))
        os.kill(job.pids()[0], signal.SIGTERM)
        seen = job.wait(DEADLINE)

    assert statuses(seen) == ["errored"]
    assert str(seen.faults[0]) == Tells("exit 9", "0")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.block_signal(["SIGKILL"], rank=0), "no process can block, ignore or handle SIGKILL"),
        (lambda: faults.ignore_signal([], rank=0), "expected at least one signal"),
        (lambda: faults.slow_handler(1, "SIGSTOP", rank=0), "no process can block, ignore or handle SIGSTOP"),
        (lambda: faults.signal_storm([], rank=0), "expected a list of signals"),
        (lambda: faults.signal_storm(count=1, rank=0), "expected a whole number from 2"),
        (lambda: faults.second_signal("SIGTRM", rank=0), "did you mean 'SIGTERM'"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(make, problem):
    """Before anything starts."""
    with pytest.raises(InputError, match=problem):
        make()
