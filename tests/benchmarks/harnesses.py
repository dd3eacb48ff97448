"""The tests of docs/examples/suite in torch's own classes for tests, in derail's pytest plugin, and in bare forks: the
floor. One run, in turns; medians and ratios.

PYTHONPATH=tests python -m benchmarks.harnesses
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks import bodies

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.bodies import Case

ONE = "test_all_reduce_adds_what_the_ranks_have_0"
"""The test that all harnesses run: a gloo all_reduce on 4 ranks."""

UNFIT_FOR_KEPT = ("test_a_group_is_there_only_where_it_is_asked_for_0",)
"""Where the group is kept it is there."""

UNFIT_FOR_DAEMONS = ("test_workers_of_a_loader_belong_to_their_rank_0",)
"""The ranks of MultiProcContinuousTest are daemons and may have no children; after that none of its tests passes."""

DEADLINE = 200.0
"""Seconds for one test."""


class Way(Protocol):
    """One harness."""

    def run(self, case: Case) -> float:
        """Run one test; return the seconds that it took.

        Raises:
            AssertionError: if the test did not come to what it should.
        """
        ...

    def close(self) -> None:
        """End what is kept."""
        ...


class BareFork:
    """Forks of this process, which has imported what the suite preloads, and a wait for each: the floor."""

    def run(self, case: Case) -> float:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            begun = time.monotonic()
            children = [_fork(partial(bodies.run_alone, case, rank, Path(folder))) for rank in range(case.ranks)]
            codes = [os.waitid(os.P_PID, pid, os.WEXITED).si_status for pid in children]
            taken = time.monotonic() - begun
        assert codes == [0] * case.ranks
        return taken

    def close(self) -> None:
        """Nothing is kept."""


class KeptForks:
    """A message to forked ranks that have a group, and one back from each: the floor of reused ranks."""

    def __init__(self) -> None:
        self._kept: dict[int, list[_KeptRank]] = {}
        self._stack = contextlib.ExitStack()

    def run(self, case: Case) -> float:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            begun = time.monotonic()
            if case.ranks not in self._kept:
                self._kept[case.ranks] = self._forked(case.ranks)
            for rank in self._kept[case.ranks]:
                os.write(rank.orders, f"{case.id} {folder}\n".encode())
            answers = [os.read(rank.answers, 1) for rank in self._kept[case.ranks]]
            taken = time.monotonic() - begun
        assert answers == [b"+"] * case.ranks
        return taken

    def _forked(self, ranks: int) -> list[_KeptRank]:
        store = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))) / "store"
        return [_KeptRank.forked(rank, ranks, store) for rank in range(ranks)]

    def close(self) -> None:
        for rank in [rank for ranks in self._kept.values() for rank in ranks]:
            os.close(rank.orders)
            os.close(rank.answers)
        for rank in [rank for ranks in self._kept.values() for rank in ranks]:
            os.waitid(os.P_PID, rank.pid, os.WEXITED)
        self._stack.close()


@dataclass(frozen=True, slots=True)
class _KeptRank:
    pid: int
    orders: int
    answers: int

    @classmethod
    def forked(cls, rank: int, ranks: int, store: Path) -> _KeptRank:
        theirs, orders = os.pipe()
        answers, back = os.pipe()

        def serve_cases() -> None:
            os.close(orders)
            found = bodies.cases()
            with open(theirs) as orders_file, bodies.gloo(store, rank, ranks):
                for line in orders_file:
                    case, folder = line.split()
                    bodies.run(found[case], rank=rank, group=None, directory=Path(folder))
                    os.write(back, b"+")

        pid = _fork(serve_cases)
        os.close(theirs)
        os.close(back)
        return cls(pid, orders, answers)


def _fork(run: Any) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    return pid


class StartProcesses:
    """derail's warm ranks without pytest."""

    def run(self, case: Case) -> float:
        from derail import DefaultLogsSpecs, start_processes

        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            ranks = range(case.ranks)
            begun = time.monotonic()
            result = start_processes(
                "bench",
                bodies.run_alone,
                {rank: (case, rank, Path(folder)) for rank in ranks},
                {rank: {"RANK": str(rank)} for rank in ranks},
                DefaultLogsSpecs(str(Path(folder) / "logs")),
                start_method="warm",
                preload=(*bodies.PRELOAD, "benchmarks.bodies"),
            ).wait(DEADLINE)
            taken = time.monotonic() - begun
        assert result is not None
        assert not result.is_failed(), result
        return taken

    def close(self) -> None:
        from derail.spawn.zygote import warm

        warm.end_idle()


class TorchSpawned:
    """``MultiProcessTestCase``."""

    def run(self, case: Case) -> float:
        from benchmarks.torch_classes import Spawned

        return _unittest(Spawned(case.id))

    def close(self) -> None:
        """Nothing is kept."""


