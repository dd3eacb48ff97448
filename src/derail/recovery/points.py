"""Points of a run at which it can be broken: its operations on watched files, and its lines of output, in one order.

A point has an identity that does not depend on timing: who acts (a rank, a helper, the launcher), what it does to
which path, and the how-many-th time. Two quiet runs tell which points are the same in every run.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.platform.processes import environment, look_up

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from derail.faults.mechanisms.persistence import Operation

LAUNCHER = "launcher"
Phase: TypeAlias = Literal["before the first step", "between steps", "in a save", "after the last step"]
_RANK = re.compile(rb"(?:^|\0)RANK=(\d+)\0")
_RANDOM = re.compile(r"tmp[a-z0-9_]{8}|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16,}|\d{10,}")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Point:
    """Point of a run: the moment before an operation, or before a line is written.

    Attributes:
        actor: "rank 0", "rank 0's helper", "launcher" or "launcher's helper".
        kind: kind of the operation; "step" or "line" for a line of output.
        path: the file, with random parts of names replaced by ``*``; the number of a step.
        target: the new name of a rename or link.
        number: how many such operations there were so far, from 1.
    """

    actor: str
    kind: str
    path: str = ""
    target: str = ""
    number: int = 1

    def __str__(self) -> str:
        """Return text such as ``rename(ckpt/a.tmp -> ckpt/a), 2nd time, by rank 0``."""
        if self.kind == "step":
            return f"line of step {self.path}"
        if self.kind == "line":
            return "first line of output" if self.number == 1 else f"line {self.number} of output"
        what = f"{self.kind}({self.path}{f' -> {self.target}' if self.target else ''})"
        return what + (f" number {self.number}" if self.number > 1 else "")

    @property
    def is_line(self) -> bool:
        """Whether it is a line of output."""
        return self.kind in ("step", "line")


@dataclass(frozen=True, slots=True)
class Event:
    """Point that was reached in a run.

    Attributes:
        point: the point.
        path: the real path, or the text of a line.
        target: the real new name.
        at: seconds since the start of the run.
    """

    point: Point
    path: str
    target: str = ""
    at: float = 0.0


@dataclass(slots=True)
class Actors:
    """Roles of processes, by their environment: read once for each process."""

    root: int
    _roles: dict[int, str] = field(default_factory=dict)

    def role(self, pid: int) -> str:
        """Return the role of a process: a rank is the first process with its RANK, others with it are its helpers."""
        known = self._roles.get(pid)
        if known is None:
            known = self._roles[pid] = self._look(pid)
        return known

    def _look(self, pid: int) -> str:
        rank = rank_of(pid)
        if rank is None:
            return LAUNCHER if pid == self.root else f"{LAUNCHER}'s helper"
        info = look_up(pid)
        helper = info is not None and rank_of(info.ppid) == rank
        return f"rank {rank}'s helper" if helper else f"rank {rank}"


def rank_of(pid: int) -> int | None:
    """Return RANK in the environment of a process; None without one."""
    match = _RANK.search(environment(pid))
    return None if match is None else int(match[1])


class Counters:
    """Conversion of operations into points, each counted.

    Args:
        root: the first process of the command.
        step: pattern of the lines that report a step, with its number as the first group; None if there is none.
    """

    def __init__(self, root: int, step: re.Pattern[str] | None) -> None:
        self.actors = Actors(root)
        self._step = step
        self._seen: Counter[tuple[str, ...]] = Counter()

    def points(self, operation: Operation) -> list[Point]:
        """Return the points that an operation is; a line that reports steps is several."""
        actor = self.actors.role(operation.pid)
        if operation.kind == "line":
            return self._lines_of(actor, operation.text)
        key = (actor, operation.kind, repeatable(operation.path, operation.pid),
               repeatable(operation.target, operation.pid))  # fmt: skip
        self._seen[key] += 1
        return [Point(*key, self._seen[key])]

    def _lines_of(self, actor: str, text: str) -> list[Point]:
        points = []
        if text.strip():
            self._seen[actor, "line"] += 1
            points.append(Point(actor, "line", number=self._seen[actor, "line"]))
        for match in self._step.finditer(text) if self._step is not None else ():
            self._seen[actor, "step", match[1]] += 1
            points.append(Point(actor, "step", match[1], number=self._seen[actor, "step", match[1]]))
        return points


def repeatable(path: str, pid: int) -> str:
    """Return a path with its random parts replaced by ``*``: names of tempfile, UUIDs, hashes, times, and the pid."""
    if not path:
        return path
    text = _RANDOM.sub("*", path)
    return _DIGITS.sub(lambda match: "*" if match[0] == str(pid) and pid > 99 else match[0], text)


@dataclass(frozen=True, slots=True)
class History:
    """Quiet run: its events in order.

    Attributes:
        events: the events.
        seconds: duration of the run.
    """

    events: tuple[Event, ...] = ()
    seconds: float = 0.0

    @property
    def points(self) -> tuple[Point, ...]:
        """The points of the run: operations, and of one rank's lines the first, the last and those of steps."""
        reporter = self.reporter
        lines = [event.point for event in self.events if event.point.kind == "line" and event.point.actor == reporter]
        kept = {*lines[:1], *lines[-1:]}
        return tuple(
            point
            for point in (event.point for event in self.events)
            if not point.is_line or point in kept or (point.kind == "step" and point.actor == reporter)
        )

    @property
    def reporter(self) -> str:
        """The rank whose lines count: the lowest that reports steps, or writes lines; the launcher if no rank does."""
        actors = {event.point.actor for event in self.events if event.point.kind == "step"}
        actors = actors or {event.point.actor for event in self.events if event.point.kind == "line"}
        return min(actors, key=lambda actor: (actor.startswith(LAUNCHER), _natural(actor)), default="")

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that the run reported, in order."""
        reporter = self.reporter
        points = [event.point for event in self.events if event.point.kind == "step"]
        return tuple(int(point.path) for point in points if point.actor == reporter)

    def phases(self) -> dict[Point, Phase]:
        """Return the phase of each point."""
        phases: dict[Point, Phase] = {}
        last = max((index for index, point in enumerate(self.points) if point.kind == "step"), default=-1)
        begun = False
        for index, point in enumerate(self.points):
            begun = begun or point.kind == "step"
            if not point.is_line and begun:
                phases[point] = "in a save"
            else:
                phases[point] = (
                    "before the first step" if not begun else "after the last step" if index > last else "between steps"
                )
        return phases

    def saves(self) -> int:
        """Return the number of saves: operations without a line of a step between them, after the first step."""
        count, inside, begun = 0, False, False
        for point in self.points:
            if point.kind == "step":
                begun, inside = True, False
            elif not point.is_line and not inside:
                inside = True
                count += begun
        return count

    def after_saves(self, number: int) -> frozenset[Point]:
        """Return the points behind this many whole saves; none if there are fewer."""
        found: set[Point] = set()
        begun = inside = False
        whole = 0
        for point in self.points:
            if point.kind == "step":
                whole += begun and inside
                begun, inside = True, False
            elif not point.is_line:
                inside = True
            if whole >= number:
                found.add(point)
        return frozenset(found)

    def common(self, other: History) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
        """Return the points that both runs have, in the order of this one, and those that only one has."""
        theirs, ours = set(other.points), set(self.points)
        same = tuple(point for point in self.points if point in theirs)
        lone = tuple(point for point in (*self.points, *other.points) if not (point in theirs and point in ours))
        return same, lone


def kind_of(point: Point, phase: str) -> tuple[str, ...]:
    """Return what makes points alike: the call, the pattern of the path, the phase and the role of the actor."""
    role = re.sub(r"rank [1-9]\d*", "rank N", point.actor)
    if point.kind == "step":
        return ("step", phase)
    return (point.kind, _DIGITS.sub("#", point.path), _DIGITS.sub("#", point.target), phase, role)


def choose(points: Sequence[Point], phases: dict[Point, Phase], limit: int | None, seed: int) -> tuple[Point, ...]:
    """Return at most ``limit`` points, in their order: one of each kind first, then further ones drawn by the seed."""
    if limit is None or len(points) <= limit:
        return tuple(points)
    drawn = sorted(points, key=lambda point: _draw(seed, point))
    seen: dict[tuple[str, ...], int] = {}
    ranked: list[tuple[int, int, Point]] = []
    for point in drawn:
        kind = kind_of(point, phases.get(point, ""))
        seen[kind] = seen.get(kind, 0) + 1
        ranked.append((seen[kind], len(ranked), point))
    chosen = {point for _, _, point in sorted(ranked, key=lambda entry: entry[:2])[:limit]}
    return tuple(point for point in points if point in chosen)


def _draw(seed: int, point: Point) -> bytes:
    """Return a value that depends on the seed and the point only: another point more or less changes no draw."""
    text = "\0".join((str(seed), point.actor, point.kind, point.path, point.target, str(point.number)))
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def text_of(path: str | os.PathLike[str]) -> str:
    """Return the text of a log file; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
