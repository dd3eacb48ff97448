"""``AgentMachine``: random histories of a job for a real launcher, and the smallest one that the launcher gets wrong.

A Hypothesis state machine whose rules start a job, make ranks fail, signal them, stop the job and start it again. The
launcher's reports are compared with the real events.
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

MOST_RANKS = 4  # ranks of a job
MOST_JOBS = 3  # jobs of a history, including restarts
REHEARSALS = settings(
    max_examples=25,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),  # explain: executed lines explain nothing here
)
"""Default number and length of the histories: real processes are slow."""

_WHICH = st.integers(0, MOST_RANKS - 1)
_CODES = st.sampled_from([1, 2, 3, 7, 42, 126, 127, 128, 130, 137, 143, 255])


class AgentMachine(RuleBasedStateMachine):
    """State machine for the launcher that ``agent`` creates: derail's own unless a subclass overrides it.

    ``TestIt = It.TestCase`` makes a test of a subclass ``It``. When it fails, its report contains the smallest failing
    plan, as TOML and as a test.
    """

    most_ranks: ClassVar[int] = 3
    """Maximum number of ranks in a job; at most 4."""
    patience: ClassVar[float] = PATIENCE
    """Seconds within which the launcher must report the end of a job."""

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
        """Return a new launcher, called once for each history."""
        return DerailLauncher()

    @classmethod
    def replay(cls, plan: Plan | Path | str, *, ranks: int, restarts: int = 0, stopped: tuple[int, ...] = ()) -> None:
        """Perform one history from a plan.

        Args:
            plan: a plan; the path of one; or one as TOML. It may contain the faults that a rehearsal generates.
            ranks: the number of ranks of the job.
            restarts: minimum number of restarts of the job; a fault may require a later one.
            stopped: the jobs, counted from 0, that the launcher is asked to stop at their end. A job without failed
                ranks is stopped as well if ranks still run.

        Raises:
            ValueError: if a rehearsal cannot perform the plan.
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
        """Start a job."""
        self._ranks = min(ranks, self.most_ranks)
        self._rehearsal = Rehearsal(type(self).agent(), ranks=self._ranks, patience=self.patience)
        with self._telling() as rehearsal:
            rehearsal.start()

    @precondition(lambda self: self._awake())
    @rule(which=_WHICH, code=_CODES)
    def fail(self, which: int, code: int) -> None:
        """Make a rank exit with a code that is not 0."""
        with self._telling() as rehearsal:
            rehearsal.fail(self._one_of(self._awake(), which), code)

    @precondition(lambda self: len(self._awake()) > 1)
    @rule(which=_WHICH, code=_CODES | st.just(0), killed=st.booleans())
    def fail_together(self, which: int, code: int, killed: bool) -> None:  # noqa: FBT001 - drawn by name
        """End two ranks within a millisecond, so that their order is unknown."""
        with self._telling() as rehearsal:
            one = self._one_of(self._awake(), which)
            other = self._one_of(self._awake(), which + 1)
            end = ExitStatus(signal=9) if killed else ExitStatus(code=code or 1)
            rehearsal.fail_together({one: ExitStatus(code=code), other: end})

    @precondition(lambda self: self._awake() and self._promises.helpers and self._calm())
    @rule(which=_WHICH, code=_CODES)
    def fail_and_leave_a_helper(self, which: int, code: int) -> None:
        """Make a rank exit, and leave a helper process that it had started."""
        with self._telling() as rehearsal:
            rehearsal.fail(self._one_of(self._awake(), which), code, helper=True)

    @precondition(lambda self: self._awake())
    @rule(which=_WHICH)
    def succeed(self, which: int) -> None:
        """Make a rank exit with code 0, which is success for a program."""
        with self._telling() as rehearsal:
            rehearsal.fail(self._one_of(self._awake(), which), 0)

    @precondition(lambda self: self._living())
    @rule(which=_WHICH, name=st.sampled_from(DEADLY))
    def kill(self, which: int, name: str) -> None:
        """Send a rank a signal that ends it, unless the rank ignores that signal."""
        with self._telling() as rehearsal:
            rank = self._one_of(self._living(), which)
            rehearsal.signal(rank, "SIGKILL" if rank in rehearsal.job.paused else name)

    @precondition(lambda self: self._living() and self._calm())
    @rule(which=_WHICH, name=st.sampled_from(HARMLESS))
    def disturb(self, which: int, name: str) -> None:
        """Send a rank a signal without effect."""
        with self._telling() as rehearsal:
            rehearsal.signal(self._one_of(self._living(), which), name)

    @precondition(lambda self: self._awake() and self._promises.deaf and self._calm())
    @rule(which=_WHICH)
    def pause(self, which: int) -> None:
        """Stop a rank by SIGSTOP, so that it does not even handle SIGTERM."""
        with self._telling() as rehearsal:
            rehearsal.signal(self._one_of(self._awake(), which), "SIGSTOP")

    @precondition(lambda self: self._awake() and self._promises.deaf and self._calm())
    @rule(which=_WHICH)
    def turn_deaf(self, which: int) -> None:
        """Make a rank ignore SIGTERM from now on."""
        with self._telling() as rehearsal:
            rehearsal.arm(self._one_of(self._awake(), which), "ignores")

    @precondition(lambda self: self._awake() and self._calm())
    @rule(which=_WHICH)
    def turn_obedient(self, which: int) -> None:
        """Make a rank exit with code 0 at SIGTERM from now on, as if it had finished."""
        with self._telling() as rehearsal:
            rehearsal.arm(self._one_of(self._awake(), which), "leaves")

    @precondition(lambda self: self._running() and (not self._living() or self._failing()))
    @rule()
    def wait(self) -> None:
        """Wait for the job to end without a request."""
        with self._telling() as rehearsal:
            rehearsal.wait()

    @precondition(lambda self: self._running())
    @rule()
    def stop(self) -> None:
        """Ask the launcher to stop the job, also when ranks have failed already."""
        with self._telling() as rehearsal:
            rehearsal.stop()

    @precondition(lambda self: not self._running() and self._jobs() < MOST_JOBS)
    @rule()
    def restart(self) -> None:
        """Start the job again after it is over."""
        with self._telling() as rehearsal:
            rehearsal.start()

    @precondition(lambda self: not self._running() and self._jobs() >= MOST_JOBS)
    @rule()
    def rest(self) -> None:
        """Do nothing: the history has its maximum number of jobs."""

    def teardown(self) -> None:
        """End a running job, and check that nothing is left."""
        if self._rehearsal is None:
            return
        try:
            if self._running():
                with self._telling() as rehearsal:
                    rehearsal.finish()
        finally:
            self._rehearsal.close()

    # ---- state

    @contextmanager
    def _telling(self) -> Iterator[Rehearsal]:
        """Add the plan to the exception when the launcher breaks a promise."""
        assert self._rehearsal is not None
        try:
            yield self._rehearsal
        except BrokenPromise as broken:
            breach = broken, self._rehearsal
            if _is_final():
                breach = _smallest(type(self), *breach)
            raise BrokenPromise(breach[0].violations, advise(type(self), breach[1])) from broken.__cause__

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
        """Return the ranks that react to orders."""
        return [rank for rank in self._living() if self._rehearsal and rank not in self._rehearsal.job.paused]

    @staticmethod
    def _one_of(ranks: list[int], which: int) -> int:
        return ranks[which % len(ranks)]


