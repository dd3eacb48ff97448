"""The program that stands before a rank's own: enters new namespaces, changes what is to be changed there, and becomes
the rank's program by exec, with the same pid, environment and descriptors.

Standard library only, started by path: ``python -I -S namespace.py '{"namespaces": [...], ...}' program argument ...``.
"""

from __future__ import annotations

import json
import os
import signal
import sys

CLONE = {"mount": 0x00020000, "net": 0x40000000, "time": 0x00000080}
CLONE_NEWUSER = 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def main() -> None:
    """Do what argv says. A program that cannot be entered so is not entered at all: exit 125 with a reason."""
    told, argv = json.loads(sys.argv[1]), sys.argv[2:]
    env = _first_environment()
    try:
        for number in told.get("ignored", ()):
            signal.signal(number, signal.SIG_IGN)
        if "tmpfs" in told:
            _keep_reachable(env)
        _enter(told["namespaces"])
        if "tmpfs" in told:
            _mount_tmpfs(**told["tmpfs"])
        if "clocks" in told:
            _shift_clocks(told["clocks"])
    except OSError as error:
        sys.stderr.write(f"derail: the rank's namespaces could not be made: {error}\n")
        os._exit(125)
    if "stdout" in told:
        _spoil_stdout(told["stdout"])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # this Python ignores them; the rank's program must not inherit it
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:  # as a shell says it
        sys.stderr.write(f"derail: {argv[0]}: {error.strerror}\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _first_environment() -> dict[bytes, bytes]:
    """What this process was started with. Python itself may have added LC_CTYPE since."""
    with open("/proc/self/environ", "rb") as file:
        pairs = [entry.partition(b"=") for entry in file.read().split(b"\0") if b"=" in entry]
    return {name: value for name, _, value in pairs}


def _keep_reachable(env: dict[bytes, bytes]) -> None:
    """Let the shim of system calls reach derail by a descriptor, which it closes: the new mount may hide the path."""
    call, _, rest = env.get(b"DERAIL_SYSCALLS", b"").partition(b":")
    reply, _, directory = rest.partition(b":")
    if directory:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        os.set_inheritable(fd, True)
        if directory.startswith(b"/proc/self/fd/"):  # of another shim like this one, before us
            os.set_inheritable(int(os.path.basename(directory)), False)
        env[b"DERAIL_SYSCALLS"] = b"%s:%s:/proc/self/fd/%d" % (call, reply, fd)


def _enter(names: list[str]) -> None:
    """As root directly; as anybody else in a user namespace in which this user keeps number and name."""
    if not names:
        return
    flags = sum(CLONE[name] for name in names)
    uid, gid = os.geteuid(), os.getegid()
    try:
        _call("unshare", flags)
    except PermissionError:
        _call("unshare", CLONE_NEWUSER | flags)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _mount_tmpfs(path: str, size: int, inodes: int) -> None:
    where = os.getcwd()
    limits = f"mode=1777,size={size}" + (f",nr_inodes={inodes + 1}" if inodes else "")  # its root takes one
    _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    _call("mount", b"derail", os.fsencode(path), b"tmpfs", 0, limits.encode())
    try:
        os.chdir(where)  # into the new one, if that is where we are
    except FileNotFoundError:
        pass  # below it, and hidden by it now: what is there can still be reached by relative paths


def _spoil_stdout(how: str) -> None:
    """Close it, or put a pipe in its place that nobody reads."""
    if how == "broken":
        read, write = os.pipe()
        os.dup2(write, 1, inheritable=True)
        os.close(write)
        os.close(read)
    else:
        os.close(1)


def _shift_clocks(clocks: dict[str, float]) -> None:
    with open("/proc/self/timens_offsets", "w") as file:
        for name, seconds in clocks.items():
            whole = int(seconds // 1)
            file.write(f"{name} {whole} {int((seconds - whole) * 1e9)}\n")
    fd = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
    _call("setns", fd, CLONE["time"])  # else only children would see it


def _call(name: str, *args: object) -> None:
    import ctypes

    if getattr(ctypes.CDLL(None, use_errno=True), name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
