"""``derail compare``: the differences between two scorecards, as text and as an exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from derail.report.scorecard_json import encode
from report.cards import CARD, RIGHT, WRONG

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail


@pytest.fixture
def cards(tmp_path: Path) -> tuple[Path, Path]:
    """Return two scorecards; what passes in the first fails in the second."""
    paths = (tmp_path / "before.json", tmp_path / "now.json")
    for path, row in zip(paths, (RIGHT, replace(WRONG, scenario=RIGHT.scenario)), strict=True):
        path.write_bytes(encode(replace(CARD, rows=(row,))))
    return paths


def test_what_is_worse_exits_with_1(derail_command: Derail, cards: tuple[Path, Path]) -> None:
    """In the opposite order it is an improvement, with exit code 0."""
    before, now = cards
    worse, better = derail_command("compare", before, now), derail_command("compare", now, before)
    assert (worse.returncode, better.returncode) == (1, 0)
    assert "worse (1):\n  crash/right: PASS -> FAIL: expected root cause rank 1, got rank 0" in worse.stdout
    assert "better (1):\n  crash/right: FAIL -> PASS" in better.stdout


def test_the_changes_are_printed_as_json(derail_command: Derail, cards: tuple[Path, Path]) -> None:
    """The exit code is the same."""
    done = derail_command("compare", "--json", *cards)
    assert done.returncode == 1
    assert [(change["kind"], change["scenario"]) for change in json.loads(done.stdout)] == [
        ("worse", "crash/right"),
        ("differs", "crash/right"),
    ]


def test_what_is_no_scorecard_exits_with_2_and_says_so(
    derail_command: Derail, cards: tuple[Path, Path], tmp_path: Path
) -> None:
    """A file of another kind, or a missing file."""
    other = tmp_path / "other.json"
    other.write_text("{}")
    for path, told in ((other, "not a scorecard"), (tmp_path / "none.json", "No such file")):
        done = derail_command("compare", cards[0], path)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr
        assert str(path) in done.stderr
