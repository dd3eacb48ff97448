"""Main program of the sandbox: it starts an external supervisor, tracks and breaks its ranks, and counts leftovers.

``python -m derail.agents.external.sandbox_main`` reads an ``Order`` from stdin and writes a ``Seen`` to stdout. It is
the subreaper of all that it starts. If stdin ends before the answer, its reader is gone: it ends everything, and
itself.

The reasons are in docs/adr/sandbox-for-agents.md.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from derail.agents.external.messages import AgentEnd, Seen
from derail.agents.external.proc_inspection import Places, Worker, rank_of
from derail.agents.external.rank_tracker import RankTracker, workers_of
from derail.agents.external.standstill import doubted
from derail.agents.external.variables import handed_on
from derail.agents.invocation import rank_environment
from derail.diagnose.examine import examine
from derail.faults.engine.driver import Driver
from derail.faults.engine.prepare import environment, record_environment
from derail.faults.inrank.bootstrap import OWNER, RANK_VARIABLES
from derail.model.clock import SYSTEM_CLOCK
from derail.model.events import Finished
from derail.model.outcome import JobOutcome
from derail.model.spec import JOB_ENV
from derail.platform.leftovers import FoundProcess, end_processes, find_processes
from derail.platform.private_files import open_private
from derail.platform.processes import command_line
from derail.platform.strangers import become_subreaper, descendants, status_of_ended
from derail.spawn.process_exit import run_exit_functions
from derail.supervise.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.agents.external.messages import Invocation, Order
    from derail.diagnose.verdict import HangVerdict
    from derail.model.events import Stream
    from derail.model.outcome import Leftover
    from derail.platform.processes import ProcessInfo

LINGER = 1.0
"""Seconds after the exit of the last supervisor in which remaining processes may end without being counted."""
STUCK = 0.5
"""Seconds without progress after which a full pipe counts as unread."""
END_WAIT = 5.0
"""Seconds that processes have to disappear after their SIGKILL."""
LINGER_LOOK = 0.02
HANG_UP_SECONDS = 15
"""Seconds that this process has to end everything after the run is cancelled."""
NOT_OURS = frozenset(
    {*rank_environment(0, ranks=1, run_id="", master_port=0), *RANK_VARIABLES, "TORCHELASTIC_ERROR_FILE", OWNER}
)
"""Variables that make a process a rank of an outer job; supervisors start without them."""


class Sandbox:
    """One run of one supervisor, in the sandbox process."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.seen = Seen()
        self._loop = Loop(SYSTEM_CLOCK)
        self._driver = Driver(
            order.plan,
            journal=order.journal,
            run=order.run,
            agent=True,
            restarts=order.restarts,
            steps=order.steps,
            temporary=order.temporary,
        )
        self._ranks = RankTracker(
            order.ranks,
            order.job,
            loop=self._loop,
            driver=self._driver,
            clock=SYSTEM_CLOCK,
            places=Places(order.outputs, order.logs, order.copies, order.declared),
            worker=Worker(order.script, order.variables, order.port),
        )
        self._ranks.evidence = order.journal.parent
        self._unwanted = False
        self._pidfds: dict[int, int] = {}

    def run(self, stdin: int) -> Seen:
        """Run the supervisor to its end, and end its leftovers."""
        become_subreaper()
        self._loop.open()
        with ExitStack() as stack:
            if self.order.temporary is not None:
                stack.callback(shutil.rmtree, self.order.temporary, ignore_errors=True)
            stack.callback(self._loop.close)
            stack.callback(self._ranks.close)
            stack.callback(self._close)
            stack.callback(self._end_all)
            self._loop.add_reader(stdin, lambda: self._hang_up(stdin))
            meet = self._ranks.open(self.order.temporary)
            self._driver.attach(self._ranks)
            try:
                for node, invocation in enumerate(self.order.nodes):
                    self._start(node, invocation, meet)
            except OSError as error:
                self.seen.error = f"cannot start {self.order.name}: {error}"
            self._wait()
            self.seen.leftovers = () if self._unwanted else self._count()
            self._finish()
        return self.seen

    def _start(self, node: int, invocation: Invocation, meet: str) -> None:
        order = self.order
        outer = os.environ.get(JOB_ENV, "")
        mark = f"{outer}:{order.job}" if outer else order.job
        env = {**os.environ, **self._place(), **invocation.env, JOB_ENV: mark, "PYTHONUNBUFFERED": "1"}
        unset = {*NOT_OURS, order.variables.get("RANK")}
        env = {name: value for name, value in env.items() if name not in unset} | handed_on(order.variables)
        inside = environment(
            order.plan, range(order.ranks), journal=order.journal, job=order.job, environ=env, meet=meet
        )
        if order.rings is not None:
            inside |= record_environment(order.rings, {**env, **inside})
        self.seen.started_at = self.seen.started_at or SYSTEM_CLOCK.now()
        with open(open_private(order.outputs[node], os.O_WRONLY | os.O_APPEND), "ab") as output:
            process = subprocess.Popen(
                invocation.argv,
                env={**env, **inside},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.returncode = 0  # this class reaps it, not Popen
        pidfd = os.pidfd_open(process.pid)
        self._pidfds[process.pid] = pidfd
        self.seen.agents.append(AgentEnd(process.pid))
        self._loop.add_reader(pidfd, lambda: self._agent_ended(process.pid))
        self._ranks.agent_started(process.pid, pidfd, first=node == 0)
        self._tell_of_other(node, "agent_started", pid=process.pid)

    def _place(self) -> dict[str, str]:
        return {} if self.order.temporary is None else {"TMPDIR": os.fspath(self.order.temporary)}

    def _close(self) -> None:
        for pidfd in self._pidfds.values():
            os.close(pidfd)

    def _agent_ended(self, pid: int) -> None:
        end = next(end for end in self.seen.agents if end.pid == pid)
        if end.status is not None:
            return
        self._loop.remove_reader(self._pidfds[pid])
        self._ranks.see_ends()
        end.status = status_of_ended(pid, self._pidfds[pid])
        end.ended_at = SYSTEM_CLOCK.now()
        self._ranks.agent_ended(end.pid, end.status)
        self._tell_of_other(self.seen.agents.index(end), "agent_exited", pid=pid, status=str(end.status))

    def _tell_of_other(self, node: int, event: str, **fields: object) -> None:
        """Journal an event of a supervisor other than the first, which the driver journals."""
        if node > 0:
            with suppress(OSError):  # a full disk must not stop the run
                self._driver.journal.write(event, agent=f"agent {node}", **fields)

    def _hang_up(self, stdin: int) -> None:
        """Cancel the run: its requester is gone, or has closed stdin."""
        self._loop.remove_reader(stdin)
        self._unwanted = True
        signal.alarm(HANG_UP_SECONDS)  # its default action ends this process even if it is stuck

    def _wait(self) -> None:
        deadline = self.seen.started_at + self.order.timeout
        while not (self._unwanted or self.seen.error) and any(end.status is None for end in self.seen.agents):
            left = deadline - SYSTEM_CLOCK.now()
            if left <= 0:
                self.seen.timed_out = True
                self.seen.full = self._full_pipes()
                if self.order.rings is not None:
                    self.seen.hang = self._examine(self.order.rings)
                return
            self._loop.run_once(min(left, 1.0))
            self._reap()

    def _examine(self, rings: Path) -> HangVerdict:
        """Examine the ranks before they are ended, and return the verdict, which is in the journal as well."""
        lives = {life.rank: life for life in self._ranks.lives if life.rank >= 0}  # the last process of each rank
        ended = {rank: f"has ended ({life.status})" for rank, life in lives.items() if life.status is not None}
        verdict = examine(
            {rank: life.pid for rank, life in lives.items()},
            {rank: life.streams.get("stderr") for rank, life in lives.items()},
            rings,
            ended=ended,
        ).verdict
        with suppress(OSError):  # a full disk must not stop the run
            self._driver.journal.write("hang", **verdict.data())
        return verdict

    def _full_pipes(self) -> tuple[tuple[int, Stream], ...]:
        """Return the ranks' streams that are full, and still are a moment later without a write."""
        before = self._ranks.full_pipes()
        deadline = SYSTEM_CLOCK.now() + (STUCK if before else 0.0)
        while (left := deadline - SYSTEM_CLOCK.now()) > 0 and not self._unwanted:
            self._loop.run_once(left)
            self._reap()
        after = self._ranks.full_pipes() if before else {}
        return tuple(sorted(key for key, written in before.items() if after.get(key) == written))

    def _count(self) -> tuple[Leftover, ...]:
        """End and return the leftovers, after a moment in which they may end.

        Processes that hung together with their supervisor do not count, as derail ended them.
        """
        self.seen.ended_at = max((end.ended_at or 0.0 for end in self.seen.agents), default=0.0) or SYSTEM_CLOCK.now()
        if self.seen.timed_out:
            self.seen.ended_at = SYSTEM_CLOCK.now()
            return ()
        deadline = SYSTEM_CLOCK.now() + LINGER
        while self._left() and SYSTEM_CLOCK.now() < deadline and not self._unwanted:
            self._loop.run_once(LINGER_LOOK)
            self._reap()
        self._ranks.see_ends()
        left = self._left()
        if not left:
            return ()
        ranks = {life.pid: life.rank for life in self._ranks.lives}
        owners = {process.pid: self._rank_of(process, ranks) for process in left}
        self.seen.lives = [replace(life) for life in self._ranks.lives]  # their state before derail ends them
        swept = end_processes(
            left,
            deadline=SYSTEM_CLOCK.now() + END_WAIT,
            find_more=self._left,
        )
        found = [(process, True) for process in swept.ended] + [(process, False) for process in swept.surviving]
        return tuple(process.to_leftover(ended=ended, rank=owners.get(process.pid)) for process, ended in found)

    def _rank_of(self, process: FoundProcess, ranks: Mapping[int, int]) -> int | None:
        for pid in (process.pid, process.pgid, process.sid, process.ppid):
            if pid in ranks:
                return ranks[pid]
        return rank_of(process.pid, self.order.job)

    def _finish(self) -> None:
        if not self.seen.lives:
            self.seen.lives = [replace(life) for life in self._ranks.lives]
        outcome = JobOutcome(
            ranks={},
            root_cause=None,
            started_at=self.seen.started_at,
            ended_at=self.seen.ended_at,
            timed_out=self.seen.timed_out,
        )
        self._driver.observe(Finished(outcome, SYSTEM_CLOCK.now()))
        missed = self._ranks.standstill.missed
        self.seen.faults = tuple(doubted(result, missed) for result in self._driver.results())
        self.seen.lives = workers_of(self.seen.lives)
        self.seen.nameless = tuple(self._ranks.nameless.values())
        self.seen.hidden = self._ranks.hidden
        self.seen.asked_at = self._ranks.asked_at

    def _left(self) -> list[FoundProcess]:
        """Return what is left of the job: all processes below this one, and all with its mark, whatever started them.
        A daemon that starts ranks for the launcher (Slurm's slurmd) is no descendant of it, and neither are these
        ranks.
        """
        below = {process.pid: _found(process) for process in descendants(os.getpid()).values() if process.alive}
        return [*below.values(), *find_processes(self.order.job, (), exclude=below)]

    def _end_all(self) -> None:
        """SIGKILL all processes until none is left, after healing all faults, so that signals reach every process."""
        self._driver.heal()
        end_processes(
            self._left(),
            deadline=SYSTEM_CLOCK.now() + END_WAIT,
            find_more=self._left,
        )
        self._reap()

    def _reap(self) -> None:
        """Reap children that have ended, including adopted ones, after recording ranks and supervisors among them."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            self._ranks.see_ends()
            if ended.si_pid in self._pidfds:
                self._agent_ended(ended.si_pid)
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)


def _found(process: ProcessInfo) -> FoundProcess:
    return FoundProcess(
        pid=process.pid,
        started=process.started,
        command=command_line(process),
        state=process.state,
        sid=process.sid,
        pgid=process.pgid,
        ppid=process.ppid,
        by="session",
    )


def main() -> None:
    """Read the order, carry it out, and write the observations."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # stdin shows when to end; SIG_IGN would be inherited by supervisors
    length = int.from_bytes(_read(8), "big")
    order: Order = pickle.loads(_read(length))
    out = os.dup(1)
    os.dup2(2, 1)  # nothing else writes into the answer
    sandbox = Sandbox(order)
    try:
        seen = sandbox.run(0)
    except Exception as error:  # the waiting process must get the error
        import traceback

        traceback.print_exc()
        seen = sandbox.seen
        seen.error = f"the sandbox failed: {type(error).__name__}: {error}"
    try:
        with os.fdopen(out, "wb") as file:
            pickle.dump(seen, file)
    except BrokenPipeError:
        pass  # the reader is gone
    run_exit_functions()  # without waiting for threads
    sys.stderr.flush()
    os._exit(0)


def _read(many: int) -> bytes:
    data = b""
    while len(data) < many:
        more = os.read(0, many - len(data))
        if not more:
            os._exit(1)
        data += more
    return data


if __name__ == "__main__":
    main()
