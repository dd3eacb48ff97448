"""Ranks that another launcher places (``--derail-launcher``): one job of derail, whose only process is the launcher.

Of the ranks, derail knows what they say through their connections. A rank that has gone is noticed by the end of its
connection. Of ranks on this machine the kernel shows in which order they end, and, since Linux 6.15, how; there are
also stacks, logs and their last collectives. Ranks on other machines answer with stacks and collectives if they can. Of
others, the launcher's own report is read where it has a known form: launchers name the rank
whose end they noticed first, which need not be the first that ended.
"""

from __future__ import annotations

import os
import re
import select
import sys
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, cast

import pytest

from derail.agents.invocation import LocalJob, rank_environment
from derail.agents.launchers.mpirun import read_report
from derail.agents.native_job import default_teardown, start_job
from derail.diagnose.examine import RINGS, examine
from derail.diagnose.rings import decode
from derail.diagnose.stacks import parse_stack
from derail.diagnose.verdict import RankView
from derail.model.clock import SYSTEM_CLOCK
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, RankOutcome
from derail.platform.private_files import make_private
from derail.platform.strangers import status_of_ended
from derail.scenario.observe import tail
from derail.supervise.hang_report import Hang
from pytest_derail import integrations
from pytest_derail.options import launcher_host, records
from pytest_derail.ranks.pool.connection import LOOK, CarryingLine, Placement, RankMessages
from pytest_derail.ranks.pool.door import DOOR_ENV, Arrival, Door
from pytest_derail.ranks.time_limit import START_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from multiprocessing.connection import Connection
    from pathlib import Path

    from derail.agents.native_job import NativeJob
    from derail.diagnose.examine import Examination
    from derail.diagnose.verdict import HangVerdict
    from derail.scenario.model import JobResult
    from pytest_derail.protocol import Order
    from pytest_derail.ranks.marker import RanksMark
    from pytest_derail.ranks.notify import Bell

LAUNCHERS_OWN = frozenset({"MASTER_ADDR", "MASTER_PORT"})
"""Variables that ranks take from their environment unchanged; all others are the launcher's to set."""
_HYDRA = re.compile(r"PID (\d+) RUNNING AT .*\n.*EXIT CODE: (\d+)")
_SRUN = re.compile(r"task (\d+): (Killed|Segmentation fault|Exited with exit code (\d+))")
_SRUN_SIGNALS = {"Killed": 9, "Segmentation fault": 11}


class Deaths:
    """Ranks on this machine, in the order in which they end; none where the kernel does not show it.

    Args:
        pids: the process of each rank on this machine.
        stack: closes the descriptors.
    """

    def __init__(self, pids: Mapping[int, int], stack: ExitStack) -> None:
        self._epoll = stack.enter_context(select.epoll()) if hasattr(os, "pidfd_open") else None
        self._pids = pids
        self._pidfds: dict[int, int] = {}
        self._order: list[int] = []
        if self._epoll is None:
            return
        for rank, pid in pids.items():
            with suppress(OSError):  # it was reaped already, or there is no descriptor left
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                self._pidfds[rank] = fd
                self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def now(self) -> tuple[int, ...]:
        """Return the ranks that have ended by now, the first one first."""
        if self._epoll is not None:  # it lists descriptors in the order in which they became readable
            ranks = {fd: rank for rank, fd in self._pidfds.items()}
            self._order += [ranks[fd] for fd, _ in self._epoll.poll(0, max(1, len(ranks)))]
        return tuple(self._order)

    def status(self, rank: int) -> ExitStatus | None:
        """Return how a rank has ended; None if the kernel does not say it."""
        status = status_of_ended(self._pids[rank], self._pidfds[rank]) if rank in self._order else None
        return None if status is None or status.lost else status


