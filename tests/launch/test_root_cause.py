"""The first rank that failed by itself is the root cause, however late, quiet or victim-like the others are."""

from __future__ import annotations

import json
import os
import select

from derail import ChildFailedError

# Ends when rank 0, whose pid is in a file, is dead (not just about to die).
VICTIM = """
import os, select, sys, time, json
path = os.path.join(os.environ["DIR"], "culprit")
while not (os.path.exists(path) and open(path).read().endswith("\\n")):
    time.sleep(0.005)
fd = os.pidfd_open(int(open(path).read()))
poller = select.poll(); poller.register(fd, select.POLLIN); poller.poll()
{then}
"""
# Ends when all ranks have been started: one that ends before it is watched has no place in the order.
CULPRIT = 'while [ ! -e "$DIR/go" ]; do sleep 0.01; done; echo $$ > "$DIR/tmp"; mv "$DIR/tmp" "$DIR/culprit"; {then}'
WRITE_ERROR_FILE = """
stamp = str({stamp})
with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w") as file:
    extra = {{"py_callstack": "victim", "timestamp": stamp}}
    json.dump({{"message": {{"message": "victim", "extraInfo": extra}}}}, file)
os._exit(1)
"""


class Pause:
    """An observer that blocks the job's thread until all ranks are dead, so that their exits are noticed together."""

    wants_lines = False

    def __init__(self, directory):
        self.go = directory / "go"

    def attach(self, control):
        """Remember the job."""
        self.control = control

    def observe(self, event):
        """Wait for the end of every rank before the first turn of the loop."""
        if type(event).__name__ == "PhaseChanged" and event.phase == "running":
            self.go.touch()
            for rank in self.control.ranks:
                poller = select.poll()
                poller.register(self.control.pidfd(rank), select.POLLIN)
                assert poller.poll(60_000)


def culprit_and_victim(jobs, culprit, victim, **beyond):
    """Make rank 0 end first, and rank 1 when rank 0 is dead."""
    return jobs.start(
        "/usr/bin/env",
        2,
        args={
            0: ("sh", "-c", CULPRIT.format(then=culprit)),
            1: (os.sys.executable, "-c", VICTIM.format(then=victim)),
        },
        **beyond,
    ).wait(60)


def test_a_killed_rank_is_blamed_and_not_the_victim_that_wrote_an_error_file(jobs):
    """SIGKILL leaves no error file; the rank that failed because of it does, and is still not the root cause."""
    result = culprit_and_victim(
        jobs, "kill -9 $$", WRITE_ERROR_FILE.format(stamp="int(time.time())"), observers=[Pause(jobs.directory)]
    )
    assert (result.root_cause, list(result.failures)) == (0, [0, 1])
    assert ChildFailedError("job", result.failures).get_first_failure()[0] == 0


def test_a_file_that_claims_an_earlier_time_does_not_take_the_blame(jobs):
    """The timestamp in a file is shown, and has no influence."""
    result = culprit_and_victim(jobs, "exit 3", WRITE_ERROR_FILE.format(stamp="1"), observers=[Pause(jobs.directory)])
    assert (result.root_cause, list(result.failures)) == (0, [0, 1])
    assert result.failures[1].timestamp == 1
    assert result.root_cause_rivals == ()


def test_exits_within_one_turn_keep_their_order(jobs):
    """Two ranks that are found dead together are reported in the order in which they died."""
    result = culprit_and_victim(jobs, "exit 3", "os._exit(4)", observers=[Pause(jobs.directory)])
    assert {rank: failure.exitcode for rank, failure in result.failures.items()} == {0: 3, 1: 4}
    assert list(result.failures) == [0, 1]
    assert result.stopped == ()


def test_the_order_does_not_follow_the_rank_numbers(jobs):
    """The same with the higher rank dying first."""
    context = jobs.start(
        "/usr/bin/env",
        2,
        args={
            1: ("sh", "-c", CULPRIT.format(then="exit 3")),
            0: (os.sys.executable, "-c", VICTIM.format(then="os._exit(4)")),
        },
        observers=[Pause(jobs.directory)],
    )
    result = context.wait(60)
    assert (result.root_cause, list(result.failures)) == (1, [1, 0])


def test_ranks_that_we_stopped_are_not_among_the_failures(jobs):
    """Stopped ranks are listed separately: which, and by which signal."""
    result = jobs.sh("exit 3", "exec sleep 600", "trap 'exit 7' TERM; while :; do sleep 0.01; done").wait(60)
    assert list(result.failures) == [0]
    assert {rank: result.ranks[rank].signals_sent for rank in result.stopped} == {1: (15,), 2: (15,)}
    assert result.ranks[1].status.signal == 15


