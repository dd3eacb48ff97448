"""``AgentMachine``: random histories of a job, told to a launcher's face, and the smallest one that it gets wrong.

A Hypothesis state machine whose rules start a job, make ranks fail, signal them, stop the job and start it again. What
the launcher tells is held against what has really happened.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.errors import InvalidArgument
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from derail.conformance.driver import DEADLY, HARMLESS, PATIENCE, BrokenPromise, Rehearsal
from derail.conformance.history import History
from derail.conformance.launchers import DerailLauncher
from derail.faults.codec import from_toml, load, to_toml
from derail.model.exit import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.conformance.adapter import Driven
    from derail.faults.model.plan import Plan

MOST_RANKS = 4
MOST_JOBS = 3
REHEARSALS = settings(
    max_examples=25,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),  # which lines ran explains nothing here
)
"""How often and how long, unless something else is said: real processes take their time."""

_WHICH = st.integers(0, MOST_RANKS - 1)
_CODES = st.sampled_from([1, 2, 3, 7, 42, 126, 127, 128, 130, 137, 143, 255])


class AgentMachine(RuleBasedStateMachine):
    """Drives the launcher that ``agent`` makes; derail's own unless a subclass says otherwise.

    ``TestIt = It.TestCase`` makes a test of a subclass ``It``. When that fails, its report has the smallest plan that
    shows why, as TOML and as a test.
    """

    most_ranks: ClassVar[int] = 3
    """Jobs have from 1 to so many ranks; 4 at most."""
    patience: ClassVar[float] = PATIENCE
    """Seconds that the launcher gets for the end of a job."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.TestCase.settings = REHEARSALS

    def __init__(self) -> None:
        super().__init__()
        self._rehearsal: Rehearsal | None = None
        self._ranks = 0
        self._promises = type(self).agent().promises

    @classmethod
    def agent(cls) -> Driven:
        """A launcher to drive: a new one for each history."""
        return DerailLauncher()

    @classmethod
    def replay(cls, plan: Plan | Path | str, *, ranks: int, restarts: int = 0, stopped: tuple[int, ...] = ()) -> None:
        """Do once what a plan says.

        Args:
            plan: a plan; a path of one; or one as TOML. It may have the faults that a rehearsal makes.
            ranks: of how many ranks the job is.
            restarts: how often the job is started again at least; a fault may stand at a restart.
            stopped: the jobs, counted from 0, that the launcher is asked to stop at their end. It is also asked to if
                no rank has failed and some live.

        Raises:
            ValueError: if the plan says what no rehearsal can do.
            BrokenPromise: if the launcher gets it wrong.
        """
        if isinstance(plan, str):
            plan = from_toml(plan)
        elif isinstance(plan, Path):
            plan = load(plan)
        history = History.of(plan, ranks=ranks, restarts=restarts, stopped=stopped)
        with Rehearsal(cls.agent(), ranks=ranks, patience=cls.patience) as rehearsal:
            history.perform(rehearsal)

    # ---- rules

    @initialize(ranks=st.integers(1, MOST_RANKS))
    def start(self, ranks: int) -> None:
        """A job begins."""
        self._ranks = min(ranks, self.most_ranks)
        self._rehearsal = Rehearsal(type(self).agent(), ranks=self._ranks, patience=self.patience)
        with self._telling() as rehearsal:
            rehearsal.start()

    @precondition(lambda self: self._awake())
    @rule(which=_WHICH, code=_CODES)
    def fail(self, which: int, code: int) -> None:
        """A rank exits with a code that is not 0."""
        with self._telling() as rehearsal:
            rehearsal.fail(self._one_of(self._awake(), which), code)

    @precondition(lambda self: len(self._awake()) > 1)
    @rule(which=_WHICH, code=_CODES | st.just(0), killed=st.booleans())
    def fail_together(self, which: int, code: int, killed: bool) -> None:  # noqa: FBT001 - drawn by name
        """Two ranks end within a millisecond; nobody can know which was the first."""
        with self._telling() as rehearsal:
            one = self._one_of(self._awake(), which)
            other = self._one_of(self._awake(), which + 1)
            end = ExitStatus(signal=9) if killed else ExitStatus(code=code or 1)
            rehearsal.fail_together({one: ExitStatus(code=code), other: end})

    @precondition(lambda self: self._awake() and self._promises.helpers and self._calm())
    @rule(which=_WHICH, code=_CODES)
    def fail_and_leave_a_helper(self, which: int, code: int) -> None:
        """A rank exits, and what it had started stays."""
        with self._telling() as rehearsal:
            rehearsal.fail(self._one_of(self._awake(), which), code, helper=True)

    @precondition(lambda self: self._awake())
    @rule(which=_WHICH)
    def succeed(self, which: int) -> None:
        """A rank exits with code 0: for a program that is success."""
        with self._telling() as rehearsal:
            rehearsal.fail(self._one_of(self._awake(), which), 0)

    @precondition(lambda self: self._living())
    @rule(which=_WHICH, name=st.sampled_from(DEADLY))
    def kill(self, which: int, name: str) -> None:
        """A rank gets a signal that ends it, unless it has made up its mind not to."""
        with self._telling() as rehearsal:
            rank = self._one_of(self._living(), which)
            rehearsal.signal(rank, "SIGKILL" if rank in rehearsal.job.paused else name)

    @precondition(lambda self: self._living() and self._calm())
    @rule(which=_WHICH, name=st.sampled_from(HARMLESS))
    def disturb(self, which: int, name: str) -> None:
        """A rank gets a signal that nobody minds."""
        with self._telling() as rehearsal:
            rehearsal.signal(self._one_of(self._living(), which), name)

    @precondition(lambda self: self._awake() and self._promises.deaf and self._calm())
    @rule(which=_WHICH)
    def pause(self, which: int) -> None:
        """A rank is stopped by SIGSTOP, and does not even hear SIGTERM."""
        with self._telling() as rehearsal:
            rehearsal.signal(self._one_of(self._awake(), which), "SIGSTOP")

    @precondition(lambda self: self._awake() and self._promises.deaf and self._calm())
    @rule(which=_WHICH)
    def turn_deaf(self, which: int) -> None:
        """A rank ignores SIGTERM from now on."""
        with self._telling() as rehearsal:
            rehearsal.arm(self._one_of(self._awake(), which), "ignores")

    @precondition(lambda self: self._awake() and self._calm())
    @rule(which=_WHICH)
    def turn_obedient(self, which: int) -> None:
        """A rank leaves with code 0 at SIGTERM from now on, as if it had finished."""
        with self._telling() as rehearsal:
            rehearsal.arm(self._one_of(self._awake(), which), "leaves")

    @precondition(lambda self: self._running() and (not self._living() or self._failing()))
    @rule()
    def wait(self) -> None:
        """The job comes to its end by itself."""
        with self._telling() as rehearsal:
            rehearsal.wait()

    @precondition(lambda self: self._running())
    @rule()
    def stop(self) -> None:
        """The launcher is asked for the end of the job, also when ranks have failed already."""
        with self._telling() as rehearsal:
            rehearsal.stop()

    @precondition(lambda self: not self._running() and self._jobs() < MOST_JOBS)
    @rule()
    def restart(self) -> None:
        """The job is over, and begins again."""
        with self._telling() as rehearsal:
            rehearsal.start()

    @precondition(lambda self: not self._running() and self._jobs() >= MOST_JOBS)
    @rule()
    def rest(self) -> None:
        """It is enough."""

    def teardown(self) -> None:
        """The job that still runs comes to its end; nothing is left."""
        if self._rehearsal is None:
            return
        try:
            if self._running():
                with self._telling() as rehearsal:
                    rehearsal.finish()
        finally:
            self._rehearsal.close()

    # ---- what there is

    @contextmanager
    def _telling(self) -> Iterator[Rehearsal]:
        """Where the launcher breaks its word, say by what plan."""
        assert self._rehearsal is not None
        try:
            yield self._rehearsal
        except BrokenPromise as broken:
            found = broken, self._rehearsal
            if _is_final():
                found = _smallest(type(self), *found)
            raise BrokenPromise(found[0].violations, advise(type(self), found[1])) from broken.__cause__

    def _running(self) -> bool:
        return self._rehearsal is not None and self._rehearsal.running

    def _jobs(self) -> int:
        return 0 if self._rehearsal is None else len(self._rehearsal.jobs)

    def _calm(self) -> bool:
        return self._rehearsal is not None and self._rehearsal.job.calm

    def _failing(self) -> bool:
        return self._rehearsal is not None and self._rehearsal.job.failing

    def _living(self) -> list[int]:
        return self._rehearsal.job.living if self._rehearsal is not None and self._running() else []

    def _awake(self) -> list[int]:
        """Ranks that take orders."""
        return [rank for rank in self._living() if self._rehearsal and rank not in self._rehearsal.job.paused]

    @staticmethod
    def _one_of(ranks: list[int], which: int) -> int:
        return ranks[which % len(ranks)]