class LaunchedJob:
    """Job of the launcher, with its ranks in the place of the launcher's own process."""

    def __init__(
        self,
        native: NativeJob,
        arrivals: Mapping[int, Arrival],
        lines: Sequence[CarryingLine],
        folder: Path,
        stack: ExitStack,
        *,
        rings: Path | None,
    ) -> None:
        self.rings = rings
        self._native = native
        self._arrivals = arrivals
        self._lines = lines
        self._deaths = Deaths(self.pids(), stack)
        self._early: tuple[int, ...] | None = None
        self._folder = folder
        self._stopped_at = float("inf")
        self._result: JobResult | None = None

    def pids(self) -> dict[int, int]:
        """Return the pid of each rank on this machine."""
        return {rank: each.pid for rank, each in self._arrivals.items() if each.is_here}

    @property
    def ranks(self) -> Collection[int]:
        """All ranks."""
        return self._arrivals.keys()

    def log(self, rank: int, stream: str) -> Path:
        """Return the file of a stream of a rank; it exists only for ranks on this machine."""
        return log_path(self._folder, rank, stream)

    def examine(self, *, ended: Mapping[int, str] | None = None, patience: float) -> Examination:
        """Examine the ranks as ``NativeJob.examine`` does; those on other machines by their answers.

        The job is stopped next, so other messages of these ranks do not count.
        """
        pids, over = self.pids(), ended or {}
        stderrs: dict[int, Path | None] = {rank: self.log(rank, "stderr") for rank in pids}
        answers = self._ask(patience)
        gone = {rank: "has gone" for rank, line in answers.items() if not line.is_open}
        views = {rank: _view(line, {**gone, **over}.get(rank, "")) for rank, line in answers.items()}
        found = examine(pids, stderrs, self.rings, ended=over, patience=patience, elsewhere=views)
        return replace(found, hangs={**found.hangs, **dict(self._hangs(answers, {*gone, *over}))})

    def _hangs(self, answers: Mapping[int, CarryingLine], without: Collection[int]) -> Iterator[tuple[int, Hang]]:
        """Yield where ranks on other machines hang, with files that have their stacks."""
        for rank, line in answers.items():
            if rank not in without:
                path = None
                if line.state is not None:
                    path = self._folder / f"rank-{rank}.stack"
                    path.write_text(line.state[0].stack)
                yield rank, Hang("state: unknown, it is on another machine", path)

    def _ask(self, patience: float) -> dict[int, CarryingLine]:
        """Ask ranks on other machines where they are; return their connections, which have the answers."""
        asked = {rank: self._lines[rank] for rank, each in self._arrivals.items() if not each.is_here}
        for line in asked.values():
            line.state = None
            line.send(LOOK)
        end = SYSTEM_CLOCK.now() + patience
        while waiting := {line.end: line for line in asked.values() if line.is_open and line.state is None}:
            ready = wait([*waiting], max(0.0, end - SYSTEM_CLOCK.now()))
            if not ready:
                break
            for each in ready:
                waiting[cast("Connection[Any, Any]", each)].receive(RankMessages())
        return asked

    def note_hang(self, verdict: HangVerdict) -> None:
        """Put a verdict into the journal and the result."""
        self._native.note_hang(verdict)

    def stop(self, reason: str, *, timed_out: bool = False, grace: float | None = None) -> None:
        """Request the end of the launcher, which ends its ranks."""
        if self._early is None:
            self._early, self._stopped_at = self._deaths.now(), SYSTEM_CLOCK.now()
        self._native.stop(reason, timed_out=timed_out, grace=grace)

    def close(self) -> None:
        """End the launcher and what is left of its ranks."""
        self._native.close()

    def wait(self, timeout: float | None = None) -> JobResult:
        """Wait for the end of the launcher, and return the result of its ranks, the same object every time."""
        seen = self._native.wait(timeout)
        if self._result is None:
            ranks = self._outcomes(seen)
            first = next((rank for rank, each in ranks.items() if each.failed), None)
            self._result = replace(seen, ranks=ranks, root_cause=first, failures={}, asked=len(ranks), journal=None)
        return self._result

    def _outcomes(self, seen: JobResult) -> dict[int, RankOutcome]:
        """Return the outcome of each rank: at most one has failed by itself, and the launcher has ended the others."""
        pids = {rank: each.pid for rank, each in self._arrivals.items()}
        if seen.exit_code == 0 and not seen.stop_reason:
            done = ExitStatus(code=0)
            return {rank: RankOutcome(rank, pid, done, Cause.SELF, succeeded=True) for rank, pid in pids.items()}
        output = "\n".join(line for stream in ("stdout", "stderr") for line in tail(self._native.log(0, stream)))
        reported, status = read_any_report(output, pids)
        gone = {rank: line.closed_at for rank, line in enumerate(self._lines) if line.closed_at is not None}
        first = next(iter(self._deaths.now() if self._early is None else self._early), None)
        if first is None:
            early = {rank: at for rank, at in gone.items() if at < self._stopped_at}
            first = reported if reported in pids else min(early, key=early.__getitem__) if early else None
        lost = ExitStatus(lost="the launcher has its exit status, and reported none that is known here")
        own = None if first is None else self._deaths.status(first) or (status if first == reported else None)
        return {
            rank: RankOutcome(rank, pid, own or lost, Cause.SELF, exited_at=gone.get(rank))
            if rank == first
            else RankOutcome(rank, pid, None, Cause.STOPPED_BY_US)
            for rank, pid in pids.items()
        }


