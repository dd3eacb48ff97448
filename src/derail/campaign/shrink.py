"""Search for the fewest faults of a failing scenario that still fail, with counts of all runs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from math import log, sqrt
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.faults import codec
from derail.faults.serialization.toml_files import read_toml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from derail.faults.model.plan import Plan
    from derail.scenario.model import Scenario, Verdict

Outcome: TypeAlias = Literal["fails", "passes", "unknown"]
Candidate: TypeAlias = tuple[int, ...]
"""Places of the kept faults in the plan, in ascending order."""
FAILS: Outcome = "fails"
Z_95 = 1.959964  # standard normal quantile of a two-sided 95 % interval
RARELY = (
    5.0  # a candidate does not count as failing if its rate of failures is so many times lower than that of all faults
)
ERROR = 0.05  # probability of each of the two wrong decisions about a candidate


@dataclass(slots=True)
class Count:
    """Runs of one candidate: those that failed as the original did, those that did not, and those without a verdict."""

    fails: int = 0
    passes: int = 0
    unknown: int = 0

    @property
    def judged(self) -> int:
        """Number of runs with a verdict."""
        return self.fails + self.passes

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of the rate of failures, 95 %; 0 to 1 without a judged run."""
        if not self.judged:
            return 0.0, 1.0
        rate, square = self.fails / self.judged, Z_95 * Z_95 / self.judged
        centre = (rate + square / 2) / (1 + square)
        half = Z_95 * sqrt(rate * (1 - rate) / self.judged + square / (4 * self.judged)) / (1 + square)
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        """Return the count with its interval: ``fails 10 of 20 (95 %: 30 to 70 %)``."""
        low, high = self.interval
        text = f"fails {self.fails} of {self.judged} (95 %: {low:.0%} to {high:.0%})".replace("% to", " to")
        text = re.sub(r"(\d)%\)", r"\1 %)", text)
        return f"{text}, {self.unknown} without a verdict" if self.unknown else text


@dataclass(slots=True)
class Search:
    """Delta debugging (ddmin) over places of faults, with a cache of candidates and a budget of runs.

    With ``repeat`` 1 a run decides on a candidate. Otherwise all faults are run ``repeat`` times first, and candidates
    as often as a sequential probability ratio test (Wald) needs: does it fail as often as all faults do, or ``RARELY``
    times more rarely? One that is undecided after ``repeat`` runs does not count as failing.

    Attributes:
        run: runs a candidate once.
        repeat: maximum judged runs of a candidate.
        most: maximum number of runs, including those that ``count_again`` needs.
        counts: the runs of each candidate.
        best: the smallest candidate that failed.
        complete: whether the search ended because leaving out any fault was decided not to fail.
    """

    run: Callable[[Candidate], Outcome]
    repeat: int
    most: int
    counts: dict[Candidate, Count] = field(default_factory=dict)
    best: Candidate | None = None
    complete: bool = False
    runs: int = 0
    rate: float = 1.0

    def reduce(self, size: int) -> None:
        """Search from all ``size`` faults; ``best`` stays None if they do not fail."""
        kept, parts = tuple(range(size)), 2
        self._repeat(kept, lambda: False)
        whole = self.counts[kept]
        if not whole.fails:
            return
        self.best, self.rate = kept, (whole.fails + 0.5) / (whole.judged + 1)
        while len(kept) > 1:
            chunks = [kept[len(kept) * i // parts : len(kept) * (i + 1) // parts] for i in range(parts)]
            rests = [tuple(place for place in kept if place not in chunk) for chunk in chunks]
            smaller = next((each for each in (*chunks, *rests) if self._fails(each)), None)
            if smaller is not None:
                parts = max(2, parts - 1) if smaller in rests and smaller not in chunks else 2
                kept = smaller
            elif parts == len(kept):
                break
            else:
                parts = min(len(kept), parts * 2)
            if self.runs > self.most - self.repeat:
                break
        if len(kept) == 1 and self._fails(()):
            kept = ()
        self.complete = all(self.decision(each) is False for each in without_one(kept))

    def count_again(self) -> None:
        """Run the best candidate, then it without each of its faults, ``repeat`` times each, within the budget.

        If more runs show that it fails without one of them, this becomes the best candidate, and is counted in turn.
        """
        counted = None
        while self.best is not None and self.best != counted:
            counted = self.best
            for candidate in (counted, *without_one(counted)):
                self._repeat(candidate, lambda: False, most=self.most)
                if len(candidate) < len(self.best) and self.decision(candidate):
                    self.best = candidate
        if self.best is not None and self.runs:
            self.complete = all(self.decision(each) is False for each in without_one(self.best))

    def decision(self, candidate: Candidate) -> bool | None:
        """Return whether a candidate fails as all faults do; None if that is undecided."""
        count = self.counts.get(candidate, Count())
        if self.repeat == 1 or not count.judged:
            return bool(count.fails) if count.judged else None
        often, rarely = self.rate, self.rate / RARELY
        ratio = count.fails * log(often / rarely) + count.passes * log((1 - often) / (1 - rarely))
        return None if abs(ratio) < log((1 - ERROR) / ERROR) else ratio > 0

    def _fails(self, candidate: Candidate) -> bool:
        self._repeat(candidate, lambda: self.decision(candidate) is not None)
        if not self.decision(candidate):
            return False
        if self.best is None or len(candidate) < len(self.best):
            self.best = candidate
        return True

    def _repeat(self, candidate: Candidate, is_enough: Callable[[], bool], *, most: int | None = None) -> None:
        count = self.counts.setdefault(candidate, Count())
        most = max(1, self.most - self.repeat + 1) if most is None else most
        while self.runs < most and count.judged < self.repeat and count.unknown < self.repeat and not is_enough():
            self.runs += 1
            outcome = self.run(candidate)
            setattr(count, outcome, getattr(count, outcome) + 1)


def without_one(candidate: Candidate) -> list[Candidate]:
    """Return the candidates that lack one of its faults."""
    return [tuple(place for place in candidate if place != each) for each in candidate]


def symptoms(verdict: Verdict) -> frozenset[tuple[str, str, str]]:
    """Return the unmet expectations of a verdict, without numbers that differ from run to run; empty unless FAIL."""
    if verdict.kind != "FAIL":
        return frozenset()
    unmet = (finding for finding in verdict.findings if finding.kept is False)
    return frozenset((each.promise, each.expected, re.sub(r"\d+\.\d+|\d{4,}", "#", each.got)) for each in unmet)


def scenario_text(scenario: Scenario, plan: Plan, beside: Path, remarks: tuple[str, ...]) -> str:
    """Return the scenario with this plan instead of the present one as TOML, for a file in the folder ``beside``."""
    assert scenario.path is not None
    data = read_toml(scenario.path)
    worker = os.path.relpath(scenario.worker, beside.resolve())
    data["worker"] = f"{worker}:{scenario.function}" if scenario.function else worker
    for key in ("faults", "seed", "keep_alive", "control"):
        data.pop(key, None)
    tables = {key: data.pop(key) for key in list(data) if isinstance(data[key], dict)}
    lines = [f"# {remark}" for remark in remarks]
    lines += [f"{key} = {codec.toml_value(value)}" for key, value in data.items()]
    lines += [codec.to_toml(plan).rstrip("\n")]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{codec.toml_key(key)} = {codec.toml_value(table[key])}" for key in table)]
    return "\n".join(lines) + "\n"
