"""Campaign: quiet runs of a command, then one broken run for each point, in subprocesses; and what they found."""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from derail.campaign.runner import Runner, Signals, interpreter, unblock_signals
from derail.faults.mechanisms import persistence
from derail.model.clock import SYSTEM_CLOCK
from derail.model.input_error import InputError
from derail.platform.private_files import is_of_another_user, make_private
from derail.recovery.attempt import Program  # noqa: TC001 - read from JSON
from derail.recovery.breaks import Break  # noqa: TC001 - read from JSON
from derail.recovery.compare import differing_value
from derail.recovery.points import Point, choose, kind_of
from derail.recovery.report import Cause, Report
from derail.recovery.settings import Settings, read_file, write_file
from derail.recovery.trial import BrokenRun, Demands, Finding, Quiet, Trial, run_quietly
from derail.scenario.observe import tail
from derail.spawn.payload import path_front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from derail.campaign.runner import Ended

SETTINGS, RESULT, OUTPUT = "survive.json", "result.json", "runner.log"
QUIET = ("quiet-1", "quiet-2")
MARGIN_S = 60.0  # seconds that a run may take besides the limits of its starts
LEAST_LIMIT_S, LIMIT_FACTOR = 30.0, 5.0
"""Time limit of each start of a broken run: this many seconds, and this many times the duration of the quiet run."""


@dataclass(frozen=True, slots=True)
class _Order:
    """Work of one subprocess: a quiet run, or a broken one."""

    name: str
    program: Program
    demands: Demands
    folder: str
    workdir: str
    point: Point | None = None
    break_: Break | None = None
    previous: str = ""
    seed: int = 0
    scale: float = 1.0


@dataclass(slots=True)
class Progress:
    """State of a campaign, for its display.

    Attributes:
        total: number of broken runs; 0 during the quiet runs.
        done: number of those that have ended.
        found: number of those with a finding.
        trial: the last one.
        quiet: the quiet run.
    """

    total: int = 0
    done: int = 0
    found: int = 0
    trial: Trial | None = None
    quiet: Quiet | None = None


