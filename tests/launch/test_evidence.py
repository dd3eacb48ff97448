"""Evidence counts in the order in which the kernel shows it, and an unknown order is marked as such."""

from __future__ import annotations

import json
import os
import select
import signal
import threading

import pytest

from derail import ChildFailedError, DefaultLogsSpecs, start_processes
from derail.model.spec import Teardown
from derail.platform.exits import NO_PIDFD_ENV, is_readable
from derail.platform.inotify import NO_INOTIFY_ENV
from derail.spawn.zygote.client import ServedProcess
from derail.supervise import ranks
from program_files import program_text
from wording import Tells

# Records an error as ``record`` does, reports that, and carries out the next line of stdin.
RANK = program_text("launch/recorded_steps")
LINGERS = RANK + "wait_for('go'); recorded('the cause'); step('recorded'); time.sleep(600)"
VICTIM = RANK + "wait_for('fail'); os._exit(4)"
FALLBACKS = pytest.mark.parametrize("missing", ["", NO_INOTIFY_ENV, NO_PIDFD_ENV, f"{NO_INOTIFY_ENV} {NO_PIDFD_ENV}"])


def step(jobs, word):
    """Let a rank continue."""
    (jobs.directory / word).touch()


def reached(jobs, word, wait_until):
    """Wait until a rank has reached a point."""
    wait_until((jobs.directory / word).exists, what=f"{word} is there")


def turn(context):
    """Have the launcher poll, so that the next event is in a separate turn."""
    context.wait(0)


@FALLBACKS
def test_the_rank_that_recorded_first_is_blamed_however_slowly_it_exits(jobs, wait_until, monkeypatch, missing):
    """Its victim ends first; the record before our signal counts, with inotify and without."""
    for name in missing.split():
        monkeypatch.setenv(name, "1")
    context = jobs.py(VICTIM, LINGERS)
    step(jobs, "go")
    reached(jobs, "recorded", wait_until)
    threading.Event().wait(0.05)  # the kernel's time of a file is coarse: the fallback compares it
    turn(context)
    step(jobs, "fail")
    result = context.wait(60)
    assert (result.root_cause, list(result.failures), result.stopped) == (1, [1, 0], ())
    assert result.root_cause_rivals == ()
    assert result.failures[1].message["message"] == "ValueError: the cause"
    assert "it had recorded its error" in str(ChildFailedError("job", result.failures))
    assert result.exit_code == 1


def test_ranks_that_all_recorded_are_all_failures(jobs, wait_until):
    """Of four ranks that raise at once, four are reported, though the first exit stops the others."""
    lingers = [LINGERS.replace("step('recorded')", f"step('recorded{rank}')") for rank in range(3)]
    context = jobs.py(VICTIM.replace("wait_for('fail')", "wait_for('fail'); recorded('late')"), *lingers)
    step(jobs, "go")
    for rank in range(3):
        reached(jobs, f"recorded{rank}", wait_until)
    step(jobs, "fail")
    result = context.wait(60)
    assert (sorted(result.failures), result.stopped) == ([0, 1, 2, 3], ())
    assert result.root_cause != 0


def test_an_answer_to_our_signal_is_no_failure_and_its_record_is_shown(jobs):
    """A rank that records an error when it is asked to end was stopped by us; its record is in the outcome."""
    answers = RANK + (
        "import signal\n"
        "def handler(*_): recorded('asked to end'); os._exit(1)\n"
        "signal.signal(signal.SIGTERM, handler); step('ready'); time.sleep(600)"
    )
    result = jobs.py(RANK + "wait_for('ready'); os._exit(4)", answers).wait(60)
    assert (list(result.failures), list(result.stopped)) == ([0], [1])
    assert result.ranks[1].recorded == "ValueError: asked to end"
    assert str(result.ranks[1]) == Tells("rank 1", "exit 1", "ValueError: asked to end")


def test_the_record_of_a_stopped_rank_is_one_harmless_line(jobs):
    """Control characters and line ends in an error file do not reach the terminal through the outcome."""
    answers = RANK + (
        "import signal\n"
        "def handler(*_): recorded('red \\x1b[31m\\nline'); os._exit(1)\n"
        "signal.signal(signal.SIGTERM, handler); step('ready'); time.sleep(600)"
    )
    result = jobs.py(RANK + "wait_for('ready'); os._exit(4)", answers).wait(60)
    said = str(result.ranks[1])
    assert said.isprintable(), said
    assert "red" in said
    assert "line" in said


