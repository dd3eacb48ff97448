"""What faults cost where none acts: the start of an interpreter, and a call of ``fail_point``, next to bare ones.

PYTHONPATH=tests python -m benchmarks.disarmed --rounds 40
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from derail import faults, when
from derail.faults.engine.prepare import SITE, environment
from program_files import program_text

STARTS = ("bare", "no plan", "a plan for others")
CALLS = ("an empty function", "fail_point, no runtime", "fail_point, other points armed")
FACTS = program_text("benchmarks/host_facts")
POINTS = program_text("benchmarks/fail_points")


def environments(directory: Path) -> dict[str, dict[str, str]]:
    """The environment of each kind of rank; Python is told to read no files of a user."""
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DERAIL_INRANK", "RANK")}
    journal = directory / "journal.jsonl"
    journal.touch()
    plan = faults.plan([faults.exit(7, rank=1, when=when.point("never"))])
    given = environment(plan, (0, 1), journal=journal, job="benchmark", environ={})
    return {
        "bare": bare,
        "no plan": {**bare, "PYTHONPATH": str(SITE)},
        "a plan for others": {**bare, **given, "RANK": "0"},
        "a plan": {**bare, **given, "RANK": "1"},
    }


def facts(env: dict[str, str]) -> dict[str, list[str] | int]:
    """What stands in an interpreter that was started so."""
    ran = subprocess.run([sys.executable, "-c", FACTS], env=env, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, list[str] | int] = json.loads(ran.stdout)
    return found


def start_times(envs: dict[str, dict[str, str]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds from the start to the end of ``python -c pass``; in each round all kinds, in another order."""
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name in random.sample(STARTS, len(STARTS)):
            before = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], env=envs[name], check=True, timeout=60)
            times[name].append((time.perf_counter() - before) * 1000)
    return times


def call_times(envs: dict[str, dict[str, str]], rounds: int, calls: int) -> tuple[dict[str, list[float]], list[str]]:
    """Nanoseconds per call, without those of the loop; and the points that were armed in the rank with a plan."""
    times: dict[str, list[float]] = {name: [] for name in CALLS}
    armed: list[str] = []
    for _ in range(rounds):
        for name in ("bare", "a plan"):
            ran = subprocess.run(
                [sys.executable, "-c", POINTS, str(calls)], env=envs[name], capture_output=True, text=True, check=True,
                timeout=120,
            )  # fmt: skip
            empty, fail_point, points = json.loads(ran.stdout)
            times[CALLS[0]].append(empty)
            times[CALLS[1] if name == "bare" else CALLS[2]].append(fail_point)
            armed = points if name == "a plan" else armed
    return times, armed


def table(title: str, unit: str, times: dict[str, list[float]]) -> str:
    """Medians, and how many times the first one's each is."""
    medians = {name: statistics.median(found) for name, found in times.items()}
    first = next(iter(medians.values()))
    lines = [f"| {title} | median ({unit}) | ratio | least | most |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {median:.2f} | {median / first:.3f} | {min(times[name]):.2f} | {max(times[name]):.2f} |"
        for name, median in medians.items()
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=1_000_000)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        envs = environments(Path(directory))
        print(table("start of Python", "ms", start_times(envs, given.rounds)))
        print()
        times, _ = call_times(envs, max(3, given.rounds // 10), given.calls)
        print(table("one call", "ns", times))


if __name__ == "__main__":
    main(sys.argv[1:])
