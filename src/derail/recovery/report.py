"""Report of a campaign, and how it looks as text, JSON, JUnit XML and one HTML page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from derail.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from derail.recovery.points import Point
    from derail.recovery.settings import Settings
    from derail.recovery.trial import Quiet, Trial

MOST = 40  # causes shown


@dataclass(frozen=True, slots=True)
class Cause:
    """Findings with the same symptom at the same kind of point.

    Attributes:
        symptom: the symptom.
        text: the first of them, with its point.
        trials: the names of the runs.
        file: the scenario file that repeats the first one.
    """

    symptom: str
    text: str
    trials: tuple[str, ...]
    file: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a campaign.

    Attributes:
        settings: the campaign.
        quiet: the first quiet run.
        trials: the broken runs, in the order of their points.
        causes: what they found, grouped.
        lone: points that only one quiet run had: they are not broken.
        left_out: number of runs that the budget left out.
        unequal: demanded values that differed between the quiet runs, and why they are not compared.
        seconds: duration.
    """

    settings: Settings
    quiet: Quiet
    trials: tuple[Trial, ...] = ()
    causes: tuple[Cause, ...] = ()
    lone: tuple[Point, ...] = ()
    left_out: int = 0
    unequal: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 if nothing was found, 1 if something was, 3 if a point was not reached or a run broke."""
        if self.causes:
            return 1
        return 3 if any(trial.status in ("not reached", "error") for trial in self.trials) or not self.trials else 0

    def assert_survived(self) -> None:
        """Raise an error with the report unless every broken run has resumed and ended equal.

        Raises:
            AssertionError: if one has not, or could not be judged.
        """
        __tracebackhide__ = True
        if self.exit_code:
            raise AssertionError(f"the program does not survive:\n{render_text(self)}")


@dataclass(slots=True)
class Summary:
    """Figures of a report: lost steps, and times to the first step after a restart."""

    lost: list[int] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    saved: int = 0
    asked: int = 0

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Summary:
        """Return the figures of these runs."""
        summary = cls()
        for trial in trials:
            if trial.resumed and trial.lost_steps is not None:
                summary.lost.append(trial.lost_steps)
            if trial.recovery is not None:
                summary.recovery.append(trial.recovery)
            if trial.saved is not None:
                summary.asked += 1
                summary.saved += trial.saved
        return summary


def quiet_line(quiet: Quiet, watch: tuple[str, ...]) -> str:
    """Return the line about the quiet run."""
    history = quiet.history
    steps, saves = len(set(history.steps)), history.saves()
    counted = f", {_count(steps, 'step')}, {_count(saves, 'save')}" if steps else ""
    operations = [point for point in history.points if not point.is_line]
    kinds = ", ".join(f"{number} {kind}" for kind, number in Counter(point.kind for point in operations).items())
    return (
        f"quiet run: {history.seconds:.1f} s{counted}, {_count(len(operations), 'operation')} under "
        f"{', '.join(watch)} ({kinds})"
    )


def render_text(report: Report) -> str:
    """Return the report for a terminal."""
    trials = report.trials
    found = [trial for trial in trials if trial.status == "finding"]
    equal = sum(trial.status == "equal" for trial in trials)
    lines = [f"{_count(len(trials), 'break')}: {equal} resume and end equal, {len(found)} do not" + _unjudged(trials)]
    for cause in report.causes[:MOST]:
        times = f" ({len(cause.trials)} times)" if len(cause.trials) > 1 else ""
        lines.append(f"  {cause.text}{times}")
        lines += [f"    save: {cause.file}"] if cause.file else []
    if len(report.causes) > MOST:
        lines.append(f"  and {len(report.causes) - MOST} more")
    lines += [
        f"  {trial.name}: {trial.findings[0].text}" for trial in trials if trial.status in ("not reached", "error")
    ][:MOST]
    lines += [f"not compared, because the quiet runs differ: {text}" for text in report.unequal]
    if report.lone:
        lines.append(f"not broken, because only one quiet run had them: {_count(len(report.lone), 'point')}, such as "
                     f"{report.lone[0]}")  # fmt: skip
    if report.left_out:
        lines.append(
            f"left out by the budget: {_count(report.left_out, 'break')}, drawn by seed {report.settings.seed}"
        )
    lines.append(_figures(report))
    return "".join(f"{printable(line)}\n" for line in lines if line)


def _unjudged(trials: tuple[Trial, ...]) -> str:
    missed = sum(trial.status in ("not reached", "error") for trial in trials)
    return f", {missed} could not be judged" if missed else ""


def _figures(report: Report) -> str:
    summary = Summary.of(report.trials)
    parts = []
    if summary.lost:
        parts.append(f"lost work: median {median(summary.lost):g} steps, worst {max(summary.lost)}")
    if summary.asked:
        parts.append(f"saved after the first signal: {summary.saved} of {summary.asked}")
    if summary.recovery:
        low, high = min(summary.recovery), max(summary.recovery)
        parts.append(f"time to run again: {median(summary.recovery):.1f} s ({low:.1f} to {high:.1f})")
    return "; ".join(parts)


def render_json(report: Report) -> bytes:
    """Return the report as JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def render_junit(report: Report) -> bytes:
    """Return the report as JUnit XML: a case for each broken run."""
    from xml.etree.ElementTree import Element, SubElement, tostring

    suite = Element("testsuite", name="derail survive", tests=str(len(report.trials)))
    failed = [trial for trial in report.trials if trial.status == "finding"]
    errors = [trial for trial in report.trials if trial.status in ("not reached", "error")]
    suite.set("failures", str(len(failed)))
    suite.set("errors", str(len(errors)))
    suite.set("time", f"{report.seconds:.3f}")
    for trial in report.trials:
        case = SubElement(suite, "testcase", classname=str(trial.break_), name=f"{trial.name} {trial.point}")
        case.set("time", f"{trial.seconds:.3f}")
        if trial.status != "equal":
            tag = "failure" if trial.status == "finding" else "error"
            texts = [printable(finding.text) for finding in trial.findings]
            SubElement(case, tag, message=texts[0] if texts else trial.status).text = "\n".join(texts)
        SubElement(case, "system-out").text = timeline(trial)
    document: bytes = tostring(suite, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def render_html(report: Report) -> str:
    """Return the report as one page without scripts."""
    from html import escape

    body = [f"<h1>derail survive</h1><p>{escape(quiet_line(report.quiet, report.settings.program.watch))}</p>"]
    body.append(f"<pre>{escape(render_text(report))}</pre>")
    for trial in report.trials:
        if trial.status != "equal":
            title = f"{trial.name}: {trial.break_.words()} at {trial.point}"
            findings = "".join(f"<li>{escape(printable(finding.text))}</li>" for finding in trial.findings)
            body.append(f"<h2>{escape(title)}</h2><ul>{findings}</ul><pre>{escape(timeline(trial))}</pre>")
    style = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{overflow:auto}"
    dark = "@media(prefers-color-scheme:dark){body{background:#111;color:#eee}}"
    head = f'<meta charset="utf-8"><title>derail survive</title><style>{style}{dark}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def timeline(trial: Trial) -> str:
    """Return the timeline of a run, and what a loss of power changed."""
    lines = [f"{at:8.2f} s  {text}" for at, text in trial.timeline]
    return "\n".join(map(printable, [*lines, *(f"            {change}" for change in trial.changes)]))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
