"""Rehearsal of a launcher: jobs with scripted ranks, and checks of the launcher's reports about them.

Each action is recorded as a fault of a plan, so that a failure can be rehearsed again.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from derail import faults, when
from derail.conformance.oracle import Death, Job, violations
from derail.conformance.scripted_ranks import ScriptedRankError, ScriptedRanks
from derail.model.exit import ExitStatus, signal_name, signal_number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from typing import Self

    from derail.conformance.adapter import Driven, LauncherReport
    from derail.conformance.scripted_ranks import Answer
    from derail.faults.model.plan import Fault, Plan
    from derail.faults.model.triggers import Trigger

PATIENCE = 30.0
"""Seconds for a launcher to report the end of a job, and for a rank to obey an order."""

HARMLESS = ("SIGWINCH", "SIGURG", "SIGCHLD", "SIGCONT")
"""Signals that by default do not end a process."""
DEADLY = ("SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGUSR1", "SIGALRM")
"""Signals that end a rank. Signals that a shell may have ignored for its children are not among them."""


class BrokenPromise(AssertionError):  # noqa: N818 - it is what the launcher did
    """Error of a launcher: a wrong or missing action or report.

    Attributes:
        violations: the problems, one sentence each.
    """

    def __init__(self, violations: Collection[str], advice: str = "") -> None:
        self.violations = tuple(violations)
        listed = "\n".join(f"  - {violation}" for violation in violations)
        super().__init__(f"the launcher broke its promises:\n{listed}\n{advice}".rstrip() + "\n")


class Rehearsal:
    """Driver that takes a launcher through one job after the other, and raises ``BrokenPromise`` for an error."""

    def __init__(self, agent: Driven, *, ranks: int, patience: float = PATIENCE) -> None:
        self.jobs: list[Job] = []
        self._agent = agent
        self.ranks = ranks
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def job(self) -> Job:
        """Running job, or the last one."""
        return self.jobs[-1]

    @property
    def running(self) -> bool:
        """Whether a job has been started and is not over."""
        return bool(self.jobs) and not self.job.over

    # ---- actions

    def start(self) -> None:
        """Start the job, or, after its end, start it again."""
        scripted = ScriptedRanks(self.ranks, attempt=len(self.jobs), patience=self._patience)
        again = bool(self.jobs)
        self.jobs.append(Job(scripted))
        scripted.open()
        try:
            (self._agent.restart if again else self._agent.start)(scripted)
            scripted.wait_started()
        except Exception as error:  # any exception is a finding about the launcher
            raise self._broke(f"the job could not be started: {error!r}") from error

    def fail(self, rank: int, code: int, *, helper: bool = False) -> None:
        """Make a rank exit with a code, and optionally leave a helper in its process group; code 0 is no failure."""
        self._check(rank, awake=True, calm=helper)
        if helper:
            self._note(faults.orphan("group", code=code, rank=rank, when=self._moment()))
            with self._listening():
                self.job.scripted.start_helper(rank)
        else:
            self._note(faults.exit(code, rank=rank, when=self._moment()))
        self._die({rank: ExitStatus(code=code)})

    def fail_together(self, ends: Mapping[int, ExitStatus]) -> None:
        """End ranks by exit or deadly signal so close together that their order cannot be known."""
        for rank in ends:
            self._check(rank, awake=True)
        moment = self._moment()
        for rank, end in ends.items():
            if end.signal is None:
                self._note(faults.exit(end.code or 0, rank=rank, when=moment))
            else:
                self._note(faults.signal(signal_name(end.signal), rank=rank, when=moment))
        self._die(ends)

    def signal(self, rank: int, name: str) -> None:
        """Send a rank a signal from an unrelated process."""
        job, number, answer = self.job, signal_number(name), self.job.answers.get(rank, "dies")
        stops = name == "SIGSTOP"
        self._check(rank, awake=name not in ("SIGKILL", "SIGSTOP", *HARMLESS), calm=stops or name in HARMLESS)
        moment = self._moment()
        self._note(faults.stop(rank=rank, when=moment) if stops else faults.signal(name, rank=rank, when=moment))
        if stops or name in HARMLESS or (name == "SIGTERM" and answer == "ignores"):
            self._agent.signal(rank, number)
            if stops:
                job.paused.add(rank)
            elif name == "SIGCONT":
                job.paused.discard(rank)
            self.look()
        else:
            leaves = name == "SIGTERM" and answer == "leaves"
            self._die({rank: ExitStatus(code=0) if leaves else ExitStatus(signal=number)}, by=number)

    def arm(self, rank: int, answer: Answer) -> None:
        """Make a rank ignore SIGTERM from now on, or exit with code 0 at SIGTERM."""
        self._check(rank, awake=True, calm=True)
        moment = self._moment()
        if answer == "ignores":
            self._note(faults.ignore_signal(["SIGTERM"], rank=rank, when=moment))
        else:
            self._note(faults.exit_zero_handler(rank=rank, when=moment))
        self.job.answers[rank] = answer
        with self._listening():
            self.job.scripted.arm(rank, answer)
        self.look()

    def look(self) -> None:
        """Check that the job is not over while no rank has failed and some live."""
        if not self.job.held and not self.job.failing and self._agent.wait(0) is not None:
            raise self._broke("the job was over although no rank had failed and no stop was requested")

    def wait(self) -> None:
        """Wait for the job to end without a request, then judge it."""
        self._release()
        self._judge(*self._until_over(lambda: self._agent.wait(self._patience)))

    def stop(self) -> None:
        """Ask the launcher to stop the job, then judge it."""
        self.job.stopped = True
        _, problems = self._until_over(self._agent.stop)
        self.job.held = False
        report, more = self._until_over(lambda: self._agent.wait(self._patience))
        self._judge(report, problems + more)

    def finish(self) -> None:
        """End the job: wait if it ends without a request, else request the end."""
        if self.running:
            (self.wait if self.job.failing or not self.job.living else self.stop)()

    def close(self) -> None:
        """End and remove everything, whatever has happened."""
        for job in self.jobs:
            job.scripted.end_all()
        self._release()
        try:
            self._agent.close()
        finally:
            for job in self.jobs:
                job.scripted.close()
                job.over = True

    # ---- record

    def plan(self) -> Plan:
        """Return all actions as a plan.

        The trigger of a fault is the restart during which the action took place, and the last rank exit before it.
        """
        return faults.plan([fault for job in self.jobs for fault in job.faults])

    def stopped(self) -> list[int]:
        """Return the jobs, counted from 0, that were ended by ``stop``."""
        return [number for number, job in enumerate(self.jobs) if job.stopped]

    # ---- implementation

    def _check(self, rank: int, *, awake: bool, calm: bool = False) -> None:
        """Refuse an action with an unpredictable result.

        Raises:
            ValueError: if the rank has ended; is stopped and must not be; or may be ended by the launcher at any time.
        """
        job = self.job
        if job.over or rank not in job.living or (awake and rank in job.paused) or (calm and not job.calm):
            raise ValueError(f"rank {rank}: cannot take orders: it has ended, is stopped, or may be ended at any time")

    def _note(self, fault: Fault) -> None:
        self.job.faults.append(fault)

    def _moment(self) -> Trigger:
        """Return the trigger that reproduces a fault of this moment in a plan."""
        number, deaths = len(self.jobs) - 1, self.job.deaths
        steps: list[Trigger] = [when.restart(number)] if number else []
        steps += [when.exit_of(deaths[-1].rank)] if deaths else []
        return when.then(*steps) if len(steps) > 1 else steps[0] if steps else when.start()

    def _die(self, ends: Mapping[int, ExitStatus], *, by: int | None = None) -> None:
        """End ranks, and record whether the launcher could have ended them before.

        ``by`` is a signal that ends them, whatever their exit status.
        """
        job = self.job
        failed = {rank: not end.ok or not self._agent.promises.zero for rank, end in ends.items()}
        if not job.failing and any(failed.values()):
            job.held = self._agent.hold()
        certain = job.held or (not job.failing and len(ends) == 1)
        for rank, end in ends.items():
            number = end.signal if by is None else by
            if number is None:
                self._agent.fail(rank, int(end.code or 0))
            else:
                self._agent.signal(rank, number)
        with self._listening():
            for rank in ends:
                job.scripted.await_end(rank)
        turn = len(job.deaths)
        job.deaths += [Death(rank, end, failed[rank], certain, turn) for rank, end in ends.items()]

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Report a rank that does not obey as prevented by the launcher."""
        try:
            yield
        except ScriptedRankError as error:
            raise self._broke(str(error)) from error

    def _release(self) -> None:
        if self.jobs and self.job.held:
            self._agent.release()
            self.job.held = False

    def _until_over(self, call: Callable[[], LauncherReport | None]) -> tuple[LauncherReport | None, list[str]]:
        """Call the launcher; if it does not return in time, end its ranks, so that it can."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.job.scripted.end_all()

        watch = threading.Timer(self._patience + 1, give_up)
        watch.daemon = True
        watch.start()
        try:
            report = call()
            problems = []
        except Exception as error:  # any exception is a finding about the launcher
            report, problems = None, [f"it raised {error!r}"]
        finally:
            watch.cancel()
            watch.join()
        if late.is_set():
            problems.append(f"it did not end within {self._patience:g} s")
        return report, problems

    def _judge(self, report: LauncherReport | None, problems: list[str]) -> None:
        job = self.job
        if report is None and not problems:
            problems = [f"the job was not over within {self._patience:g} s"]
        if report is not None:
            problems += violations(job, report, self._agent.promises)
            again, more = self._until_over(lambda: self._agent.wait(self._patience))
            problems += more
            if again != report and not more:
                problems.append(f"asked again, expected the same report, {report}, got {again}")
        if problems:
            raise self._broke(*problems)
        job.over = True

    def _broke(self, *problems: str) -> BrokenPromise:
        self.job.over = True
        return BrokenPromise(problems)
