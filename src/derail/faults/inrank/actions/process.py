"""Endings that a rank causes itself: exit codes, exceptions, another program, a helper left behind."""

from __future__ import annotations

import builtins
import importlib
import os
import sys

from .. import real_time
from .crashes import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Effect, Runtime
    from ..rank_plan import Task

COMM = "derail-exec"
"""Name (comm) of a process before its exec; at the exec the kernel sets it to the name of the new program."""

HELPER = """
import os, sys, time
kind, end, ready = sys.argv[1], time.monotonic() + float(sys.argv[2]), int(sys.argv[3])
if kind in ("session", "daemon"):
    os.setsid()
if kind == "daemon" and os.fork():
    os._exit(0)
os.write(ready, b"%d" % os.getpid())
os.close(ready)
while time.monotonic() < end:
    if kind == "chatty":
        try:
            os.write(1, b"the helper of a dead rank is still here\\n")
        except OSError:
            pass
    time.sleep(0.05 if kind == "chatty" else 1)
"""


def leave(runtime: Runtime, task: Task) -> Effect:
    """Exit by ``sys.exit`` or ``os._exit``."""
    code = task.params["code"]
    if task.params["how"] == "_exit":
        number = int(str(code)) & 0xFF
        return lambda: os._exit(number)
    return _raising(runtime, task, SystemExit(code))


def throw(runtime: Runtime, task: Task) -> Effect:
    """Raise an exception."""
    return _raising(runtime, task, _exception(task)(task.text("message")))


def throw_from_outside(runtime: Runtime, task: Task) -> Effect:
    """Let another thread raise an exception in this one, between two Python instructions."""
    libc()
    import _thread
    import ctypes

    kind, message, main = _exception(task), task.text("message"), _thread.get_ident()

    def arrive(_: type, *__: object) -> BaseException:
        runtime.say("arrived", task)
        return kind(message)

    # Python creates the instance when a handler needs it, at the latest when the exception has ended the program.
    arriving = type(kind.__name__, (kind,), {"__new__": arrive, "__module__": kind.__module__})

    gate = _thread.allocate_lock()
    gate.acquire()

    def send() -> None:
        gate.acquire()
        real_time.sleep(0.01)  # until the main thread has left derail's code
        reached = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(arriving))
        if reached != 1:
            runtime.say("failed", task, what="no such main thread")

    _thread.start_new_thread(send, ())
    return gate.release


def become(runtime: Runtime, task: Task) -> Effect:
    """Replace the program by another one."""
    argv = [str(word) for word in task.params["argv"]] if isinstance(task.params["argv"], list) else []
    with open("/proc/self/comm", "r+") as file:
        before = file.read()
        file.write(COMM)

    def execute() -> None:
        try:
            os.execvp(argv[0], argv)
        except OSError as error:
            with open("/proc/self/comm", "w") as file:
                file.write(before.strip())
            runtime.say("failed", task, what=f"{argv[0]}: {error}")

    return execute


def orphan(runtime: Runtime, task: Task) -> Effect:
    """Start a helper process, and exit without it."""
    import subprocess

    code, kind = int(task.text("code")) & 0xFF, task.text("kind")
    read_end, write_end = os.pipe()
    argv = [sys.executable, "-I", "-S", "-c", HELPER, kind, task.text("lives"), str(write_end)]
    process = subprocess.Popen(argv, pass_fds=[write_end])
    os.close(write_end)
    helper_pid = os.read(read_end, 32)
    os.close(read_end)
    if kind == "daemon":
        process.wait()  # the first child has forked again and exited
    if not helper_pid:
        raise OSError("the helper ended before it reported its pid")
    runtime.write("helper", fault=task.id, pid=int(helper_pid), group=os.getpgrp(), session=os.getsid(0))
    return lambda: os._exit(code)


def _exception(task: Task) -> type[BaseException]:
    module, _, path = task.text("type").rpartition(":")
    kind: object = importlib.import_module(module) if module else builtins
    for name in path.split("."):
        kind = getattr(kind, name)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise TypeError(f"{task.text('type')} is not an exception type")
    return kind


def _raising(runtime: Runtime, task: Task, error: BaseException) -> BaseException:
    """Return ``error`` to raise, and journal it if Python swallows it at once (in a destructor, in a C callback)."""
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_value is error:
            runtime.write("lost", fault=task.id)
        before(unraisable)

    sys.unraisablehook = hook
    return error


ACTIONS: dict[str, Callable[[Runtime, Task], Effect]] = {
    "exit": leave,
    "exception": throw,
    "async_exception": throw_from_outside,
    "exec": become,
    "orphan": orphan,
}
