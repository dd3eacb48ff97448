"""``AgentMachine`` finds errors of launchers, reports the smallest plan, and accepts correct launchers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from derail import faults, when
from derail.conformance.adapter import LEAST, LauncherReport, Promises
from derail.conformance.driver import BrokenPromise, Rehearsal
from derail.conformance.history import History
from derail.conformance.launchers import DerailLauncher, StartProcesses, torch_launcher
from derail.conformance.oracle import Death, Job, violations
from derail.conformance.scripted_ranks import ScriptedRankError, ScriptedRanks
from derail.faults.codec import from_toml
from derail.model.exit import ExitStatus
from pytest_derail.strategies import AgentMachine
from pytest_derail.strategies.machine import REHEARSALS
from wording import Tells

KILL, TERM, ONE, OK = ExitStatus(signal=9), ExitStatus(signal=15), ExitStatus(code=1), ExitStatus(code=0)


class Toy:
    """A short launcher with the interface of torch's.

    ``swallow``: each observed failure replaces the previous one, so that the first of two deaths within a millisecond
    is forgotten. ``zombies``: ranks are not ended. ``liar``: the second call returns no failure.
    """

    def __init__(self, processes: dict[int, subprocess.Popen[bytes]], kind: str) -> None:
        self.processes = processes
        self.kind = kind
        self.failures: dict[int, SimpleNamespace] = {}
        self.over = self.told = False

    def look(self) -> None:
        """Reap ranks that have ended; the first failure ends all."""
        for rank, process in self.processes.items():
            if process.poll() not in (None, 0):
                if self.kind == "swallow":
                    self.failures.clear()
                self.failures[rank] = SimpleNamespace(exitcode=process.returncode)
        if self.failures or all(process.poll() is not None for process in self.processes.values()):
            self.over = True
            if self.kind != "zombies":
                self.close()

    def wait(self, timeout: float) -> object:
        """Poll until the end, up to the time limit."""
        end = time.monotonic() + timeout
        while not self.over:
            self.look()
            if not self.over and time.monotonic() >= end:
                return None
        if self.kind == "liar" and self.told:
            self.failures.clear()
        self.told = True
        return SimpleNamespace(failures=dict(self.failures))

    def close(self) -> None:
        """End all ranks."""
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
                process.wait()


def start_toy(*, name: str, entrypoint: str, args: Any, envs: Any, logs_specs: object, kind: str = "correct") -> Toy:
    """Start a toy job; the signature is that of ``start_processes``."""
    ranks = {
        rank: subprocess.Popen([entrypoint, *args[rank]], env={**os.environ, **envs[rank]}, stdin=subprocess.DEVNULL)
        for rank in args
    }
    return Toy(ranks, kind)


class ToyMachine(AgentMachine):
    """Machine for the correct toy."""

    kind = "correct"

    @classmethod
    def agent(cls) -> StartProcesses:
        """Return the toy launcher."""
        return StartProcesses(start_toy, asleep=True, kind=cls.kind)


class Swallows(ToyMachine):
    """Machine for the toy that forgets the first of two failures."""

    kind = "swallow"


class Wakeful(ToyMachine):
    """Machine for the correct toy, treated as one that may act at any time, which permits fewer checks."""

    @classmethod
    def agent(cls) -> StartProcesses:
        """Return the toy launcher."""
        return StartProcesses(start_toy)


def run(machine: type[AgentMachine], examples: int, steps: int = REHEARSALS.stateful_step_count) -> None:
    """Run some histories, the same each time."""
    options = settings(REHEARSALS, max_examples=examples, stateful_step_count=steps, database=None, derandomize=True)
    run_state_machine_as_test(machine, settings=options)  # type: ignore[no-untyped-call]


def found(machine: type[AgentMachine], examples: int = 100) -> str:
    """Return the failure that the machine reports."""
    with pytest.raises(BrokenPromise) as broken:
        run(machine, examples, steps=5)
    return str(broken.value)


def plan_in(text: str) -> Any:
    """Return the plan in a reported failure."""
    return from_toml(text.partition(":\n\nseed")[2].partition("as a test:")[0].join(["seed", ""]))


@pytest.fixture(scope="module")
def swallowed() -> str:
    """Return the failure of the launcher that forgets the first of two failures."""
    return found(Swallows)


def test_a_swallowed_failure_is_found_with_a_plan_of_two_faults(swallowed: str) -> None:
    """The plan has exactly the two faults that are needed."""
    told = plan_in(swallowed)

    assert [fault.name for fault in told.faults] == ["exit", "exit"]
    assert swallowed == Tells("rank 0", "exit 1", "not reported")


def test_the_test_that_is_printed_fails_in_the_same_way(swallowed: str) -> None:
    """The code below "as a test" can be pasted beside the machine and fails again."""
    source = swallowed.partition("as a test:")[2]
    names: dict[str, Any] = {"Swallows": Swallows, "ToyMachine": ToyMachine}
    exec(source, names)

    with pytest.raises(BrokenPromise, match=re.escape(swallowed.splitlines()[1])):
        names["test_launcher_keeps_its_promises"]()
    Swallows.kind = "correct"
    try:
        names["test_launcher_keeps_its_promises"]()
    finally:
        Swallows.kind = "swallow"


def test_the_steps_that_hypothesis_prints_can_be_run_too() -> None:
    """They run without Hypothesis and give the same message."""
    state = Swallows()
    state.start(ranks=3)
    state.disturb(which=2, name="SIGWINCH")
    state.fail(code=7, which=2)
    state.fail(code=1, which=0)
    with pytest.raises(BrokenPromise, match=r"rank 0 .*exit 1.* not reported") as broken:
        state.wait()
    state.teardown()

    assert [fault.name for fault in plan_in(str(broken.value)).faults] == ["exit", "exit"]


@pytest.mark.parametrize("machine", [ToyMachine, Wakeful])
def test_a_correct_launcher_is_left_alone(machine: type[AgentMachine]) -> None:
    """The launcher without its bug passes, with and without activity between two calls."""
    run(machine, 15)


def test_derail_keeps_its_word() -> None:
    """Some histories of derail's launcher with all promises."""
    run(AgentMachine, 12)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_derail_keeps_its_word_in_many_histories() -> None:
    """Many histories, different ones each time."""
    options = settings(REHEARSALS, max_examples=300, database=None)
    run_state_machine_as_test(AgentMachine, settings=options)  # type: ignore[no-untyped-call]


