"""Functions that ranks run in the contract cases: importable, so that they can be sent to a spawned process."""

# ruff: noqa: TID251 - what ranks do is sleep

from __future__ import annotations

import array
import ctypes
import fcntl
import importlib
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

from contract.stage import is_alive

RANK_AT_IMPORT = os.environ.get("CONTRACT_RANK")


def add(a: int, b: int) -> int:
    """A rank that returns something."""
    return a + b


def give_environment(name: str) -> str | None:
    """What the rank's environment says."""
    return os.environ.get(name)


def give_environment_at_import(_: object) -> str | None:
    """What the rank's environment said when this module was imported."""
    return RANK_AT_IMPORT


def raise_value_error(text: str) -> None:
    """A rank that fails with an exception."""
    raise ValueError(text)


def fail_if(guilty: bool, text: str) -> None:
    """One rank fails, the others stay until they are told to go."""
    if guilty:
        raise ValueError(text)
    time.sleep(600)


def touch_and_stay(path: str) -> None:
    """Say that the rank runs, and stay."""
    Path(path).write_text(f"{os.getpid()}\n")
    time.sleep(600)


def sleep(seconds: float) -> None:
    """Do nothing for a while."""
    time.sleep(seconds)


def finish_after(seconds: float, value: object) -> object:
    """Return ``value`` after a while."""
    time.sleep(seconds)
    return value


def record_and_linger(wait_for: str, said: str, home: str, text: str) -> None:
    """Record an error if there is a text for it, and say so in a file. Then stay, or exit once other files appear."""
    if text:
        importlib.import_module(home).get_error_handler().record_exception(ValueError(text))
    if said:
        Path(said).touch()
        time.sleep(600)
    while not all(Path(name).exists() for name in wait_for.splitlines()):
        time.sleep(0.002)
    os._exit(4)


def child_records_and_rank_is_killed(home: str, text: str) -> None:
    """Have a child record an error, and die of SIGKILL."""
    child = os.fork()
    if child == 0:
        importlib.import_module(home).get_error_handler().record_exception(ValueError(text))
        os._exit(0)
    os.waitpid(child, 0)
    kill_self(signal.SIGKILL)


def kill_self(number: int) -> None:
    """A rank that dies of a signal."""
    os.kill(os.getpid(), number)
    time.sleep(600)


def leave(style: str) -> None:
    """Leave with code 0 and without a result, in the given style."""
    if style == "sys.exit()":
        sys.exit()
    if style == "sys.exit(0)":
        sys.exit(0)
    if style == "os._exit(0)":
        os._exit(0)
    if style == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if style == "SIGINT":
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)


def exit_with(what: Any) -> None:
    """A rank that calls ``sys.exit``."""
    sys.exit(what)


class Hostile(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError("no words")


def raise_hostile(_: object) -> None:
    """A rank whose exception cannot be printed."""
    raise Hostile


def return_unpicklable(_: object) -> object:
    """A rank whose result cannot be sent."""
    return threading.Lock()


def return_bytes(size: int) -> bytes:
    """A rank with a large result."""
    return b"x" * size


def return_bytes_and_die_sending(size: int) -> object:
    """A rank that is killed while its result is on the way, whether that is pickled as it goes or all at once."""
    start = _written()

    def die() -> None:
        while _written() < start + (1 << 20) and not _has_full_pipe():
            time.sleep(0.0002)
        launcher, taken = os.getppid(), _read_by(os.getppid())
        while _written() < start + (1 << 20) and _read_by(launcher) < taken + (1 << 20):
            time.sleep(0.0002)  # it has begun to take what comes through the pipe
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()
    return b"x" * size, _Last(start)


class _Last:
    """The end of a result: where the front is sent before this is pickled, the rank is killed between the two."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __reduce__(self) -> tuple[type, tuple[int]]:
        if _written() >= self.start + (1 << 20):
            threading.Event().wait()
        return _Last, (self.start,)


def _written() -> int:
    return int(Path("/proc/self/io").read_text().split("wchar:")[1].split()[0])


def _read_by(pid: int) -> int:
    return int(Path(f"/proc/{pid}/io").read_text().split("rchar:")[1].split()[0])


def _has_full_pipe() -> bool:
    """Whether one of this process's pipes has much in it: a long write into it is on the way."""
    waiting = array.array("i", [0])
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                fcntl.ioctl(int(fd), termios.FIONREAD, waiting)
        except OSError:  # the descriptor that lists them
            continue
        if waiting[0] >= 4096:
            return True
    return False


def print_to_both(text: str) -> None:
    """Write a line to both streams."""
    print(f"{text} out")
    print(f"{text} err", file=sys.stderr)
    sys.stdout.flush()


def print_and_die(text: str) -> None:
    """Print a line and exit at once, as a crash does."""
    print(text, flush=True)
    os._exit(9)


def start_helper_and_crash(path: str) -> None:
    """Leave a helper process behind."""
    helper = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(f"{helper.pid}\n")
    os._exit(3)


def start_helper_and_stay(path: str) -> None:
    """Have a helper process and stay."""
    helper = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(f"{helper.pid}\n")
    time.sleep(600)


def wait_and_exit(gate: str, code: int, delay: float) -> None:
    """Wait for a file to appear, and a little longer, and exit."""
    while not Path(gate).exists():
        time.sleep(0.002)
    time.sleep(delay)
    os._exit(code)


def exit_in_order(first: str, gate: str, code: int) -> None:
    """The rank with a gate exits when that is there, and says who it is; the other one exits when that one is dead."""
    path = Path(first)
    if gate:
        while not Path(gate).exists():
            time.sleep(0.002)
        path.with_suffix(".half").write_text(str(os.getpid()))
        path.with_suffix(".half").rename(path)
    else:
        while not path.exists() or is_alive(int(path.read_text())):
            time.sleep(0.002)
    os._exit(code)


def finish_when(there: str, gate: str, value: object) -> object:
    """Say that the rank runs, and return ``value`` when a file appears."""
    Path(there).write_text(f"{os.getpid()}\n")
    while not Path(gate).exists():
        time.sleep(0.002)
    return value


def session_is_own(_: object) -> bool:
    """Whether this process leads its own session."""
    return os.getsid(0) == os.getpid()


def printed_by_c(text: str) -> None:
    """Print through C's stdio, which has a buffer of its own."""
    libc = ctypes.CDLL(None)
    libc.puts(text.encode())
    libc.fflush(None)


class TellsWhenUnpickled:
    """An argument that writes down in which process it was unpickled."""

    def __init__(self, directory: str, owner: int) -> None:
        self.directory = directory
        self.owner = owner

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickle by a function that tells."""
        return (_tell, (self.directory, self.owner))


def _tell(directory: str, owner: int) -> TellsWhenUnpickled:
    with Path(directory, f"unpickled.{owner}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return TellsWhenUnpickled(directory, owner)


def give_pid(_: object) -> int:
    """The process of the rank."""
    return os.getpid()
