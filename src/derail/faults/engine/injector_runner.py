"""Fires one fault at one rank: journals the start, injects, waits for the proof, journals the end, undoes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import AtExit, Soon
from derail.faults.model.results import Errored, FaultResult, Injected
from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.faults.catalogue.injector_api import Step
    from derail.faults.engine.execution import Shot
    from derail.faults.engine.journal import Journal
    from derail.faults.model.results import Result
    from derail.model.events import Event, JobControl

FIRST_LOOK, LONGEST_LOOK = 0.002, 0.05
"""Seconds between two looks at something that will show itself."""


class Firing:
    """Moves shots from due to their results, in the thread of one job.

    Attributes:
        broken: why the last record could not be written; empty while all could.
    """

    def __init__(self, control: JobControl, journal: Journal, on_error: Callable[[Exception], None]) -> None:
        self._control = control
        self._journal = journal
        self._on_error = on_error
        self.broken = ""

    def act(self, shot: Shot, hit: int | None = None) -> None:
        """Inject from outside, once; ``start`` is in the journal before. What cannot be journalled does not happen."""
        if shot.result is not None:
            return
        what: dict[str, object] = {"n": shot.acted + 1, **({} if hit is None else {"hit": hit})}
        if not self.write("again" if shot.acted else "start", fault=shot.fault.id, rank=shot.rank, **what):
            self.end(shot, Errored(f"not done, because it could not be journalled: {self.broken}"))
            return
        shot.acted += 1
        shot.acted_at = shot.acted_at or SYSTEM_CLOCK.now()
        self.take(shot, lambda: shot.entry.inject(shot.aim))

    def take(self, shot: Shot, inject: Callable[[], Step]) -> None:
        """Go on with what an injector says."""
        try:
            step = inject()
        except Exception as error:  # whatever an injector throws, the fault did not verifiably happen
            step = thrown(error)
        shot.awaits = step if isinstance(step, AtExit | Soon) else None
        if isinstance(step, Soon):
            self._look(shot, step, waited=0.0, pause=FIRST_LOOK)
        elif isinstance(step, AtExit):
            self._again(shot)
        else:
            self._settle(shot, step)

    def _look(self, shot: Shot, step: Soon, *, waited: float, pause: float) -> None:
        if shot.result is not None or shot.awaits is not step:
            return
        try:
            shown = step.check()
        except Exception as error:  # the look at the target failed: that is no proof
            shown = thrown(error)
        if shown is not None:
            self._settle(shot, shown)
        elif waited >= step.within:
            self.end(shot, Errored(f"{step.awaited} did not show within {step.within:g} s"))
        else:
            longer = min(2 * pause, LONGEST_LOOK)
            self.later(pause, lambda: self._look(shot, step, waited=waited + pause, pause=longer))

    def _settle(self, shot: Shot, result: Result) -> None:
        """One act has its result: end, or act again if it is to."""
        shot.awaits = None
        if not (isinstance(result, Injected) and self._again(shot)):
            self.end(shot, result)

    def _again(self, shot: Shot) -> bool:
        if shot.inside or shot.acted >= shot.fault.times:
            return False
        if shot.each_time and not shot.waiting:
            return True  # when it is due again
        if shot.each_time:
            hit = shot.waiting.pop(0)
            self.later(0.0, lambda: self.act(shot, hit))
            return True
        self.later(shot.aim.number("every"), lambda: self.act(shot))
        return True

    def end(self, shot: Shot, result: Result) -> None:
        """Keep what came of it, unless that is known already, and journal it."""
        if shot.result is not None:
            return
        if isinstance(result, Injected) and shot.fault.times > 1:
            result = Injected(f"{shot.acted} times; the last: {result.evidence}")
        shot.result, shot.awaits = result, None
        told = FaultResult(shot.fault, shot.rank, result)
        self.write("end", fault=shot.fault.id, rank=shot.rank, result=told.status, detail=told.detail)
        if shot.fault.for_ is not None and not shot.inside and isinstance(result, Injected):
            self.later(shot.fault.for_, lambda: self.heal(shot))

    def heal(self, shot: Shot) -> None:
        """Undo it, newest first, each step once."""
        while shot.aim.undo:
            what, undo = shot.aim.undo.pop()
            try:
                undo()
            except Exception as error:  # the others must be healed as well
                self.write("heal_failed", fault=shot.fault.id, rank=shot.rank, what=what, error=str(thrown(error)))
            else:
                self.write("healed", fault=shot.fault.id, rank=shot.rank, what=what)

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Run something in the job's thread later; what it throws breaks the driver, not the job."""

        def guarded() -> None:
            try:
                action()
            except Exception as error:  # an action that throws must not be dropped in silence
                self._on_error(error)

        self._control.call_later(delay, guarded)

    def write(self, event: str, **fields: object) -> bool:
        """Append to the journal; whether that worked."""
        try:
            self._journal.write(event, **fields)
        except OSError as error:
            self.broken = str(error)
            return False
        return True

    def note(self, event: Event) -> None:
        """Append an event of the launcher to the journal; a full disk must not stop the faults."""
        try:
            self._journal.write_event(event)
        except OSError as error:
            self.broken = str(error)


def thrown(error: Exception) -> Errored:
    """What an exception makes of a fault, with the place in our code that threw it."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return Errored(f"{type(error).__name__}: {error}{place}")
