"""A process that has imported one implementation and forks a child for each case: an import is paid once.

It speaks JSON lines: an order ``{"case", "dir", "deadline"}`` on stdin is answered by ``{"facts", "console"}``. It
adopts what a case leaves behind (child subreaper), counts it and ends it, so that a hang or an orphan of one case is
observed and can harm no other.
"""

# ruff: noqa: TID251 - it adopts what either implementation leaves behind, with means of its own

from __future__ import annotations

import atexit
import ctypes
import json
import os
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from contract.implementations import Api
from contract.registry import Facts, load_cases
from contract.stage import PATIENCE, SHORT, Stage

PR_SET_CHILD_SUBREAPER = 36


def main(implementation: str) -> None:
    """Answer orders until stdin ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    api = Api(implementation)
    load_cases()
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        print(json.dumps(play(api, order["case"], Path(order["dir"]), order["deadline"])), flush=True)


def play(api: Api, case: str, directory: Path, deadline: float) -> dict[str, object]:
    """Run one case in a child, and tell all that came of it."""
    # where sockets are bound: a socket's path has 108 bytes, and the directory of a case may have used them up
    with tempfile.TemporaryDirectory(prefix="dt", dir="/tmp", ignore_cleanup_errors=True) as temp:
        return _play(api, case, directory, temp, deadline)


def _play(api: Api, case: str, directory: Path, temp: str, deadline: float) -> dict[str, object]:
    child = os.fork()
    if child == 0:
        _enter(directory, temp)
        _act(api, case, directory)
        _leave()
    ended = _wait_for_exit(child, deadline)
    facts: Facts = {"finished": ended}
    for notes in ("notes.jsonl", "facts.json"):
        if (directory / notes).exists():
            for line in (directory / notes).read_text().splitlines():
                facts |= json.loads(line)
    if not ended and (directory / "facts.json").exists():
        facts["finished"] = "but hung at exit"
    settle = _patience(api, case) if ended else 0.0
    facts["left"] = "some" if _end_descendants(settle=settle, own=child) else "none"
    console = {s: _tail(directory / f"console.{s}") for s in ("stdout", "stderr")}
    return {"facts": facts, "console": console}


def _patience(api: Api, name: str) -> float:
    """How long something is waited for: not long if this implementation is known never to do it."""
    case = load_cases()[name]
    is_known_fault = api.implementation == "torch" and case.fault is not None
    return SHORT if is_known_fault or case.expect["left"] != "none" else PATIENCE


def _enter(directory: Path, temp: str) -> None:
    """Become the process of a case: own session, own console, own place for temporary files."""
    os.setsid()
    for fd, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, str(directory / "console.stdout"), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, str(directory / "console.stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        opened = os.open(name, flags, 0o644)
        os.dup2(opened, fd)
        os.close(opened)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", closefd=False, buffering=1)
    os.environ["TMPDIR"] = temp
    tempfile.tempdir = None


def _act(api: Api, case: str, directory: Path) -> None:
    try:
        facts = load_cases()[case].run(api, Stage(api, directory, patience=_patience(api, case)))
    except BaseException as error:  # any end of a case is a fact about it
        traceback.print_exc()
        facts = {"raised": type(error).__name__}
    if api.implementation != "torch" and "torch" in sys.modules:
        facts["imported torch"] = True
    half = directory / "facts.json.half"
    half.write_text(json.dumps(facts))
    half.rename(directory / "facts.json")


def _leave() -> None:
    """End with hooks and joins as an interpreter does, but do not take torch's heap apart, which takes seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _wait_for_exit(pid: int, deadline: float) -> bool:
    """Wait until a child has ended, without reaping it."""
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], deadline)[0])
    finally:
        os.close(fd)


def _end_descendants(*, settle: float, own: int) -> list[int]:
    """Wait a little for those that are about to end, kill the rest; return who had to be killed, except ``own``."""
    quiet_at = time.monotonic() + settle
    killed: set[int] = set()
    while alive := _living_descendants():
        if time.monotonic() >= quiet_at:
            for pid in alive:
                killed.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    killed.discard(pid)
        time.sleep(0.01)
    return sorted(killed - {own})


def _living_descendants() -> set[int]:
    """Reap what is ours and has ended; return all descendants that live."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return set()
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state not in "ZX":
                parents[int(entry)] = int(parent)
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in found | {os.getpid()}} - found:
        found |= more
    return found


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        return file.read().decode(errors="replace")


if __name__ == "__main__":
    main(sys.argv[1])