def survive(
    settings: Settings,
    workdir: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    handle_signals: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Break a command at each of its points, start it again, and report which runs do not end as the quiet one.

    Args:
        settings: the campaign.
        workdir: directory for all runs; runs of it that are complete are used again if ``resume``.
        jobs: number of runs at the same time.
        resume: whether an interrupted campaign in ``workdir`` is continued.
        handle_signals: whether SIGTERM and similar signals raise ``SignalException`` in the main thread.
        on_progress: called in this thread after each run.

    Raises:
        InputError: if the command cannot be judged: a quiet run fails, changes no watched file, or nothing is asked.
        ValueError: if ``workdir`` has other files.
        SignalException: if signals are handled and one arrived; nothing runs any more then.
    """
    if problem := persistence.why_not():
        raise InputError(f"cannot see the operations of the command: {problem}")
    _prepare(settings, workdir, resume=resume)
    began = SYSTEM_CLOCK.now()
    signals = Signals(times=2, anywhere=False)
    with signals if handle_signals else nullcontext(), Runner(signals) as runner:
        campaign = _Campaign(settings, workdir, runner, on_progress, jobs)
        first, second = campaign.quiet_runs()
        report = campaign.broken_runs(first, second)
    report = replace(report, seconds=round(SYSTEM_CLOCK.now() - began, 3))
    return _with_causes(report, workdir)


def repeat(path: Path, workdir: Path, *, handle_signals: bool = False) -> Report:
    """Repeat the break of a scenario file that a campaign has written.

    Raises:
        InputError: if the file cannot be read, or the command cannot be judged.
    """
    settings, point = read_file(path)
    _prepare(settings, workdir, resume=False)
    signals = Signals(times=2, anywhere=False)
    with signals if handle_signals else nullcontext(), Runner(signals) as runner:
        campaign = _Campaign(settings, workdir, runner, lambda _: None, 1)
        first, second = campaign.quiet_runs()
        report = campaign.broken_runs(first, second, only=point)
    return _with_causes(report, None)


def _prepare(settings: Settings, workdir: Path, *, resume: bool) -> None:
    import msgspec

    if not settings.breaks:
        raise InputError("no kind of break is given")
    data = msgspec.json.encode(settings)
    known = workdir / SETTINGS
    if is_of_another_user(workdir):
        raise ValueError(f"{workdir}: not safe to use: another user could replace its files. Give your own directory")
    if known.is_file():
        if resume and known.read_bytes() != data:
            raise InputError(f"{workdir}: has a campaign with other settings; it cannot be resumed")
        if not resume:
            for path in workdir.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    elif resume:
        raise InputError(f"{workdir}: has no campaign to resume")
    elif workdir.exists() and any(workdir.iterdir()):
        raise ValueError(f"{workdir}: contains files that do not come from 'derail survive'. Give another directory")
    make_private(workdir)
    known.write_bytes(data)


class _Campaign:
    """Runs of one campaign."""

    def __init__(
        self, settings: Settings, workdir: Path, runner: Runner, on_progress: Callable[[Progress], None], jobs: int
    ) -> None:
        self._settings = settings
        self._workdir = workdir
        self._runner = runner
        self._on_progress = on_progress
        self._jobs = jobs
        self._progress = Progress()

    def quiet_runs(self) -> tuple[Quiet, Quiet]:
        """Run the command twice without a break.

        Raises:
            InputError: if it cannot be judged.
        """
        import msgspec

        settings = self._settings
        orders = [
            _Order(name, settings.program, settings.demands, str(self._workdir / name), str(self._workdir))
            for name in QUIET
        ]
        results = []
        for order in orders:
            data = self._run([order], 1)[order.name]
            if isinstance(data, str):
                raise InputError(f"the quiet run: {data}")
            quiet = msgspec.json.decode(data, type=Quiet)
            if quiet.error:
                raise InputError(f"the quiet run {quiet.error}")
            results.append(quiet)
        first, second = results
        if all(point.is_line for point in first.history.points):
            wrote = f"; it has created {', '.join(first.elsewhere[:5])}" if first.elsewhere else ""
            patterns = ", ".join(settings.program.watch)
            raise InputError(
                f"the quiet run has changed no file like {patterns}{wrote}. Give relative paths, to --watch and to the "
                "command: each run has its own directory"
            )
        if settings.program.step and not first.history.steps:
            raise InputError(f"the output of the quiet run has no match of the step pattern {settings.program.step!r}")
        self._progress.quiet = first
        self._on_progress(self._progress)
        return first, second

    def broken_runs(self, first: Quiet, second: Quiet, *, only: Point | None = None) -> Report:
        """Run the command once for each point and kind of break."""
        import msgspec

        settings = self._settings
        close = settings.demands.close
        unequal = {p for p, value in first.values.items() if differing_value(second.values[p], value, close)}
        same, lone = first.history.common(second.history)
        demands = replace(
            settings.demands,
            equal=tuple(pattern for pattern in settings.demands.equal if pattern not in unequal),
            limit=LEAST_LIMIT_S + LIMIT_FACTOR * first.history.seconds,
        )
        quiet = replace(first, values={p: value for p, value in first.values.items() if p not in unequal})
        (self._workdir / "quiet.json").write_bytes(msgspec.json.encode(quiet))
        chosen, left_out = self._choose(same, first)
        if only is not None:
            chosen, left_out = [(only, kind) for kind in settings.breaks], 0
        places = {point: place for place, point in enumerate(first.history.points)}
        before = {after: str(point) for point, after in pairwise(first.history.points)}
        orders = [
            _Order(
                name=f"{places.get(point, 0):04d}-{_word(kind)}",
                program=settings.program,
                demands=demands,
                folder=str(self._workdir / "runs" / f"{places.get(point, 0):04d}-{_word(kind)}"),
                workdir=str(self._workdir),
                point=point,
                break_=kind,
                previous=before.get(point, ""),
                seed=settings.seed,
                scale=settings.scale,
            )
            for point, kind in chosen
        ]
        self._progress.total = len(orders)
        results = self._run(orders, self._jobs)
        trials = []
        for order in orders:
            data = results[order.name]
            trials.append(_broken(order, data) if isinstance(data, str) else msgspec.json.decode(data, type=Trial))
        return Report(
            settings=settings,
            quiet=first,
            trials=tuple(trials),
            lone=lone,
            left_out=left_out,
            unequal=tuple(
                f"{pattern!r}: {first.values[pattern]} and {second.values[pattern]}" for pattern in sorted(unequal)
            ),
        )

    def _choose(self, points: Sequence[Point], quiet: Quiet) -> tuple[list[tuple[Point, Break]], int]:
        """Return the points with their kinds of break, within the budget, and the number of those left out."""
        settings, phases = self._settings, quiet.history.phases()
        firsts = {
            point for before, point in pairwise(quiet.history.points) if before.is_line and not point.is_line
        }  # fmt: skip
        pairs = [
            (point, kind)
            for point in points
            for kind in settings.breaks
            if kind.suits(point, first_of_save=point in firsts)
        ]
        limit = settings.points
        if settings.budget is not None:
            each = 2 * quiet.history.seconds + 0.5
            affordable = max(1, int(settings.budget * self._jobs / each))
            limit = affordable if limit is None else min(limit, affordable)
        if limit is None or limit >= len(pairs):
            return pairs, 0
        chosen: list[tuple[Point, Break]] = []
        share = {kind: [point for point, other in pairs if other == kind] for kind in settings.breaks}
        for index, (kind, candidates) in enumerate(share.items()):
            left = -(-(limit - len(chosen)) // (len(share) - index))
            chosen += [(point, kind) for point in choose(candidates, phases, left, settings.seed)]
        order = {pair: place for place, pair in enumerate(pairs)}
        chosen.sort(key=order.__getitem__)
        return chosen, len(pairs) - len(chosen)

    def _run(self, orders: Sequence[_Order], jobs: int) -> dict[str, bytes | str]:
        """Run orders in subprocesses; return the data of each result, or why there is none."""
        import msgspec

        results: dict[str, bytes | str] = {}
        waiting: deque[_Order] = deque()
        by_name = {order.name: order for order in orders}
        for order in orders:
            result = Path(order.folder) / RESULT
            if result.is_file():  # of the interrupted campaign
                results[order.name] = result.read_bytes()
                self._note(order, results[order.name])
            else:
                waiting.append(order)
        while waiting or self._runner.running:
            while waiting and len(self._runner.running) < max(1, jobs):
                order = waiting.popleft()
                folder = Path(order.folder)
                shutil.rmtree(folder, ignore_errors=True)
                make_private(folder)
                starts = 1 if order.point is None else 1 + order.demands.max_restarts
                seconds = MARGIN_S + starts * order.demands.limit + _profile_seconds(order)
                self._runner.start(
                    order.name,
                    interpreter(__name__, name=order.name),
                    stdin=path_front() + msgspec.json.encode(order),
                    output=folder / OUTPUT,
                    seconds=seconds,
                )
            ended = self._runner.wait()
            order = by_name[ended.name]
            result = Path(order.folder) / RESULT
            if result.is_file() and ended.status.ok and not ended.leftovers:
                results[order.name] = result.read_bytes()
            else:
                result.unlink(missing_ok=True)  # else a resumed campaign would use it
                results[order.name] = _how_it_broke(ended, Path(order.folder) / OUTPUT)
            self._note(order, results[order.name])
        return results

    def _note(self, order: _Order, data: bytes | str) -> None:
        if order.point is None:
            return
        import msgspec

        trial = _broken(order, data) if isinstance(data, str) else msgspec.json.decode(data, type=Trial)
        progress = self._progress
        progress.done += 1
        progress.found += trial.status == "finding"
        progress.trial = trial
        self._on_progress(progress)


def _profile_seconds(order: _Order) -> float:
    if order.break_ is None or order.break_.name != "preempt":
        return 0.0
    from derail.recovery.profiles import load_profile

    return sum(action.after for action in load_profile(order.break_.what).scaled(order.scale).actions)


def _word(kind: Break) -> str:
    return re.sub(r"[^\w.]", "-", str(kind))[-60:]


def _how_it_broke(ended: Ended, output: Path) -> str:
    if ended.leftovers:
        return f"left behind {'; '.join(ended.leftovers)}"
    if ended.overran:
        return "took too long, and was ended"
    return ": ".join((f"its process ended with {ended.status}", *tail(output, lines=1)))


def _broken(order: _Order, why: str) -> Trial:
    assert order.point is not None, "a broken run has a point"
    assert order.break_ is not None, "a broken run has a kind of break"
    found = (Finding("error", f"the run broke: {why}"),)
    return Trial(order.name, order.point, order.break_, order.previous, "error", found)


def main(order: BinaryIO) -> None:
    """Do the work of a subprocess, and write its result."""
    import msgspec

    unblock_signals()
    with order:
        work = msgspec.json.decode(order.read(), type=_Order)
    folder, workdir = Path(work.folder), Path(work.workdir)
    result: Quiet | Trial
    with Signals():
        if work.point is None or work.break_ is None:
            result = run_quietly(work.program, work.demands, folder / "dir", folder / "logs", [workdir])
        else:
            quiet = msgspec.json.decode((workdir / "quiet.json").read_bytes(), type=Quiet)
            (folder / "logs").mkdir()
            run = BrokenRun(
                work.program, work.demands, work.point, work.break_,
                quiet=quiet, quiet_directory=workdir / QUIET[0] / "dir",
                directory=folder / "dir", evidence=folder / "logs", seed=work.seed, scale=work.scale,
            )  # fmt: skip
            result = run.run(work.name, work.previous, [workdir])
            if result.status == "equal":
                shutil.rmtree(folder / "dir", ignore_errors=True)
            shutil.rmtree(folder / "logs" / "shadow", ignore_errors=True)
        written = folder / f"{RESULT}.part"
        written.write_bytes(msgspec.json.encode(result))
        os.replace(written, folder / RESULT)


def _with_causes(report: Report, workdir: Path | None) -> Report:
    """Judge runs against each other, group all findings, and write a scenario file for each group."""
    trials = tuple(_late_findings(report))
    found = [(trial, trial.findings[0]) for trial in trials if trial.status == "finding"]
    anywhere = {_text_of(finding) for trial, finding in found if trial.point.is_line}
    groups: dict[tuple[str, ...], list[tuple[Trial, Finding]]] = {}
    for trial, finding in found:
        groups.setdefault(_cause_of(trial, finding, anywhere), []).append((trial, finding))
    causes = []
    for number, members in enumerate(sorted(groups.values(), key=lambda group: -len(group)), 1):
        trial, finding = members[0]
        file = ""
        if workdir is not None:
            path = workdir / f"{number:03d}.toml"
            write_file(path, report.settings, trial, finding)
            file = str(path)
        causes.append(Cause(finding.symptom, _sentence(trial, finding), tuple(t.name for t, _ in members), file))
    return replace(report, trials=trials, causes=tuple(causes))


def _cause_of(trial: Trial, finding: Finding, anywhere: set[tuple[str, str]]) -> tuple[str, ...]:
    """Return what makes findings one: the symptom, and the operation before which they occur.

    A symptom that also occurs between two operations, at a line of output, does not depend on the operation.
    """
    if finding.symptom == "never resumes":
        return (finding.symptom,)
    if (text := _text_of(finding)) in anywhere:
        return text
    return (finding.symptom, trial.break_.name, *kind_of(trial.point, ""))


def _text_of(finding: Finding) -> tuple[str, str]:
    return (finding.symptom, re.sub(r"[\d.]+", "#", finding.text))


def _sentence(trial: Trial, finding: Finding) -> str:
    between = f"between {trial.previous} and {trial.point}" if trial.previous else f"before {trial.point}"
    return f"{trial.break_.words()} {between}: {finding.text}"


def _late_findings(report: Report) -> Iterable[Trial]:
    """Yield the runs with the findings that need other runs: a later break must not lead to an earlier step."""
    settings = report.settings
    reached: dict[str, int] = {}
    first = min(report.quiet.history.steps, default=0)
    saved = report.quiet.history.after_saves(2)  # the first one may still be under way behind its step
    late = [
        trial for trial in report.trials
        if trial.point in saved and trial.break_.name != "power" and trial.resumed
    ]  # fmt: skip
    never = set() if any((trial.resumed_at or 0) > first for trial in late) else {trial.name for trial in late}
    for trial in report.trials:
        found = list(trial.findings)
        if trial.status in ("equal", "finding") and trial.resumed:
            kind = str(trial.break_)
            best = reached.get(kind, settings.resume_by or first)
            resumed_at = trial.resumed_at or 0
            if resumed_at < best:
                text = f"resumes at step {trial.resumed_at}, loses {_steps(trial.lost_steps)}"
                found.append(Finding("loses steps", f"{text}: an earlier break resumed at step {best}", best))
            reached[kind] = max(best, resumed_at)
            if trial.name in never:
                found.append(
                    Finding("never resumes", f"starts from step {trial.resumed_at} again: no run resumes", first + 1)
                )
            found += _over_budget(settings, trial)
        status = "finding" if found and trial.status == "equal" else trial.status
        yield replace(trial, findings=tuple(found), status=status)


def _steps(number: int | None) -> str:
    return "1 step" if number == 1 else f"{number} steps"


def _over_budget(settings: Settings, trial: Trial) -> Iterable[Finding]:
    lost, recovery = trial.lost_steps, trial.recovery
    if settings.max_lost_steps is not None and lost is not None and lost > settings.max_lost_steps:
        yield Finding("beyond budget", f"loses {lost} steps, --max-lost-steps {settings.max_lost_steps}")
    if settings.max_recovery is not None and recovery is not None and recovery > settings.max_recovery:
        limit = f"{settings.max_recovery:g}s"
        yield Finding(
            "beyond budget", f"makes its first step {recovery:.1f} s after the new start, --max-recovery {limit}"
        )