def test_a_survived_record_is_no_failure(jobs):
    """A rank that records an error and then succeeds has succeeded."""
    result = jobs.py(RANK + "recorded('caught'); sys.exit(0)").wait(60)
    assert (result.failures, result.stopped, result.succeeded) == ({}, (), True)


def test_a_record_by_a_child_is_not_blamed_for_the_ranks_own_sigkill(jobs):
    """A child of the rank records an error, then the rank is killed: the kill is the failure, the record is shown."""
    source = RANK + (
        "import signal\n"
        "if os.fork() == 0:\n    recorded('of a child'); os._exit(0)\n"
        "os.wait(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    result = jobs.py(source).wait(60)
    failure = result.failures[0]
    assert (failure.exitcode, failure.error_file) == (-9, "<N/A>")
    assert failure.message == Tells("SIGKILL", failure.pid)
    assert "ValueError: of a child" in str(ChildFailedError("job", result.failures))


def test_a_record_by_a_child_does_not_make_a_stopped_rank_a_failure(jobs, wait_until):
    """Only a record by the rank itself is evidence against it."""
    source = RANK + (
        "if os.fork() == 0:\n    recorded('of a child'); os._exit(0)\nos.wait(); step('recorded'); time.sleep(600)"
    )
    context = jobs.py(VICTIM, source)
    reached(jobs, "recorded", wait_until)
    step(jobs, "fail")
    result = context.wait(60)
    assert (list(result.failures), list(result.stopped)) == ([0], [1])
    assert "of a child" in result.ranks[1].recorded


@pytest.mark.parametrize("how", ["written", "renamed"])
def test_the_error_file_of_another_writer_counts_when_it_is_complete(jobs, wait_until, how):
    """A file that is created, and completed later, is evidence from its completion, as torch writes it or by rename."""
    document = json.dumps({"message": {"message": "slow", "extraInfo": {"py_callstack": "x", "timestamp": "1"}}})
    write = (
        f"path = os.environ['TORCHELASTIC_ERROR_FILE']\ntext = {document!r}\n"
        f"name = path if {how == 'written'} else path + '.part'\n"
        "file = open(name, 'w'); file.write(text[:9]); file.flush(); step('begun'); wait_for('on')\n"
        "file.write(text[9:]); file.close(); os.rename(name, path); step('recorded'); time.sleep(600)"
    )
    context = jobs.py(VICTIM, RANK + write)
    reached(jobs, "begun", wait_until)
    turn(context)
    step(jobs, "on")
    reached(jobs, "recorded", wait_until)
    step(jobs, "fail")
    result = context.wait(60)
    assert (result.root_cause, list(result.failures)) == (1, [1, 0])
    assert result.failures[1].message["message"] == "slow"


def test_garbage_in_an_error_file_is_no_evidence(jobs, wait_until):
    """A file that cannot be decoded proves no error: the rank counts as stopped."""
    write = "open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write('{'); step('recorded'); time.sleep(600)"
    context = jobs.py(VICTIM, RANK + write)
    reached(jobs, "recorded", wait_until)
    step(jobs, "fail")
    result = context.wait(60)
    assert (list(result.failures), list(result.stopped)) == ([0], [1])


def test_a_rank_that_changes_its_error_file_all_the_time_delays_no_other_rank(jobs, wait_until):
    """The launcher still detects the exit of another rank, and ends both."""
    storm = (
        "path = os.environ['TORCHELASTIC_ERROR_FILE']; step('recorded')\n"
        "while True:\n    open(path, 'w').close(); os.rename(path, path + '.old'); os.rename(path + '.old', path)"
    )
    context = jobs.py(VICTIM, *[RANK + storm] * 3)
    reached(jobs, "recorded", wait_until)
    step(jobs, "fail")
    result = context.wait(60)
    assert (result.root_cause, list(result.failures), sorted(result.stopped)) == (0, [0], [1, 2, 3])


class Pause:
    """An observer that blocks the job's thread until all ranks are dead, so that all events are in one turn."""

    wants_lines = False

    def __init__(self, directory):
        self.directory = directory

    def attach(self, control):
        """Remember the job."""
        self.control = control

    def observe(self, event):
        """Wait for the end of every rank before the first turn of the loop."""
        if type(event).__name__ == "PhaseChanged" and event.phase == "running":
            (self.directory / "go").touch()
            for rank in self.control.ranks:
                pid = self.control.pid(rank)
                fd = os.pidfd_open(pid)
                poller = select.poll()
                poller.register(fd, select.POLLIN)
                assert poller.poll(60_000)
                os.close(fd)


# Ends after the first word appears; prints the second when it is almost dead, and its parent is alone with it.
FIRST = RANK + "wait_for('go'); "
SECOND = RANK + (
    "import select\n"
    "wait_for('pid'); fd = os.pidfd_open(int(open(os.environ['DIR'] + '/pid').read()))\n"
    "poll = select.poll(); poll.register(fd, select.POLLIN); poll.poll(); "
)
SAY_PID = (
    "part = os.environ['DIR'] + '/p'; file = open(part, 'w'); file.write(str(os.getpid())); file.close(); "
    "os.rename(part, part + 'id'); "
)


@pytest.mark.parametrize(
    ("missing", "certain"),
    [("", True), (NO_INOTIFY_ENV, False), (NO_PIDFD_ENV, False), (f"{NO_INOTIFY_ENV} {NO_PIDFD_ENV}", False)],
)
def test_an_exit_and_a_record_of_one_turn_have_an_order_or_are_marked_as_rivals(jobs, monkeypatch, missing, certain):
    """Rank 1 is dead before rank 0 records: it is blamed, for certain with pidfd and inotify. Else either is, and the
    other is its rival: the age of the record at the start of the turn depends on the machine."""
    for name in missing.split():
        monkeypatch.setenv(name, "1")
    first = FIRST + SAY_PID + "os.kill(os.getpid(), 9)"
    second = SECOND + "recorded('peer is gone'); os._exit(1)"
    result = jobs.py(second, first, observers=[Pause(jobs.directory)]).wait(60)
    if certain:
        assert (result.root_cause, list(result.failures), result.root_cause_rivals) == (1, [1, 0], ())
    else:
        assert sorted((result.root_cause, *result.root_cause_rivals)) == sorted(result.failures) == [0, 1]
    assert ("uncertain" in str(ChildFailedError("job", result.failures))) is not certain


def test_a_record_before_an_exit_of_the_same_turn_is_first(jobs):
    """Rank 1 records, rank 0 then dies, rank 1 exits last: all are noticed at once, and rank 1 is blamed."""
    first = FIRST + "recorded('the cause'); step('recorded'); wait_for('dead'); os._exit(1)"
    second = RANK + "wait_for('recorded'); " + SAY_PID + "os.kill(os.getpid(), 9)"
    third = SECOND + "step('dead')"
    result = jobs.py(second, first, third, observers=[Pause(jobs.directory)]).wait(60)
    assert (result.root_cause, list(result.failures)) == (1, [1, 0])
    assert result.root_cause_rivals == ()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here shows that a process is torn down")
@pytest.mark.parametrize("peer", ["runs", "exits", "exits without a record"])
def test_a_killed_rank_is_blamed_though_its_peer_fails_of_the_lost_connection_before_its_end_is_seen(jobs, peer):
    """The kernel closes the files of a dying process before it announces its exit."""
    sees = program_text("launch/sees_peer_die")
    if peer != "runs":
        sees = sees.replace("time.sleep(600)", "os._exit(1)")
    if peer == "exits without a record":
        sees = sees.replace("ErrorHandler().record_exception", "print")
    context = jobs.py(sees, program_text("launch/dies_slowly"))
    result = context.wait(60)
    assert (result.root_cause, str(result.ranks[1].status)) == (1, "SIGKILL (9)")
    assert result.root_cause_rivals in ((0,), ())
    assert list(result.failures) == [1, 0]


def test_a_rank_whose_first_thread_has_ended_is_stopped_and_is_no_failure(jobs, wait_until):
    """The kernel shows it as exiting from then on, though it runs: our signal ends it."""
    runs_on = RANK + (
        "import ctypes, threading\n"
        "def run():\n"
        "    while open(f'/proc/{os.getpid()}/stat').read().rpartition(')')[2].split()[0] != 'Z': time.sleep(0.002)\n"
        "    step('recorded'); time.sleep(600)\n"
        "threading.Thread(target=run).start(); ctypes.CDLL(None).pthread_exit(None)"
    )
    context = jobs.py(runs_on, VICTIM)
    reached(jobs, "recorded", wait_until)
    step(jobs, "fail")
    result = context.wait(60)
    assert (list(result.failures), sorted(result.stopped)) == ([1], [0])


class HeldStart:
    """A start of rank 1 during which ranks end in a given order, before the launcher can watch it."""

    def __init__(self, patch, directory, *, ends_first):
        self.directory = directory
        self.ends_first = ends_first
        self.first = None
        self.start = ranks.start_rank
        self.begin = ranks.Ranks.start
        patch.setattr(ranks, "start_rank", self.start_rank)

        def begin_rank(job, spec, **more):
            if spec.rank == 1 and not ends_first:
                self.end_rank_0()  # before the launcher begins to start rank 1
            return self.begin(job, spec, **more)

        patch.setattr(ranks.Ranks, "start", begin_rank)

    def start_rank(self, spec, **more):
        """Have rank 1 end before its start returns, and rank 0 after it."""
        handle = self.start(spec, **more)
        if spec.rank == 0:
            self.first = handle
            return handle
        assert is_readable(handle.exit_fd, 60)
        if self.ends_first:
            self.end_rank_0()
        return handle

    def end_rank_0(self):
        """Let it end, and wait for its exit."""
        (self.directory / "fail").touch()
        assert is_readable(self.first.exit_fd, 60)


@pytest.mark.parametrize("ends_first", [True, False])
@FALLBACKS
def test_a_rank_that_ends_before_it_is_watched_is_put_first_unless_another_ended_before_its_start(
    jobs, monkeypatch, missing, ends_first
):
    """Rank 1 is dead when its start returns; rank 0 ended after that, or before rank 1 was started."""
    for name in missing.split():
        monkeypatch.setenv(name, "1")
    HeldStart(monkeypatch, jobs.directory, ends_first=ends_first)
    result = jobs.py(VICTIM, "import os; os._exit(3)").wait(60)
    assert result.root_cause == (1 if ends_first else 0)
    assert sorted(result.failures) == [0, 1]
    if ends_first:
        assert result.root_cause_rivals == (0,)
    else:
        assert (list(result.failures), result.root_cause_rivals) == ([0, 1], ())


SURVIVES = """
for number in range(9):
    data = json.dumps({"message": {"message": str(number), "extraInfo": {"py_callstack": "x" * (1 << 20)}}})
    file = open(os.environ["DIR"] + "/part", "w"); file.write(data); file.close()
    os.rename(file.name, os.environ["TORCHELASTIC_ERROR_FILE"])
    step(f"survived{number}"); wait_for(f"on{number}")
"""


def test_a_record_behind_many_has_the_place_of_its_announcement(jobs, wait_until):
    """Rank 1 has recorded 9 MiB, then the cause; rank 2 records after it, and is no rival for the root cause."""
    first = RANK + "import json" + SURVIVES + "recorded('the cause'); step('first'); time.sleep(600)"
    second = RANK + "wait_for('then'); recorded('later'); step('second'); time.sleep(600)"
    context = jobs.py(VICTIM, first, second)
    for number in range(9):
        reached(jobs, f"survived{number}", wait_until)
        turn(context)
        step(jobs, f"on{number}")
    reached(jobs, "first", wait_until)
    turn(context)
    step(jobs, "then")
    reached(jobs, "second", wait_until)
    turn(context)
    step(jobs, "fail")
    result = context.wait(60)
    assert (list(result.failures), result.root_cause_rivals) == ([1, 2, 0], ())
    assert result.failures[1].message["message"] == "ValueError: the cause"


def sleep_long():
    """A function that runs until it is ended."""
    threading.Event().wait(600)


@pytest.mark.parametrize("start_method", ["warm", "forkserver"])
@pytest.mark.parametrize("dead", [False, True])
def test_a_later_exit_never_overtakes_one_with_a_pending_status(tmp_path, pid_gone, start_method, dead):
    """The zygote is stopped or killed while rank 1, then rank 0 end: rank 1 is first, with its signal."""
    options = {"preload": ["json"]} if start_method == "warm" else {}
    job = start_processes(
        "job", sleep_long, {0: (), 1: ()}, {0: {}, 1: {}}, DefaultLogsSpecs(str(tmp_path)),
        start_method=start_method, teardown=Teardown(grace=5), **options,
    )  # fmt: skip
    pids = job.pids()
    with open(f"/proc/{pids[0]}/stat") as file:
        resident = int(file.read().rpartition(")")[2].split()[1])
    os.kill(resident, signal.SIGSTOP)
    try:
        watched = {rank: os.pidfd_open(pid) for rank, pid in pids.items()}
        for rank, number in ((1, signal.SIGKILL), (0, signal.SIGSEGV)):
            os.kill(pids[rank], number)
            poller = select.poll()
            poller.register(watched[rank], select.POLLIN)
            assert poller.poll(60_000)
            os.close(watched[rank])
        if dead:
            os.kill(resident, signal.SIGKILL)
    finally:
        if not dead:
            os.kill(resident, signal.SIGCONT)
    result = job.wait(60)
    assert (result.root_cause, result.failures[1].exitcode) == (1, -9)
    assert result.ranks[1].exit_order == 0


class StatusOnItsWay:
    """An observer that gives an order of events within one turn, and withholds the status of rank 2 until a signal was
    sent."""

    wants_lines = False

    def __init__(self, directory, patch):
        self.directory = directory
        self.signalled = False
        peek = ServedProcess.peek
        patch.setattr(ServedProcess, "peek", lambda rank: peek(rank) if rank.rank != 2 or self.signalled else None)

    def attach(self, control):
        """Remember the job."""
        self.control = control

    def observe(self, event):
        """Rank 0 writes garbage and dies, rank 1 records, rank 2 dies: all before the first turn of the loop."""
        if type(event).__name__ == "PhaseChanged" and event.phase == "running":
            (next(self.directory.rglob("0")) / "error.json").write_text("{")
            self.kill(0)
            pid = self.control.pid(1)
            record = {"message": {"message": "the cause", "extraInfo": {"pid": pid, "timestamp": "1"}}}
            (self.directory / "record").write_text(json.dumps(record))
            (self.directory / "record").rename(next(self.directory.rglob("1")) / "error.json")
            self.kill(2)
        self.signalled |= type(event).__name__ == "SignalSent"

    def kill(self, rank):
        """Kill a rank, and wait for its exit."""
        watched = os.pidfd_open(self.control.pid(rank))
        os.kill(self.control.pid(rank), signal.SIGKILL)
        poller = select.poll()
        poller.register(watched, select.POLLIN)
        assert poller.poll(60_000)
        os.close(watched)


@pytest.mark.parametrize("missing", ["", NO_INOTIFY_ENV])
def test_a_record_behind_an_exit_with_a_pending_status_is_no_answer_to_our_signal(tmp_path, monkeypatch, missing):
    """The job is stopped while the exit of rank 2 precedes the record of rank 1: that record is older than the signal.

    Without inotify, the order of a record and an exit of one turn is not known, and the result says so.
    """
    if missing:
        monkeypatch.setenv(missing, "1")
    job = start_processes(
        "job", sleep_long, {0: (), 1: (), 2: ()}, {0: {}, 1: {}, 2: {}}, DefaultLogsSpecs(str(tmp_path / "logs")),
        start_method="warm", preload=["json"], observers=[StatusOnItsWay(tmp_path, monkeypatch)],
        teardown=Teardown(grace=5),
    )  # fmt: skip
    result = job.wait(60)
    assert (sorted(result.failures), result.stopped) == ([0, 1, 2], ())
    assert result.root_cause == 0 or (missing and 0 in result.root_cause_rivals)
    assert "the cause" in str(result.failures[1].message)


def test_a_rank_with_a_missing_status_has_ended_and_delays_no_other_rank(tmp_path, monkeypatch):
    """Rank 0 is killed and its status does not arrive within ``kill_wait``: it is lost, and no rank is abandoned."""
    peek = ServedProcess.peek
    monkeypatch.setattr(ServedProcess, "peek", lambda rank: peek(rank) if rank.rank else None)
    job = start_processes(
        "job", sleep_long, {0: (), 1: (), 2: ()}, {0: {}, 1: {}, 2: {}}, DefaultLogsSpecs(str(tmp_path)),
        start_method="warm", preload=["json"], teardown=Teardown(grace=0, kill_wait=0.5),
    )  # fmt: skip
    watched = os.pidfd_open(job.pids()[0])
    os.kill(job.pids()[0], signal.SIGKILL)
    assert is_readable(watched, 60)
    os.close(watched)
    job.close(signal.SIGKILL)
    ranks_then = job.wait(60).ranks
    assert "exit status was unknown" in str(ranks_then[0].status)
    assert [ranks_then[rank].status.signal for rank in (1, 2)] == [signal.SIGKILL] * 2


def test_a_signal_while_the_jobs_thread_starts_raises_what_its_handler_raises(run_python):
    """SIGTERM inside ``Thread.start``, whichever thread gets it, is raised as such and leaves nothing behind."""
    source = program_text("launch/signalled_start")
    assert run_python(source).stdout.split("\n")[:2] == ["SignalException 1"] * 2
