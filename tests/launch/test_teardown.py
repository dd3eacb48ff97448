"""The teardown of a job: bounded for all ranks together, on every path, and never interrupted."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from pathlib import Path

import pytest

from derail.model.outcome import Cause
from derail.model.spec import Teardown

STUBBORN = (
    'trap "" TERM INT; echo ready > "$DIR/ready$RANK.tmp"; mv "$DIR/ready$RANK.tmp" "$DIR/ready$RANK"; '
    "while :; do sleep 0.05; done"
)
HANG = "exec sleep 600"


def ready(jobs, *ranks):
    """Wait until these ranks ignore SIGTERM."""
    for rank in ranks:
        assert jobs.file(f"ready{rank}") == "ready"


class Teller:
    """An observer that stores the signals that were sent and the deadlines that passed, and then calls a function."""

    wants_lines = False

    def __init__(self, then=lambda control, event: None):
        self.told = []
        self.then = then

    def attach(self, control):
        """Remember the job."""
        self.control = control

    def observe(self, event):
        """Keep it."""
        kind = type(event).__name__
        if kind == "SignalSent":
            self.told.append(event.signal)
        if kind == "DeadlinePassed":
            self.told.append(event.name)
        self.then(self.control, event)


def test_all_ranks_share_one_deadline(jobs):
    """Six ranks that ignore SIGTERM take one grace, not six."""
    teller = Teller()
    context = jobs.sh(*[STUBBORN] * 6, observers=[teller])
    ready(jobs, *range(6))
    began = time.monotonic()
    context.close(signal.SIGTERM, 1)
    assert time.monotonic() - began >= 1.0
    assert teller.told[:14] == [15] * 6 + ["look", "kill"] + [9] * 6
    fates = context.wait(0).ranks
    assert {r: (f.cause, f.signals_sent) for r, f in fates.items()} == dict.fromkeys(
        range(6), (Cause.STOPPED_BY_US, (15, 9))
    )


def test_the_grace_period_holds_when_a_peer_fails(jobs):
    """The same policy on the failure path, from the same configuration."""
    context = jobs.sh(
        STUBBORN, 'while [ ! -e "$DIR/ready0" ]; do sleep 0.01; done; exit 3', teardown=Teardown(grace=0.5)
    )
    result = context.wait(60)
    assert result.ranks[0].signals_sent == (15, 9)
    assert 0.5 <= result.teardown_seconds < 25  # the grace of this test's directory is 60, the usual one 30


def test_torchs_variable_sets_the_grace(jobs, monkeypatch):
    """TORCH_ELASTIC_SHUTDOWN_TIMEOUT is honoured on every path."""
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "0.5")
    context = jobs.sh(STUBBORN, 'while [ ! -e "$DIR/ready0" ]; do sleep 0.01; done; exit 3', teardown=None)
    assert context.teardown.grace == 0.5
    assert context.wait(60).ranks[0].signals_sent == (15, 9)


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_an_invalid_grace_period_is_refused_before_anything_starts(jobs, monkeypatch, text):
    """The error names a variable that is no number of seconds."""
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", text)
    with pytest.raises(ValueError, match="TORCH_ELASTIC_SHUTDOWN_TIMEOUT"):
        jobs.sh(HANG, teardown=None)


def test_the_signal_of_close_is_the_one_that_is_sent(jobs):
    """``close(SIGINT, 5)``, positionally, as torch's agent calls it."""
    context = jobs.sh(HANG, HANG)
    context.close(signal.SIGINT, 60)
    assert {status.signal for status in context.wait(0).exits.values()} <= {signal.SIGINT}


