"""Driver on real processes: every fault is verified from outside, or reports that it was not."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from derail import faults, when
from derail.faults.catalogue.entry import Requires
from derail.faults.catalogue.injector_api import Aim, Soon, control_signal
from derail.faults.engine import journal
from derail.faults.engine.driver import Driver
from derail.faults.engine.journal import unfinished
from derail.faults.engine.prepare import environment
from derail.faults.injectors.signals import send
from derail.faults.inrank.rank_plan import VARIABLE, Part
from derail.faults.inrank.runtime import Runtime
from derail.faults.model.results import Errored, Injected, NotReached, Unavailable
from derail.faults.registry import entries
from derail.platform.proc_status import read_process_state
from faults.fake_job import FakeJob, spec_of
from faults.real_job import ENDED, HEALED
from program_files import UNTIL, program_text
from wording import Tells

WAITING = "import time; print('ready', flush=True); time.sleep(60)"
QUIET = "print('ready', flush=True)"
WATCHED = f"{UNTIL}print('ready', flush=True)\nuntil('{ENDED}')\n"
"""A rank that lives until it is known what came of the fault."""


def handling(number, then="print('caught', flush=True)", after="time.sleep(60)"):
    """Return the source of a rank with a signal handler."""
    return f"""{UNTIL}
import signal, sys
def handler(number, frame):
    {then}