AgentMachine.TestCase.settings = REHEARSALS


def _is_final() -> bool:
    """Return whether this history is about to be shown, or was pasted from Hypothesis's output."""
    try:
        return current_build_context().is_final
    except InvalidArgument:  # Hypothesis does not run
        return True


def _smallest(
    machine: type[AgentMachine], broken: BrokenPromise, rehearsal: Rehearsal
) -> tuple[BrokenPromise, Rehearsal]:
    """Remove every step that the failure does not need.

    Hypothesis has shrunk the choices that led to the history. That may stop before the history itself is minimal.
    """
    rehearsal.close()
    breach = broken, rehearsal

    def breaks(history: History) -> bool:
        nonlocal breach
        with Rehearsal(machine.agent(), ranks=history.ranks, patience=machine.patience) as again:
            try:
                history.perform(again)
            except BrokenPromise as error:
                breach = error, again
                return True
            except ValueError:
                return False
        return False

    restarts, stopped = len(rehearsal.jobs) - 1, rehearsal.stopped()
    History.of(rehearsal.plan(), ranks=rehearsal.ranks, restarts=restarts, stopped=stopped).smallest(breaks)
    return breach


def advise(machine: type[AgentMachine], rehearsal: Rehearsal) -> str:
    """Return the plan that a rehearsal has performed so far, as TOML and as a test."""
    ranks = rehearsal.ranks
    lines = to_toml(rehearsal.plan()).splitlines(keepends=True)
    toml = "".join(line for line in lines if not line.startswith("id = "))  # a plan generates the same ids again
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
        f"as a test:\n\n{place}\n\nPLAN = r'''\n{toml}'''\n\n\ndef test_launcher_keeps_its_promises():\n    {call}\n"
    )
