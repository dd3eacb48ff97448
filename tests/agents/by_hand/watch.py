"""Runs a launcher by hand and writes down what happened. No part of derail is used: its verdicts are held against this.

``python watch.py LAUNCHER WHAT [SIGNAL ...]`` starts two ranks of ``rank.py WHAT``, sends the signals to the launcher
once both run (half a second between two, or less if it has ended), waits for its end, and prints as JSON: how it
ended, after how many seconds, its output, what the ranks say, and which processes are left two seconds later. Those
are ended then, by pid: this process adopts whatever the launcher leaves. ``LONGEST`` and ``SETTLE`` in the environment
are how many seconds it waits for the end at most, and for what is left; ``MORE`` a JSON list of more arguments.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = Path(sys.executable)
RANK = str(HERE / "rank.py")
PR_SET_CHILD_SUBREAPER = 36
LONGEST, SETTLE = float(os.environ.get("LONGEST", "100")), float(os.environ.get("SETTLE", "2"))
MORE: list[str] = json.loads(os.environ.get("MORE", "[]"))
BETWEEN = 0.5
LAUNCHERS = {
    "torchrun": [str(PYTHON), "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", RANK],
    "torchrun-restarts": [
        *(str(PYTHON), "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "--max-restarts=1", RANK)
    ],
    "torchrun-restarts-own-store": [
        *("env", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1", str(PYTHON), "-m", "torch.distributed.run"),
        *("--nproc-per-node=2", "--standalone", "--max-restarts=1", RANK),
    ],
    "torchrun-nodes": [str(PYTHON), str(HERE / "two_nodes.py"), RANK],
    "accelerate": [
        *(str(PYTHON), "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"),
        *("--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", RANK),
    ],
    "ft_launcher": [
        *(str(PYTHON), "-m", "nvidia_resiliency_ext.fault_tolerance.launcher", "--nproc-per-node=2", "--standalone"),
        *("--ignore-missing-fault-tol-cfg", RANK),
    ],
    "torchrunx": [str(PYTHON), str(HERE / "torchrunx_job.py")],
    "ray": [str(PYTHON), str(HERE / "ray_job.py")],
    "mpirun": ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", str(PYTHON), "-u", RANK],
}


def watch(launcher: str, what: str, *signals: str) -> dict[str, object]:
    """Run it, end what it leaves, and say what was seen."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as directory:
        says = Path(directory) / "says"
        says.mkdir()
        environment = {**os.environ, "SAYS": str(says), "TMPDIR": directory}
        output = Path(directory) / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*LAUNCHERS[launcher], what, *MORE],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            seen = _follow(process, says, signals, what)
        finally:
            ended = _end_all()
        seen["ended_by_hand"] = ended
        seen["ranks"] = {path.name: path.read_text().split("\n")[:-1] for path in sorted(says.iterdir())}
        seen["output"] = output.read_text(errors="replace").split("\n")
    return seen


def _follow(process: subprocess.Popen[bytes], says: Path, signals: tuple[str, ...], what: str) -> dict[str, object]:
    started = time.monotonic()
    pidfd = os.pidfd_open(process.pid)
    try:
        if signals:
            word = "busy" if what.endswith("busy") else "started"
            while not _both(says, word) and not _ended(pidfd, 0.05):
                if time.monotonic() - started > LONGEST:
                    break
        asked = time.monotonic()
        for name in signals:
            with suppress(ProcessLookupError):
                process.send_signal(signal.Signals[name])
            _ended(pidfd, BETWEEN)
        over = _ended(pidfd, LONGEST - (time.monotonic() - started))
        ended = time.monotonic()
        exit_code = process.wait() if over else None
    finally:
        os.close(pidfd)
    while descendants() and time.monotonic() < ended + SETTLE:
        _reap()
        select.select([], [], [], 0.05)
    left = [command for _, command in descendants()]
    return {"exit": exit_code, "seconds": ended - started, "after_signal": ended - asked, "left": left}


def _both(says: Path, word: str) -> bool:
    files = [says / f"rank-{rank}" for rank in range(2)]
    return all(path.is_file() and word in path.read_text().split("\n") for path in files)


def _ended(pidfd: int, seconds: float) -> bool:
    return bool(select.select([pidfd], [], [], max(0.0, seconds))[0])


def descendants() -> list[tuple[int, str]]:
    """Whoever descends from us and lives, with its command line."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents[int(entry.name)] = int(parent)
    found = []
    for pid in sorted(parents):
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != above:
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                found.append((pid, " ".join(words).strip()))
    return found


def _end_all() -> list[str]:
    ended = []
    until = time.monotonic() + 10
    while (alive := descendants()) and time.monotonic() < until:
        for pid, command in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            ended.append(command)
        select.select([], [], [], 0.05)
        _reap()
    _reap()
    return sorted(set(ended))


def _reap() -> None:
    """Take in whoever of those that were left to us has ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # noqa: TID251 - adopted, nobody else's
            pass


if __name__ == "__main__":
    json.dump(watch(*sys.argv[1:]), sys.stdout, indent=1)
    print()
