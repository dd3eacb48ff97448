"""The suite of multi-rank tests in docs/examples is green, however its ranks are started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

SUITE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "suite"
WHOLE = {"passed": 59, "pytest.skip": 3, "pytest.xfail": 2}


def outcomes(report: Path) -> dict[str, int]:
    """How many tests came to what, from JUnit XML."""
    return Counter(
        "passed" if (found := next(iter(case), None)) is None else found.get("type", found.tag)
        for case in ET.parse(report).iter("testcase")
    )


@pytest.mark.torch
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("start_method", "part", "expected"),
    [
        ("warm", ("test_messages.py", "test_outcomes.py"), {"passed": 8, "pytest.skip": 3, "pytest.xfail": 1}),
        pytest.param("warm", (), WHOLE, marks=pytest.mark.slow),
        pytest.param("spawn", (), WHOLE, marks=pytest.mark.slow),
    ],
    ids=["warm-part", "warm", "spawn"],
)
def test_the_suite_comes_to_the_same_however_its_ranks_are_started(
    start_method: str, part: tuple[str, ...], expected: dict[str, int], tmp_path: Path
) -> None:
    """All its tests pass, but for those that show a skip or a known bug."""
    shutil.copytree(SUITE, tmp_path / "suite", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_derail.plugin"),
        *(f"--derail-start-method={start_method}", f"--basetemp={tmp_path / 'base'}", "--junitxml=report.xml", *part),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    ran = subprocess.run(
        command, cwd=tmp_path / "suite", env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=850, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert outcomes(tmp_path / "suite" / "report.xml") == expected
    assert "0 leftovers" in ran.stdout
