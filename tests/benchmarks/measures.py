"""What is measured, once for every launcher. Runs in a process that has one launcher imported, see ``resident``."""

# ruff: noqa: TID251 - it measures the passing of time, and looks after processes of all launchers alike

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.launchers import children, descriptors, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.launchers import Job, Launcher

RANK = str(Path(__file__).with_name("rank.py"))
READY_DEADLINE = 60.0
TEED = re.compile(rb"\[bench(\d+)\]:rank (\d+) line (\d{7}) (x+) end")

Numbers = dict[str, float]


@contextmanager
def started(
    launch: Launcher, program: str, args: list[tuple[str, ...]], directory: Path, *, tee: bool = False
) -> Iterator[Job]:
    """A job that leaves nobody, whatever its launcher does."""
    job = launch(program, args, directory=str(directory / "logs"), tee=tee)
    try:
        yield job
    finally:
        job.close()
        for pid in job.pids.values():
            _end_group(pid)


def _end_group(pid: int) -> None:
    try:
        if os.getsid(pid) == pid and pid in children():
            os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Gate:
    """Ranks say that they are there, are told a time, and note the clock when it has come."""

    def __init__(self, directory: Path) -> None:
        self.stamps = directory / "stamps"
        self.stamps.touch()
        self.orders = directory / "orders"
        os.mkfifo(self.orders)
        self._fd = os.open(self.orders, os.O_RDWR)

    def python(self, *words: object) -> tuple[str, ...]:
        """Arguments of ``sys.executable`` for a rank that goes through this gate."""
        what, *rest = map(str, words)
        return ("-I", "-S", RANK, what, str(self.stamps), str(self.orders), *rest)

    def wait_ready(self, ranks: int) -> int:
        """When the last of the ranks said that it was there."""
        end = time.monotonic() + READY_DEADLINE
        while len(self.noted()) < ranks:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(self.noted())} of {ranks} ranks are there after {READY_DEADLINE} s")
            time.sleep(0.005)
        return max(self.noted())

    def open(self, ranks: int, delay: float) -> int:
        """Tell all to go ``delay`` seconds from now."""
        target = time.monotonic_ns() + int(delay * 1e9)
        os.write(self._fd, b"%020d" % target * ranks)
        return target

    def noted(self) -> list[int]:
        """All stamps, in nanoseconds."""
        return [int(line) for line in self.stamps.read_bytes().splitlines()]

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def _ms(since: int, until: int) -> float:
    return (until - since) / 1e6


def all_exit(launch: Launcher, directory: Path, *, ranks: int, delay: float) -> Numbers:
    """All ranks leave at one time with code 0: from the last one's last instruction until the launcher knows."""
    gate = Gate(directory)
    with started(launch, sys.executable, [gate.python("leave", 0)] * ranks, directory) as job:
        gate.wait_ready(ranks)
        gate.open(ranks, delay)
        assert job.wait()
        returned = time.monotonic_ns()
    last = max(gate.noted())
    gate.close()
    return {"seen": _ms(last, max(job.seen.values())), "returned": _ms(last, returned)}


def one_fails(launch: Launcher, directory: Path, *, ranks: int, delay: float) -> Numbers:
    """One rank fails among others that obey SIGTERM: from its last instruction until the launcher knows, and until it
    has ended the others and ``wait`` returns."""
    gate = Gate(directory)
    words = [("-c", 'exec "$@"', "sh", sys.executable, *gate.python("leave", 3))]
    words += [("-c", "exec sleep 600")] * (ranks - 1)
    with started(launch, "sh", words, directory) as job:
        gate.wait_ready(1)
        gate.open(1, delay)
        assert job.wait()
        returned = time.monotonic_ns()
    last = max(gate.noted())
    gate.close()
    return {"seen": _ms(last, job.seen[0]), "returned": _ms(last, returned)}


def wait_a_little(launch: Launcher, directory: Path, *, ranks: int) -> Numbers:
    """How long ``wait(0.1)`` takes while all ranks idle."""
    with started(launch, "sleep", [("600",)] * ranks, directory) as job:
        begun = time.monotonic_ns()
        assert not job.wait(0.1)
        return {"took": _ms(begun, time.monotonic_ns())}


def close(launch: Launcher, directory: Path, *, ranks: int) -> Numbers:
    """How long it takes to end ranks that obey SIGTERM."""
    with started(launch, "sleep", [("600",)] * ranks, directory) as job:
        begun = time.monotonic_ns()
        job.close()
        return {"took": _ms(begun, time.monotonic_ns())}


def idle(launch: Launcher, directory: Path, *, ranks: int, seconds: float) -> Numbers:
    """What the launcher uses while its teed ranks say nothing and somebody sits in ``wait``."""
    with console(directory, through="pipe"), started(launch, "sleep", [("600",)] * ranks, directory, tee=True) as job:
        job.wait(0.5)
        cpu, switches, begun = time.process_time_ns(), _switches(), time.monotonic()
        job.wait(seconds)
        passed = time.monotonic() - begun
        return {
            "cpu": (time.process_time_ns() - cpu) / 1e6 / passed,
            "switches": (_switches() - switches) / passed,
        }