signal.signal({int(number)}, handler)
print("ready", flush=True)
{after}
"""


def statuses(run):
    """Return the exit statuses of the ranks."""
    return {rank: str(fate.status) for rank, fate in run.outcome.ranks.items()}


def test_a_killed_rank_shows_the_signal_and_its_peers_are_stopped(run_faults, step_loop):
    """Verify SIGKILL at a line by the exit status."""
    run = run_faults([faults.signal("SIGKILL", rank=2, when=when.line("step 3"))], *[step_loop] * 4)

    assert run.one().status == "injected"
    assert "SIGKILL" in run.one().detail
    assert (run.outcome.root_cause, statuses(run)[2]) == (2, "SIGKILL (9)")
    assert run.log(2).splitlines()[2] == "step 3"


SIGNALS_ITSELF = program_text("faults/signals_itself")
"""For a rank whose SIGTERM may have the handler of a fault: it gets one, and stays."""


@pytest.mark.parametrize(
    ("fault", "until", "result", "words"),
    [
        (faults.slow_handler(60, rank=0), "handling", "injected", "expected a sleep of 60 s"),
        (faults.raising_handler("KeyError", rank=0), "handling", "injected", "it raised KeyError"),
        (faults.slow_handler(60, "SIGUSR1", rank=0), "start", "not_reached", "SIGUSR1 never arrived"),
    ],
    ids=["slow", "raising", "never came"],
)  # fmt: skip
def test_a_handler_is_verified_in_a_rank_that_never_exits(run_faults, fault, until, result, words):
    """The job no longer waits for the rank, but it is known whether its handler ran."""
    run = run_faults([fault], SIGNALS_ITSELF, until=f'"event": "{until}"')

    assert (run.one().status, run.one().detail.endswith(f"{words}; the rank never ended")) == (result, True), run.one()
    assert run.outcome.ranks == {}


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 14, 15, 34, 37, 64])
def test_any_deadly_signal_shows_in_the_exit(run_faults, number):
    """Real-time signals included."""
    run = run_faults(
        [faults.signal(number, rank=0, when=when.line("ready"))], ("/bin/sh", "-c", "echo ready; exec sleep 60")
    )

    assert run.job.status[0].signal == number
    assert isinstance(run.one().result, Injected)


def test_a_signal_by_its_group_reaches_the_children_of_the_rank(run_faults, pid_gone):
    """The evidence names the processes of the group."""
    rank = ("/bin/sh", "-c", "sleep 60 & echo child $!; echo ready; wait")
    run = run_faults([faults.signal("SIGKILL", rank=0, group=True, when=when.line("ready"))], rank)
    child = run.log(0).split()[1]

    assert isinstance(run.one().result, Injected)
    assert child in run.one().detail
    assert pid_gone(int(child))


def test_a_stopped_rank_is_in_state_t_and_continues_after_for(run_faults, step_loop):
    """``for_`` undoes it."""
    run = run_faults([faults.signal("SIGSTOP", rank=0, when=when.line("step 2"), for_=0.2)], step_loop)

    assert "state T" in run.one().detail
    assert [record["what"] for record in run.events("healed")] == ["continue rank 0"]
    assert run.log(0).endswith("done\n")
    assert statuses(run) == {0: "exit 0"}


def test_a_rank_that_is_stopped_for_good_is_continued_by_heal(tmp_path, step_loop):
    """Giving up on the job leaves no stopped process behind."""
    driver = Driver(
        faults.plan([faults.signal("SIGSTOP", rank=0, when=when.line("step 2"))]), journal=tmp_path / "journal.jsonl"
    )
    job = FakeJob(driver.prepare(spec_of(tmp_path, step_loop)), driver)

    def until_stopped():
        if driver.results()[0].injected:
            driver.heal()
        else:
            job.call_later(0.01, until_stopped)

    job.call_later(0.0, until_stopped)
    outcome = job.run()

    assert outcome.succeeded
    assert "healed" in {record["event"] for record in journal.read(driver.journal.path)}


def test_an_ignored_signal_is_verified_by_the_mask(run_faults):
    """SigIgn shows it before the signal is sent."""
    rank = "import signal; signal.signal(10, signal.SIG_IGN)\n"
    run = run_faults([faults.signal("SIGUSR1", rank=0, when=when.line("ready"))], rank + WATCHED)

    assert "ignores it (SigIgn)" in run.one().detail
    assert statuses(run) == {0: "exit 0"}


def test_a_blocked_signal_is_pending(run_faults):
    """SigPnd shows it after the signal was sent."""
    rank = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [10])\n"
    run = run_faults([faults.signal("SIGUSR1", rank=0, when=when.line("ready"))], rank + WATCHED)

    assert "pending (SigPnd), blocked (SigBlk)" in run.one().detail


def test_a_deadly_signal_to_a_stopped_rank_is_pending(tmp_path, wait_until):
    """SIGTERM does not end a stopped process until it continues."""
    job = FakeJob(spec_of(tmp_path, ("/bin/sleep", "60")), None)
    job.processes[0] = process = subprocess.Popen(["/bin/sleep", "60"])
    try:
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: read_process_state(process.pid).state == "T")
        step = send(Aim(faults.signal("SIGTERM", rank=0), 0, 0, job))
        shown = step.check()
    finally:
        process.kill()
        process.wait(30)

    assert isinstance(shown, Injected)
    assert shown.evidence == Tells("SIGTERM", process.pid, "pending", "state T")


def test_a_handled_signal_is_delivered(run_faults):
    """SigCgt shows the handler, and the handler runs."""
    rank = handling(15, after=f"until('{ENDED}')")
    run = run_faults([faults.signal("SIGTERM", rank=0, when=when.line("ready"))], rank)

    assert "handler (SigCgt)" in run.one().detail
    assert run.log(0).split() == ["ready", "caught"]


def test_a_rank_that_ends_in_its_handler_was_signalled(run_faults):
    """The signal is verified whatever the handler does."""
    run = run_faults([faults.signal("SIGTERM", rank=0, when=when.line("ready"))], handling(15, "os._exit(0)"))

    assert isinstance(run.one().result, Injected)
    assert statuses(run) == {0: "exit 0"}


def test_a_signal_is_sent_many_times(run_faults):
    """Each one arrives; the last is the evidence."""
    rank = program_text("faults/counts_signals")
    run = run_faults([faults.signal("SIGUSR1", rank=0, when=when.line("ready"), times=3, every=0.05)], rank)

    assert run.one().detail.startswith("3 times; the last: SIGUSR1")
    assert [record["n"] for record in run.events("start") + run.events("again")] == [1, 2, 3]
    assert run.log(0).endswith("seen 3\n")


def test_signals_after_the_first_deadly_one_are_not_reached(run_faults):
    """Two of three signals were not sent, so the fault is not injected."""
    run = run_faults([faults.signal("SIGTERM", rank=0, when=when.line("ready"), times=3, every=5)], WAITING)

    assert (run.one().status, run.one().detail) == ("not_reached", Tells("1 of 3", "SIGTERM"))


def test_a_harmless_signal_is_injected_without_effect(run_faults):
    """Its default is to do nothing."""
    run = run_faults([faults.signal("SIGWINCH", rank=0, when=when.line("ready"))], WATCHED)

    assert "it has no effect" in run.one().detail


def test_a_signal_at_the_start_or_after_a_time_needs_no_lines(run_faults):
    """The logs are not read then."""
    run = run_faults(
        [faults.signal("SIGKILL", rank=0), faults.signal("SIGUSR1", rank=1, when=when.after(0.05))],
        ("/bin/sleep", "60"), ("/bin/sh", "-c", "trap '' TERM; exec sleep 60"),
    )  # fmt: skip

    assert not run.driver.wants_lines
    assert run.results[0].injected
    assert {type(event).__name__ for event in run.job.events} >= {"Started", "Exited", "Finished"}


def test_a_line_is_counted_per_stream_and_rank(run_faults):
    """The second match on stderr of rank 1 fires a fault on rank 0."""
    speaker = """
