"""Actions on a launcher, and their evidence: a program that starts others and waits for them, as a rank of a job."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import FOREVER, AtExit, Soon
from derail.faults.injectors import signals
from derail.faults.injectors._log_probes import descriptor, identity_of
from derail.faults.injectors.resources import living
from derail.faults.mechanisms.namespaces import SHIM
from derail.faults.model.plan import Fault
from derail.faults.model.results import Errored, Injected, NotReached
from derail.platform import processes
from derail.platform.capabilities import PROC
from derail.platform.proc_status import command_line, read_process_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus


def kill(aim: Aim) -> Step:
    """Send SIGKILL to a launcher with running processes."""
    return _send(aim, "SIGKILL")


def stop(aim: Aim) -> Step:
    """Send SIGSTOP to a launcher with running processes."""
    return _send(aim, "SIGSTOP")


def send(aim: Aim) -> Step:
    """Send any signal to a launcher with running processes."""
    return _send(aim, aim.text("signal"))


def _send(aim: Aim, name: str) -> Step:
    pid = living(aim)
    if pid is None:
        return NotReached("the launcher had ended before the signal could be sent")
    started = children_of(pid)
    if not started:
        return NotReached(f"rank {aim.rank} (pid {pid}) has no child process now: it launches nothing")
    known = next(entry for entry in signals.ENTRIES if entry.name == "signal")
    params = (("signal", name),)
    plain = Fault(known.name, aim.rank, params, aim.fault.when, id=aim.fault.id, defaults=known.defaults)
    step = signals.send(replace(aim, fault=plain))

    def about(result: Result) -> Result:
        if not isinstance(result, Injected):
            return result
        alive = [child for child in started if (seen := read_process_state(child)) is not None and not seen.ended]
        children = f"it had started {_listed(started)}, of which {_listed(alive) or 'none'} lived then"
        return Injected(f"{result.evidence}; {children}")

    if isinstance(step, AtExit):
        return AtExit(lambda status: about(step.check(status)), step.awaited)
    if isinstance(step, Soon):
        last = step.at_exit
        at_exit = None if last is None else (lambda status: about(last(status)))
        return Soon(lambda: _through(about, step.check()), step.awaited, step.within, at_exit)
    return about(step)  # type: ignore[return-value]


def _through(about: Callable[[Result], Result], result: Result | None) -> Result | None:
    return None if result is None else about(result)


def children_of(pid: int) -> tuple[int, ...]:
    """Return the children of a process that have not ended."""
    return tuple(sorted(each.pid for each in processes.every_process() if each.ppid == pid and each.alive))


def _listed(pids: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, pids))


def ignored_sigchld(aim: Aim) -> Step:
    """Verify in /proc that the launcher started with SIGCHLD ignored."""
    pid = aim.control.pid(aim.rank)

    def check() -> Result | None:
        seen = None if pid is None else read_process_state(pid)
        if seen is None or seen.ended or signal.SIGCHLD not in seen.ignored:
            return None
        return Injected(f"SIGCHLD is ignored in /proc/{pid}/status (SigIgn); the kernel reaps for pid {pid}")

    return Soon(check, f"SIGCHLD in SigIgn of /proc/{pid}/status", within=20.0, at_exit=_unseen("its signals were"))


def no_stdout(aim: Aim) -> Step:
    """Verify the launcher's descriptor 1 in /proc: closed, or a pipe without a reader."""
    pid, how = aim.control.pid(aim.rank) or 0, aim.text("how")
    log = aim.control.log_file(aim.rank, "stdout")

    def check() -> Result | None:
        words = command_line(pid)
        seen = descriptor(pid, 1)
        if not words or str(SHIM) in words or seen is None:
            return None
        if how == "broken":
            return Injected(f"/proc/{pid}/fd/1 is {seen}, which has no reader") if _nobody_reads(pid) else None
        if seen and log is not None and identity_of(pid, 1) == _identity(log):
            return Errored(f"/proc/{pid}/fd/1 is {seen} after it was closed")
        return Injected(f"/proc/{pid}/fd/1 {f'is {seen} by now' if seen else 'does not exist'}; it was {log}")

    return Soon(check, f"/proc/{pid}/fd/1 {how}", within=20.0, at_exit=_unseen("its stdout was"))


def _nobody_reads(pid: int) -> bool:
    """Return whether descriptor 1 of a process is a pipe with a read end that is closed everywhere."""
    try:
        fd = os.open(PROC / str(pid) / "fd" / "1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        return any(events & select.POLLERR for _, events in poller.poll(0))
    finally:
        os.close(fd)


def _identity(path: os.PathLike[str]) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _unseen(what: str) -> Callable[[ExitStatus], Result]:
    def at_exit(status: ExitStatus) -> Result:
        ended = f"the launcher ended with {status} before {what} verified"
        return Errored(f"{ended}; see its stderr") if status.signal is None else NotReached(ended)

    return at_exit


def stolen(aim: Aim) -> Step:
    """Verify that other code in the launcher's process has reaped its children: their pids are gone."""

    def check() -> Result | None:
        taken = [record for record in aim.records if record["event"] == "stolen"]
        if len(taken) < aim.number("count"):
            return None
        pids = [int(str(record["pid"])) for record in taken]
        launcher = int(str(taken[0]["by"]))
        left = [pid for pid in pids if (seen := processes.look_up(pid)) is not None and seen.ppid == launcher]
        if left:
            return Errored(f"pid {_listed(left)} of pid {launcher} still exists, although it was reaped")
        reaped = ", ".join(f"{record['pid']} (status {record['status']})" for record in taken)
        return Injected(f"reaped in pid {launcher} before the launcher's own wait: {reaped}; gone from /proc")

    def at_exit(status: ExitStatus) -> Result:
        taken = sum(record["event"] == "stolen" for record in aim.records)
        return NotReached(f"{taken} of its children were reaped early; the launcher ended with {status}")

    return Soon(check, "a child that the launcher waits for", within=FOREVER, at_exit=at_exit)