def _switches() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw + usage.ru_nivcsw


def held(launch: Launcher, directory: Path, *, ranks: int, tee: bool) -> Numbers:
    """Threads beyond the caller's, descriptors per rank and all, helper processes."""
    with console(directory, through="pipe"):
        before = threads(), descriptors(), children()
        with started(launch, "sleep", [("600",)] * ranks, directory, tee=tee) as job:
            job.wait(0.2)
            return {
                "threads": threads() - before[0],
                "descriptors": descriptors() - before[1],
                "helpers": len(children() - before[2] - set(job.pids.values())),
            }


def tee(launch: Launcher, directory: Path, *, ranks: int, lines: int, through: str) -> Numbers:
    """Numbered lines through the launcher's stdout: MB/s from the first line to the last byte, and what went wrong."""
    gate = Gate(directory)
    words = [gate.python("write", rank, lines) for rank in range(ranks)]
    with (
        console(directory, through=through) as shown,
        started(launch, sys.executable, words, directory, tee=True) as job,
    ):
        gate.wait_ready(ranks)
        target = gate.open(ranks, 0.05)
        assert job.wait()
    took = (time.monotonic_ns() - target) / 1e9
    gate.close()
    return {"rate": shown.stat().st_size / 1e6 / took} | _account(shown, ranks, lines)


def _account(shown: Path, ranks: int, lines: int) -> Numbers:
    seen: dict[tuple[int, int], int] = {}
    torn = 0
    with shown.open("rb") as file:
        for line in file:
            found = TEED.fullmatch(line.rstrip(b"\n"))
            number = int(found[3]) if found else -1
            if found and line[-1:] == b"\n" and found[1] == found[2] and len(found[4]) == 40 + number % 60:
                key = int(found[1]), number
                seen[key] = seen.get(key, 0) + 1
            else:
                torn += 1
    return {"lost": ranks * lines - len(seen), "torn": torn, "doubled": sum(seen.values()) - len(seen)}


@contextmanager
def console(directory: Path, *, through: str) -> Iterator[Path]:
    """A new stdout for this process: a file, or a pipe that somebody reads. All has arrived when the body is left."""
    shown = directory / "console"
    reader = None
    with shown.open("wb") as file:
        if through == "pipe":
            reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
            assert reader.stdin is not None
            os.dup2(reader.stdin.fileno(), 1)
            reader.stdin.close()
        else:
            os.dup2(file.fileno(), 1)
    before, sys.stdout = sys.stdout, open(1, "w", closefd=False)
    try:
        yield shown
    finally:
        sys.stdout.flush()
        sys.stdout = before
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        if reader is not None:
            reader.wait(60)


def start(launch: Launcher, directory: Path, *, ranks: int) -> Numbers:
    """From the call until it returns, and until the last rank is the program that it is to be."""
    begun = time.monotonic_ns()
    with started(launch, "sleep", [("600",)] * ranks, directory) as job:
        returned = time.monotonic_ns()
        ours = os.readlink("/proc/self/exe")
        while any(os.readlink(f"/proc/{pid}/exe") == ours for pid in job.pids.values()):
            pass
        return {"returned": _ms(begun, returned), "running": _ms(begun, time.monotonic_ns())}


def scale(launch: Launcher, directory: Path, *, ranks: int, delay: float) -> Numbers:
    """Measure a job of which a rank is killed during ``wait()``, and one that is closed.

    torch polls every 10 ms here, not every second, so that its own work is not lost in its sleep.
    """
    program, args = "sleep", [("600",)] * ranks
    before, begun = descriptors(), time.monotonic_ns()
    with started(launch, program, args, directory / "killed") as job:
        returned = time.monotonic_ns()
        held = {"descriptors": descriptors() - before, "memory": _resident_kilobytes() / 1e3}
        victim, killed = ranks // 2, 0

        def kill() -> None:
            nonlocal killed
            killed = time.monotonic_ns()
            os.kill(job.pids[victim], signal.SIGKILL)

        timer = threading.Timer(delay, kill)
        timer.start()
        assert job.wait(period=0.01)
        result = time.monotonic_ns()
        timer.join()
        seen = job.seen[victim]
    closed = close(launch, directory / "closed", ranks=ranks)
    times = {"start": _ms(begun, returned), "seen": _ms(killed, seen), "result": _ms(killed, result)}
    return held | times | {"close": closed["took"]}


def _resident_kilobytes() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


MEASURES: dict[str, Callable[..., Numbers]] = {
    function.__name__: function
    for function in (all_exit, one_fails, wait_a_little, close, idle, held, tee, start, scale)
}
