"""Jobs that restart their ranks after a failure: all attempts from the view of callers and observers."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from derail import DefaultLogsSpecs, SignalException, Std, start_processes
from derail.launch.restarts import Attempts
from derail.launch.signals import signals_to_handle
from derail.model.events import Exited, Finished, Restarted, Started
from derail.model.spec import Teardown

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
FAILS_TWICE = "test $ATTEMPT -ge 2 || exit 7"


class Recorder:
    """An observer that stores its events, and may call a function when it is attached."""

    wants_lines = False

    def __init__(self, when_attached=lambda control: None) -> None:
        self.attached = 0
        self.events = []
        self._when_attached = when_attached

    def attach(self, control) -> None:
        self.attached += 1
        self.control = control
        self._when_attached(control)

    def observe(self, event) -> None:
        self.events.append(event)

    def told(self) -> list[str]:
        """Starts, exits, restarts and the end, one word each."""
        words = {Started: "started", Exited: "exited", Restarted: "restarted", Finished: "finished"}
        return [words[type(event)] for event in self.events if type(event) in words]


@pytest.fixture
def attempts(tmp_path: Path):
    """Return a function that starts a job of one rank: a shell script with ATTEMPT and DIR in its environment."""
    made: list[Attempts] = []
    before = {number: signal.getsignal(number) for number in HANDLED}

    def make(script: str, *observers, restarts: int, before_start=lambda number: None) -> Attempts:
        specs = DefaultLogsSpecs(str(tmp_path / "logs"), redirects=Std.ALL)

        def start(number, relayed):
            before_start(number)
            env = {"ATTEMPT": str(number), "TORCHELASTIC_RESTART_COUNT": str(number), "DIR": str(tmp_path)}
            return start_processes(
                "job", "/bin/sh", {0: ("-c", script)}, {0: env}, specs, observers=relayed, teardown=Teardown(grace=60),
            )  # fmt: skip

        job = Attempts(start, restarts=restarts, observers=observers, ending=signals_to_handle())
        made.append(job)
        job.start()
        return job

    yield make
    for job in made:
        job.close()
    assert {number: signal.getsignal(number) for number in HANDLED} == before


def test_ranks_are_started_again_until_they_succeed(attempts) -> None:
    """The result is that of the last attempt; observers get one job."""
    recorder = Recorder()
    job = attempts(FAILS_TWICE, recorder, restarts=5)
    result = job.wait(60)

    assert (result.is_failed(), result.exit_code) == (False, 0)
    assert recorder.attached == 1
    assert recorder.told() == [*["started", "exited", "restarted"] * 2, "started", "exited", "finished"]
    assert [(e.number, e.restarts) for e in recorder.events if isinstance(e, Restarted)] == [(1, 5), (2, 5)]
    assert Path(job.stdouts[0]).parts[-3:-1] == ("attempt_2", "0")


def test_after_the_last_restart_the_failure_stands(attempts) -> None:
    """There are as many attempts as allowed, and no more."""
    recorder = Recorder()
    result = attempts("exit 7", recorder, restarts=2).wait(60)

    assert (result.exit_code, [failure.exitcode for failure in result.failures.values()]) == (7, [7])
    assert recorder.told().count("started") == 3
    assert recorder.told()[-1] == "finished"
    assert recorder.told().count("finished") == 1


def test_a_job_without_a_failure_is_not_started_again(attempts) -> None:
    """Restarts are for failures."""
    recorder = Recorder()
    assert attempts("exit 0", recorder, restarts=3).wait(60).exit_code == 0
    assert recorder.told() == ["started", "exited", "finished"]


@pytest.mark.parametrize("end", [Attempts.close, lambda job: job.stop("enough", grace=0)])
def test_a_job_that_is_asked_to_end_is_not_started_again(attempts, end) -> None:
    """By ``close`` or by ``stop``: its ranks end by that, and are not restarted."""
    recorder = Recorder()
    job = attempts("exec sleep 600", recorder, restarts=3)
    end(job)
    result = job.wait(60)

    assert list(result.stopped) == [0]
    assert recorder.told() == ["started", "exited", "finished"]


def test_a_delayed_action_runs_in_a_later_attempt(attempts, wait_until, tmp_path: Path) -> None:
    """A delayed action does not end with the attempt in which it was requested."""
    seen = []

    def begin(control) -> None:
        control.call_later(0.5, lambda: seen.append(control.pid(0)))
        cancelled = control.call_later(0.5, lambda: seen.append("cancelled"))
        control.call_later(0.0, cancelled)

    recorder = Recorder(begin)
    job = attempts('test $ATTEMPT -ge 1 || exit 7; echo $$ > "$DIR/pid"; exec sleep 600', recorder, restarts=1)
    assert job.wait(0.0) is None or job.wait(0.0) is None
    wait_until(lambda: (job.wait(0.0), seen)[1])

    assert seen == [int((tmp_path / "pid").read_text())]


def test_a_signal_between_two_attempts_ends_the_job(attempts) -> None:
    """It raises in the main thread as at any other time; ``close`` then reports the end of the job to observers."""
    recorder = Recorder()

    def interrupt(number: int) -> None:
        if number == 1:
            signal.raise_signal(signal.SIGTERM)

    job = attempts("exit 7", recorder, restarts=3, before_start=interrupt)
    with pytest.raises(SignalException) as caught:
        job.wait(60)
    job.close(caught.value.sigval)

    assert recorder.told() == ["started", "exited", "finished"]
    assert job.wait(0).exit_code == 7


def test_an_attempt_that_cannot_be_started_ends_the_job(attempts) -> None:
    """With the error of the start; observers have got the end of the previous attempt."""
    recorder = Recorder()

    def refuse(number: int) -> None:
        if number == 1:
            raise OSError("no process can be started")

    job = attempts("exit 7", recorder, restarts=3, before_start=refuse)
    with pytest.raises(OSError, match="no process can be started"):
        job.wait(60)

    assert recorder.told() == ["started", "exited", "finished"]


def test_an_observer_that_raises_does_not_affect_the_others(attempts) -> None:
    """It gets no more events, in no attempt."""

    class Raising(Recorder):
        def observe(self, event) -> None:
            super().observe(event)
            raise ValueError("not mine")

    raising, recorder = Raising(), Recorder()
    attempts(FAILS_TWICE, raising, recorder, restarts=2).wait(60)

    assert len(raising.events) == 1
    assert recorder.told().count("started") == 3


def test_control_belongs_to_the_running_attempt(attempts, wait_until) -> None:
    """Process, files and signals are those of the new ranks."""
    recorder = Recorder()
    job = attempts("test $ATTEMPT -ge 1 || exit 7; exec sleep 600", recorder, restarts=1)
    wait_until(lambda: (job.wait(0.0), recorder.told().count("started") == 2)[1])
    control = recorder.control

    assert control.pid(0) == job.pids()[0]
    assert control.log_file(0, "stdout") == Path(job.stdouts[0])
    assert (control.ranks, control.is_alive(0)) == ((0,), True)
    assert os.path.samefile(f"/proc/{control.pid(0)}/exe", f"/proc/{job.pids()[0]}/exe") or sys.platform != "linux"