class TorchKept:
    """``MultiProcContinuousTest``, with a class for each number of ranks."""

    def __init__(self) -> None:
        self._classes: list[Any] = []

    def run(self, case: Case) -> float:
        from benchmarks.torch_classes import class_of_kept

        found = class_of_kept(case.ranks)
        if found not in self._classes:
            found.setUpClass()
            self._classes.append(found)
        return _unittest(found(case.id))

    def close(self) -> None:
        for each in self._classes:
            each.tearDownClass()


def _unittest(test: unittest.TestCase) -> float:
    result = unittest.TestResult()
    begun = time.monotonic()
    test.run(result)
    taken = time.monotonic() - begun
    assert (result.testsRun, result.errors, result.failures, result.skipped) == (1, [], [], [])
    return taken


WAYS: dict[str, Any] = {
    "bare fork": BareFork,
    "kept forks": KeptForks,
    "derail reused": {"reuse": "module", "start_method": "warm"},
    "derail warm": {"reuse": None, "start_method": "warm"},
    "derail warm, start_processes": StartProcesses,
    "derail spawn": {"reuse": None, "start_method": "spawn"},
    "MultiProcContinuousTest": TorchKept,
    "MultiProcessTestCase": TorchSpawned,
}
KEEPING = ("kept forks", "derail reused", "MultiProcContinuousTest")
SLOW = ("derail spawn", "MultiProcessTestCase")
OF_TORCH = ("MultiProcContinuousTest", "MultiProcessTestCase")
FLOORS = {"derail reused": "kept forks", "MultiProcContinuousTest": "kept forks"}


def serve(name: str) -> None:
    """Run a test for each order on stdin, in a process that has imported what a suite imports."""
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for module in bodies.PRELOAD:
        importlib.import_module(module)
    if isinstance(WAYS[name], dict):
        _serve_pytest(orders, answers, **WAYS[name])
        return
    found, way = bodies.cases(), WAYS[name]()
    if name in OF_TORCH:
        import benchmarks.torch_classes  # noqa: F401 - not a part of the test
    try:
        for line in orders:
            try:
                told = {"seconds": way.run(found[json.loads(line)["case"]]), "problem": ""}
            except AssertionError as error:
                told = {"seconds": None, "problem": repr(error)}
            print(json.dumps(told), file=answers, flush=True)
    finally:
        way.close()


def _serve_pytest(orders: Any, answers: Any, *, reuse: str | None, start_method: str) -> None:
    import pytest

    from benchmarks.driven import Driven

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with tempfile.TemporaryDirectory(prefix="bench-") as base:
        os.chdir(bodies.SUITE)
        pytest.main(
            ["-q", "-p", "no:cacheprovider", "-p", "pytest_derail.plugin", f"--basetemp={base}/tmp",
             f"--derail-start-method={start_method}"],
            plugins=[Driven(orders, answers, reuse)],
        )  # fmt: skip


class Server:
    """A process that runs tests in one way."""

    def __init__(self, name: str) -> None:
        self.name = name
        # With -m, spawned and warm ranks would import this module once more, as their __main__.
        command = [sys.executable, "-c", f"from benchmarks.harnesses import serve; serve({name!r})"]
        # Else modules would be rewritten in each rank, and not once.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, case: Case) -> float:
        """Seconds that the test takes.

        Raises:
            AssertionError: if it did not pass, or did not end.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"case": case.id}), file=self._process.stdin, flush=True)
        ready = select.select([self._process.stdout], [], [], DEADLINE)[0]
        line = self._process.stdout.readline() if ready else ""
        told = json.loads(line or '{"problem": "its process ended, or hangs"}')
        assert told["problem"] == "", f"{self.name}: {case.id}: {told['problem']}"
        return float(told["seconds"])

    def close(self) -> None:
        """End it."""
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@dataclass
class Results:
    """Seconds of each way and case, in the order in which they were measured; the first is apart."""

    first: dict[str, float] = field(default_factory=dict)
    later: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def median(self, way: str, case: str) -> float | None:
        """The median of all but the first test."""
        found = self.later.get(way, {}).get(case)
        return statistics.median(found) if found else None


def compare(names: Sequence[str], chosen: Sequence[Case], *, rounds: int, slow_rounds: int) -> Results:
    """Run the cases in all ways, in turns: a slow minute of the machine hits all alike."""
    results = Results()
    one = bodies.cases()[ONE]
    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in names:
            servers[name] = Server(name)
            stack.callback(servers[name].close)
        for name, server in servers.items():
            results.first[name] = server.run(one)
            results.later[name] = {}
        for turn in range(max(rounds, slow_rounds)):
            for name, server in list(servers.items())[:: -1 if turn % 2 else 1]:
                for case in chosen if name not in SLOW else [case for case in chosen if case.id == ONE]:
                    if turn < (slow_rounds if name in SLOW else rounds) and not _unfit(name, case):
                        results.later[name].setdefault(case.id, []).append(server.run(case))
    return results


def _unfit(name: str, case: Case) -> bool:
    daemons = name == "MultiProcContinuousTest" and case.id in UNFIT_FOR_DAEMONS
    return daemons or (name in KEEPING and case.id in UNFIT_FOR_KEPT)


def installed() -> list[str]:
    """The ways that can run here: torch's classes need expecttest."""
    torchs = importlib.util.find_spec("expecttest") is not None
    return [name for name in WAYS if torchs or name not in OF_TORCH]