import sys, time
print("go", flush=True)
for n in range(3): print("go", n, file=sys.stderr, flush=True); time.sleep(0.1)
"""
    fault = faults.signal("SIGKILL", rank=0, when=when.line("go", stream="stderr", hit=2, rank=1))
    run = run_faults([fault], WAITING, speaker)

    assert [(r["rank"], r["stream"], r["text"]) for r in run.events("line")] == [(1, "stderr", "go 1")]
    assert run.one().injected


def test_a_fault_that_was_never_due_reports_what_was_seen_instead(run_faults):
    """The reason is what a user needs to correct the plan."""
    plan = [
        faults.signal("SIGKILL", rank=0, when=when.line("stpe")),
        faults.signal("SIGKILL", rank=0, when=when.line("r", hit=5)),
        faults.signal("SIGKILL", rank=0, when=when.after(300)),
    ]
    run = run_faults(plan, QUIET)

    reasons = [result.detail for result in run.results]
    assert [result.status for result in run.results] == ["not_reached"] * 3
    assert reasons[0] == Tells("stdout and stderr", "rank 0", "'stpe'", "1 lines", "exit 0")
    assert reasons[1] == Tells("1 of 5")
    assert reasons[2] == Tells("300 s", "exit 0", " s")


def test_a_signal_that_the_supervisor_sent_first_is_not_claimed(run_faults):
    """It would be unknown which SIGTERM ended the rank."""
    dying = f"{UNTIL}\nwhile not os.path.exists(os.environ['JOURNAL'] + '.ready'): time.sleep(0.01)\nos._exit(1)"
    ready = f"open(os.environ['JOURNAL'] + '.ready', 'w').close(); until('{ENDED}')"
    victim = handling(15, "print('stopping', flush=True)", after=ready)
    fault = faults.signal("SIGTERM", rank=1, when=when.line("stopping"))
    run = run_faults([fault], dying, victim, QUIET, grace=60)

    assert (run.one().status, run.one().detail) == ("not_reached", Tells("SIGTERM"))


def test_a_rank_that_ends_in_another_way_was_not_killed_by_derail(run_faults, monkeypatch, tmp_path):
    """A lost signal is detected at the exit."""
    gone = tmp_path / "gone"
    monkeypatch.setattr(FakeJob, "send_signal", lambda *_, **__: gone.touch() or True)
    rank = f"import os, time; print('ready')\nwhile not os.path.exists({str(gone)!r}): time.sleep(0.01)\n"
    run = run_faults([faults.signal("SIGKILL", rank=0, when=when.line("ready"))], rank)

    assert isinstance(run.one().result, Errored)
    assert "exit 0" in run.one().detail


def test_a_rank_that_has_ended_cannot_be_signalled(run_faults, monkeypatch):
    """The result reports it, and no other process gets the signal."""
    monkeypatch.setattr(FakeJob, "send_signal", lambda *args, **kwargs: False)
    run = run_faults([faults.signal("SIGTERM", rank=0, when=when.line("ready"))], WATCHED)

    assert (run.one().status, run.one().detail) == ("not_reached", Tells("ended"))


@pytest.mark.parametrize(
    ("code", "how", "ends"),
    [(7, "exit", 7), (256, "exit", 0), (-1, "exit", 255), ("bye", "exit", 1), (7, "_exit", 7), (300, "_exit", 44)],
)
@pytest.mark.parametrize("trigger", [when.start(), when.line("step 2")], ids=str)
def test_a_rank_exits_with_a_code(run_faults, step_loop, code, how, ends, trigger):
    """As the interpreter maps it."""
    run = run_faults([faults.exit(code, rank=0, how=how, when=trigger)], step_loop)

    assert run.job.status[0].code == ends
    assert run.one().injected, run.one()
    assert (run.log(0) == "") == (trigger == when.start())


def test_an_exit_that_the_rank_catches_is_errored(run_faults):
    """The result reports it, with a fault that would work."""
    rank = """
