"""One rehearsal of a launcher: jobs whose ranks do exactly what they are told, and what the launcher must tell of them.

What is done is written down as the faults of a plan, so that whatever a rehearsal finds can be rehearsed again.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from derail import faults, when
from derail.conformance.oracle import Death, Job, violations
from derail.conformance.scripted_ranks import Crew, CrewError
from derail.model.exit import ExitStatus, signal_name, signal_number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from typing import Self

    from derail.conformance.adapter import Driven, Told
    from derail.conformance.scripted_ranks import Answer
    from derail.faults.model.plan import Fault, Plan
    from derail.faults.model.triggers import Trigger

PATIENCE = 30.0
"""Seconds that a launcher gets for the end of a job, and a rank to do what it is told."""

HARMLESS = ("SIGWINCH", "SIGURG", "SIGCHLD", "SIGCONT")
"""Signals that end nobody who has not asked for them."""
DEADLY = ("SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGUSR1", "SIGALRM")
"""Signals that end a rank. Those that a shell may have ignored for its children are not among them."""


class BrokenPromise(AssertionError):  # noqa: N818 - it is what the launcher did
    """A launcher did not do, or did not tell, what it should have.

    Attributes:
        violations: what, each in a sentence.
    """

    def __init__(self, violations: Collection[str], advice: str = "") -> None:
        self.violations = tuple(violations)
        told = "\n".join(f"  - {violation}" for violation in violations)
        super().__init__(f"the launcher broke its word:\n{told}\n{advice}".rstrip() + "\n")


class Rehearsal:
    """Drives a launcher through jobs, one after the other, and raises ``BrokenPromise`` where it goes wrong."""

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
        """The job that runs, or the last one."""
        return self.jobs[-1]

    @property
    def running(self) -> bool:
        """Whether a job has been started and is not over."""
        return bool(self.jobs) and not self.job.over

    # ---- what can be done

    def start(self) -> None:
        """Start the job, or, after its end, start it again."""
        crew = Crew(self.ranks, attempt=len(self.jobs), patience=self._patience)
        again = bool(self.jobs)
        self.jobs.append(Job(crew))
        crew.open()
        try:
            (self._agent.restart if again else self._agent.start)(crew)
            crew.muster()
        except Exception as error:  # whatever breaks it is what was looked for
            raise self._broke(f"the job could not be started: {error!r}") from error

    def fail(self, rank: int, code: int, *, helper: bool = False) -> None:
        """A rank exits with a code, and may leave a helper behind in its process group; code 0 is no failure."""
        self._check(rank, awake=True, calm=helper)
        if helper:
            self._note(faults.orphan("group", code=code, rank=rank, when=self._moment()))
            with self._listening():
                self.job.crew.beget(rank)
        else:
            self._note(faults.exit(code, rank=rank, when=self._moment()))
        self._die({rank: ExitStatus(code=code)})

    def fail_together(self, ends: Mapping[int, ExitStatus]) -> None:
        """Ranks exit, or get a deadly signal, so close to each other that nobody can know which was the first."""
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
        """A rank gets a signal from a stranger."""
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
        """From now on a rank ignores SIGTERM, or leaves with code 0 when it gets it."""
        self._check(rank, awake=True, calm=True)
        moment = self._moment()
        if answer == "ignores":
            self._note(faults.ignore_signal(["SIGTERM"], rank=rank, when=moment))
        else:
            self._note(faults.exit_zero_handler(rank=rank, when=moment))
        self.job.answers[rank] = answer
        with self._listening():
            self.job.crew.arm(rank, answer)
        self.look()

    def look(self) -> None:
        """The job must not be over as long as no rank has failed and some live."""
        if not self.job.held and not self.job.failing and self._agent.wait(0) is not None:
            raise self._broke("the job was over although no rank had failed and nobody had asked for its end")

    def wait(self) -> None:
        """The job comes to its end, by itself; then it is judged."""
        self._release()
        self._judge(*self._until_over(lambda: self._agent.wait(self._patience)))

    def stop(self) -> None:
        """The launcher is asked for the end of the job; then it is judged."""
        self.job.stopped = True
        _, problems = self._until_over(self._agent.stop)
        self.job.held = False
        told, more = self._until_over(lambda: self._agent.wait(self._patience))
        self._judge(told, problems + more)

    def finish(self) -> None:
        """Bring the job to its end: wait for it if it comes by itself, else ask for it."""
        if self.running:
            (self.wait if self.job.failing or not self.job.living else self.stop)()

    def close(self) -> None:
        """Leave nothing, whatever has happened."""
        for job in self.jobs:
            job.crew.end_all()
        self._release()
        try:
            self._agent.close()
        finally:
            for job in self.jobs:
                job.crew.close()
                job.over = True

    # ---- what was done

    def plan(self) -> Plan:
        """All that was done to the ranks. A fault stands at the restart in which it was done, and after the rank
        that had ended before it."""
        return faults.plan([fault for job in self.jobs for fault in job.faults])

    def stopped(self) -> list[int]:
        """The jobs, counted from 0, that were ended by ``stop``."""
        return [number for number, job in enumerate(self.jobs) if job.stopped]

    # ---- how

    def _check(self, rank: int, *, awake: bool, calm: bool = False) -> None:
        """Refuse what cannot be known to happen.

        Raises:
            ValueError: if the rank has ended; is stopped and must not be; or may be ended by the launcher at any time.
        """
        job = self.job
        if job.over or rank not in job.living or (awake and rank in job.paused) or (calm and not job.calm):
            raise ValueError(f"rank {rank} has ended, is stopped, or may be ended now: it cannot be told to do this")

    def _note(self, fault: Fault) -> None:
        self.job.faults.append(fault)

    def _moment(self) -> Trigger:
        """When a fault that is made now would act in a plan."""
        number, deaths = len(self.jobs) - 1, self.job.deaths
        steps: list[Trigger] = [when.restart(number)] if number else []
        steps += [when.exit_of(deaths[-1].rank)] if deaths else []
        return when.then(*steps) if len(steps) > 1 else steps[0] if steps else when.start()

    def _die(self, ends: Mapping[int, ExitStatus], *, by: int | None = None) -> None:
        """End ranks, and know whether the launcher could have done so before. ``by`` is a signal that ends them,
        whatever their end looks like."""
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
                job.crew.await_end(rank)
        turn = len(job.deaths)
        job.deaths += [Death(rank, end, failed[rank], certain, turn) for rank, end in ends.items()]

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """A rank that does not do what it is told was kept from it by the launcher."""
        try:
            yield
        except CrewError as error:
            raise self._broke(str(error)) from error

    def _release(self) -> None:
        if self.jobs and self.job.held:
            self._agent.release()
            self.job.held = False

    def _until_over(self, call: Callable[[], Told | None]) -> tuple[Told | None, list[str]]:
        """Call the launcher. If it does not return in time its ranks are ended, so that it can."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.job.crew.end_all()

        watch = threading.Timer(self._patience + 1, give_up)
        watch.daemon = True
        watch.start()
        try:
            told = call()
            problems = []
        except Exception as error:  # whatever breaks it is what was looked for
            told, problems = None, [f"it raised {error!r}"]
        finally:
            watch.cancel()
            watch.join()
        if late.is_set():
            problems.append(f"it did not come to an end within {self._patience:g} s")
        return told, problems

    def _judge(self, told: Told | None, problems: list[str]) -> None:
        job = self.job
        if told is None and not problems:
            problems = [f"the job was not over within {self._patience:g} s"]
        if told is not None:
            problems += violations(job, told, self._agent.promises)
            again, more = self._until_over(lambda: self._agent.wait(self._patience))
            problems += more
            if again != told and not more:
                problems.append(f"asked once more it told something else: {told} and then {again}")
        if problems:
            raise self._broke(*problems)
        job.over = True

    def _broke(self, *problems: str) -> BrokenPromise:
        self.job.over = True
        return BrokenPromise(problems)
