"""One fault aimed at one rank: where it stands between waiting and its result. No I/O; the driver moves it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import AtExit, Soon
from derail.faults.engine.rank_plan import own
from derail.faults.model.results import Errored, FaultResult, NotReached, Unknown
from derail.faults.model.triggers import comings

if TYPE_CHECKING:
    from derail.faults.catalogue.entry import Entry
    from derail.faults.catalogue.injector_api import Aim
    from derail.faults.engine.journal import Record
    from derail.faults.engine.trigger_matcher import Condition, Reached
    from derail.faults.model.plan import Fault
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus


@dataclass(slots=True)
class Shot:
    """The state of one fault on one rank.

    Attributes:
        fault: what to do.
        rank: whom to do it to.
        entry: its entry in the catalogue.
        aim: what the injector gets.
        condition: looks out for its trigger.
        due: whether its trigger has come.
        waiting: which more times it has come while what was done before had not shown yet.
        told: whether the rank was told that it is due (in rank only).
        acted: how often it has acted.
        acted_at: when it acted first.
        awaits: what will prove it.
        result: what came of it, once that is known.
        healed: whether it was undone, or has nothing to undo.
    """

    fault: Fault
    rank: int
    entry: Entry
    aim: Aim
    condition: Condition
    due: bool = False
    waiting: list[int | None] = field(default_factory=list)
    told: bool = False
    acted: int = 0
    acted_at: float | None = None
    awaits: AtExit | Soon | None = None
    result: Result | None = None
    healed: bool = False

    @property
    def inside(self) -> bool:
        """Whether it acts in the rank."""
        return self.entry.side == "in rank"

    @property
    def own(self) -> bool:
        """Whether the rank itself sees what sets it off, and acts by itself."""
        return own(self.entry.side, self.fault.when)

    @property
    def each_time(self) -> bool:
        """Whether it acts once each time that its trigger comes, and not all times at once."""
        return comings(self.fault.when) != 1

    @property
    def waits_for_rank(self) -> bool:
        """Whether the next move is the rank's: to come to something, to act, or to say how that went."""
        if self.condition.looks_inside and not self.own:
            return True  # whatever is known by now: it stays where it is until it has an answer
        if self.result is not None:
            return False
        moves = self.inside and (self.due or self.own)
        return moves and (not self.acted or isinstance(self.awaits, Soon))

    def of(self, record: Record) -> bool:
        """Whether a rank wrote a record about it: its own rank, or, of a place that cannot be watched, any."""
        mine = self.fault.id == record.get("fault")
        return mine and ("watch" in record or (self.inside and self.rank == record.get("rank")))

    def stays_for(self, reached: Reached) -> bool:
        """Whether a rank must stay where it is until this has acted there, or others have come there too."""
        if self.result is not None or self.fault.id != reached.fault:
            return False
        if self.condition.holds(reached):
            return True
        acting = bool(self.waiting) or not self.acted
        return self.due and (acting or (not self.inside and isinstance(self.awaits, AtExit)))

    def result_at_exit(self, status: ExitStatus, lived: float, silent: Result | None) -> Result:
        """What the end of the rank makes of it. Called with everything read that the rank wrote.

        Args:
            status: how the rank ended.
            lived: seconds from its start to its end.
            silent: what it means that the runtime in the rank never spoke up; None if it did.
        """
        wanted = f"it acted {self.acted} of {self.fault.times} times; then" if self.acted < self.fault.times else ""
        if self.awaits is not None and not wanted:
            return self._proved_at_exit(self.awaits, status)
        if self.awaits is not None or self.acted:
            return NotReached(f"{wanted} the rank ended with {status}")
        if (self.inside or self.condition.looks_inside) and silent is not None:
            return silent
        if self.told:
            return NotReached(
                f"the rank was told, but its main thread ran no Python any more until it ended with {status}"
            )
        return NotReached(f"{self._missed()}; its target ended with {status} after {lived:.2f} s")

    def result_at_end(self) -> Result:
        """What is known of it when the job is over and the rank did not end."""
        if isinstance(self.awaits, Soon) and self.awaits.at_end is not None:
            return self.awaits.at_end()
        if self.awaits is not None:
            return Errored(f"{self.awaits.awaited} did not come: the rank never ended")
        if self.acted:
            return Unknown("it was started, and the job was over before anything was seen of it")
        return NotReached(f"{self._missed()}; the job was over before")

    def report(self) -> FaultResult:
        """Where it stands, as a value."""
        result = self.result
        if result is None and self.acted:
            result = Unknown("it was started, and nobody has seen yet what came of it")
        return FaultResult(self.fault, self.rank, result or NotReached("the job is not over yet"), self.acted_at)

    @staticmethod
    def _proved_at_exit(awaits: AtExit | Soon, status: ExitStatus) -> Result:
        if isinstance(awaits, AtExit):
            return awaits.check(status)
        shown = awaits.check()
        if shown is not None:
            return shown
        if awaits.at_exit is not None:
            return awaits.at_exit(status)
        return Errored(f"{awaits.awaited} did not show before the rank ended with {status}")

    def _missed(self) -> str:
        if self.due:
            return f"it was due ({self.fault.when}), but could not act any more"
        return self.condition.missed()
