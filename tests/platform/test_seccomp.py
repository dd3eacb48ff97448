"""Held system calls and their answers, on threads of this process: a filter is gone with its thread."""

import contextlib
import ctypes
import os
import re
import select
import threading
from errno import EBUSY, ENOSPC
from pathlib import Path

import pytest

from derail.platform import seccomp, syscalls
from derail.platform.seccomp import MOST, Listener, filter_program, install

MACHINE = syscalls.this_machine()
needs_seccomp = pytest.mark.skipif(bool(seccomp.why_not()), reason=seccomp.why_not() or "it works")
HEADERS = {
    0: [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
    1: [Path("/usr/include/asm-generic/unistd.h")],
}


def wait_for(listener):
    """Return the next held call."""
    poller = select.poll()
    poller.register(listener.fileno(), select.POLLIN)
    assert poller.poll(60_000) == [(listener.fileno(), select.POLLIN)]
    return listener.receive()


@contextlib.contextmanager
def under_filter(name, *args, times=1):
    """Return the listener of a thread that makes a call under a filter, and its results (value and errno each time)."""
    got, installed = [], []
    there = threading.Event()
    number = MACHINE.number(name)

    def make_calls():
        installed.append(install(filter_program([number], MACHINE), MACHINE))
        there.set()
        libc = ctypes.CDLL(None, use_errno=True)
        for _ in range(times):
            ctypes.set_errno(0)
            got.append((libc.syscall(number, *args), ctypes.get_errno()))

    thread = threading.Thread(target=make_calls)
    thread.start()
    assert there.wait(60)
    listener = Listener(installed[0])
    try:
        yield listener, got, thread
    finally:
        listener.close()
        thread.join(60)
        assert not thread.is_alive()


@needs_seccomp
def test_a_held_call_fails_with_the_errno_and_is_not_made():
    """Nothing arrives in the pipe."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0), open(writer, "wb", buffering=0):
        os.set_blocking(reader, False)
        with under_filter("write", writer, b"word", 4) as (listener, got, thread):
            call = wait_for(listener)
            assert (call.number, call.args[0], call.args[2]) == (MACHINE.number("write"), writer, 4)
            assert call.tid == thread.native_id
            assert listener.is_waiting(call)
            assert listener.fail(call, ENOSPC)
            thread.join(60)

        assert got == [(-1, ENOSPC)]
        with pytest.raises(BlockingIOError):
            os.read(reader, 4)


@needs_seccomp
def test_a_released_call_is_executed():
    """As if it had not been held."""
    with under_filter("getppid", times=2) as (listener, got, thread):
        for _ in range(2):
            assert listener.let(wait_for(listener))
        thread.join(60)

    assert got == [(os.getppid(), 0)] * 2


@needs_seccomp
def test_an_answered_call_cannot_be_answered_again():
    """The kernel reports that, and so does the listener."""
    with under_filter("getppid", times=2) as (listener, _, _thread):
        call = wait_for(listener)
        assert listener.let(call)
        following = wait_for(listener)

        assert not listener.is_waiting(call)
        assert not listener.fail(call, ENOSPC)
        assert listener.let(following)


@needs_seccomp
def test_closing_releases_held_calls_and_leaves_no_descriptor():
    """A call that was not received yet continues as well."""
    before = len(os.listdir("/proc/self/fd"))
    with under_filter("getppid") as (listener, got, thread):
        poller = select.poll()
        poller.register(listener.fileno(), select.POLLIN)
        assert poller.poll(60_000)
        listener.close()
        listener.close()
        thread.join(60)

    assert got == [(os.getppid(), 0)]
    assert len(os.listdir("/proc/self/fd")) == before


@needs_seccomp
def test_the_listener_hangs_up_when_no_process_is_left_under_the_filter():
    """So the answering process needs no other signal to end."""
    with under_filter("getppid", times=0) as (listener, _, thread):
        thread.join(60)
        poller = select.poll()
        poller.register(listener.fileno(), select.POLLIN)

        assert poller.poll(60_000) == [(listener.fileno(), select.POLLHUP)]


@needs_seccomp
def test_a_second_listener_over_the_same_thread_is_refused():
    """Therefore all faults on one rank share one."""
    refused = []

    def twice():
        program = filter_program([MACHINE.number("getppid")], MACHINE)
        first = Listener(install(program, MACHINE))
        try:
            install(program, MACHINE)
        except OSError as error:
            refused.append(error.errno)
        first.close()

    thread = threading.Thread(target=twice)
    thread.start()
    thread.join(60)

    assert refused == [EBUSY]


@needs_seccomp
def test_trying_it_leaves_this_process_as_it_was(wait_until):
    """No filter, no lost privileges, no thread, no descriptor."""
    seccomp.why_not.cache_clear()
    wanted = re.compile(r"^((?:Seccomp|NoNewPrivs|Seccomp_filters):.*)$", re.MULTILINE)
    before = wanted.findall(Path("/proc/self/status").read_text()), len(os.listdir("/proc/self/fd"))
    threads = len(os.listdir("/proc/self/task"))

    assert seccomp.why_not() == ""
    assert (wanted.findall(Path("/proc/self/status").read_text()), len(os.listdir("/proc/self/fd"))) == before
    # A thread that was joined is on its way out of the kernel, and so may be one of an earlier test.
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= threads, what="the thread of the trial is gone")


def test_a_kernel_that_refuses_is_a_reason(monkeypatch):
    """It is returned, not raised."""

    def refuse(*_):
        raise OSError(22, "seccomp(): Invalid argument")

    monkeypatch.setattr(seccomp, "install", refuse)
    monkeypatch.setattr(seccomp, "this_machine", lambda: syscalls.Machine(0xC000003E, 317, 0))
    seccomp.why_not.cache_clear()
    try:
        assert "refuses a filter with user notification: [Errno 22] seccomp(): Invalid argument" in seccomp.why_not()
    finally:
        seccomp.why_not.cache_clear()


def test_another_machine_is_a_reason(monkeypatch):
    """Numbers of system calls depend on the machine."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", "6", "1", "riscv64")))
    seccomp.why_not.cache_clear()
    try:
        assert seccomp.why_not() == "system calls can be held up on Linux on x86_64 and aarch64 only"
    finally:
        monkeypatch.undo()
        seccomp.why_not.cache_clear()


