"""Runner of one injection: journal the start, inject, wait for the evidence, journal the end, undo."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import AtExit, Soon
from derail.faults.model.results import Errored, FaultResult, Injected
from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.faults.catalogue.injector_api import Step
    from derail.faults.engine.execution import Injection
    from derail.faults.engine.journal import Journal
    from derail.faults.model.results import Result
    from derail.model.events import Event, JobControl

FIRST_LOOK, LONGEST_LOOK = 0.002, 0.05
"""Seconds between two checks for the evidence of an injection: at first, and at most."""


class InjectorRunner:
    """Runner that takes due faults to their results, in the thread of one job.

    Attributes:
        broken: the error of the last failed journal write; empty if there was none.
    """

    def __init__(self, control: JobControl, journal: Journal, on_error: Callable[[Exception], None]) -> None:
        self._control = control
        self._journal = journal
        self._on_error = on_error
        self.broken = ""

    def act(self, injection: Injection, hit: int | None = None) -> None:
        """Inject once from outside, after the ``start`` record; without that record nothing is injected."""
        if injection.result is not None:
            return
        what: dict[str, object] = {"n": injection.acted + 1, **({} if hit is None else {"hit": hit})}
        if not self.write(
            "again" if injection.acted else "start", fault=injection.fault.id, rank=injection.rank, **what
        ):
            self.end(injection, Errored(f"not injected: cannot write the journal: {self.broken}"))
            return
        injection.acted += 1
        injection.acted_at = injection.acted_at or SYSTEM_CLOCK.now()
        self.take(injection, lambda: injection.entry.inject(injection.aim))

    def take(self, injection: Injection, inject: Callable[[], Step]) -> None:
        """Run an injector and continue with the step that it returns."""
        try:
            step = inject()
        except Exception as error:  # an injector that raises leaves the fault unverified
            step = thrown(error)
        injection.awaits = step if isinstance(step, AtExit | Soon) else None
        if isinstance(step, Soon):
            self._look(injection, step, waited=0.0, pause=FIRST_LOOK)
        elif isinstance(step, AtExit):
            self._again(injection)
        else:
            self._settle(injection, step)

    def _look(self, injection: Injection, step: Soon, *, waited: float, pause: float) -> None:
        if injection.result is not None or injection.awaits is not step:
            return
        try:
            shown = step.check()
        except Exception as error:  # the check of the target failed: that is no evidence
            shown = thrown(error)
        if shown is not None:
            self._settle(injection, shown)
        elif waited >= step.within:
            self.end(injection, Errored(f"{step.awaited} was not observed within {step.within:g} s"))
        else:
            longer = min(2 * pause, LONGEST_LOOK)
            self.later(pause, lambda: self._look(injection, step, waited=waited + pause, pause=longer))

    def _settle(self, injection: Injection, result: Result) -> None:
        """End after one verified injection, or inject again if the fault repeats."""
        injection.awaits = None
        if not (isinstance(result, Injected) and self._again(injection)):
            self.end(injection, result)

    def _again(self, injection: Injection) -> bool:
        if injection.inside or injection.acted >= injection.fault.times:
            return False
        if injection.each_time and not injection.waiting:
            return True  # it injects when it is next due
        if injection.each_time:
            hit = injection.waiting.pop(0)
            self.later(0.0, lambda: self.act(injection, hit))
            return True
        self.later(injection.aim.number("every"), lambda: self.act(injection))
        return True

    def end(self, injection: Injection, result: Result) -> None:
        """Set and journal the result, unless there is one already."""
        if injection.result is not None:
            return
        if isinstance(result, Injected) and injection.fault.times > 1:
            result = Injected(f"{injection.acted} times; the last: {result.evidence}")
        injection.result, injection.awaits = result, None
        told = FaultResult(injection.fault, injection.rank, result)
        self.write("end", fault=injection.fault.id, rank=injection.rank, result=told.status, detail=told.detail)
        if injection.fault.for_ is not None and not injection.inside and isinstance(result, Injected):
            self.later(injection.fault.for_, lambda: self.heal(injection))

    def heal(self, injection: Injection) -> None:
        """Undo the changes of a fault, newest first, each once."""
        while injection.aim.undo:
            what, undo = injection.aim.undo.pop()
            try:
                undo()
            except Exception as error:  # the others must be healed as well
                self.write(
                    "heal_failed", fault=injection.fault.id, rank=injection.rank, what=what, error=str(thrown(error))
                )
            else:
                self.write("healed", fault=injection.fault.id, rank=injection.rank, what=what)

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Run an action later in the job's thread; an exception in it breaks the driver, not the job."""

        def guarded() -> None:
            try:
                action()
            except Exception as error:  # the job would drop it silently
                self._on_error(error)

        self._control.call_later(delay, guarded)

    def write(self, event: str, **fields: object) -> bool:
        """Append a record to the journal, and return whether that succeeded."""
        try:
            self._journal.write(event, **fields)
        except OSError as error:
            self.broken = str(error)
            return False
        return True

    def note(self, event: Event) -> None:
        """Append a launcher event to the journal, ignoring write errors: a full disk must not stop the faults."""
        try:
            self._journal.write_event(event)
        except OSError as error:
            self.broken = str(error)


def thrown(error: Exception) -> Errored:
    """Return the result for an exception in derail's code, with the file and line that raised it."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return Errored(f"{type(error).__name__}: {error}{place}")
