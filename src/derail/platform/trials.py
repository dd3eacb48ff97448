"""Snippets of Python that try one mechanism of the operating system each, in a separate short-lived process.

Each is run by ``python -I -S``, writes the failure as its last line on stderr, and exits with 0 on success.
"""

from __future__ import annotations

import sys

_LIBC = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    found = getattr(libc, name)(*args)
    if found < 0:
        sys.exit(f"{name}: {os.strerror(ctypes.get_errno())}")
    return found
"""

_ENTER = (
    _LIBC
    + """
NEWUSER = 0x10000000
def enter(flags, user=False):
    uid, gid = os.geteuid(), os.getegid()
    if not user and libc.unshare(flags) == 0:
        return
    call("unshare", NEWUSER | flags)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    if (os.geteuid(), os.getegid()) != (uid, gid):
        sys.exit("this user has no number in the new namespace")
"""
)

USER_NAMESPACE = _ENTER + "enter(0, user=True)"

PID_NAMESPACE = (
    _ENTER
    + """
enter(0x20000000)
pid = os.fork()
if pid == 0:
    os._exit(0 if os.getpid() == 1 else 3)
if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
    sys.exit("the first process of the new namespace did not have pid 1")
"""
)

NETEM = (
    _ENTER
    + """
import shutil, subprocess
enter(0x40000000)
if shutil.which("tc") is None:
    sys.exit("there is no program tc")
command = "tc qdisc add dev lo root netem delay 1ms".split()
tried = subprocess.run(command, capture_output=True, text=True)
if tried.returncode != 0:
    sys.exit("tc: " + " ".join(tried.stderr.split()))
"""
)

PTRACE = (
    _LIBC
    + """
import signal
libc.ptrace.argtypes = [ctypes.c_long] * 4
libc.ptrace.restype = ctypes.c_long
pid = os.fork()
if pid == 0:
    signal.pause()
try:
    call("ptrace", 0x4206, pid, 0, 0)
finally:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
)

SECCOMP = (
    _LIBC
    + """
import struct
number = int(sys.argv[1])
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))
code = b"".join(struct.pack("=HBBI", *step) for step in (
    (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | errno.EXDEV), (0x06, 0, 0, 0x7FFF0000)))
call("prctl", 38, *map(ctypes.c_ulong, (1, 0, 0, 0)))
call("prctl", 22, ctypes.c_ulong(2), ctypes.byref(Program(len(code) // 8, code)), ctypes.c_ulong(0), ctypes.c_ulong(0))
libc.syscall.restype = ctypes.c_long
if libc.syscall(ctypes.c_long(number)) != -1 or ctypes.get_errno() != errno.EXDEV:
    sys.exit("a filter was taken, but the call that it forbids went through")
"""
)

MEMORY_FILE = """
import os, sys
fd = os.memfd_create("derail-trial")
os.write(fd, b"kept")
if os.pread(fd, 4, 0) != b"kept":
    sys.exit("a memory file did not keep what was written")
"""

FULL = """
import errno, os, sys
try:
    os.write(os.open("/dev/full", os.O_WRONLY), b"x")
except OSError as error:
    sys.exit(0 if error.errno == errno.ENOSPC else f"/dev/full: {error.strerror}")
sys.exit("/dev/full took what was written")
"""

SHARED_MEMORY = """
import os, sys, tempfile
try:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        os.posix_fallocate(file.fileno(), 0, 65536)
except OSError as error:
    sys.exit(f"/dev/shm: {error.strerror}")
"""


def run(source: str, *args: object, seconds: float = 30.0) -> str:
    """Return why the mechanism that a snippet tries does not work here; empty if it does."""
    from subprocess import TimeoutExpired

    from derail.platform.bounded import run_bounded

    if not sys.executable:
        return "it could not be tried: the path of this Python is unknown (sys.executable)"
    try:
        tried = run_bounded((sys.executable, "-I", "-S", "-c", source, *map(str, args)), seconds)
    except (OSError, TimeoutExpired) as error:
        return f"it could not be tried: {error}"
    if tried.returncode == 0:
        return ""
    lines = tried.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the trial ended with {tried.returncode}"
