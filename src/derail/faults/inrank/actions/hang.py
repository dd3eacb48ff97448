"""Hangs of a rank: asleep, locked, spinning, blocked in the kernel, or unable to exit.

With ``for_`` each of them ends after that number of seconds, and the program continues.
"""

from __future__ import annotations

import os
import signal
import sys

from .. import real_time
from ..rank_plan import ImpossibleError
from .crashes import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Effect, Runtime
    from ..rank_plan import Task

TICK = 0.005
"""Seconds between two ticks of the thread that shows whether Python threads run."""
_CHUNK = 1 << 16


def hang(runtime: Runtime, task: Task) -> Effect:
    """Sleep while ignoring some signals, for ever or for a limited time."""

    def sleep() -> None:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in task.numbers}
        try:
            _sleep(task)
        finally:
            for number, handler in before.items():
                # A handler that was not set from Python reads as None, and Python cannot set it again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        runtime.say("healed", task)

    return sleep


def deadlock(runtime: Runtime, task: Task) -> Effect:
    """Acquire a lock that this thread already holds."""
    import threading

    lock = threading.Lock()

    def take_twice() -> None:
        with lock:
            seconds = -1 if task.seconds is None else min(task.seconds, threading.TIMEOUT_MAX)
            lock.acquire(timeout=seconds)
        runtime.say("healed", task)

    return take_twice


def hold_gil(runtime: Runtime, task: Task) -> Effect:
    """Wait in C without releasing the GIL, on a mutex, because no signal interrupts it."""
    library = libc(keeping_gil=True)
    import ctypes

    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise ImpossibleError("its Python runs without a GIL")
    mutex = (ctypes.c_ulong * 32)()  # all zero is an unlocked mutex; a mutex is smaller
    witness = _Witness()
    fd = witness.start()
    runtime.write("witness", fault=task.id, fd=fd, thread=witness.thread_id)

    def hold() -> None:
        library.pthread_mutex_lock(mutex)
        if task.seconds is None:
            library.pthread_mutex_lock(mutex)
        else:
            end = real_time.wall() + real_time.COARSE_STEP_S + task.seconds
            until = (ctypes.c_long * 2)(int(end), int(end % 1 * 1e9))
            library.pthread_mutex_timedlock(mutex, until)
        runtime.say("healed", task, silent=witness.stop())

    return hold


class _Witness:
    """Thread that shows other processes whether Python threads run: it moves the position of a descriptor."""

    def __init__(self) -> None:
        import threading

        self._longest = 0.0
        self._ends = False
        self._thread = threading.Thread(target=self._tick, name="derail-witness", daemon=True)
        self._fd = -1

    @property
    def thread_id(self) -> int | None:
        """Native id of the thread, as in the kernel."""
        return self._thread.native_id

    def start(self) -> int:
        """Start the thread, and return the descriptor once its position moves."""
        self._fd = os.memfd_create("derail-witness")
        self._thread.start()
        while os.lseek(self._fd, 0, os.SEEK_CUR) == 0:
            real_time.sleep(TICK)  # until the thread has ticked
        return self._fd

    def stop(self) -> float:
        """End the thread, and return the longest time without a tick in seconds."""
        self._ends = True
        self._thread.join()
        os.close(self._fd)
        return self._longest

    def _tick(self) -> None:
        last = real_time.monotonic()
        while not self._ends:
            os.lseek(self._fd, 1, os.SEEK_CUR)
            real_time.sleep(TICK)  # between two ticks
            now = real_time.monotonic()
            self._longest, last = max(self._longest, now - last), now


def spin(runtime: Runtime, task: Task) -> Effect:
    """Loop without pause."""

    def run() -> None:
        end = float("inf") if task.seconds is None else real_time.monotonic() + task.seconds
        while real_time.monotonic() < end:
            pass
        runtime.say("healed", task)

    return run