@pytest.mark.parametrize("column", [0, 1], ids=["x86_64", "aarch64"])
def test_the_machinery_cannot_be_held_up(column):
    """No process could release it."""
    machine = syscalls.Machine(1, 2, column)
    futex = {0: 202, 1: 98}[column]

    with pytest.raises(ValueError, match=f"system call {futex} cannot be held up"):
        filter_program([futex], machine)
    with pytest.raises(ValueError, match=f"at most {MOST} system calls"):
        filter_program(range(1000, 1000 + MOST + 1), machine)


@needs_seccomp
def test_a_filter_as_long_as_can_be_still_holds_the_right_calls():
    """The jumps of its program go far enough, over all the others."""
    numbers = [MACHINE.number("getppid"), *range(1000, 1000 + MOST - 1)]
    answers = []

    def make_calls():
        listener = Listener(install(filter_program(numbers, MACHINE), MACHINE))
        with contextlib.closing(listener):
            answering = threading.Thread(target=lambda: listener.fail(wait_for(listener), ENOSPC))
            answering.start()
            libc = ctypes.CDLL(None, use_errno=True)
            answers.append((libc.syscall(MACHINE.number("getppid")), ctypes.get_errno()))
            answers.append(libc.syscall(MACHINE.number("getuid") or {0: 102, 1: 174}[MACHINE.column]))
            answering.join(60)

    thread = threading.Thread(target=make_calls)
    thread.start()
    thread.join(60)

    assert answers == [(-1, ENOSPC), os.getuid()]


@pytest.mark.parametrize("column", [0, 1], ids=["x86_64", "aarch64"])
def test_numbers_are_those_of_the_kernels_headers(column):
    """Where these are installed."""
    header = next((path for path in HEADERS[column] if path.exists()), None)
    if header is None:
        pytest.skip("the kernel's headers are not installed: linux-libc-dev")
    text = header.read_text()
    told = {name: int(n) for name, n in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", text)}
    if column == 1:
        told["newfstatat"] = told.get("fstatat", told.get("newfstatat"))
    machine = syscalls.Machine(1, 2, column)
    known = {name: machine.number(name) for name in syscalls.NAMES if machine.number(name) is not None}

    assert {name: told.get(name) for name in known} == known
    assert {machine.name(number) for number in known.values()} == set(known)
    assert machine.number("1234") == 1234


def test_descriptors_and_paths_are_where_the_manual_says():
    """The first argument of write, the second of openat, none of getppid."""
    assert [syscalls.fd_argument(name) for name in ("write", "openat", "getppid")] == [0, None, None]
    assert [syscalls.path_argument(name) for name in ("unlink", "openat", "write")] == [0, 1, None]
