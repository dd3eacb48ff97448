"""Goodput of a job that was broken again and again, as plain text and as data."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from derail.errors.text import neutral
from derail.report.scorecard_text import MEASURED
from derail.report.text import printable
from derail.scenario.recovery import MEASURES, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from derail.scenario.goodput import Break, Measurement
    from derail.scenario.recovery import Measure


SHOWN = 40  # breaks in a text


def render_schedule(breaks: Sequence[Break], *, seed: int, mtbf: float, seconds: float) -> str:
    """Return the schedule of a seed, ending with a newline."""
    head = f"schedule of seed {seed}: {_count(len(breaks), 'break')} in {seconds:g} s, one in {mtbf:g} s on average"
    return "\n".join((head, *_shortened([f"  {_planned(each)}" for each in breaks]))) + "\n"


def render_goodput(measured: Measurement, violations: Sequence[str] = ()) -> str:
    """Return the result and its evidence, ending with a newline, without control characters from ranks."""
    return neutral("\n".join(map(printable, _lines(measured, violations))) + "\n")


def _lines(measured: Measurement, violations: Sequence[str]) -> Iterator[str]:
    yield f"{measured.scenario} on {measured.agent}, mtbf {measured.mtbf:g} s, seed {measured.seed}"
    yield from (f"  * {violation}" for violation in violations)
    if measured.problem:
        yield f"  * {measured.problem}"
    yield from _result(measured)
    if measured.ended:
        yield f"ended early: {measured.ended}"
    hits = sum(each.hit for each in measured.outcomes)
    yield f"breaks: {len(measured.outcomes)} planned, {hits} injected"
    yield from _shortened(
        [
            f"  {'+' if each.hit else '-'} {_planned(each.planned)}  {each.fault}: {each.detail}"
            for each in measured.outcomes
        ]
    )
    yield from (f"started again {why}" for why in measured.started_again)
    for measure in MEASURES:
        if values := values_of(measured, measure):
            middle, most = shown(measure, median(values)), shown(measure, max(values))
            least = shown(measure, min(values))
            yield f"{MEASURED[measure]}: median {middle} of {len(values)} ({least} to {most})"


def _result(measured: Measurement) -> Iterator[str]:
    result, undisturbed = measured.goodput, measured.pace
    if result is None or undisturbed is None:
        return
    yield f"goodput: {_percent(result.value)}, {_interval(result.interval, result.attempts)}"
    yield (
        f"  {_count(result.useful, 'useful step')} in {result.seconds:.1f} s; a quiet run makes {result.quiet:.1f} "
        f"({undisturbed.rate:.4g} steps/s, the first after {undisturbed.startup:.2f} s)"
    )


def _interval(interval: tuple[float, float] | None, attempts: int) -> str:
    if interval is None:
        return "no interval: it needs two attempts"
    low, high = interval
    return f"95 % interval {_percent(low)} to {_percent(high)} (Student's t over {attempts} attempts)"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _shortened(lines: list[str]) -> list[str]:
    """Return the first of many lines, and how many more there are."""
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"  ... and {_count(more, 'more break')}; --json has all"]


def _planned(planned: Break) -> str:
    return f"{planned.number:>3}  {planned.at:8.2f} s  rank {planned.rank}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def values_of(measured: Measurement, measure: Measure) -> list[float]:
    """Return the known values of one measure, in the order of the breaks."""
    values = (each.value(measure) for each in measured.recoveries)
    return [value for value in values if value is not None]


def as_data(measured: Measurement, violations: Sequence[str] = ()) -> dict[str, object]:
    """Return the measurement as plain data, for JSON."""
    result, undisturbed = measured.goodput, measured.pace
    return {
        "scenario": measured.scenario,
        "agent": measured.agent,
        "mtbf": measured.mtbf,
        "for": measured.seconds,
        "seed": measured.seed,
        "goodput": None if result is None else result.value,
        "interval": None if result is None or result.interval is None else list(result.interval),
        "useful_steps": None if result is None else result.useful,
        "quiet_steps": None if result is None else result.quiet,
        "seconds": None if result is None else result.seconds,
        "attempts": None if result is None else result.attempts,
        "quiet": None if undisturbed is None else {"startup": undisturbed.startup, "rate": undisturbed.rate},
        "breaks": [
            {"number": each.planned.number, "at": each.planned.at, "rank": each.planned.rank, "injected": each.hit}
            | {"fault": each.fault, "detail": each.detail}
            for each in measured.outcomes
        ],
        "recovery": [{measure: each.value(measure) for measure in MEASURES} for each in measured.recoveries],
        "started_again": list(measured.started_again),
        "ended_early": measured.ended,
        "problem": measured.problem,
        "violations": list(violations),
    }
