"""Runs of a campaign: a quiet run, which records its points, and a trial, which is broken at one and started again."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.faults.mechanisms.persistence import DROP, FREEZE, LET, Fail, Hold, matcher
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.processes import look_up
from derail.recovery.attempt import Attempt, Program, make_directory
from derail.recovery.breaks import Break  # noqa: TC001 - read from JSON
from derail.recovery.compare import differing_value, file_difference, files_in, values_of
from derail.recovery.points import Counters, Event, History, Point, rank_of, repeatable
from derail.recovery.power import Disk
from derail.recovery.profiles import Notice, load_profile, preempt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from derail.faults.mechanisms.persistence import Answer, Operation
    from derail.recovery.profiles import Profile, Who
    from derail.scenario.model import JobResult

Status: TypeAlias = Literal["equal", "finding", "not reached", "error"]
SETTLE_S = 0.1
"""Seconds that an operation waits while the first signal of a preemption is sent."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What the end of a broken run is held against.

    Attributes:
        equal: patterns of values in the output.
        close: tolerance of numbers; None if values must be the same text.
        same: patterns of files.
        allow: patterns of files that may be left.
        max_restarts: how often the command is started again.
        limit: seconds for each start of the command.
    """

    equal: tuple[str, ...] = ()
    close: float | None = None
    same: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    max_restarts: int = 3
    limit: float = 60.0


@dataclass(frozen=True, slots=True)
class Quiet:
    """Result of a quiet run.

    Attributes:
        history: its points.
        values: the demanded values in its output.
        files: the watched files at its end.
        error: why it cannot be used; empty if it can.
        elsewhere: files outside the watched ones that it has created.
    """

    history: History
    values: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    error: str = ""
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Difference between a broken run and the quiet run.

    Attributes:
        symptom: its kind, by which findings are grouped.
        text: the difference.
        step: the step at which the run should have resumed at the latest; None where that is not the difference.
    """

    symptom: str
    text: str
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of a broken run.

    Attributes:
        name: its name: the number of the point and the kind of break.
        point: the point.
        break_: the kind of break.
        previous: the point before, as text; empty for the first.
        status: the outcome.
        findings: the differences, worst first.
        reached: seconds until the break; None if the point was not reached.
        last_step: the last step before the break.
        resumed_at: the first step after it.
        recovery: seconds from the new start to the first step, None without one.
        restarts: how often the command was started again.
        saved: whether the program saved after the first signal of a preemption; None if that is not judged.
        changes: what a loss of power changed.
        timeline: what happened, with seconds since the start.
        seconds: the duration of the whole trial.
    """

    name: str
    point: Point
    break_: Break
    previous: str
    status: Status
    findings: tuple[Finding, ...] = ()
    reached: float | None = None
    last_step: int | None = None
    resumed_at: int | None = None
    recovery: float | None = None
    restarts: int = 0
    saved: bool | None = None
    changes: tuple[str, ...] = ()
    timeline: tuple[tuple[float, str], ...] = ()
    seconds: float = 0.0

    @property
    def lost_steps(self) -> int | None:
        """How many steps were made again, or are missing; None if one of the two steps is not known."""
        if self.last_step is None or self.resumed_at is None:
            return None
        return max(0, self.last_step + 1 - self.resumed_at)

    @property
    def resumed(self) -> bool:
        """Whether steps followed a new start, by this campaign or by the launcher itself."""
        if self.resumed_at is None:
            return False
        return self.restarts > 0 or (self.last_step is not None and self.resumed_at <= self.last_step)


def run_quietly(
    program: Program, demands: Demands, directory: Path, evidence: Path, leave_out: Sequence[Path]
) -> Quiet:
    """Run the command without a break, and record its points."""
    make_directory(program, directory, leave_out=leave_out)
    events: list[Event] = []
    counters: list[Counters] = []

    def decide(operation: Operation) -> Answer:
        at = SYSTEM_CLOCK.now() - attempt.began
        if not counters:
            counters.append(_counters(attempt, program))
        points = counters[0].points(operation)
        events.extend(Event(point, operation.path or operation.text, operation.target, at) for point in points)
        return LET

    attempt = Attempt(program, directory, evidence, decide)
    with attempt:
        result = attempt.wait(demands.limit)
        seconds = SYSTEM_CLOCK.now() - attempt.began
        values = values_of(attempt.output(), demands.equal)
        error = attempt.problem or _failure(result, attempt)
    history = History(tuple(events), seconds)
    missing = [pattern for pattern, value in values.items() if not value]
    if missing and not error:
        error = f"the output of the quiet run has no match of {missing[0]!r}"
    files = files_in(directory, program.folders, program.is_watched)
    return Quiet(history, values, tuple(sorted(files)), error, _elsewhere(program, directory))


def _failure(result: JobResult, attempt: Attempt) -> str:
    if result.timed_out:
        return f"was not over in time: {attempt.last_words()}"
    if result.succeeded:
        return ""
    status = result.ranks[0].status if result.ranks else None
    return f"ended with {status}: {attempt.last_words()}"


def _elsewhere(program: Program, directory: Path) -> tuple[str, ...]:
    """Return files that the program has created in the directory of the run beside the watched ones."""
    return tuple(
        sorted(entry.name for entry in directory.iterdir() if not entry.is_symlink()
               and not program.is_watched(entry.name) and not Path(program.cwd, entry.name).exists())
    )  # fmt: skip


def _counters(attempt: Attempt, program: Program) -> Counters:
    return Counters(attempt.root, re.compile(program.step) if program.step else None)


class BrokenRun:
    """Run that is broken at a point and then started again until it ends.

    Args:
        program: the command.
        demands: what its end is held against.
        point: the point.
        kind: the kind of break.
        quiet: the quiet run.
        quiet_directory: the directory of the quiet run, with its files.
        directory: the directory of this run.
        evidence: the directory for its logs.
        seed: seed of torn data.
        scale: factor of the times of a profile.
    """

    def __init__(
        self,
        program: Program,
        demands: Demands,
        point: Point,
        kind: Break,
        *,
        quiet: Quiet,
        quiet_directory: Path,
        directory: Path,
        evidence: Path,
        seed: int = 0,
        scale: float = 1.0,
    ) -> None:
        self._program = program
        self._demands = demands
        self._point = point
        self._kind = kind
        self._quiet = quiet
        self._quiet_directory = quiet_directory
        self._directory = directory
        self._evidence = evidence
        self._seed = seed
        self._profile: Profile | None = load_profile(kind.what).scaled(scale) if kind.name == "preempt" else None
        self._began = SYSTEM_CLOCK.now()
        self._broken_at: float | None = None
        self._counters: Counters | None = None
        self._steps: list[int] = []
        self._steps_after: list[tuple[float, int]] = []
        self._changed_after = 0
        self._disk: Disk | None = None
        self._attempt: Attempt | None = None
        self._timeline: list[tuple[float, str]] = []
        self._findings: list[Finding] = []
        self._recovery: float | None = None
        self._killed_by_profile = False
        self._exit_code: int | None = None
        self._problem = ""

    def run(self, name: str, previous: str, leave_out: Sequence[Path] = ()) -> Trial:
        """Break the command, start it again until it ends, and compare."""
        make_directory(self._program, self._directory, leave_out=leave_out)
        if self._kind.name == "power":
            self._disk = Disk(self._directory, self._program.folders, self._evidence / "shadow")
            self._disk.begin()
        try:
            trial = Trial(name, self._point, self._kind, previous, "error")
            return self._run(trial)
        finally:
            if self._disk is not None:
                self._disk.close()

    def _run(self, trial: Trial) -> Trial:
        announces = self._profile is not None and any(each.announce for each in self._profile.actions)
        with Notice(self._evidence, served=announces) as notice:
            variables = notice.environment().items() if announces else ()
            program = replace(self._program, env=(*self._program.env, *variables))
            changes, over = self._first(program, notice)
            if self._broken_at is None:
                why = self._problem or f"the run has not reached {self._point}"
                return self._finished(trial, "error" if self._problem else "not reached", Finding("not reached", why))
            ended = over is not None or self._problem or self._ends_here()
            restarts, values = (0, over) if ended else self._again(program)
        if self._problem:  # what a program does without its watch is not judged
            return replace(self._finished(trial, "error", Finding("error", self._problem)), restarts=restarts)
        if values is not None:
            self._compare(values)
        saved = None
        if self._kind.name == "preempt" and self._point.is_line and self._quiet.history.saves():
            saved = self._changed_after > 0
        return replace(
            self._finished(trial, "finding" if self._findings else "equal"),
            restarts=restarts, saved=saved, changes=changes,
        )  # fmt: skip

    def _finished(self, trial: Trial, status: Status, *findings: Finding) -> Trial:
        after = next((step for _, step in self._steps_after), None)
        return replace(
            trial,
            status=status,
            findings=(*findings, *self._findings),
            reached=None if self._broken_at is None else round(self._broken_at, 3),
            last_step=max(self._steps, default=None),
            resumed_at=after,
            recovery=None if self._recovery is None else round(self._recovery, 3),
            timeline=tuple(self._timeline),
            seconds=round(SYSTEM_CLOCK.now() - self._began, 3),
        )

    def _note(self, text: str) -> None:
        self._timeline.append((round(SYSTEM_CLOCK.now() - self._began, 3), text))

    def _find(self, symptom: str, text: str) -> None:
        self._findings.append(Finding(symptom, text))
        self._note(text)

    def _first(self, program: Program, notice: Notice) -> tuple[tuple[str, ...], dict[str, str] | None]:
        """Run the command to the point, and break it; return the changes of the disk, and its values if it is over."""
        attempt = self._attempt = Attempt(program, self._directory, self._evidence / "attempt-0", self._decide)
        with attempt:
            self._note("the command starts")
            attempt.news.wait(self._demands.limit)
            if self._broken_at is not None and self._kind.ends_job:
                attempt.close(signal.SIGKILL)
                self._note("all processes are killed")
                changes: tuple[str, ...] = ()
                if self._disk is not None:
                    changes = self._disk.lose_power(self._kind.what, self._seed)
                    self._note(f"power is lost: {'; '.join(changes) or 'nothing was unsynchronized'}")
                return changes, None
            if self._broken_at is not None and self._profile is not None:
                self._preempt(self._profile, attempt, notice)
            extra = self._kind.seconds if self._kind.name == "slow" else 0.0
            result = attempt.wait(self._demands.limit + extra)
            self._problem = attempt.problem
            self._note(f"the command ends: {result.ranks[0].status if result.ranks else result.error}")
            if self._broken_at is None:
                return (), None
            status = result.ranks[0].status if result.ranks else None
            self._exit_code = None if status is None else status.shell_code
            values = values_of(attempt.output(), self._demands.equal)
            self._judge_first(result)
            return (), values if self._is_over(result, values) else None

    def _judge_first(self, result: JobResult) -> None:
        if result.timed_out:
            self._find("hangs", f"hangs after the break: not over after {self._demands.limit:g} s")
        if self._killed_by_profile and not self._changed_after and self._quiet.history.saves():
            self._find("no save before SIGKILL", "no save within the grace period: it ran on until SIGKILL")

    def _is_over(self, result: JobResult, values: dict[str, str]) -> bool:
        """Return whether the command has done its work, rather than ended early on request."""
        if not result.succeeded:
            return False
        if self._kind.name != "preempt":
            return True
        steps = self._quiet.history.steps
        done = {*self._steps, *(step for _, step in self._steps_after)}
        return all(values.values()) and (not steps or steps[-1] in done)

    def _preempt(self, profile: Profile, attempt: Attempt, notice: Notice) -> None:
        run = self

        class Target:
            def signal(self, number: signal.Signals, to: Who) -> None:
                run._note(f"{number.name} to {'all processes' if to == 'all' else f'the {to}'}")
                run._killed_by_profile |= number == signal.SIGKILL
                attempt.signal(number, to)

            def announce(self, text: str) -> None:
                run._note(f"announced: {text}")
                notice.announce(text)

        preempt(profile, Target(), attempt.finished.wait)

    def _decide(self, operation: Operation) -> Answer:
        """Decide on an operation, in the thread of the watch."""
        attempt = self._attempt
        assert attempt is not None, "the attempt has started the watch"
        if self._counters is None:
            self._counters = _counters(attempt, self._program)
        points = self._counters.points(operation)
        reporter = self._quiet.history.reporter
        for point in points:
            if point.kind == "step" and point.actor == reporter:
                if self._broken_at is None:
                    self._steps.append(int(point.path))
                else:
                    self._steps_after.append((SYSTEM_CLOCK.now(), int(point.path)))
        if self._broken_at is None and self._point in points:
            self._broken_at = SYSTEM_CLOCK.now() - self._began
            self._note(f"{self._kind.words()} at {self._point}")
            answer = self._break(operation, attempt)
            attempt.news.set()
            return answer
        if self._broken_at is not None and operation.kind in ("write", "rename"):
            self._changed_after += 1
        if self._disk is not None:
            self._disk.note(operation)
        return LET

    def _break(self, operation: Operation, attempt: Attempt) -> Answer:
        kind = self._kind
        if kind.ends_job:
            return FREEZE
        if kind.errno:
            return Fail(kind.errno)
        if kind.name == "slow":
            return Hold(kind.seconds)
        if kind.name == "preempt":
            return Hold(SETTLE_S)
        if kind.what == "launcher":
            attempt.signal(signal.SIGKILL, "launcher")
            return DROP if operation.pid == attempt.root else LET
        if kind.what == "ranks":
            attempt.signal(signal.SIGKILL, "ranks")
            return DROP
        _kill_rank_of(operation.pid)
        return DROP

    def _ends_here(self) -> bool:
        """Return whether the scheduler does not start the job again, which is a finding unless it has done its work."""
        if self._profile is None or self._exit_code is None or self._profile.restarts_after(self._exit_code):
            return False
        why = f"after exit code {self._exit_code}" if self._profile.requeue else "at all"
        self._find("not started again", f"is not done, and profile {self._profile.name} starts no job again {why}")
        return True

    def _again(self, program: Program) -> tuple[int, dict[str, str] | None]:
        """Start the command again until it ends with 0; return how often, and its values, None if it never does."""
        for number in range(1, self._demands.max_restarts + 1):
            evidence = self._evidence / f"attempt-{number}"
            with Attempt(program, self._directory, evidence, self._follow) as attempt:
                self._attempt, self._counters = attempt, None
                self._note("the command starts again")
                before = len(self._steps_after)
                result = attempt.wait(self._demands.limit)
                values = values_of(attempt.output(), self._demands.equal)
                words = attempt.last_words()
                if self._recovery is None and len(self._steps_after) > before:
                    self._recovery = self._steps_after[before][0] - attempt.began
                self._problem = attempt.problem
            if self._problem:
                return number, None
            self._note(f"the command ends: {result.ranks[0].status if result.ranks else result.error}")
            if result.timed_out:
                self._find("resume hangs", f"hangs when it resumes: not over after {self._demands.limit:g} s")
                return number, None
            if result.succeeded:
                if result.leftovers:
                    self._find("leaves processes", f"leaves {result.leftovers[0]}")
                return number, values
            status = result.ranks[0].status if result.ranks else result.error
            self._find("resume fails", f"does not resume: {status}: {words}")
        return self._demands.max_restarts, None

    def _follow(self, operation: Operation) -> Answer:
        """Note the steps of an attempt after the break, in the thread of the watch."""
        attempt = self._attempt
        assert attempt is not None, "the attempt has started the watch"
        if self._counters is None:
            self._counters = _counters(attempt, self._program)
        if operation.kind == "line":
            for point in self._counters.points(operation):
                if point.kind == "step" and point.actor == self._quiet.history.reporter:
                    self._steps_after.append((SYSTEM_CLOCK.now(), int(point.path)))
        return LET

    def _compare(self, values: dict[str, str]) -> None:
        demands, quiet = self._demands, self._quiet
        self._compare_steps()
        for pattern, expected in quiet.values.items():
            if differing_value(values.get(pattern, ""), expected, demands.close):
                got = values.get(pattern) or "nothing"
                self._find("another result", f"'{pattern}' ends with {got}, the quiet run with {expected}")
        ours = files_in(self._directory, self._program.folders, self._program.is_watched)
        theirs = files_in(self._quiet_directory, self._program.folders, self._program.is_watched)
        wanted = _any_of(demands.same)
        for name, path in theirs.items():
            if wanted(name) and (text := file_difference(self._directory / name, path, demands.close)):
                self._find("another file", f"{name} {text}")
        known, allowed = {repeatable(name, 0) for name in theirs}, _any_of(demands.allow)
        left = sorted(name for name in ours if repeatable(name, 0) not in known and not allowed(name))
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            self._find("leaves files", f"leaves {left[0]}{more}, which the quiet run does not")

    def _compare_steps(self) -> None:
        """Find skipped steps. The step in which the run was broken may have been finished without its line."""
        expected = self._quiet.history.steps
        done = {*self._steps, *(step for _, step in self._steps_after)}
        missing = [step for step in dict.fromkeys(expected) if step not in done]
        last = max(self._steps, default=None)
        if last is None and missing == list(expected[:1]):
            return
        after = next((step for step in expected if last is not None and step > last), None)
        missing = [step for step in missing if step != after]
        if missing and self._steps_after:
            steps = f"step {missing[0]}" if len(missing) == 1 else f"steps {missing[0]} to {missing[-1]}"
            self._find("skips steps", f"skips {steps}: resumes at step {self._steps_after[0][1]} after step {last}")


def _any_of(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    return matcher(patterns) if patterns else lambda _: False


def _kill_rank_of(pid: int) -> None:
    """Kill the rank that a process belongs to; the process itself if it belongs to none."""
    victim, rank = pid, rank_of(pid)
    while rank is not None and (info := look_up(victim)) is not None and rank_of(info.ppid) == rank:
        victim = info.ppid
    for each in {victim, pid}:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
