"""A rank of a foreign supervisor introduces itself to derail before its first line, and is told who it is.

Nothing else tells for certain which process is which rank of which attempt before it does anything. A socket without a
file: it leaves nothing behind. Where nobody answers, the program runs as if nobody had asked. Afterwards, the number of
each signal that the program has a Python handler for goes through it as it arrives: nobody else would know that a rank
that leaves with code 0 was asked to.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .part import Part

PATIENCE = 10.0
"""Seconds until an answer is not waited for any more."""
LONGEST = 1 << 20
HIGH = 512
"""From which number on a descriptor is kept."""


def meet(part: Part) -> dict[str, object] | None:
    """Say who this process is; what derail answers, or None if it does not.

    The answer says which attempt this is, whether faults act here, where the streams go that went nowhere else, and
    what this process is to become first, if a fault changes it before its start.
    """
    import _socket  # not socket: whose import costs more than the whole meeting

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(f"\0{part.meet}")
        argv = [sys.executable, *getattr(sys, "orig_argv", sys.argv)[1:]]
        told = {"rank": part.rank, "pid": os.getpid(), "job": part.job, "argv": argv}
        connection.send(json.dumps(told).encode() + b"\n")
        heard = b""
        while not heard.endswith(b"\n") and len(heard) < LONGEST:
            more = connection.recv(65536)
            if not more:
                return None
            heard += more
        answer = json.loads(heard)
        if isinstance(answer, dict) and answer.get("acts"):
            _tell_of_signals(connection.fileno())
    except (OSError, ValueError):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None


def _tell_of_signals(fd: int) -> None:
    """Have Python write the number of each signal that it handles there, under a number that no program counts on."""
    import _signal  # type: ignore[import-not-found]
    import fcntl

    kept = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    try:
        os.set_blocking(kept, False)
        _signal.set_wakeup_fd(kept, warn_on_full_buffer=False)
    except ValueError:  # not the main thread
        os.close(kept)


def follow(answer: dict[str, object]) -> None:
    """Become the program that the answer names, if it does; send the streams where it says."""
    argv, env = answer.get("exec"), answer.get("env")
    if isinstance(argv, list) and isinstance(env, dict):
        os.execve(argv[0], argv, env)
    for name, number in (("stdout", 1), ("stderr", 2)):
        path = answer.get(name)
        if isinstance(path, str):
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            os.dup2(fd, number)
            os.close(fd)
