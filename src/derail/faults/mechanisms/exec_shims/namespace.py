"""Shim that enters new namespaces, makes the requested changes there, and then execs the rank's program.

The rank's program keeps the pid, environment and descriptors.

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
    """Do what argv requests, or exit with 125 and a reason: no program starts without the requested changes."""
    request, argv = json.loads(sys.argv[1]), sys.argv[2:]
    env = _first_environment()
    try:
        for number in request.get("ignored", ()):
            signal.signal(number, signal.SIG_IGN)
        if "tmpfs" in request:
            _keep_reachable(env)
        _enter(request["namespaces"])
        if "tmpfs" in request:
            _mount_tmpfs(**request["tmpfs"])
        if "clocks" in request:
            _shift_clocks(request["clocks"])
    except OSError as error:
        sys.stderr.write(f"derail: cannot make the rank's namespaces: {error}\n")
        os._exit(125)
    if "stdout" in request:
        _spoil_stdout(request["stdout"])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # this Python ignores them; the rank's program must not inherit it
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:  # the exit codes of a shell
        sys.stderr.write(f"derail: {argv[0]}: {error.strerror}\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _first_environment() -> dict[bytes, bytes]:
    """Return the environment at the start of this process: Python may have added LC_CTYPE since."""
    with open("/proc/self/environ", "rb") as file:
        pairs = [entry.partition(b"=") for entry in file.read().split(b"\0") if b"=" in entry]
    return {name: value for name, _, value in pairs}


def _keep_reachable(env: dict[bytes, bytes]) -> None:
    """Pass a descriptor of derail's directory to the system-call shim: the new mount may hide the path."""
    call, _, rest = env.get(b"DERAIL_SYSCALLS", b"").partition(b":")
    reply, _, directory = rest.partition(b":")
    if directory:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        os.set_inheritable(fd, True)
        if directory.startswith(b"/proc/self/fd/"):  # from an earlier shim of this kind
            os.set_inheritable(int(os.path.basename(directory)), False)
        env[b"DERAIL_SYSCALLS"] = b"%s:%s:/proc/self/fd/%d" % (call, reply, fd)


def _enter(names: list[str]) -> None:
    """Enter new namespaces: root directly, other users in a user namespace that maps only their own uid and gid."""
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
        os.chdir(where)  # into the new mount, if it covers the working directory
    except FileNotFoundError:
        pass  # the mount hides it now: relative paths still reach its files


def _spoil_stdout(how: str) -> None:
    """Close stdout, or replace it by a pipe without a reader."""
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
    _call("setns", fd, CLONE["time"])  # otherwise only children would get the offsets


def _call(name: str, *args: object) -> None:
    import ctypes

    if getattr(ctypes.CDLL(None, use_errno=True), name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