class Unheld(DerailLauncher):
    """derail's launcher without pauses: it reacts to each failure at once, and may cause the later ones itself."""

    def hold(self) -> bool:
        """Do nothing: this launcher cannot be paused."""
        return False


class Live(AgentMachine):
    """Machine for derail's launcher without pauses between its actions."""

    @classmethod
    def agent(cls) -> Unheld:
        """Return derail's launcher."""
        return Unheld()


def test_derail_keeps_its_word_while_it_acts() -> None:
    """Ranks may fail while the job is already being stopped."""
    run(Live, 8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_derail_keeps_its_word_while_it_acts_in_many_histories() -> None:
    """Many histories, different ones each time."""
    run_state_machine_as_test(Live, settings=settings(REHEARSALS, max_examples=150, database=None))  # type: ignore[no-untyped-call]


class Forked(AgentMachine):
    """Machine for derail's launcher with functions as ranks."""

    start_method = "fork"

    @classmethod
    def agent(cls) -> DerailLauncher:
        """Return derail's launcher."""
        return DerailLauncher(start_method=cls.start_method)


class Warm(Forked):
    """Machine for ranks that a zygote forks and whose ends it reports."""

    start_method = "warm"


def test_derail_keeps_its_word_to_functions() -> None:
    """A function that exits before it returns has failed, with code 0 too; otherwise as with programs."""
    run(Forked, 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", [Forked, Warm])
def test_derail_keeps_its_word_to_functions_in_many_histories(machine: type[AgentMachine]) -> None:
    """Different ones each time; also if a third process sees the ends of the ranks."""
    run_state_machine_as_test(machine, settings=settings(REHEARSALS, max_examples=60, database=None))  # type: ignore[no-untyped-call]


class TorchMachine(AgentMachine):
    """Machine for torch's launcher."""

    @classmethod
    def agent(cls) -> StartProcesses:
        """Return torch's launcher."""
        return torch_launcher()


@pytest.mark.torch
@pytest.mark.timeout(600)
def test_torchs_launcher_keeps_what_it_promises() -> None:
    """Torch's ``start_processes`` needs no adapter, and leaves no signal handler behind."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    run(TorchMachine, 4)

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


def test_a_function_that_leaves_with_0_has_failed() -> None:
    """It did not return: the failure is reported, and the others are stopped."""
    rehearse(DerailLauncher(start_method="fork"), 2, faults.exit(0, rank=1))
    wrong = violations(
        after(Death(1, OK, failed=True, certain=True, turn=0)), LauncherReport({}, None, {0: TERM}), Promises()
    )

    assert wrong[0] == Tells("rank 1", "exit 0", "not reported")


def rehearse(agent: Any, ranks: int, *given: Any, stopped: tuple[int, ...] = ()) -> None:
    """Run a plan."""
    history = History.of(faults.plan(given), ranks=ranks, stopped=stopped)
    with Rehearsal(agent, ranks=ranks) as rehearsal:
        history.perform(rehearsal)


@pytest.mark.torch
def test_what_torch_does_not_promise_is_found() -> None:
    """Torch counts a rank that it has stopped itself as failed."""
    launcher = torch_launcher()
    launcher.promises = Promises(order=False, helpers=False, deaf=False, after_stop=False)

    with pytest.raises(BrokenPromise, match=r"rank 1 .*SIGTERM"):
        rehearse(launcher, 2, faults.exit(1, rank=0))


@pytest.mark.parametrize(
    "given",
    [
        pytest.param((), id="nothing"),
        pytest.param((faults.exit(0, rank=0), faults.exit(0, rank=1, when=when.exit_of(0))), id="all succeed"),
        pytest.param((faults.stop(rank=0), faults.signal("SIGKILL", rank=1)), id="a rank is stopped"),
        pytest.param((faults.ignore_signal(["SIGTERM"], rank=0), faults.exit(3, rank=1)), id="a rank is deaf"),
        pytest.param((faults.exit_zero_handler(rank=0), faults.signal("SIGSEGV", rank=1)), id="a rank leaves with 0"),
        pytest.param((faults.exit_zero_handler(rank=0), faults.signal("SIGTERM", rank=0)), id="of a stranger's TERM"),
        pytest.param(
            (faults.orphan("group", rank=0), faults.exit(4, rank=1, when=when.exit_of(0))), id="a helper stays"
        ),
        pytest.param((faults.exit(3, rank=0), faults.signal("SIGKILL", rank=1)), id="together"),
        pytest.param(
            (
                faults.exit(3, rank=1),
                faults.exit(5, rank=0, when=when.restart(1)),
                faults.signal("SIGWINCH", rank=1, when=when.restart(2)),
            ),
            id="three jobs",
        ),
    ],
)
@pytest.mark.parametrize("stopped", [(), (0,)], ids=["", "stopped"])
def test_each_thing_that_a_rehearsal_does_is_done_to_derail(given: tuple[Any, ...], stopped: tuple[int, ...]) -> None:
    """Derail passes each handwritten plan."""
    rehearse(DerailLauncher(), 2, *given, stopped=stopped)


def test_a_launcher_that_tells_something_else_when_asked_again_is_found() -> None:
    """The result must be the same each time."""
    with pytest.raises(BrokenPromise, match=r"asked again.*code=1"):
        rehearse(StartProcesses(start_toy, asleep=True, kind="liar"), 2, faults.exit(1, rank=0))


def test_ranks_that_are_not_ended_are_named_and_ended() -> None:
    """The report names the ranks that the launcher leaves; the rehearsal ends them."""
    with pytest.raises(BrokenPromise, match=r"rank 1 \(pid \d+\) outlived the job"):
        rehearse(StartProcesses(start_toy, asleep=True, kind="zombies"), 2, faults.exit(1, rank=0))


class Endless(StartProcesses):
    """Launcher that waits for its ranks without a limit and ends none of them."""

    def wait(self, timeout: float) -> LauncherReport | None:
        """Wait for all ranks, without a limit."""
        if timeout:
            for process in self._context.processes.values():
                process.wait()
        return super().wait(timeout)


def test_a_launcher_that_does_not_come_to_an_end_is_made_to() -> None:
    """At the time limit its ranks are ended so that it returns; the report has the limit."""
    with Rehearsal(Endless(start_toy, asleep=True), ranks=2) as rehearsal:
        rehearsal.start()
        rehearsal.fail(0, 1)
        rehearsal._patience = 0.5  # from now on: the ranks had all the time that they wanted to be there, and to leave
        with pytest.raises(BrokenPromise, match=r"it did not end within 0\.5 s"):
            rehearsal.wait()


def refuse(**_: object) -> object:
    """Raise an error in place of a start."""
    raise OSError("no more processes")


def test_a_launcher_that_cannot_start_is_told() -> None:
    """The report has its exception."""
    with pytest.raises(BrokenPromise, match=r"OSError\('no more processes'\)"):
        rehearse(StartProcesses(refuse), 2)


@pytest.mark.parametrize(
    ("fault", "why"),
    [(faults.segfault(rank=0), "supports only exit, orphan"), (faults.exit(1, rank=7), "number of one of 2 rank"),
     (faults.exit(1, rank="one"), "number of one of 2 rank")],
)  # fmt: skip
def test_a_fault_that_no_rehearsal_makes_is_refused(fault: Any, why: str) -> None:
    """The error for unknown ranks or faults lists the known ones."""
    with pytest.raises(ValueError, match=why):
        rehearse(DerailLauncher(), 2, fault)


@pytest.mark.parametrize(
    "given",
    [
        (faults.exit(1, rank=0), faults.exit(2, rank=0, when=when.exit_of(0))),
        (faults.stop(rank=0), faults.exit(2, rank=0)),
        (faults.stop(rank=0), faults.signal("SIGTERM", rank=0)),
    ],
    ids=["has ended", "is stopped", "does not hear"],
)
def test_what_a_rank_cannot_do_is_refused(given: tuple[Any, ...]) -> None:
    """A second end, or an order to a stopped rank, makes the plan an error without a verdict."""
    with pytest.raises(ValueError, match="rank 0: cannot take orders"):
        rehearse(DerailLauncher(), 2, *given)


def test_a_launcher_that_may_act_at_any_time_is_not_asked_for_more_than_can_be_known() -> None:
    """After a failure any other rank may be ended at any moment, so its only order is to end."""
    with pytest.raises(ValueError, match="may be ended at any time"):
        rehearse(Unheld(), 2, faults.exit(1, rank=0), faults.stop(rank=1, when=when.exit_of(0)))


def test_a_history_is_made_as_small_as_it_can_be() -> None:
    """Unnecessary jobs, faults, stops and ranks are removed one by one; the rest still breaks the launcher."""
    needed = {"signal", "orphan"}
    given = [
        faults.exit(3, rank=2),
        faults.stop(rank=0, when=when.restart(1)),
        faults.signal("SIGKILL", rank=1, when=when.restart(1)),
        faults.orphan(rank=0, when=when.restart(1)),
        faults.exit(3, rank=3, when=when.restart(2)),
    ]
    history = History.of(faults.plan(given), ranks=4, restarts=3, stopped=[1, 2])
    tried = []

    def breaks(candidate: History) -> bool:
        tried.append(candidate)
        return any(needed <= {fault.name for fault in job} for job in candidate.jobs)

    smallest = history.smallest(breaks)
    assert smallest == History(2, (history.jobs[1][1:],))
    assert len(tried) < 30


@pytest.mark.parametrize("kind", ["swallow", "liar", "zombies"])
def test_what_cannot_be_done_without_stays(kind: str) -> None:
    """The smallest plan of a long history still shows the error."""
    given = [faults.signal("SIGWINCH", rank=2), *(faults.exit(9, rank=rank) for rank in range(3))]

    def breaks(history: History) -> bool:
        try:
            with Rehearsal(StartProcesses(start_toy, asleep=True, kind=kind), ranks=history.ranks) as rehearsal:
                history.perform(rehearsal)
        except BrokenPromise:
            return True
        return False

    smallest = History.of(faults.plan(given), ranks=4).smallest(breaks)
    assert (len(smallest.jobs), len(smallest.jobs[0]), smallest.ranks) == {
        "swallow": (1, 2, 2), "liar": (1, 1, 1), "zombies": (1, 1, 2),
    }[kind]  # fmt: skip


def test_a_rank_that_never_comes_is_told() -> None:
    """The error names the ranks that were started."""
    scripted = ScriptedRanks(2, patience=0.05)
    scripted.open()
    try:
        with pytest.raises(ScriptedRankError, match=r"'here'.* 0\.05 s"):
            scripted.wait_started()
    finally:
        scripted.close()


class Silent(ScriptedRanks):
    """Scripted ranks that have all ended."""

    def left(self) -> list[str]:
        """Return no ranks."""
        return []


def after(*deaths: Death, **more: Any) -> Job:
    """Return a job of three ranks in which some have ended."""
    return Job(Silent(3), deaths=list(deaths), **more)


BOTH = after(Death(0, ONE, failed=True, certain=True, turn=0), Death(2, KILL, failed=True, certain=True, turn=1))
LATER = after(Death(0, ONE, failed=True, certain=True, turn=0), Death(2, KILL, failed=True, certain=False, turn=1))
AT_ONCE = after(Death(0, ONE, failed=True, certain=False, turn=0), Death(2, KILL, failed=True, certain=False, turn=0))
DONE = after(Death(0, OK, failed=False, certain=True, turn=0), Death(1, KILL, failed=True, certain=True, turn=1))


@pytest.mark.parametrize(
    ("job", "told", "wrong"),
    [
        (BOTH, LauncherReport({0: ONE, 2: KILL}, 0, {1: TERM}), []),
        (BOTH, LauncherReport({0: ONE, 2: KILL}, 0, {1: KILL}), []),
        (BOTH, LauncherReport({0: ONE, 2: KILL}, 0), []),
        (BOTH, LauncherReport({0: ONE, 2: KILL}, 2), ["expected root cause rank 0, got rank 2"]),
        (BOTH, LauncherReport({0: ONE, 2: KILL}, None), ["expected root cause rank 0, got none"]),
        (BOTH, LauncherReport({0: ONE}, 0), ["rank 2 failed by itself (SIGKILL (9)), which is not reported"]),
        (BOTH, LauncherReport({0: ONE, 2: TERM}, 0), ["rank 2: expected SIGKILL (9), got SIGTERM (15)"]),
        (
            BOTH,
            LauncherReport({0: ONE, 1: TERM, 2: KILL}, 0),
            ["rank 1 is reported as failed (SIGTERM (15)), and it had not failed"],
        ),
        (BOTH, LauncherReport({0: ONE, 2: KILL}, 0, {}), ["rank 1 was stopped by the launcher, which is not reported"]),
        (
            BOTH,
            LauncherReport({0: ONE, 2: KILL}, 0, {1: ExitStatus(code=3)}),
            ["rank 1 was stopped, and cannot have ended with exit 3 then"],
        ),
        (LATER, LauncherReport({0: ONE}, 0, {1: TERM, 2: KILL}), []),
        (LATER, LauncherReport({0: ONE, 2: KILL}, 0, {1: TERM}), []),
        (LATER, LauncherReport({0: ONE, 2: KILL}, 2, {1: TERM}), ["expected root cause rank 0, got rank 2"]),
        (AT_ONCE, LauncherReport({0: ONE, 2: KILL}, 2, {1: TERM}), []),
        (AT_ONCE, LauncherReport({2: KILL}, 2, {0: TERM, 1: TERM}), []),
        (
            AT_ONCE,
            LauncherReport({}, None, {0: TERM, 1: TERM, 2: KILL}),
            [
                "rank 0 (exit 1) or rank 2 (SIGKILL (9)) failed by itself before all others, and neither is reported",
                "expected root cause rank 0 or rank 2, got none",
            ],
        ),
        (DONE, LauncherReport({1: KILL}, 1, {2: TERM}), []),
        (
            DONE,
            LauncherReport({1: KILL, 0: OK}, 1, {2: TERM}),
            ["rank 0 is reported as failed (exit 0), and it had not failed"],
        ),
        (
            DONE,
            LauncherReport({1: KILL}, 1, {0: OK, 2: TERM}),
            ["rank 0 is reported as stopped, and it had ended by itself (exit 0)"],
        ),
        (after(), LauncherReport({}, None, {0: TERM, 1: TERM, 2: TERM}), []),
        (after(answers={0: "leaves"}), LauncherReport({}, None, {0: OK, 1: TERM, 2: TERM}), []),
        (after(), LauncherReport({}, 1, {0: TERM, 1: TERM, 2: TERM}), ["expected root cause none, got rank 1"]),
    ],
)
def test_what_is_told_is_held_against_what_has_happened(job: Job, told: LauncherReport, wrong: list[str]) -> None:
    """Each error is a sentence; what cannot be known is not checked."""
    assert violations(job, told, Promises()) == wrong


def test_of_a_launcher_no_more_is_expected_than_it_has_promised() -> None:
    """The same result can be right for one launcher and wrong for another."""
    sloppy = LauncherReport({0: ONE, 1: TERM, 2: KILL}, 2)

    assert violations(BOTH, sloppy, LEAST) == []
    assert len(violations(BOTH, sloppy, Promises())) == 2
    assert violations(after(BOTH.deaths[0], stopped=True), LauncherReport(), LEAST) == []
