"""Functions that ranks run in the tests: here, where a spawned rank can import them by name."""

# ruff: noqa: D103 - their names say what they do

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

SEEN_AT_IMPORT = {name: os.environ.get(name) for name in ("RANK", "OMP_NUM_THREADS")}


def give(value):
    return value


def touch(path):
    path.touch()


def give_nothing():
    pass


def give_bytes(size):
    return b"x" * size


def give_generator():
    return (number for number in ())


class BreaksOnArrival:
    """Can be pickled, and cannot be unpickled."""

    def __reduce__(self):
        return fail_on_arrival, ()


def fail_on_arrival():
    raise RuntimeError("not here")


def give_what_breaks_on_arrival():
    return BreaksOnArrival()


class KillsItsPickler:
    """Kills the rank when half of it is pickled."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)
        return list, ()


def die_while_returning():
    return [b"x" * (8 << 20), KillsItsPickler(), b"x"]


def fail(text):
    raise ValueError(text)


def leave(*code):
    sys.exit(*code)


def leave_at_once(code):
    os._exit(code)


def interrupt():
    raise KeyboardInterrupt


def interrupt_by_signal():
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)


def crash_after_return():
    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
    return "done"


def exec_true():
    os.execvp("true", ["true"])


def import_time_environment():
    return SEEN_AT_IMPORT, {name: os.environ.get(name) for name in SEEN_AT_IMPORT}


def c_environment(name):
    import ctypes

    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    value = getenv(name.encode())
    return None if value is None else value.decode()


def whole_environment():
    return dict(os.environ)


def count_arguments(*args):
    return len(args), args


def where():
    return os.getcwd()


def who():
    return {
        "session": os.getsid(0) == os.getpid(),
        "group": os.getpgrp() == os.getpid(),
        "process": multiprocessing.current_process().name,
        "parent": multiprocessing.parent_process().pid,
        "parent_alive": multiprocessing.parent_process().is_alive(),
        "threads": [thread.name for thread in threading.enumerate()],
        "children": multiprocessing.active_children(),
    }


def speak():
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr)
    os.write(1, b"to descriptor 1\n")
    os.write(2, b"to descriptor 2\n")
    os.system("echo from a child")
    print("without a line end", end="")


def read_stdin():
    return sys.stdin.read()


def stream_facts():
    return [
        (s.encoding, s.errors, s.newlines, s.line_buffering, s.write_through, s.mode, s.fileno())
        for s in (sys.stdin, sys.stdout, sys.stderr)
    ]


def dispositions():
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    of_libc = 0b11 << 31  # signals 32 and 33
    return {
        "python": {int(n): str(signal.getsignal(n)) for n in signal.valid_signals()},
        "kernel": {name: int(status[name], 16) & ~of_libc for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")},
        "faulthandler": faulthandler.is_enabled(),
        "wakeup": signal.set_wakeup_fd(-1),
    }


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            stat = os.stat(f"/proc/self/fd/{name}")
            found[int(name)] = (os.readlink(f"/proc/self/fd/{name}"), stat.st_dev, stat.st_ino)
        except OSError:
            pass
    return found


def inheritable_descriptors():
    return sorted(fd for fd in descriptors() if fd > 2 and os.get_inheritable(fd))


def run_event_loop():
    async def answer():
        return 42

    return asyncio.run(answer())


def put(queue, value):
    queue.put(value)


def set_event(event):
    event.set()


def send(connection, value):
    connection.send(value)
    connection.close()


def read_descriptor(connection):
    return connection.recv()


def write_at_exit(path):
    atexit.register(Path(path).write_text, "said goodbye")


def write_in_thread(path, gate):
    def work():
        gate.wait(60)
        Path(path).write_text("thread ended")

    threading.Thread(target=work).start()
    threading.Timer(0.05, gate.set).start()


def write_in_own_thread(path):
    write_in_thread(path, threading.Event())


def close_all_descriptors():
    os.closerange(3, 256)
    return 1


def reuse_our_descriptors(path):
    os.closerange(3, 256)
    files = [open(path, "w+b") for _ in range(64)]
    return len(files)


def affinity():
    return os.sched_getaffinity(0)


def wait_for_ever():
    threading.Event().wait()


def exit_7_on_sigusr1(path):
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
    Path(path).touch()
    threading.Event().wait()


def leave_a_helper(path):
    """End with 3, and leave a process of the same group, whose pid is in ``path``."""
    helper = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Path(path).write_text(str(helper.pid))
    os._exit(3)


def cpus():
    return sorted(os.sched_getaffinity(0))


def say(name, *arguments):
    """Print what another function of this module returns, as JSON."""
    print(json.dumps(call(name, *arguments)))


def ignore_sigterm_then_wait(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).touch()
    threading.Event().wait()


def flag_on_sigterm():
    signal.signal(signal.SIGTERM, lambda *_: None)
    return "flagged"


def give_tensor():
    import torch

    return {"weights": torch.arange(20_000, dtype=torch.float32), "rank": os.environ.get("RANK")}


def sum_tensors(*tensors):
    return [float(tensor.sum()) for tensor in tensors]


def double_in_place(tensor):
    tensor.mul_(2)


def argv_and_path():
    return sys.argv, sys.path


def import_by_name(name):
    return importlib.import_module(name).ANSWER


def start_children(count):
    with multiprocessing.get_context("fork").Pool(count) as pool:
        return pool.map(abs, range(-count, 0))


def loaded(name):
    return name in sys.modules


class Value:
    """A value with a class of its own."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Value) and other.number == self.number

    __hash__ = None


def give_instance():
    return Value(3)


def return_in_turn(path):
    """Returns; whoever reads ``path`` knows by it that the value is on its way."""
    Path(path).touch()
    return 1


def leave_a_daemon(directory: str, how: str) -> None:
    """Leave a process in a session of its own, without a parent and with no descriptor of ours; ``how`` says whether
    it is only "forked", or has "executed" a program without an environment. Its pid is in the file "daemon"."""
    ready, its_end = os.pipe()
    if os.fork() == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            os.setsid()
            if how == "executed":
                os.closerange(0, its_end)
                os.set_inheritable(its_end, False)
                os.execve("/bin/sleep", ["sleep", "600"], {})
            os.closerange(0, its_end + 1)
            while True:
                signal.pause()
        Path(directory, "daemon").write_text(f"{daemon}\n")
        os._exit(0)
    os.close(its_end)
    os.wait()
    os.read(ready, 1)  # its end is closed: it holds none of ours, or is executed


def leave_a_daemon_and_hang(directory: str, how: str) -> None:
    leave_a_daemon(directory, how)
    Path(directory, "left").write_text("it has\n")
    while True:
        signal.pause()


def make_shared_memory(directory: str, how: str) -> None:
    """Leave a segment to the resource tracker: by an exit without clean-up ("exit"), or by a hang ("hang")."""
    from multiprocessing.shared_memory import SharedMemory

    segment = SharedMemory(create=True, size=1 << 20)
    Path(directory, "segment").write_text(f"{segment.name}\n")
    if how == "hang":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        while True:
            signal.pause()
    os._exit(7)


def call(name: str, *arguments: object) -> object:
    """Call a function of this module, or of Python itself."""
    import builtins

    function = globals().get(name) or getattr(builtins, name)
    return function(*arguments)
