"""Runs the plan on all launchers in turns, each in a process of its own, and prints one table.

PYTHONPATH=tests python -m benchmarks.compare --rounds 5 --json result.json
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import os
import platform
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.launchers import NAMES
from benchmarks.plan import Measurement, Row, plan

TESTS = Path(__file__).resolve().parents[1]
MARK = "DERAIL_BENCHMARK"
START_DEADLINE = 180.0

IMPORTS = {
    ("derail", "module"): "import derail",
    ("derail", "start_processes"): "from derail import start_processes",
    ("torch", "module"): "import torch.distributed.elastic.multiprocessing",
    ("torch", "start_processes"): "from torch.distributed.elastic.multiprocessing import start_processes",
}


class Resident:
    """One launcher's process; a new one takes its place if it does not answer in time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._mark = f"{name}-{uuid.uuid4().hex}"
        self._process: subprocess.Popen[str] | None = None
        self._complaints = tempfile.TemporaryFile("w+")  # launchers tell of every rank that they stop

    def ask(self, measurement: Measurement, options: dict[str, Any]) -> dict[str, float]:
        """The numbers; empty if there was no answer within the deadline."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = measurement.deadline + START_DEADLINE
        try:
            process.stdin.write(json.dumps({"measure": measurement.measure, "options": options}) + "\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], deadline)[0]:
                answer: dict[str, float] = json.loads(process.stdout.readline() or "{}")
                if answer:
                    return answer
        except BrokenPipeError:
            pass
        self._complaints.seek(0)
        said = self._complaints.read()[-4000:]
        print(f"{self.name}: no answer to {measurement.measure} {options}\n{said}", file=sys.stderr)
        self._end(patience=0)
        return {}

    def close(self) -> None:
        """End the process, and whatever it started."""
        self._end(patience=30)
        self._complaints.close()

    def _end(self, *, patience: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        _end_marked(f"{MARK}={self._mark}".encode())

    def _start(self) -> subprocess.Popen[str]:
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONUNBUFFERED", "TORCHELASTIC_ERROR_FILE")}
        path = os.pathsep.join([str(TESTS), *filter(None, [env.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.resident", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=env | {"PYTHONPATH": path, MARK: self._mark},
            start_new_session=True,
        )
        return self._process


def _end_marked(mark: bytes) -> None:
    """SIGKILL to processes that have our mark in their environment: ranks of a launcher that was ended."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                os.kill(int(name), signal.SIGKILL)
        except OSError:
            continue


class Imports:
    """Import times in fresh interpreters. All have their byte code, as after an installation by pip."""

    def __init__(self) -> None:
        self._cache = tempfile.TemporaryDirectory(prefix="bench-")

    def measure(self, name: str, what: str) -> dict[str, float]:
        """Wall and CPU milliseconds beyond what a bare interpreter takes right before."""
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        if name == "derail":  # an editable checkout has none otherwise
            env["PYTHONPYCACHEPREFIX"] = self._cache.name
            if not os.listdir(self._cache.name):
                self._run(IMPORTS[name, "start_processes"], env)
        bare, full = self._run("pass", env), self._run(IMPORTS[name, what], env)
        return {"wall": full[0] - bare[0], "cpu": full[1] - bare[1]}

    def close(self) -> None:
        """Remove the byte code."""
        self._cache.cleanup()

    @staticmethod
    def _run(statement: str, env: dict[str, str]) -> tuple[float, float]:
        begun = time.monotonic_ns()
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", f"{statement}\nimport os; os._exit(0)"], env)
        _, status, usage = os.wait4(pid, 0)
        assert status == 0, statement
        return (time.monotonic_ns() - begun) / 1e6, (usage.ru_utime + usage.ru_stime) * 1e3


@dataclass
class Results:
    """All numbers of a run: by row, by launcher, one per round."""

    names: list[str]
    about: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    numbers: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def median(self, row: Row, name: str) -> float | None:
        """None where there is no number."""
        found = self.numbers[row.text].get(name)
        return statistics.median(found) if found else None