import time
try:
    print("ready", flush=True); time.sleep(60)
except SystemExit:
    pass
"""
    run = run_faults([faults.exit(7, rank=0, when=when.line("ready"))], rank)

    assert isinstance(run.one().result, Errored)
    assert 'how="_exit" prevents' in run.one().detail


def test_an_exception_is_raised_where_the_main_thread_is(run_faults):
    """The traceback on stderr shows the program's own line; the evidence names it."""
    rank = "import time\ndef train():\n    print('ready', flush=True); time.sleep(60)\ntrain()\n"
    run = run_faults([faults.exception("ValueError", "loss is nan", rank=0, when=when.line("ready"))], rank)

    assert (run.one().status, run.one().detail) == ("injected", Tells("ValueError", "rank0.py:3", "train", "exit 1"))
    assert "in train" in run.log(0, "stderr")
    assert run.log(0, "stderr").endswith("ValueError: loss is nan\n")


def test_an_exception_that_the_rank_handles_is_injected(run_faults):
    """The rank may continue after handling it."""
    rank = """
import time
try:
    print("ready", flush=True); time.sleep(60)
except ConnectionResetError as error:
    print("retry after", error, flush=True)
"""
    run = run_faults([faults.exception("ConnectionResetError", "peer", rank=0, when=when.line("ready"))], rank)

    assert run.log(0).splitlines()[-1] == "retry after peer"
    assert run.one().detail == Tells("exit 0")


def test_an_exception_of_the_programs_own_is_found_by_its_path(run_faults):
    """``package.module:Class``."""
    run = run_faults(
        [faults.exception("json:JSONDecodeError", "x", rank=0), faults.exception("json.decoder:scanner.X", rank=1)],
        QUIET,
        QUIET,
    )

    assert [result.status for result in run.results] == ["errored", "errored"]
    assert [result.detail for result in run.results] == [Tells("TypeError"), Tells("AttributeError")]
    assert statuses(run) == {0: "exit 0", 1: "exit 0"}


def test_an_exception_that_python_swallows_is_errored(run_faults):
    """An exception cannot leave a destructor."""
    rank = """
import time
class Slow:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)
slow = Slow()
del slow
print("went on", flush=True)
"""
    run = run_faults([faults.exception("RuntimeError", rank=0, when=when.line("ready"))], rank)

    assert run.log(0).endswith("went on\n")
    assert isinstance(run.one().result, Errored)
    assert "where Python ignores exceptions" in run.one().detail


def test_a_hanging_rank_does_not_end_on_sigterm(run_faults, step_loop):
    """SigIgn shows it, and the supervisor has to send SIGKILL."""
    run = run_faults(
        [
            faults.hang(rank=1, ignore=["SIGTERM", "SIGINT"], when=when.line("step 1")),
            faults.signal("SIGKILL", rank=0, when=when.line("it hangs")),
        ],
        f"{UNTIL}until('{ENDED}')\nprint('it hangs', flush=True)\ntime.sleep(60)\n", step_loop, grace=0.2,
    )  # fmt: skip

    assert [result.status for result in run.results] == ["injected"] * 2
    assert "SIGTERM, SIGINT ignored (SigIgn)" in run.results[0].detail
    assert statuses(run) == {0: "SIGKILL (9)", 1: "SIGKILL (9)"}
    assert run.outcome.root_cause == 0


def test_a_hang_ends_after_for_with_the_old_handlers(run_faults):
    """``for_`` undoes it in the rank."""
    rank = f"""{UNTIL}
import signal
signal.signal(15, lambda *_: None)
print("ready", flush=True)
until('{HEALED}')
print("handler", signal.getsignal(15) not in (signal.SIG_IGN, signal.SIG_DFL), flush=True)
"""
    run = run_faults([faults.hang(["SIGTERM"], rank=0, for_=3.0, when=when.line("ready"))], rank)

    assert run.one().injected
    assert run.log(0).endswith("handler True\n")
    assert [record["fault"] for record in run.events("healed")] == [run.one().fault.id]