def test_a_success_before_the_failure_stays_a_success(jobs, pid_gone):
    """A rank that had finished is neither failed nor stopped."""
    context = jobs.sh("exit 0", 'while [ ! -e "$DIR/go" ]; do sleep 0.01; done; exit 3')
    assert pid_gone(context.pids()[0])
    (jobs.directory / "go").touch()
    result = context.wait(60)
    assert (list(result.failures), list(result.stopped), list(result.return_values)) == ([1], [], [0])


def test_every_rank_that_failed_by_itself_is_reported(jobs):
    """Several failures are several failures."""
    result = jobs.sh("exit 3", "exit 4", "kill -SEGV $$", observers=[Pause(jobs.directory)]).wait(60)
    assert sorted((r, f.exitcode) for r, f in result.failures.items()) == [(0, 3), (1, 4), (2, -11)]


def test_the_launchers_exit_code_is_that_of_the_root_cause(jobs):
    """7 stays 7, SIGKILL becomes 137, and a stop without a failure is no success."""
    assert jobs.sh("exit 7", "exec sleep 600").wait(60).exit_code == 7
    assert jobs.sh("kill -9 $$", "exec sleep 600").wait(60).exit_code == 137
    context = jobs.sh("exec sleep 600")
    context.close()
    assert context.wait(0).exit_code == 128 + 15


def test_a_rank_without_an_error_file_still_has_a_reason(jobs):
    """The exit and the last lines of stderr are in the failure's text."""
    result = jobs.sh("echo first >&2; echo 'CUDA out of memory' >&2; exit 9").wait(60)
    text = str(ChildFailedError("job", result.failures))
    assert "CUDA out of memory" in text
    assert "9" in result.failures[0].message


def test_a_stale_error_file_is_not_evidence(jobs, tmp_path):
    """A record of an earlier attempt is not read for this one."""
    from derail import LogsDest, LogsSpecs

    old = tmp_path / "error.json"
    old.write_text(json.dumps({"message": "from yesterday", "timestamp": 1}))

    class Fixed(LogsSpecs):
        root_log_dir = str(tmp_path)

        def reify(self, envs):
            return LogsDest(stdouts={0: ""}, stderrs={0: ""}, error_files={0: str(old)})

    failure = jobs.sh("exit 5", specs=Fixed()).wait(60).failures[0]
    assert "yesterday" not in str(failure.message)
    assert (failure.exitcode, old.exists()) == (5, True)


def test_an_error_file_of_another_process_that_is_older_than_the_job_is_not_evidence(jobs):
    """A process that put it there after the start (cp -p, a restored directory) did not write it for this rank.

    A time of long ago proves nothing: a rank can set it. Without a process in it, the file is the rank's.
    """
    other, own = (json.dumps({"message": {"message": "yesterday", "extraInfo": extra}}) for extra in ({"pid": 1}, {}))
    old = "> $TORCHELASTIC_ERROR_FILE; touch -d '1 hour ago' $TORCHELASTIC_ERROR_FILE"
    failures = jobs.sh(
        f"echo '{other}' {old}; exit 5",
        f"echo '{own}' {old}; exit 6",
        observers=[Pause(jobs.directory)],
    ).wait(60).failures  # fmt: skip
    assert "yesterday" not in str(failures[0].message)
    assert failures[0].error_file_problem == "left by an earlier attempt"
    assert failures[1].message["message"] == "yesterday"


def test_a_rank_that_answers_our_signal_at_once_was_stopped(jobs, monkeypatch):
    """However fast its exit is, it came after our signal, and is no independent failure."""
    from derail.spawn.child_handle import Child

    send = Child.signal

    def send_and_wait(self, number, *, group=False):
        sent = send(self, number, group=group)
        if group and number == 15:
            poller = select.poll()
            poller.register(self.exit_fd, select.POLLIN)
            assert poller.poll(60_000)
        return sent

    monkeypatch.setattr(Child, "signal", send_and_wait)
    result = jobs.sh(
        'while [ ! -e "$DIR/there" ]; do sleep 0.01; done; exit 3',
        "trap 'exit 4' TERM; touch \"$DIR/there\"; while :; do sleep 0.01; done",
    ).wait(60)
    assert (list(result.failures), {rank: result.ranks[rank].signals_sent for rank in result.stopped}) == (
        [0],
        {1: (15,)},
    )
    assert result.ranks[1].status.code == 4
