"""Steps that ranks report in their lines, as records for the journal: first and last of each process. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derail.model.events import Exited, Finished, LineSeen, Started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.model.events import Event


LONGEST = 15  # digits of a step


@dataclass(slots=True)
class _Last:
    """Highest step of one process, and the monotonic time of its line in seconds."""

    step: int
    at: float


class Steps:
    """Reader of step lines. A rank's process is followed from its start to its exit, or to the end of the job.

    Args:
        pattern: a regular expression with the number as its first group; empty to read none.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern) if pattern else None
        self._last: dict[int, _Last] = {}
        self._over: set[int] = set()

    def records(self, event: Event) -> Iterator[dict[str, Any]]:
        """Yield the records for an event: ``step`` for the first step of a process, ``last_step`` when it has ended.

        ``reached`` in ``last_step`` is the highest step of all ranks by then, in the same attempt.
        """
        if self._pattern is None:
            return
        match event:
            case LineSeen():
                yield from self._read(self._pattern, event)
            case Started():
                self._last.pop(event.rank, None)
                self._over.discard(event.rank)
            case Exited():
                yield from self._end(event.rank)
            case Finished():
                for rank in sorted(self._last):
                    yield from self._end(rank)

    def _read(self, pattern: re.Pattern[str], line: LineSeen) -> Iterator[dict[str, Any]]:
        match = pattern.search(line.text)
        digits = "" if match is None else match[1] or ""
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= LONGEST):
            return
        step, last = int(digits), self._last.get(line.rank)
        if last is None:
            self._last[line.rank] = _Last(step, line.at)
            yield {"event": "step", "rank": line.rank, "step": step, "seen_at": line.at}
        elif step > last.step:
            last.step, last.at = step, line.at

    def _end(self, rank: int) -> Iterator[dict[str, Any]]:
        last = self._last.get(rank)
        if last is not None and rank not in self._over:
            self._over.add(rank)
            reached = max(each.step for each in self._last.values())
            yield {"event": "last_step", "rank": rank, "step": last.step, "seen_at": last.at, "reached": reached}
