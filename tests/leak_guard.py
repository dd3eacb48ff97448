"""Compares what this process holds before and after a test, without using any code of derail.

Descriptors, threads, signal handlers, the environment, the working directory, files in the temporary directory and
every process that the test started, however far it has moved from its parent: they carry a mark in their environment.
A comparison costs about a millisecond as long as nothing differs.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

K = TypeVar("K", int, str)

MARK = "DERAIL_TEST_MARK"
"""Environment variable that tells the processes of this test run from all others."""

SETTLE_SECONDS = 60.0
"""How long an ending that is under way may take, before what is left counts as leaked."""

_SIGNALS = sorted({int(number) for number in signal.valid_signals()} - {int(signal.SIGALRM)})  # pytest-timeout's own
_OURS = frozenset({"PYTEST_CURRENT_TEST", "COLUMNS", "LINES"})
_FD_DIRECTORY = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds at one moment; each part maps an identity to words for people."""

    processes: frozenset[int]
    descriptors: dict[int, str]
    threads: dict[int, str]
    handlers: dict[int, str]
    mask: frozenset[int]
    wakeup_fd: int
    environment: dict[str, str]
    directory: str
    temporary: frozenset[str]


def hold() -> Held:
    """Look at this process."""
    return Held(
        processes=frozenset(_pids()),
        descriptors=dict(_descriptors()),
        threads={thread.ident or 0: thread.name for thread in threading.enumerate()},
        handlers={number: repr(signal.getsignal(number)) for number in _SIGNALS},
        mask=frozenset(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        wakeup_fd=_wakeup_fd(),
        environment={name: value for name, value in os.environ.items() if name not in _OURS},
        directory=_working_directory(),
        temporary=frozenset(_entries(tempfile.gettempdir())),
    )


def leaks(before: Held, *, settle: float = SETTLE_SECONDS) -> list[str]:
    """Name what is there now and was not before; what is ending gets ``settle`` seconds to end."""
    found = _differences(before, hold())
    if found:
        gc.collect()
    deadline = time.monotonic() + settle
    while found and time.monotonic() < deadline:
        time.sleep(0.02)  # noqa: TID251 - nothing tells when the last of so many kinds of things has gone
        found = _differences(before, hold())
    return found


def end_leaked_processes(before: Held, *, seconds: float = 60.0) -> None:
    """Kill what a leaking test left, so that it harms no later one.

    A process that forks all the time is missed by one look and found by the next: only several empty ones are an end.
    """
    deadline, empty = time.monotonic() + seconds, 0
    while empty < 5 and time.monotonic() < deadline:
        leaked = _leaked_processes(before, frozenset(_pids()))
        empty = 0 if leaked else empty + 1
        for pid in leaked:
            _end(pid)


def _end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], 60)
        os.waitid(os.P_PID, pid, os.WEXITED)
    except (ProcessLookupError, ChildProcessError):
        pass
    finally:
        os.close(pidfd)


def _differences(before: Held, now: Held) -> list[str]:
    found = [f"process {pid} ({_stat(pid)}): {_command(pid)}" for pid in _leaked_processes(before, now.processes)]
    found += _changes("descriptor", before.descriptors, now.descriptors)
    found += [f"thread {name!r}" for ident, name in now.threads.items() if ident not in before.threads]
    found += _changes("signal handler", before.handlers, now.handlers)
    found += _changes("environment variable", before.environment, now.environment)
    if before.mask != now.mask:
        found.append(f"signal mask: was {sorted(before.mask)}, is {sorted(now.mask)}")
    if before.wakeup_fd != now.wakeup_fd:
        found.append(f"signal wakeup descriptor: was {before.wakeup_fd}, is {now.wakeup_fd}")
    if before.directory != now.directory:
        found.append(f"working directory: was {before.directory}, is {now.directory}")
    found += [f"temporary file {name}" for name in sorted(now.temporary - before.temporary)]
    return found


def _changes(kind: str, before: Mapping[K, str], now: Mapping[K, str]) -> list[str]:
    """Name the entries that differ, and how."""
    different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [f"{kind} {key}: was {before.get(key, 'absent')}, is {now.get(key, 'absent')}" for key in different]


def _descriptors() -> Iterator[tuple[int, str]]:
    residents = _resident_descriptors()
    for name in os.listdir(_FD_DIRECTORY):
        try:
            target = os.readlink(f"{_FD_DIRECTORY}/{name}")
        except OSError:  # the descriptor of the listing itself, or macOS, where these are no links
            if _FD_DIRECTORY == "/dev/fd" and _is_open(int(name)):
                yield int(name), "open"
            continue
        if int(name) not in residents and not target.endswith("/fd"):
            yield int(name), target


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _resident_descriptors() -> set[int]:
    """Descriptors that multiprocessing keeps for the life of the interpreter, once it was used."""
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    server = sys.modules.get("multiprocessing.forkserver")
    kept = []
    if tracker is not None:
        kept.append(tracker._resource_tracker._fd)
    if server is not None:
        kept.append(server._forkserver._forkserver_alive_fd)
    return {number for number in kept if number is not None}


def _resident_processes() -> set[int]:
    """Processes that multiprocessing keeps for the life of the interpreter, once it was used."""
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    server = sys.modules.get("multiprocessing.forkserver")
    kept = []
    if tracker is not None:
        kept.append(tracker._resource_tracker._pid)
    if server is not None:
        kept.append(server._forkserver._forkserver_pid)
    return {pid for pid in kept if pid is not None}


def _pids() -> Iterator[int]:
    return (int(name) for name in _entries("/proc") if name.isdigit())


def _leaked_processes(before: Held, now: frozenset[int]) -> list[int]:
    """Processes that came since, and are children of ours or carry our mark."""
    new = sorted(now - before.processes - _resident_processes())
    return [pid for pid in new if _is_ours(pid)]


def _is_ours(pid: int) -> bool:
    mark = os.environ.get(MARK, "")
    if _parent(pid) == os.getpid():
        return True
    return bool(mark) and f"{MARK}={mark}".encode() in _read(f"/proc/{pid}/environ").split(b"\0")


def _parent(pid: int) -> int | None:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else None


def _stat(pid: int) -> str:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return f"state {fields[0].decode()}, parent {fields[1].decode()}" if len(fields) > 1 else "gone by now"


def _command(pid: int) -> str:
    words = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return words[:200] or _read(f"/proc/{pid}/comm").decode(errors="replace").strip()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "(deleted)"


def _wakeup_fd() -> int:
    """Descriptor that signals are written to; -1 if there is none, or if another thread asks."""
    try:
        number = signal.set_wakeup_fd(-1)
    except ValueError:
        return -1
    signal.set_wakeup_fd(number)
    return number