def test_close_works_from_any_thread_any_number_of_times(jobs):
    """Eight threads close one job; all return, and the ranks are gone."""
    context = jobs.sh(HANG, HANG)
    closers = [threading.Thread(target=context.close) for _ in range(8)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(60)
    assert [closer.is_alive() for closer in closers] == [False] * 8
    assert len(context.wait(0).stopped) == 2


def test_a_second_request_escalates(jobs):
    """While one thread waits out a long grace period, another one requests a stop without grace: SIGKILL at once."""
    asked = threading.Event()
    context = jobs.sh(
        STUBBORN, observers=[Teller(lambda _, event: type(event).__name__ == "SignalSent" and asked.set())]
    )
    ready(jobs, 0)
    patient = threading.Thread(target=context.close, args=(signal.SIGTERM, 600))
    patient.start()
    assert asked.wait(60)
    context.close(signal.SIGTERM, 0)
    patient.join(60)
    assert not patient.is_alive()
    assert context.wait(0).ranks[0].status.signal == signal.SIGKILL


def test_an_observer_may_close_its_own_job(jobs):
    """``close`` in the job's own thread requests the stop, and does not wait for itself."""

    class Closer:
        wants_lines = False

        def attach(self, control):
            pass

        def observe(self, event):
            if type(event).__name__ == "PhaseChanged" and event.phase == "running":
                holder["context"].close()

    holder = {}
    from derail import DefaultLogsSpecs, SubprocessContext

    context = holder["context"] = SubprocessContext(
        "job", "/bin/sleep", {0: ("600",)}, {0: {}}, DefaultLogsSpecs(), observers=[Closer()]
    )
    context.start()
    assert context.wait(60).ranks[0].status.signal == 15


def test_a_stopped_rank_is_ended(jobs):
    """SIGTERM stays pending in a rank that is stopped; SIGKILL ends it at the end of the grace."""
    context = jobs.sh(HANG)
    os.kill(context.pids()[0], signal.SIGSTOP)
    context.close(timeout=1)
    assert context.wait(0).ranks[0].status.signal in (15, 9)


def test_a_rank_that_has_ended_in_time_is_not_abandoned_by_a_late_thread(jobs):
    """It dies of SIGKILL at once, and the job's thread runs again only after the last deadline."""

    def look_too_late(control, event):
        if type(event).__name__ == "SignalSent" and event.signal == signal.SIGKILL:
            poller = select.poll()
            poller.register(control.pidfd(event.rank), select.POLLIN)
            assert poller.poll(60_000)
            while time.monotonic() <= event.at + 0.01:
                pass

    context = jobs.sh(HANG, teardown=Teardown(kill_wait=0.01), observers=[Teller(look_too_late)])
    context.close(timeout=0)
    fate = context.wait(0).ranks[0]
    assert (fate.cause, fate.status.signal) == (Cause.STOPPED_BY_US, signal.SIGKILL)


def test_the_place_of_a_hang_is_in_the_outcome(jobs):
    """Before SIGKILL the kernel is queried for the rank's state."""
    context = jobs.sh(STUBBORN)
    ready(jobs, 0)
    context.close(timeout=1)
    assert "state:" in context.wait(0).ranks[0].stack


HUNG = (
    "import signal, os, time\nfrom derail import record\n"
    "@record\ndef a_telling_name():\n"
    "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "    open(os.environ['DIR'] + '/ready0', 'w').write('ready\\n')\n"
    "    while True: time.sleep(600)\n"
    "a_telling_name()\n"
)


def test_a_hung_python_rank_writes_its_stack(jobs):
    """A rank under ``record`` names the function in which it hung, on its stderr and in its outcome."""
    context = jobs.py(HUNG)
    ready(jobs, 0)
    context.close(timeout=2)
    assert "a_telling_name" in context.wait(0).ranks[0].stack
    assert "a_telling_name" in Path(context.stderrs[0]).read_text()


def test_sigkill_waits_for_a_stack_that_is_being_written(jobs, monkeypatch):
    """A rank without CPU time at the request writes its stack when it runs again, and is killed then."""
    from derail.platform import hang

    real, late = hang.answers_still, []

    def answers_still(pid, *, deaf=()):
        if not late:  # nothing was written yet, whatever the time
            os.kill(pid, signal.SIGCONT)
        late.append(pid)
        return real(pid, deaf=deaf)

    def ask(pid):
        os.kill(pid, signal.SIGSTOP)
        return asked(pid)

    asked = hang.ask_for_python_stack
    monkeypatch.setattr(hang, "ask_for_python_stack", ask)
    monkeypatch.setattr(hang, "answers_still", answers_still)

    context = jobs.py(HUNG)
    ready(jobs, 0)
    context.close(timeout=1)
    assert late
    assert "a_telling_name" in context.wait(0).ranks[0].stack