def test_a_fault_journalled_while_the_runtime_reads_is_injected(tmp_path, monkeypatch):
    """The signal arrives after its record was read as part of the claim, not as news."""
    plan = faults.plan([faults.exception("KeyError", "told", rank=0, when=when.after(0))])
    log = journal.Journal(tmp_path / "journal.jsonl")
    log.write("plan")
    told = environment(plan, [0], journal=log.path, job="job-1", environ={})
    runtime = Runtime(Part(told[VARIABLE], 0))
    log.write("tell", fault=plan.faults[0].id, rank=0, to=os.getpid())
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = signal.getsignal(control_signal())
    try:
        assert runtime.claim()
        with pytest.raises(KeyError, match="told"):
            signal.raise_signal(control_signal())
    finally:
        signal.signal(control_signal(), before)


def test_a_rank_that_does_not_answer_is_signalled_until_it_does(run_faults, monkeypatch):
    """However many signals had no effect."""
    send, sent = FakeJob.send_signal, []

    def swallowed(self, rank, number, *, group=False):
        sent.append(number)
        return len(sent) < 7 or send(self, rank, number, group=group)

    monkeypatch.setattr(FakeJob, "send_signal", swallowed)
    monkeypatch.setattr("derail.faults.engine.rank_channel.PAUSES", (0.01, 0.02))
    run = run_faults([faults.exit(7, rank=0, when=when.line("ready"))], WAITING)

    assert run.one().injected, run.one()
    assert len(run.events("tell")) == 1


def test_a_hang_without_an_end_ends_with_the_job(run_faults):
    """A hang that ignores no signal ends on SIGTERM like any other rank."""
    run = run_faults([faults.hang(rank=0)], QUIET, f"{UNTIL}until('{ENDED}')\nos._exit(1)\n")

    assert run.one().injected
    assert statuses(run) == {0: "SIGTERM (15)", 1: "exit 1"}
    assert run.log(0) == ""


WRITES = "import os; open(os.environ['ERROR_FILE'], 'w').write('{\"message\": {\"message\": \"x\"}}'); os._exit(1)"


def test_the_error_file_is_damaged_after_the_exit_and_before_it_is_read(run_faults, tmp_path):
    """The journal shows the order; the bytes on disk are the evidence."""
    run = run_faults([faults.error_file("truncated", rank=0)], WRITES)
    order = [record["event"] for record in run.records]

    assert run.one().injected
    assert (tmp_path / "error0.json").read_bytes() == b'{"message": {"'
    assert order == ["plan", "started", "exited", "start", "end", "finished"]


def test_an_error_file_that_was_not_written_cannot_be_truncated(run_faults):
    """The fault is not injected, and the result reports it."""
    run = run_faults([faults.error_file("truncated", rank=0)], QUIET)

    assert run.one().status == "not_reached"
    assert "wrote no error file" in run.one().detail


def test_overlapping_faults_compose(run_faults, step_loop):
    """Five faults at once: each has its own result."""
    plan = [
        faults.signal("SIGSTOP", rank=0, when=when.line("step 1"), for_=0.1),
        faults.signal("SIGWINCH", rank="all", when=when.line("step 2")),
        faults.hang(rank=1, ignore=["SIGTERM"], when=when.line("step 3")),
        faults.exit(5, rank=2, when=when.line("all are")),  # where they should be
    ]
    last = f"{step_loop}until('{ENDED}', 5)\nprint('all are', flush=True)\ntime.sleep(60)\n"
    run = run_faults(plan, step_loop, step_loop, last, grace=0.3)

    assert [(result.rank, result.status) for result in run.results] == [
        (0, "injected"), (0, "injected"), (1, "injected"), (2, "injected"), (1, "injected"), (2, "injected"),
    ]  # fmt: skip
    assert run.outcome.root_cause == 2


def test_an_injector_that_raises_is_errored_and_the_job_continues(run_faults, step_loop, monkeypatch):
    """The error is reported, and does not affect the job."""

    def throws(aim):
        raise KeyError(aim.rank)

    broken = replace(entries()["signal"], inject=throws)
    monkeypatch.setattr("derail.faults.engine.driver.entry", lambda name: broken)
    run = run_faults([faults.signal("SIGKILL", rank=0, when=when.line("step 2"))], step_loop)

    assert isinstance(run.one().result, Errored)
    assert run.one().detail.startswith("KeyError: 0 (test_driver.py:")
    assert statuses(run) == {0: "exit 0"}