def write_to_full_pipe(runtime: Runtime, task: Task) -> Effect:
    """Write to a pipe without a reader; after ``for_`` seconds a thread reads it."""
    read_end, write_end = os.pipe()

    def drain() -> None:
        while os.read(read_end, _CHUNK):
            pass
        os.close(read_end)

    begin = _after_a_while(task, drain)

    def write() -> None:
        begin()
        left = float("inf") if task.seconds is None else 1 << 20  # more than the kernel lets a pipe hold
        while left > 0:
            left -= os.write(write_end, bytes(_CHUNK))
        os.close(write_end)
        runtime.say("healed", task)

    return write


def hang_at_exit(runtime: Runtime, task: Task) -> Effect:
    """Sleep in a function that Python calls at exit."""
    import atexit

    def sleep() -> None:
        if os.getpid() == runtime.pid:
            runtime.say("hangs", task)
            _sleep(task)
            runtime.say("healed", task)

    return lambda: atexit.register(sleep)


def leave_thread(runtime: Runtime, task: Task) -> Effect:
    """Start a thread that Python joins after the end of the program."""
    import threading

    main = threading.current_thread()

    def stay() -> None:
        main.join()
        runtime.say("hangs", task)
        _sleep(task)
        runtime.say("healed", task)

    threading.Thread(target=stay, name="derail-stays").start()  # during preparation, since it may fail
    return lambda: None


def sleep_uninterruptibly(runtime: Runtime, task: Task) -> Effect:
    """Wait in the kernel, in state D, for a child that waits to open a FIFO.

    The child shares this process's memory until its exec, and until then the kernel lets only SIGKILL interrupt this
    process. Other threads continue: the call releases the GIL.
    """
    library = libc()
    import ctypes
    import tempfile
    import threading

    with tempfile.TemporaryDirectory(prefix="derail-") as directory:
        fifo = os.path.join(directory, "fifo")
        os.mkfifo(fifo)
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    path = b"/proc/self/fd/%d" % fd  # it has no name any more: it vanishes with the last process that uses it
    if not os.path.exists(path):
        os.close(fd)
        raise ImpossibleError("there is no /proc")
    actions = (ctypes.c_ulong * 64)()  # more than the structure of any C library
    library.posix_spawn_file_actions_init(actions)
    library.posix_spawn_file_actions_addopen(actions, 0, path, os.O_RDONLY, 0)
    program, child = b"/bin/true", ctypes.c_int()
    argv = (ctypes.c_char_p * 2)(program, None)

    opened = threading.Event()

    def let_go() -> None:
        writer = os.open(path, os.O_WRONLY)
        opened.wait()  # a child that is stopped now would miss a writer that closes at once
        os.close(writer)

    begin = _after_a_while(task, let_go)

    def wait() -> None:
        begin()
        if library.posix_spawn(ctypes.byref(child), program, actions, None, argv, None) == 0:
            os.waitpid(child.value, 0)  # noqa: TID251 - our own child
        opened.set()
        os.close(fd)
        runtime.say("healed", task)

    return wait


def _after_a_while(task: Task, end: Callable[[], None]) -> Callable[[], object]:
    """Prepare a thread that ends the main thread's hang, if it is limited, and return what starts its time."""
    if task.seconds is None:
        return lambda: None
    import threading

    begun = threading.Event()

    def run() -> None:
        begun.wait()
        _sleep(task)
        end()

    threading.Thread(target=run, name="derail-ends-hang", daemon=True).start()
    return begun.set


def _sleep(task: Task) -> None:
    """Sleep for ever or for the task's time, across signals."""
    end = None if task.seconds is None else real_time.monotonic() + task.seconds
    while end is None or real_time.monotonic() < end:
        real_time.sleep(3600.0 if end is None else max(0.0, end - real_time.monotonic()))  # this sleep is the fault


ACTIONS: dict[str, Callable[[Runtime, Task], Effect]] = {
    "hang": hang,
    "deadlock": deadlock,
    "gil_held": hold_gil,
    "busy_loop": spin,
    "blocked_pipe": write_to_full_pipe,
    "hang_at_exit": hang_at_exit,
    "hang_thread": leave_thread,
    "uninterruptible": sleep_uninterruptibly,
}