AgentMachine.TestCase.settings = REHEARSALS


def _is_final() -> bool:
    """Whether this history is about to be shown, or is one that was pasted from what Hypothesis has shown."""
    try:
        return current_build_context().is_final
    except InvalidArgument:  # Hypothesis is not at work
        return True


def _smallest(
    machine: type[AgentMachine], broken: BrokenPromise, rehearsal: Rehearsal
) -> tuple[BrokenPromise, Rehearsal]:
    """Take away what the history can do without. Hypothesis has made the choices smaller that led to it, which may end
    before the history itself is as small as it can be."""
    rehearsal.close()
    found = broken, rehearsal

    def breaks(history: History) -> bool:
        nonlocal found
        with Rehearsal(machine.agent(), ranks=history.ranks, patience=machine.patience) as again:
            try:
                history.perform(again)
            except BrokenPromise as error:
                found = error, again
                return True
            except ValueError:
                return False
        return False

    restarts, stopped = len(rehearsal.jobs) - 1, rehearsal.stopped()
    History.of(rehearsal.plan(), ranks=rehearsal.ranks, restarts=restarts, stopped=stopped).smallest(breaks)
    return found


def advise(machine: type[AgentMachine], rehearsal: Rehearsal) -> str:
    """The plan that a rehearsal has gone through until now, as TOML and as a test."""
    ranks = rehearsal.ranks
    lines = to_toml(rehearsal.plan()).splitlines(keepends=True)
    toml = "".join(line for line in lines if not line.startswith("id = "))  # a plan names them again, and the same
    restarts, stopped = len(rehearsal.jobs) - 1, tuple(rehearsal.stopped())
    options = [f"ranks={ranks}"]
    options += [f"restarts={restarts}"] * bool(restarts)
    options += [f"stopped={stopped}"] * bool(stopped)
    ours = machine.__module__.partition(".")[0] == "pytest_derail"
    place = f"from pytest_derail.strategies.plans import {machine.__name__}" if ours else f"# in {machine.__module__}"
    asked = "" if not stopped else f", in which job(s) {', '.join(map(str, stopped))} (from 0) are stopped"
    again = "" if not restarts else f", and {restarts} restart(s)"
    call = f"{machine.__name__}.replay(PLAN, {', '.join(options)})"
    return (
        f"\nthe plan, with {ranks} rank(s){again}{asked}:\n\n{toml}\n"
        f"as a test:\n\n{place}\n\nPLAN = r'''\n{toml}'''\n\n\ndef test_the_launcher_keeps_its_word():\n    {call}\n"
    )