def test_an_effect_that_never_shows_is_errored(run_faults, monkeypatch):
    """A fault that was not verified did not happen."""
    never = replace(entries()["signal"], inject=lambda aim: Soon(lambda: None, "the impossible", within=0.05))
    monkeypatch.setattr("derail.faults.engine.driver.entry", lambda name: never)
    run = run_faults([faults.signal("SIGKILL", rank=0, when=when.line("ready"))], WATCHED)

    assert (run.one().status, run.one().detail) == ("errored", Tells("the impossible", "0.05 s"))


def test_a_fault_impossible_on_this_machine_is_unavailable_and_not_tried(run_faults, step_loop, monkeypatch):
    """The reason comes from the entry."""
    poor = replace(
        entries()["signal"], inject=lambda aim: Injected("it was tried"), requires=Requires("", lambda: "no such luck")
    )
    monkeypatch.setattr("derail.faults.engine.driver.entry", lambda name: poor)
    run = run_faults([faults.signal("SIGKILL", rank=0)], step_loop)

    assert run.one().result == Unavailable("no such luck")
    assert run.events("start") == []


def test_a_driver_that_fails_reports_it_in_every_open_result(run_faults, step_loop, monkeypatch):
    """The launcher silently drops an observer that raises."""
    monkeypatch.setattr("derail.faults.engine.driver.Driver._due", lambda self, shot: 1 / 0)
    run = run_faults([faults.signal("SIGKILL", rank=0, when=when.line("step 2"))], step_loop)

    assert run.one().status == "errored"
    assert "ZeroDivisionError" in run.one().detail


def test_a_fault_that_cannot_be_journalled_is_not_injected(tmp_path, step_loop, monkeypatch):
    """Otherwise it would happen without a record."""
    driver = Driver(faults.plan([faults.signal("SIGKILL", rank=0, when=when.line("step 2"))]), journal=tmp_path / "j")
    spec = driver.prepare(spec_of(tmp_path, step_loop))
    monkeypatch.setattr(driver.journal, "path", tmp_path / "no" / "such" / "directory")
    outcome = FakeJob(spec, driver).run()

    assert outcome.succeeded
    assert "cannot write the journal" in driver.results()[0].detail


def test_a_driver_that_was_never_attached_claims_nothing(tmp_path):
    """Nothing is claimed of a job that was never started."""
    driver = Driver(faults.plan([faults.hang(rank=0)]), journal=tmp_path / "j")

    assert [(result.rank, result.result) for result in driver.results()] == [
        (None, NotReached("the job was never started"))
    ]


def test_every_start_has_its_end(run_faults, step_loop):
    """The plan is the first record of the journal."""
    run = run_faults(
        [faults.exit(3, rank=1, when=when.line("step 4")), faults.signal("SIGSTOP", rank=0, for_=0.05)],
        step_loop,
        step_loop,
    )

    assert unfinished(run.records) == ()
    assert run.records[0]["event"] == "plan"
    assert [record["result"] for record in run.events("end")] == ["injected", "injected"]


def test_the_same_plan_does_the_same_each_time(tmp_path, step_loop):
    """The seed decides which rank "one" selects, and an additional fault does not change it."""

    def chosen(*given, name):
        driver = Driver(faults.plan(given, seed=11), journal=tmp_path / name)
        driver.attach(FakeJob(spec_of(tmp_path, *[step_loop] * 8), driver))
        return {result.fault.name: result.rank for result in driver.results()}

    one = faults.signal("SIGKILL", rank="one")
    alone = chosen(one, name="a")

    assert alone == chosen(one, name="b")
    assert chosen(faults.exit(1, rank="one"), one, name="c")["signal"] == alone["signal"]


def test_the_journal_is_one_json_object_per_line(run_faults, step_loop):
    """Any JSON reader can read it."""
    run = run_faults([faults.signal("SIGKILL", rank=0, when=when.line("step 2"))], step_loop)
    lines = run.driver.journal.path.read_text().splitlines()

    assert all(json.loads(line)["event"] for line in lines)
    assert {"plan", "started", "line", "start", "exited", "end", "finished"} == {
        json.loads(line)["event"] for line in lines
    }
    assert os.getpid() in {json.loads(line)["by"] for line in lines}
    assert signal.SIGKILL == 9
