"""``derail survive`` finds each planted bug by the break that shows it, and nothing in the correct counterparts."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from derail.faults.mechanisms import persistence
from derail.recovery.attempt import Program
from derail.recovery.breaks import read_breaks
from derail.recovery.campaign import survive
from derail.recovery.report import render_text
from derail.recovery.settings import Settings
from derail.recovery.trial import Demands
from recovery.planted import CORRECT, CORRECT_WITH_TORCH, EQUAL, PLANTED, STEP, WATCH, command

if TYPE_CHECKING:
    from pathlib import Path

    from derail.recovery.report import Report
    from recovery.planted import Planted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(persistence.why_not()), reason=persistence.why_not() or "-"),
]
POINTS = int(os.environ.get("DERAIL_SURVIVE_POINTS", "0")) or None


def run(folder: Path, argv: list[str], breaks: str, *, scale: float = 1.0, points: int | None = POINTS) -> Report:
    """Run a campaign against a program."""
    (folder / "project").mkdir()
    env = (("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor")),)
    program = Program(tuple(argv), str(folder / "project"), (WATCH,), STEP, env=env)
    asked = Settings(program, Demands(equal=(EQUAL,), limit=100.0), read_breaks([breaks], scale=scale), scale=scale)
    return survive(replace(asked, points=points), folder / "runs", jobs=2)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_planted_bug_is_found(planted: Planted, tmp_path: Path) -> None:
    """With the cause in the text of the finding."""
    for number, breaks in enumerate(planted.breaks):
        folder = tmp_path / str(number)
        folder.mkdir()
        report = run(folder, command(planted.name, planted.ranks), breaks, scale=planted.scale)
        found = [cause for cause in report.causes if cause.symptom in planted.symptoms]

        assert any(word in cause.text for cause in found for word in planted.words), render_text(report)


@pytest.mark.parametrize(("name", "ranks"), CORRECT)
def test_nothing_is_found_in_a_correct_writer(name: str, ranks: int, tmp_path: Path) -> None:
    """At all points, a loss of power included."""
    report = run(tmp_path, command(name, ranks), "kill,power,preempt=terminate", scale=0.2)

    assert (report.causes, report.exit_code) == ((), 0), render_text(report)


@pytest.mark.torch
@pytest.mark.parametrize(("name", "ranks"), CORRECT_WITH_TORCH)
def test_nothing_is_found_in_a_correct_writer_with_torch(name: str, ranks: int, tmp_path: Path) -> None:
    """At one point of each kind, as a start takes seconds."""
    pytest.importorskip("torch")
    report = run(tmp_path, command(name, ranks), "kill,power", points=POINTS or 40)

    assert (report.causes, report.exit_code) == ((), 0), render_text(report)