def read_any_report(output: str, pids: Mapping[int, int]) -> tuple[int | None, ExitStatus | None]:
    """Return the rank that a launcher reports as failed, with its status: Open MPI, MPICH's hydra, or Slurm's srun."""
    said = read_report(output)
    if said.blamed is not None:
        return said.blamed, said.failures[said.blamed].status
    if found := _HYDRA.search(output):
        code = int(found[2])
        rank = next((rank for rank, pid in pids.items() if pid == int(found[1])), None)
        return rank, ExitStatus(signal=code) if code < 64 else ExitStatus(code=code)
    if found := _SRUN.search(output):
        signal = _SRUN_SIGNALS.get(found[2])
        return int(found[1]), ExitStatus(code=int(found[3])) if signal is None else ExitStatus(signal=signal)
    return None, None


def _view(line: CarryingLine, ended: str) -> RankView:
    """Return what is known of a rank on another machine; its times become those of the clock of this one."""
    if line.state is None:
        return RankView(ended=ended)
    state, came = line.state
    ring = decode(state.ring)
    return RankView(
        ring=None if ring is None else ring.moved(came - state.now),
        ended=ended,
        stack=None if ended else parse_stack(state.stack),
    )


def log_path(folder: Path, rank: int, stream: str) -> Path:
    """Return the path of a stream of a rank on this machine."""
    return folder / f"rank-{rank}.{stream}.log"


def start_launched(
    item: pytest.Function,
    order: Order,
    mark: RanksMark,
    modules: Sequence[str],
    bell: Bell,
    port: int,
    stack: ExitStack,
) -> tuple[LaunchedJob, list[CarryingLine]]:
    """Start the launcher, wait for its ranks, and give them their session; ``stack`` ends them.

    Raises:
        Failed: if they do not come; the message has what the launcher said.
    """
    folder = order.folder
    rings = make_private(folder / RINGS) if records(item.config) else None
    own = [name for name in rank_environment(0, ranks=1, run_id="", master_port=0) if name not in LAUNCHERS_OWN]
    program = [sys.executable, "-m", "pytest_derail.ranks.worker.remote"]
    with Door(launcher_host(item.config)) as door:
        native = start_job(
            LocalJob(
                ["env", *(f"--unset={name}" for name in own), *mark.launcher, *program],
                ranks=1,
                env={**integrations.environment(item.config), DOOR_ENV: door.address},
                teardown=default_teardown(mark.grace),
                name="launcher",
                master_port=port,
            ),
            workdir=folder,
            observers=(bell,),
        )
        stack.callback(native.close)
        arrivals, problem = _await_ranks(door, mark.ranks, bell)
    for arrival in arrivals.values():
        stack.callback(arrival.end.close)
    if problem:
        native.close()
        said = [line for stream in ("stdout", "stderr") for line in tail(native.log(0, stream))][-10:]
        pytest.fail("\n".join([f"{' '.join(mark.launcher)}: {problem}; it said:", *said]), pytrace=False)
    lines: list[CarryingLine] = []
    for rank, arrival in sorted(arrivals.items()):
        stdout, stderr = (str(log_path(folder, rank, stream)) for stream in ("stdout", "stderr"))
        logs = (stdout, stderr) if arrival.is_here else None
        lines.append(CarryingLine(arrival.end, folder, rank))
        lines[-1].send(Placement(order, modules, logs, records=rings is not None))
    return LaunchedJob(native, arrivals, lines, folder, stack, rings=rings), lines


def _await_ranks(door: Door, ranks: int, bell: Bell) -> tuple[dict[int, Arrival], str]:
    """Return the ranks that have come, and why they are not those of the test; empty if they are."""
    arrivals: dict[int, Arrival] = {}

    def is_over() -> bool:
        bell.wait(0)
        return bell.job_is_over

    for arrival in door.arrivals(START_SECONDS, is_over):
        if arrival.world_size != ranks or arrival.rank in arrivals or not 0 <= arrival.rank < ranks:
            what = f"rank {arrival.rank} of {arrival.world_size}"
            return arrivals, f"expected ranks 0 to {ranks - 1} of {ranks}, once each, got {what}"
        arrivals[arrival.rank] = arrival
        if len(arrivals) == ranks:
            return arrivals, ""
    ended = "it ended" if is_over() else f"it had {START_SECONDS:g} s"
    return arrivals, f"{len(arrivals)} of {ranks} ranks have come, and {ended}"
