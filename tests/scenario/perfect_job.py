"""Perfect job on a simulated clock: constant steps, a constant recovery, and a checkpoint each n steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derail.scenario.goodput import schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RANKS = 2


@dataclass(frozen=True)
class PerfectJob:
    """Job with steps of ``step`` seconds that saves each ``saves`` steps, and is back ``recover`` s after a break."""

    step: float = 0.5
    recover: float = 4.0
    saves: int = 10
    mtbf: float = 20.0

    def quiet(self, seconds: float) -> list[dict[str, Any]]:
        """Return the journal of a run without breaks."""
        return self.records([(0.0, seconds, 1, 1 + int(seconds / self.step))])

    def broken(self, seed: int, seconds: float) -> list[dict[str, Any]]:
        """Return the journal of a run that is broken by the schedule of a seed, and ended when the time is over."""
        breaks = [each.at for each in schedule(seed, mtbf=self.mtbf, seconds=seconds, ranks=RANKS)]
        return self.records(self.attempts(breaks, seconds))

    def attempts(
        self, breaks: Sequence[float], seconds: float, saved: int = 0
    ) -> Iterator[tuple[float, float, int, int]]:
        """Yield begin, end, first and last step of each attempt. A break without a running process hits nothing."""
        begin, first = 0.0, saved + 1
        for at in [*breaks, seconds]:
            if at < begin:
                continue
            last = first + int((at - begin) / self.step)
            yield begin, at, first, last
            first = (last - 1) // self.saves * self.saves + 1
            begin = at + self.recover
            if begin >= seconds:
                return

    def records(self, attempts: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """Return the journal of these attempts; without a first step, an attempt writes no step line."""
        found: list[dict[str, Any]] = [{"event": "plan", "at": 0.0}, {"event": "phase", "at": 0.0, "phase": "starting"}]
        end = 0.0
        for begin, end, *steps in attempts:
            for rank in range(RANKS):
                found.append({"event": "started", "at": begin, "rank": rank})
                if steps and steps[0] is not None:
                    first, last = steps
                    found.append({"event": "step", "at": begin, "rank": rank, "step": first})
                    fields = {"at": begin + (last - first) * self.step, "step": last, "reached": last}
                    found.append({"event": "last_step", "rank": rank, **fields})
                found.append({"event": "exited", "at": end, "rank": rank, "status": "SIGKILL (9)"})
        return [*found, {"event": "finished", "at": end, "timed_out": True}]


def formula(job: PerfectJob) -> float:
    """Return the expected goodput of a perfect job under exponential breaks.

    The time until the next break is exponential again when the job is back, whatever happened in the recovery. Each
    cycle lasts ``mtbf + recover`` on average, and keeps ``saves`` steps for each checkpoint that it lives to see: the
    k-th one with probability exp(-k * saves * step / mtbf), which is a geometric series.
    """
    interval = job.saves * job.step
    return interval / math.expm1(interval / job.mtbf) / (job.mtbf + job.recover)
