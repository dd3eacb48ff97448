"""Changes between two scorecards. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.errors.text import neutral
from derail.report.scorecard_text import MEASURED, headline, seconds
from derail.report.text import printable
from derail.scenario.recovery import MEASURES, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.report.scorecard import Row, Scorecard
    from derail.scenario.recovery import Measure

Kind: TypeAlias = Literal[
    "worse", "not judged any more", "better", "differs", "slower", "faster", "only before", "only now"
]
"""Kinds of change. "slower", "faster", and rows in one scorecard only, are reported, and count against no agent."""
ORDER: tuple[Kind, ...] = (
    "worse", "not judged any more", "better", "differs", "slower", "faster", "only before", "only now",
)  # fmt: skip
_PASSING = re.compile(r"\b(pid|process) \d+|\d+\.\d+ s\b|0x[0-9a-f]+|/[^\s'\",;:]*/", re.IGNORECASE)
"""Values that differ in each run: process numbers, times, addresses, folders of paths."""
TIMES: tuple[Measure, ...] = ("notice", "stop", "recover")
FACTOR, LEAST = 2.0, 0.5  # times the earlier time; seconds
"""A time is slower if it is twice as long as before, and at least half a second longer."""
LEAST_STEPS = 2  # a step more or less depends on the moment


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        kind: the kind of change.
        scenario: name of the scenario.
        text: description of the change.
    """

    kind: Kind
    scenario: str
    text: str


def changes(before: Scorecard, now: Scorecard) -> tuple[Change, ...]:
    """Return all changes, the worst first."""
    old, new = ({row.scenario: row for row in card.rows} for card in (before, now))
    listed = [change for name in old.keys() & new.keys() for change in _changed(old[name], new[name])]
    listed += [Change("only before", name, old[name].verdict) for name in old.keys() - new.keys()]
    listed += [Change("only now", name, new[name].verdict) for name in new.keys() - old.keys()]
    return tuple(sorted(listed, key=lambda change: (ORDER.index(change.kind), change.scenario)))


def exit_code(listed: tuple[Change, ...]) -> int:
    """Return 1 if something is worse; else 3 if something was judged before and is not now; else 0."""
    kinds = {change.kind for change in listed}
    return 1 if "worse" in kinds else 3 if "not judged any more" in kinds else 0


def _changed(old: Row, new: Row) -> Iterator[Change]:
    name, why = new.scenario, "; ".join(new.reasons)
    judged = ("PASS", "FAIL")
    if old.verdict != new.verdict:
        kind: Kind = "differs"
        if new.verdict not in judged and old.verdict in judged:
            kind = "not judged any more"
        elif new.verdict == "FAIL":
            kind = "worse"
        elif new.verdict == "PASS":
            kind = "better"
        yield Change(kind, name, f"{old.verdict} -> {new.verdict}{f': {why}' if why else ''}")
    elif new.verdict == "FAIL":
        yield from _among_failures(old, new)
    elif _lasting(old) != _lasting(new):
        yield Change("differs", name, f"{new.verdict}: {why}")
    if old.reported != new.reported and {old.verdict, new.verdict} <= {*judged}:
        yield Change("differs", name, f"reported {old.reported or 'nothing'}, now {new.reported or 'nothing'}")
    yield from _times(old, new)


def _among_failures(old: Row, new: Row) -> Iterator[Change]:
    """Yield the changes of a scenario that fails as before: other promises broken, or other reasons."""
    broke, breaks = {finding.promise for finding in old.broken}, {finding.promise for finding in new.broken}
    for finding in new.broken:
        if finding.promise not in broke:
            yield Change("worse", new.scenario, f"still FAIL, and breaks {finding.promise}: {finding}")
    for promise in sorted(broke - breaks):
        yield Change("better", new.scenario, f"still FAIL, but keeps {promise}")
    if broke == breaks and _lasting(old) != _lasting(new):
        yield Change("differs", new.scenario, f"FAIL for other reasons: {'; '.join(new.reasons)}")


def _lasting(row: Row) -> list[str]:
    """Return the reasons of a row, without values that differ in each run."""
    return [_PASSING.sub("#", reason) for reason in row.reasons]


def _times(old: Row, new: Row) -> Iterator[Change]:
    pairs = [("teardown took", old.teardown_seconds, new.teardown_seconds)]
    pairs += [(MEASURED[each], old.recovery.value(each), new.recovery.value(each)) for each in TIMES]
    for words, before, now in pairs:
        if before is None or now is None or max(before, now) - min(before, now) < LEAST:
            continue
        if now > FACTOR * before:
            yield Change("slower", new.scenario, f"{words} {seconds(before)}, now {seconds(now)}")
        elif before > FACTOR * now:
            yield Change("faster", new.scenario, f"{words} {seconds(before)}, now {seconds(now)}")
    lost, loses = old.recovery.lost_steps, new.recovery.lost_steps
    if lost is None or loses is None or abs(lost - loses) < LEAST_STEPS:
        return
    if max(lost, loses) > FACTOR * min(lost, loses):
        yield Change("differs", new.scenario, f"{MEASURED['lost-steps']}: {lost}, now {loses}")


def render_changes(before: Scorecard, now: Scorecard, listed: tuple[Change, ...]) -> str:
    """Return the changes as text, ending with a newline."""
    lines = [f"before: {headline(before)}", f"now:    {headline(now)}"]
    if before.promises != now.promises:
        lines += _promises(before, now)
    lines += _medians(before, now)
    for kind in ORDER:
        of_kind = [change for change in listed if change.kind == kind]
        if of_kind:
            lines += ["", f"{kind} ({len(of_kind)}):"]
            lines += [f"  {each.scenario}: {printable(each.text)}" for each in of_kind]
    if not listed:
        lines += ["", f"nothing changed in {len(now.rows)} scenarios"]
    return neutral("\n".join(lines) + "\n")


def _medians(before: Scorecard, now: Scorecard) -> Iterator[str]:
    """Yield the medians of the recovery, over the scenarios that both scorecards have measured."""
    old, new = ({row.scenario: row.recovery for row in card.rows} for card in (before, now))
    for measure in MEASURES:
        both = [(old[name].value(measure), new[name].value(measure)) for name in old.keys() & new.keys()]
        pairs = [(was, then) for was, then in both if was is not None and then is not None]
        if pairs:
            was, then = (shown(measure, median(values)) for values in zip(*pairs, strict=True))
            yield f"{MEASURED[measure]}: median {was}, now {then} ({len(pairs)} scenario{'s' * (len(pairs) > 1)})"


def _promises(before: Scorecard, now: Scorecard) -> Iterator[str]:
    for words, cards in (("not promised any more", (before, now)), ("promised now", (now, before))):
        names = [promise for promise in cards[0].promises if promise not in cards[1].promises]
        if names:
            yield f"{words}: {', '.join(names)}"


def as_data(listed: tuple[Change, ...]) -> list[dict[str, str]]:
    """Return the changes as plain data."""
    return [{"kind": change.kind, "scenario": change.scenario, "text": change.text} for change in listed]
