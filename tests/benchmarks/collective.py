"""One test body, a gloo all_reduce on some ranks, as launchers for tests run it, and as bare forks do, the floor.

PYTHONPATH=tests python -m benchmarks.collective
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RANKS = 4
PRELOAD = ("torch", "torch.distributed", "argparse", "statistics", "subprocess", "tempfile", "unittest")
"""What this module imports: at its top, and where it is needed."""
LOOPBACK = "lo"


def all_reduce(rank: int, ranks: int, store: str) -> float:
    """A process group over a file, one all_reduce, and the end of the group."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    tensor = torch.full((8,), float(rank))
    dist.all_reduce(tensor)
    dist.destroy_process_group()
    return float(tensor[0])


def from_mp_spawn(rank: int, ranks: int, store: str) -> None:
    """The body as ``torch.multiprocessing.spawn`` calls it."""
    assert all_reduce(rank, ranks, store) == sum(range(ranks))


def by_fork(directory: Path) -> None:
    """Bare forks of this process, which has imported torch, and a wait for each of them."""
    import torch.distributed  # noqa: F401 - what the forks are to have

    store = str(directory / "store")
    children = []
    for rank in range(RANKS):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if all_reduce(rank, RANKS, store) == sum(range(RANKS)) else 1
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitid(os.P_PID, pid, os.WEXITED).si_status for pid in children]
    assert codes == [0] * RANKS


def by_derail(method: str) -> Callable[[Path], None]:
    """``start_processes`` with a start method."""

    def run(directory: Path) -> None:
        from derail import DefaultLogsSpecs, start_processes

        ranks = range(RANKS)
        context = start_processes(
            "bench",
            all_reduce,
            {rank: (rank, RANKS, str(directory / "store")) for rank in ranks},
            {rank: {"RANK": str(rank)} for rank in ranks},
            DefaultLogsSpecs(str(directory / "logs")),
            start_method=method,
            **({"preload": PRELOAD} if method == "warm" else {}),
        )
        result = context.wait(120)
        assert result is not None
        assert result.return_values == dict.fromkeys(ranks, sum(ranks)), result

    return run


def by_mp_spawn(directory: Path) -> None:
    """What torch itself offers."""
    import torch.multiprocessing

    torch.multiprocessing.spawn(from_mp_spawn, (RANKS, str(directory / "store")), nprocs=RANKS)


def by_test_case(_: Path) -> None:
    """The class of torch for its own tests, run by unittest."""
    from benchmarks.torch_case import AllReduce

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        result = unittest.TextTestRunner(stream=said).run(unittest.defaultTestLoader.loadTestsFromTestCase(AllReduce))
    assert result.wasSuccessful(), said.getvalue()
    assert result.testsRun == 1


WAYS: dict[str, Callable[[Path], None]] = {
    "bare fork": by_fork,
    "derail warm": by_derail("warm"),
    "derail spawn": by_derail("spawn"),
    "mp.spawn": by_mp_spawn,
    "MultiProcessTestCase": by_test_case,
}


FAST = ("bare fork", "derail warm")


def measure(name: str) -> float:
    """Seconds that one test takes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        begun = time.monotonic()
        WAYS[name](Path(directory))
        return time.monotonic() - begun


class Process:
    """A process that has imported what the tests of one way need, and measures on order."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, "-m", "benchmarks.collective", "--serve", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self) -> float:
        """Seconds that one test takes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def serve(name: str) -> None:
    """Measure for each line on stdin. The first test counts for nothing: it imports and starts what is kept."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch.distributed  # noqa: F401 - what is there in the process of a test suite

    if name in FAST:
        measure(name)
    elif name == "MultiProcessTestCase":
        import benchmarks.torch_case  # noqa: F401 - not a part of the test
    for _ in sys.stdin:
        print(measure(name), file=answers, flush=True)


def compare(rounds: int, slow_rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, in turns: a slow minute of the machine hits all alike."""
    names = [name for name in WAYS if name != "MultiProcessTestCase" or importlib.util.find_spec("expecttest")]
    found: dict[str, list[float]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        processes = {name: Process(name) for name in names}
        for process in processes.values():
            stack.callback(process.close)
        for turn in range(max(rounds, slow_rounds)):
            for name in names[:: -1 if turn % 2 else 1]:
                if turn < (rounds if name in FAST else slow_rounds):
                    found[name].append(processes[name].measure())
    return found


def table(found: dict[str, list[float]]) -> str:
    """Markdown: medians and ratios."""
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    floor, slowest = medians["bare fork"], medians.get("MultiProcessTestCase")
    lines = [
        f"| gloo all_reduce, {RANKS} ranks | seconds (median) | least | rounds | x bare fork | torch's class / this |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, median in medians.items():
        least, ratio = min(found[name]), "-" if slowest is None else f"{slowest / median:.3g}"
        lines.append(f"| {name} | {median:.3f} | {least:.3f} | {len(found[name])} | {median / floor:.3g} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="of forked ranks")
    parser.add_argument("--slow-rounds", type=int, default=3, help="of spawned ranks")
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    load = os.getloadavg()[0]
    print(table(compare(given.rounds, given.slow_rounds)))
    print(f"\n{os.cpu_count()} cores, load before {load:.2f}, after {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
