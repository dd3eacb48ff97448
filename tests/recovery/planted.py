"""Table of the planted checkpoint writers: how each is run, which break shows its bug, and which words a report has."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
WATCH = "ckpt/**"
EQUAL = r"final loss (\S+)"
STEP = r"^step (\d+)"


@dataclass(frozen=True, slots=True)
class Planted:
    """Program with one planted bug.

    Attributes:
        name: name of its file, without ``.py``.
        counterpart: the same program without the bug.
        breaks: kinds of break that must find the bug, each by itself.
        symptoms: symptoms of which each of them shows at least one.
        words: words of which a finding has at least one, for the cause.
        ranks: number of ranks.
        scale: factor of the times of profiles.
    """

    name: str
    counterpart: str
    breaks: tuple[str, ...]
    symptoms: tuple[str, ...]
    words: tuple[str, ...]
    ranks: int = 1
    scale: float = 1.0


PLANTED = (
    Planted("latest_before_data", "correct_latest", ("kill",), ("resume fails",), ("LATEST", "step_")),
    Planted("no_fsync", "correct", ("power",), ("resume fails", "never resumes"), ("JSONDecodeError", "state.json")),
    Planted("renamed_while_written", "correct_two_ranks", ("kill",), ("resume fails",), ("rank_1", "draft"), ranks=2),
    Planted(
        "sigterm_once_per_epoch", "correct", ("preempt=terminate",), ("no save before SIGKILL",),
        ("no save within the grace period",), scale=0.04,
    ),
    Planted(
        "saves_by_itself", "correct_two_ranks", ("kill",), ("resume fails", "resume hangs", "another result"),
        ("rank_0.json", "rank_1.json", "ConnectionError"), ranks=2,
    ),
    Planted("random_not_saved", "correct", ("kill",), ("another result",), ("final loss",)),
    Planted("position_not_saved", "correct", ("kill",), ("another result",), ("final loss",)),
    Planted("deletes_before_durable", "correct_keep_last", ("kill",), ("loses steps",), ("unlink",)),
    Planted("loads_temporary_file", "correct_keep_last", ("kill",), ("resume fails",), (".tmp",)),
    Planted("momentum_not_saved", "correct", ("kill",), ("another result",), ("final loss",)),
)  # fmt: skip
"""The ten planted bugs."""

CORRECT = (("correct", 1), ("correct_latest", 1), ("correct_keep_last", 1), ("correct_two_ranks", 2))
"""Correct writers that need the standard library only, with their numbers of ranks."""

CORRECT_WITH_TORCH = (("correct_torch", 1), ("correct_dcp", 2))
"""Correct writers that need torch, with their numbers of ranks."""


def command(name: str, ranks: int = 1, *more: str) -> list[str]:
    """Return the command line of a program, under ``derail launch`` if it has several ranks."""
    program = [sys.executable, str(PROGRAMS / f"{name}.py"), "--out", "ckpt", *more]
    if ranks == 1:
        return program
    derail = str(Path(sys.executable).with_name("derail"))
    return [derail, "launch", "-n", str(ranks), "--output-dir", "logs", "--", *program]
