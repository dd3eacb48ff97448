"""What ``derail[pytest]`` costs a suite that does not use it: pytest's start, and a public suite's outcomes, in two
fresh environments, one without it and one with it.

PYTHONPATH=tests python -m benchmarks.installed --rounds 20
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
SUITE = ("toolz", "toolz.tests")
"""A pure Python package whose wheel has its tests, and the package of these."""

WITHOUT, WITH = "without", "with derail[pytest]"
AIM = 20.0
"""Milliseconds."""


def environment(folder: Path, *requirements: str) -> Path:
    """A fresh environment with pytest, the public package and what else is required; its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "pytest", SUITE[0], *requirements], check=True)
    return python


def start(python: Path, folder: Path, *options: str) -> tuple[float, float]:
    """Wall and CPU milliseconds of a pytest that runs one test which asserts nothing."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_nothing.py"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=folder, env=_clean(), check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * wall, 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def starts(ways: dict[str, tuple[Path, tuple[str, ...]]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Every way in turns. The first round counts for nothing: it writes byte code."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder, "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        for turn in range(rounds + 1):
            for name, (python, options) in list(ways.items())[:: -1 if turn % 2 else 1]:
                taken = start(python, Path(folder), *options)
                if turn:
                    found[name].append(taken)
    return found


def outcomes(python: Path) -> dict[str, str]:
    """What each test of the public suite comes to."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--junitxml=report.xml",
            "--pyargs",
            SUITE[1],
        ]
        subprocess.run(command, cwd=folder, env=_clean(), check=False, stdout=subprocess.DEVNULL)
        return outcomes_of(Path(folder, "report.xml"))


def outcomes_of(report: Path) -> dict[str, str]:
    """The same, from JUnit XML."""
    return {
        f"{case.get('classname')}::{case.get('name')}": "passed"
        if (told := next(iter(case), None)) is None
        else told.tag
        for case in ET.parse(report).iter("testcase")
    }


def _clean() -> dict[str, str]:
    """The environment without what would change pytest, or which modules are found."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "DERAIL"))}


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """Markdown: medians, and the median of the differences to the first way within each round."""
    first = next(iter(found.values()))
    lines = ["| start of pytest | wall (ms) | more | CPU (ms) | more |", "|---|--:|--:|--:|--:|"]
    for name, taken in found.items():
        cells = []
        for part in (0, 1):
            median = statistics.median(each[part] for each in taken)
            more = statistics.median(each[part] - base[part] for each, base in zip(taken, first, strict=True))
            cells += [f"{median:.0f}", f"{more:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Tests that came to something else, or are there only once."""
    names = sorted({*before, *after})
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--pythons",
        nargs=2,
        type=lambda text: Path(text).absolute(),
        help="environments that are there, without derail and with it",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bare, full = given.pythons or (
            environment(Path(folder, "without")),
            environment(Path(folder, "with"), f"derail[pytest] @ {ROOT.as_uri()}"),
        )
        ways: dict[str, tuple[Path, tuple[str, ...]]] = {
            WITHOUT: (bare, ()),
            "with what derail[pytest] requires, and not derail's own plugin": (full, ("-p", "no:derail")),
            WITH: (full, ()),
        }
        found = starts(ways, given.rounds)
        before, after = outcomes(bare), outcomes(full)
    print(table(found))
    more = statistics.median(each[1] - base[1] for each, base in zip(found[WITH], found[WITHOUT], strict=True))
    print(f"\n- less than {AIM:g} ms more CPU: {more:.1f}: {'met' if more < AIM else 'NOT MET'}")
    counts = ", ".join(f"{number} {name}" for name, number in sorted(Counter(before.values()).items()))
    differing = changed(before, after)
    print(f"\n{SUITE[1]}: {len(before)} tests ({counts}); {len(differing)} come to something else with derail[pytest]")
    for name, (was, now) in differing.items():
        print(f"- {name}: {was} -> {now}")


if __name__ == "__main__":
    main()
