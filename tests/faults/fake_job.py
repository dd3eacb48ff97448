"""A job of real processes for the driver, without derail's launcher: the smallest honest ``JobControl``.

It follows the contract of ``model.events``: an exit is seen and told before it is reaped, lines are told whole, and all
happens in one thread. When a rank fails the others are stopped: SIGTERM, then SIGKILL. A rank can wait until its lines
have been told: its file ``TOLD`` has a byte for each.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

from derail.model.events import Exited, Finished, LineSeen, SignalSent, Started
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, JobOutcome, RankOutcome
from derail.model.spec import Command, JobSpec, RankSpec, Streams

DEADLINE = 120.0
SEARCH_PATH = os.environ.get("PATH", "/usr/bin:/bin")


def spec_of(tmp_path: Path, *commands, env=None, python=sys.executable) -> JobSpec:
    """A job whose ranks run the given argv, or Python source if it is a string."""
    ranks = []
    for rank, run in enumerate(commands):
        argv, told = run, tmp_path / f"told{rank}"
        told.write_bytes(b"")
        if isinstance(run, str):
            script = tmp_path / f"rank{rank}.py"
            script.write_text(run)
            argv = (python, "-u", str(script))
        ranks.append(
            RankSpec(
                rank,
                Command(tuple(map(str, argv))),
                {
                    "PATH": SEARCH_PATH,
                    "RANK": str(rank),
                    "ERROR_FILE": str(tmp_path / f"error{rank}.json"),
                    "JOURNAL": str(tmp_path / "journal.jsonl"),
                    "TOLD": str(told),
                    **(env or {}),
                },
                Streams(tmp_path / f"out{rank}.log", tmp_path / f"err{rank}.log"),
                error_file=tmp_path / f"error{rank}.json",
            )
        )
    return JobSpec("fake", "job-1", tuple(ranks))


class FakeJob:
    """Runs a job with one observer, until it is over or ``given_up`` says that nobody waits for it any longer."""

    def __init__(self, spec: JobSpec, observer, *, grace: float = 10.0, given_up=lambda: False) -> None:
        self.spec = spec
        self.observer = observer
        self.grace = grace
        self.given_up = given_up
        self.processes = {}
        self.pidfds = {}
        self.status = {}
        self.ours = {}
        self.timers = []
        self.events = []
        self.seen = {}
        self.stopping = False

    # JobControl
    @property
    def ranks(self):
        """The ranks of the job."""
        return tuple(rank.rank for rank in self.spec.ranks)

    def pid(self, rank):
        """Process of a rank; None before its start."""
        return self.processes[rank].pid if rank in self.processes else None

    def pidfd(self, rank):
        """Descriptor of the process of a rank."""
        return self.pidfds.get(rank)

    def is_alive(self, rank):
        """Asked of the kernel."""
        return rank in self.processes and self._peek(rank) is None

    def send_signal(self, rank, number, *, group=False):
        """To a rank or its group."""
        if not self.is_alive(rank):
            return False
        (os.killpg if group else os.kill)(self.processes[rank].pid, number)  # noqa: TID251
        return True

    def error_file(self, rank):
        """As the spec says."""
        return self.spec.ranks[rank].error_file

    def log_file(self, rank, stream):
        """As the spec says."""
        return getattr(self.spec.ranks[rank].streams, stream)

    def call_later(self, delay, action):
        """In the one thread there is."""
        timer = [time.monotonic() + delay, action]
        self.timers.append(timer)
        return lambda: timer in self.timers and self.timers.remove(timer)

    def post(self, action):
        """As soon as possible."""
        self.call_later(0.0, action)

    # Running
    def run(self) -> JobOutcome:
        """Run the job to its end."""
        began = time.monotonic()
        self.observer.attach(self)
        try:
            with selectors.DefaultSelector() as selector:
                for rank in self.spec.ranks:
                    self._start(rank, selector)
                while len(self.status) < len(self.processes) and not self.given_up():
                    assert time.monotonic() - began < DEADLINE, self.events
                    self._once(selector)
            return self._finish(began)
        finally:
            for rank, process in self.processes.items():
                process.kill()
                process.wait()
                os.close(self.pidfds[rank])

    def _start(self, rank: RankSpec, selector) -> None:
        out, err = rank.streams.stdout.open("ab"), rank.streams.stderr.open("ab")
        with out, err:
            process = subprocess.Popen(
                rank.run.argv,
                env=dict(rank.env),
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes[rank.rank] = process
        self.pidfds[rank.rank] = os.pidfd_open(process.pid)
        selector.register(self.pidfds[rank.rank], selectors.EVENT_READ, rank.rank)
        self._tell(Started(rank.rank, process.pid, time.monotonic()))

    def _once(self, selector) -> None:
        ready = selector.select(0.005)
        for rank in self.processes:
            self._tell_lines(rank)
        for key, _ in ready:
            self._exited(key.data, selector)
        now = time.monotonic()
        for timer in [timer for timer in self.timers if timer[0] <= now]:
            self.timers.remove(timer)
            timer[1]()

    def _exited(self, rank, selector) -> None:
        status = self._peek(rank)
        if status is None or rank in self.status:
            return
        selector.unregister(self.pidfds[rank])
        self._tell_lines(rank)
        self.status[rank] = status
        self._tell(Exited(rank, self.processes[rank].pid, status, time.monotonic()))
        if not status.ok and not self.stopping:
            self.stopping = True
            self._stop(signal.SIGTERM)
            self.call_later(self.grace, lambda: self._stop(signal.SIGKILL))

    def _stop(self, number) -> None:
        for rank in self.ranks:
            if rank in self.processes and rank not in self.status and self.send_signal(rank, number, group=True):
                self.ours.setdefault(rank, []).append(int(number))
                self._tell(SignalSent(rank, int(number), time.monotonic()))

    def _finish(self, began) -> JobOutcome:
        order = list(self.status)
        failed = [rank for rank in order if not self.status[rank].ok and rank not in self.ours]
        ranks = {
            rank: RankOutcome(
                rank, self.processes[rank].pid, status,
                Cause.STOPPED_BY_US if rank in self.ours else Cause.SELF,
                exit_order=order.index(rank), signals_sent=tuple(self.ours.get(rank, ())), succeeded=status.ok,
            )
            for rank, status in sorted(self.status.items())
        }  # fmt: skip
        outcome = JobOutcome(
            ranks=ranks, root_cause=failed[0] if failed else None, started_at=began, ended_at=time.monotonic()
        )
        self._tell(Finished(outcome, time.monotonic()))
        return outcome

    def _peek(self, rank):
        found = os.waitid(os.P_PID, self.processes[rank].pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if found is None else ExitStatus.from_waitid(found)

    def _tell_lines(self, rank) -> None:
        for stream in ("stdout", "stderr"):
            data = self.log_file(rank, stream).read_bytes()
            done = self.seen.get((rank, stream), 0)
            whole = data[done : data.rfind(b"\n") + 1]
            self.seen[rank, stream] = done + len(whole)
            lines = whole.decode(errors="replace").splitlines()
            for line in lines if self.observer.wants_lines else ():
                self._tell(LineSeen(rank, stream, line, time.monotonic()))
            if lines and stream == "stdout":
                with open(self.spec.ranks[rank].env["TOLD"], "ab") as told:
                    told.write(bytes(len(lines)))

    def _tell(self, event) -> None:
        self.events.append(event)
        self.observer.observe(event)


class IdleJob(FakeJob):
    """A job that is not run: each of its ranks is one process, which is not the job's own.

    Args:
        pid: the process; by default this one.
        error_file: that of each rank.

    Attributes:
        sent: the signals that were to be sent.
        later: the actions that were to be run later.
    """

    def __init__(self, pid: int | None = None, *, error_file: Path | None = None) -> None:
        ranks = (RankSpec(rank, Command(("/bin/true",)), {}, Streams(), error_file=error_file) for rank in range(2))
        super().__init__(JobSpec("idle", "job-0", tuple(ranks)), None)
        self._pid = os.getpid() if pid is None else pid
        self.sent = []
        self.later = []

    def pid(self, rank):
        """The process, whatever the rank."""
        return self._pid

    def send_signal(self, rank, number, *, group=False):
        """Note the signal; it is not sent."""
        self.sent.append(number)
        return True

    def call_later(self, delay, action):
        """Note the action; it is not run."""
        self.later.append(action)
        return lambda: action in self.later and self.later.remove(action)
