"""State of one fault on one rank, from waiting to its result. No I/O: the driver advances it."""

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
class Injection:
    """State of one fault on one rank.

    Attributes:
        fault: the fault.
        rank: the target rank.
        entry: the fault's entry in the catalogue.
        aim: the argument of the injector.
        condition: the state of the trigger.
        due: whether the trigger has fired.
        waiting: further occurrences of the trigger while the previous injection is unverified.
        told: whether the driver has notified the rank's runtime (in-rank faults only).
        acted: the number of injections so far.
        acted_at: monotonic time of the first injection, in seconds.
        awaits: the check that will verify the last injection.
        result: the result, once final.
        healed: whether the fault was undone, or has nothing to undo.
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
        """Whether the injector runs inside the rank."""
        return self.entry.side == "in rank"

    @property
    def own(self) -> bool:
        """Whether the rank itself detects the trigger and injects without the driver."""
        return own(self.entry.side, self.fault.when)

    @property
    def each_time(self) -> bool:
        """Whether it injects once per occurrence of its trigger, rather than all ``times`` at the first."""
        return comings(self.fault.when) != 1

    @property
    def waits_for_rank(self) -> bool:
        """Whether the next step is the rank's: reach a place, inject, or report the effect."""
        if self.condition.looks_inside and not self.own:
            return True  # even with a final result: the rank waits at its place until the driver answers
        if self.result is not None:
            return False
        moves = self.inside and (self.due or self.own)
        return moves and (not self.acted or isinstance(self.awaits, Soon))

    def of(self, record: Record) -> bool:
        """Return whether a record is about this fault on this rank; a record about a watch may come from any rank."""
        mine = self.fault.id == record.get("fault")
        return mine and ("watch" in record or (self.inside and self.rank == record.get("rank")))

    def stays_for(self, reached: Reached) -> bool:
        """Return whether a rank must wait at its place for this injection or for its peers."""
        if self.result is not None or self.fault.id != reached.fault:
            return False
        if self.condition.holds(reached):
            return True
        acting = bool(self.waiting) or not self.acted
        return self.due and (acting or (not self.inside and isinstance(self.awaits, AtExit)))

    def result_at_exit(self, status: ExitStatus, lived: float, silent: Result | None) -> Result:
        """Return the result after the rank exited; call it once all records of the rank are read.

        Args:
            status: the exit status of the rank.
            lived: seconds from the rank's start to its exit.
            silent: the result if the runtime in the rank never announced itself; None if it did.
        """
        wanted = f"acted {self.acted} of {self.fault.times} times; then" if self.acted < self.fault.times else ""
        if self.awaits is not None and not wanted:
            return self._proved_at_exit(self.awaits, status)
        if self.awaits is not None or self.acted:
            return NotReached(f"{wanted} the rank ended with {status}")
        if (self.inside or self.condition.looks_inside) and silent is not None:
            return silent
        if self.told:
            return NotReached(f"fault delivered, but the main thread ran no Python before the rank ended with {status}")
        return NotReached(f"{self._missed()}; its target ended with {status} after {lived:.2f} s")

    def result_at_end(self) -> Result:
        """Return the result when the job is over and the rank did not exit."""
        if isinstance(self.awaits, Soon) and self.awaits.at_end is not None:
            return self.awaits.at_end()
        if self.awaits is not None:
            return Errored(f"{self.awaits.awaited} was not observed: the rank never ended")
        if self.acted:
            return Unknown("started, but the job ended before there was evidence")
        return NotReached(f"{self._missed()}; the job had ended")

    def report(self) -> FaultResult:
        """Return the current state as a result."""
        result = self.result
        if result is None and self.acted:
            result = Unknown("started, without evidence so far")
        return FaultResult(self.fault, self.rank, result or NotReached("the job is still running"), self.acted_at)

    @staticmethod
    def _proved_at_exit(awaits: AtExit | Soon, status: ExitStatus) -> Result:
        if isinstance(awaits, AtExit):
            return awaits.check(status)
        shown = awaits.check()
        if shown is not None:
            return shown
        if awaits.at_exit is not None:
            return awaits.at_exit(status)
        return Errored(f"{awaits.awaited} was not observed before the rank ended with {status}")

    def _missed(self) -> str:
        if self.due:
            return f"due ({self.fault.when}), but no longer possible"
        return self.condition.missed()