def table_of_one(results: Results) -> str:
    """Markdown: what the one test costs in each way; medians, the first test apart."""
    slowest = results.median("MultiProcessTestCase", ONE)
    lines = [
        "| gloo all_reduce, 4 ranks | first test (s) | a test (ms) | least | runs | x floor | ms more | torch / this |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, first in results.first.items():
        median, floor = results.median(name, ONE), results.median(FLOORS.get(name, "bare fork"), ONE)
        if median is None:
            continue
        times, least = len(results.later[name][ONE]), 1000 * min(results.later[name][ONE])
        ratio, over = ("-", "-") if floor is None else (f"{median / floor:.3g}", f"{1000 * (median - floor):.1f}")
        torchs = "-" if slowest is None else f"{slowest / median:.3g}"
        lines.append(
            f"| {name} | {first:.2f} | {1000 * median:.1f} | {least:.1f} | {times} | {ratio} | {over} | {torchs} |"
        )
    return "\n".join(lines)


def table_of_all(results: Results, chosen: Sequence[Case]) -> str:
    """Markdown: the whole suite in the ways that are fast enough; medians over tests of medians over rounds."""
    lines = [
        f"| {len(chosen)} tests of the suite | a test (ms) | slowest (ms) | sum (s) | x floor | ms more | tests |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in results.later:
        if name in SLOW:
            continue
        medians = {case.id: median for case in chosen if (median := results.median(name, case.id)) is not None}
        pairs = [
            (median, floor)
            for case, median in medians.items()
            if (floor := results.median(FLOORS.get(name, "bare fork"), case)) is not None
        ]
        values = list(medians.values())
        ratio = statistics.median(median / floor for median, floor in pairs) if pairs else float("nan")
        over = statistics.median(median - floor for median, floor in pairs) if pairs else float("nan")
        lines.append(
            f"| {name} | {1000 * statistics.median(values):.1f} | {1000 * max(values):.0f} | {sum(values):.1f} | "
            f"{ratio:.3g} | {1000 * over:.1f} | {len(values)} |"
        )
    return "\n".join(lines)


def verdicts(results: Results) -> Iterator[str]:
    """What was aimed at, and whether it was met in this run."""
    warm, fork = results.median("derail warm", ONE), results.median("bare fork", ONE)
    torchs, reused, kept = (
        results.median(name, ONE) for name in ("MultiProcessTestCase", "derail reused", "kept forks")
    )
    if warm is not None and torchs is not None:
        yield _verdict("warm <= MultiProcessTestCase / 60", f"/ {torchs / warm:.3g}", met=warm <= torchs / 60)
    if warm is not None and fork is not None:
        yield _verdict("warm <= 1.5 x bare fork", f"x {warm / fork:.3g}", met=warm <= 1.5 * fork)
    if reused is not None and kept is not None:
        over = 1000 * (reused - kept)
        yield _verdict("reused <= 10 ms over kept forks", f"{over:.1f} ms", met=over <= 10)


def _verdict(aim: str, found: str, *, met: bool) -> str:
    return f"- {aim}: {found}: {'met' if met else 'NOT MET'}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of fast ways")
    parser.add_argument("--slow-rounds", type=int, default=2, help="of spawned ranks")
    parser.add_argument("--all", action="store_true", help="all tests of the suite in the fast ways, and not just one")
    parser.add_argument("--names", nargs="+", choices=WAYS, help="only these ways")
    given = parser.parse_args()
    found = bodies.cases()
    chosen = list(found.values()) if given.all else [found[ONE]]
    load = os.getloadavg()[0]
    names = given.names or installed()
    results = compare(names, chosen, rounds=given.rounds, slow_rounds=given.slow_rounds)
    print(table_of_one(results))
    if given.all:
        print(f"\n{table_of_all(results, chosen)}")
    else:  # among all tests, that one is the first of its module: kept ranks are started for it
        print("", *verdicts(results), sep="\n")
    print(f"\n{os.cpu_count()} cores, load before {load:.2f}, after {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
