"""Tests of torch's classes under their own runner and adopted by derail's plugin: verdicts and times of one run.

PYTHONPATH=tests python -m benchmarks.adopted [-k EXPRESSION]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree as ET

from program_files import program_text

SUITE = "suites/adopt/torch_classes"
WAYS = {"own runner": [], "adopted": ["-p", "pytest_derail.adopt"]}
KINDS = ("failure", "error", "skipped")


def run(folder: Path, way: str, expression: str) -> tuple[float, dict[str, str], dict[str, float]]:
    """Return the seconds of the session, and for each test its verdict and its seconds."""
    report = folder / f"{way.replace(' ', '-')}.xml"
    options = ["-p", "no:cacheprovider", "-p", "pytest_derail.plugin", *WAYS[way], "-q", f"--junitxml={report}"]
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-k", expression, str(folder / "test_suite.py")],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(folder)},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    taken = time.monotonic() - begun
    cases = {f"{case.get('classname')}.{case.get('name')}": case for case in ET.parse(report).iter("testcase")}
    verdicts = {name: next((each.tag for each in case if each.tag in KINDS), "passed") for name, case in cases.items()}
    return taken, verdicts, {name: float(case.get("time", 0)) for name, case in cases.items()}


def main() -> int:
    """Print a table; return 1 if any verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", dest="expression", default="", help="the tests to run; default: all")
    expression = parser.parse_args().expression
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "test_suite.py").write_text(program_text(SUITE))
        results = {way: run(folder, way, expression) for way in WAYS}
    (own, own_verdicts, own_times), (ours, verdicts, times) = results.values()
    differing = [name for name in own_verdicts if verdicts.get(name) != own_verdicts[name]]
    ran = [name for name, seconds in own_times.items() if seconds > 1]  # the others start no process
    print("| | tests | whole session | median of a test that starts processes |")
    print("|---|---|---|---|")
    for way, (seconds, found, of_tests) in results.items():
        print(f"| {way} | {len(found)} | {seconds:.1f} s | {statistics.median(of_tests[each] for each in ran):.2f} s |")
    median = statistics.median(times[each] / own_times[each] for each in ran)
    print(f"| ratio | | {ours / own:.3f} | {median:.3f} |")
    print(f"\nverdicts that differ: {', '.join(differing) or 'none'}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