def run(*, rounds: int, short: bool, names: list[str], only: str = "", seed: int = 1) -> Results:
    """Measure all, in turns: a slow minute of the machine hits all launchers alike."""
    chosen = [each for each in plan(short=short) if only in each.measure]
    results = Results(names, _about(rounds, names))
    results.rows = [row for each in chosen for row in each.rows]
    results.numbers = {row.text: {name: [] for name in names} for row in results.rows}
    delays = random.Random(seed)
    with ExitStack() as stack:
        residents = {name: Resident(name) for name in names}
        for resident in residents.values():
            stack.callback(resident.close)
        imports = Imports()
        stack.callback(imports.close)
        for turn in range(rounds):
            for each in chosen:
                delay = (delays.random() + turn % 2) / 2  # over one whole second, torch's period, and alike for all
                for name in [*names[turn % len(names) :], *names[: turn % len(names)]]:
                    if name in each.skip:
                        continue
                    options = each.options | ({"delay": 0.1 + delay} if each.delays else {})
                    is_import = each.measure == "import"
                    answer = imports.measure(name, **options) if is_import else residents[name].ask(each, options)
                    for row in each.rows:
                        if row.key in answer:
                            results.numbers[row.text][name].append(answer[row.key])
    results.about["load after"] = os.getloadavg()[0]
    return results


def _about(rounds: int, names: list[str]) -> dict[str, Any]:
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "rounds": rounds,
        "cores": os.cpu_count(),
        "load before": os.getloadavg()[0],
        "python": platform.python_version(),
        "kernel": platform.release(),
        **{name: version(name) for name in names if name != "floor"},
    }


def verdict(row: Row, floor: float | None, derail: float | None, torch: float | None) -> str:
    """Whether an aim is met, as the table says it; empty where there is none or it cannot be told."""
    if derail is None or not row.aim:
        return ""
    text, reference, limit = {
        "floor x": (f"<= {row.bound:g} x floor", floor, row.bound),
        "torch /": (f"<= torch / {row.bound:g}".removesuffix(" / 1"), torch, 1 / (row.bound or 1)),
        "torch x": (">= torch", torch, row.bound),
        "exactly": (f"= {row.bound:g}", row.bound, 1),
    }[row.aim]
    if reference is None:
        return text
    is_met = derail == row.bound if row.aim == "exactly" else derail <= limit * reference
    if row.aim == "torch x":
        is_met = derail >= limit * reference
    return f"{text}: {'met' if is_met else f'NOT MET: {row.why}'.rstrip(': ')}"


def table(results: Results) -> str:
    """Markdown: medians, ratios, aims."""
    lines = ["| | floor | derail | torch | derail/floor | torch/derail | aim |", "|---|--:|--:|--:|--:|--:|---|"]
    for row in results.rows:
        floor, derail, torch = (results.median(row, name) for name in NAMES)
        cells = [
            f"{row.text} ({row.unit})" if row.unit else row.text,
            *map(_number, (floor, derail, torch)),
            _number(derail / floor if derail is not None and floor else None),
            _number(torch / derail if derail and derail > 0 and torch is not None else None),
            verdict(row, floor, derail, torch),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    about = ", ".join(f"{k} {_number(v) if isinstance(v, float) else v}" for k, v in results.about.items())
    missing = "" if "torch" in results.names else "\nWithout torch: only derail and the floor were measured."
    return "\n".join(lines) + f"\n\nMedians of {results.about['rounds']} round(s). {about}.{missing}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def installed() -> list[str]:
    """The launchers that can be measured here."""
    return [name for name in NAMES if name != "torch" or importlib.util.find_spec("torch") is not None]


def to_json(results: Results) -> str:
    """Every number of every round."""
    return json.dumps({"about": results.about, "numbers": results.numbers}, indent=1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="few ranks, few lines")
    parser.add_argument("--only", default="", help="measurements whose name contains this")
    parser.add_argument("--names", nargs="+", default=installed(), choices=NAMES)
    parser.add_argument("--json", type=Path, help="every number goes to this file")
    given = parser.parse_args()
    results = run(rounds=given.rounds, short=given.short, names=given.names, only=given.only)
    print(table(results))
    if given.json:
        given.json.write_text(to_json(results))


if __name__ == "__main__":
    main()
