"""A scenario, what it expects, the result of its run, and the verdict: frozen values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from derail.faults.model.plan import Plan
from derail.model.outcome import JobOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.faults.model.results import FaultResult
    from derail.model.events import Stream
    from derail.model.exit import ExitStatus

Kind: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE", "SKIPPED"]
ErrorFileState: TypeAlias = Literal["good", "malformed", "missing"]
Leaves: TypeAlias = Literal["none", "ended", "any"]
Twin: TypeAlias = Literal["no-fault", "wrong-target"]
Promise: TypeAlias = Literal[
    "ends",
    "succeeded",
    "root_cause",
    "failures",
    "stopped",
    "exits",
    "exit_code",
    "message",
    "log_tail",
    "error_file",
    "teardown_seconds",
    "restarts",
    "resumed_at",
    "leftovers",
    "forwards_signals",
    "ends_with_launcher",
]
"""What a supervisor may promise. "ends": it gives a result at all, in time. Whole scenarios are about the last two; the
others are the words of ``Expect``."""
ALL_PROMISES: frozenset[Promise] = frozenset(get_args(Promise))
UNSEEN_CAUSE = (
    "the launcher started fewer ranks, or it cleared their environment: derail knows a rank by its number (RANK) and "
    "by DERAIL_JOB in it, and needs DERAIL_INRANK and PYTHONPATH as the launcher got them"
)
TEARDOWN_MARGIN = 1.0
"""Seconds that a teardown may take besides the grace period, on an idle machine."""
HIGHEST_SLOWDOWN = 2.5
"""How much slower than idle a machine is believed to be, where a margin depends on it."""
EXIT_CODES: dict[Kind, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "SKIPPED": 4}


@dataclass(frozen=True, slots=True)
class LogTail:
    """What the last lines of a rank's stream must show.

    Attributes:
        rank: whose.
        stream: "stdout" or "stderr".
        like: patterns with ``*`` and ``?``, each for a whole line; they must match lines in this order, others between.
        unlike: patterns that no line may match.
    """

    rank: int
    like: tuple[str, ...] = ()
    stream: Stream = "stdout"
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expect:
    """What a run must show. What is None or empty is not looked at.

    Attributes:
        succeeded: whether the job succeeds.
        root_cause: the rank that is to blame.
        failures: the ranks that the launcher reports as failed, and no others.
        stopped: the ranks that the supervisor ended because of others, and no others.
        exits: by rank, an exit code or the name of a signal.
        message: a regular expression that is found in the root cause's message.
        log_tail: what the last lines of ranks must show.
        error_file: by failed rank, what the supervisor made of its error file.
        exit_code: what the launcher exits with.
        teardown_seconds: at most so many from the decision to stop until the last rank has ended; None for the grace
            period and a second, infinity for any time.
        restarts: how often all ranks were started again.
        resumed_at: the step at which the last attempt went on, as its ranks say: "resumed at step 5".
        leftovers: "none": nothing outlives its rank; "ended": what did was ended; "any".
        promise: what all of this is about, if it is one promise; None if each expectation is a promise of its own.
    """

    succeeded: bool | None = None
    root_cause: int | None = None
    failures: tuple[int, ...] | None = None
    stopped: tuple[int, ...] | None = None
    exits: Mapping[int, int | str] = field(default_factory=dict)
    message: str = ""
    log_tail: tuple[LogTail, ...] = ()
    error_file: Mapping[int, ErrorFileState] = field(default_factory=dict)
    exit_code: int | None = None
    teardown_seconds: float | None = None
    restarts: int | None = None
    resumed_at: int | None = None
    leftovers: Leaves = "none"
    promise: Promise | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A job, its faults, and what must come of it.

    Attributes:
        title: what happens, in a few words.
        ranks: how many, on all nodes together.
        worker: the program that each rank runs; a ``.py`` file is run by this Python.
        function: the function of that file that each rank calls instead, if it is not to be run as a program.
        faults: what is broken; empty for a job that is left alone.
        expect: what must come of it.
        why: what it protects against.
        issue: where somebody met it, if anybody did.
        args: arguments of the program, in which ``{workdir}`` stands for the directory of the run, which ranks share.
        env: variables of the ranks, besides those of a job.
        timeout: seconds until the job is ended from outside.
        grace: seconds between SIGTERM and SIGKILL.
        nodes: on how many nodes, each with a supervisor of its own and as many ranks as the others.
        restarts: how often the supervisor may start all ranks again.
        launches: 0; or the scenario is about the launcher itself: it is the one rank of a job of ours, and launches so
            many ranks of the worker.
        needs: modules that the worker imports, besides Python's own and derail.
        control: the twins of the scenario that must not pass: the same without faults, and with each fault aimed at
            somebody else. One that does pass tests nothing.
        name: where it stands among the scenarios: ``crash/killed_at_step_3``.
        path: its file.
    """

    title: str
    ranks: int
    worker: Path
    faults: Plan = field(default_factory=Plan)
    expect: Expect = field(default_factory=Expect)
    why: str = ""
    issue: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 30.0
    grace: float = 5.0
    nodes: int = 1
    restarts: int = 0
    launches: int = 0
    function: str = ""
    needs: tuple[str, ...] = ()
    control: tuple[Twin, ...] = ()
    name: str = ""
    path: Path | None = None

    def named(self, text: str) -> str:
        """The text with "the launcher" instead of rank 0, where that is what the scenario is about."""
        return re.sub(r"rank(\(s\))? 0\b", "the launcher", text) if self.launches else text

    @property
    def family(self) -> str:
        """The first part of its name; empty if it has only one."""
        first, slash, _ = self.name.partition("/")
        return first if slash else ""

    def placed(self, workdir: Path) -> Scenario:
        """The same for one run: ``{workdir}`` in arguments and variables is the directory of that run."""
        from dataclasses import replace

        where = str(workdir.absolute())
        args = tuple(text.replace("{workdir}", where) for text in self.args)
        env = {name: text.replace("{workdir}", where) for name, text in self.env.items()}
        return replace(self, args=args, env=env)


@dataclass(frozen=True, slots=True)
class FailureSeen:
    """What the supervisor says of a rank that failed.

    Attributes:
        rank: which.
        message: its text, as the supervisor gives it.
        error_file: what it made of the rank's error file.
        problem: why the error file is of no use, if it is malformed.
        status: how it says that the rank ended; None if it does not say.
    """

    rank: int
    message: str
    error_file: ErrorFileState = "missing"
    problem: str = ""
    status: ExitStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult(JobOutcome):
    """The result of a job: the fates of its ranks, what its launcher says of them, the faults, and the evidence.

    Of an external agent, ``ranks`` and what follows from them is what derail saw (of the last attempt, if there were
    several); ``root_cause``, ``failures`` and ``exit_code`` are what the agent says, be it true or not. It never ran if
    the agent broke or no rank was started.

    Attributes:
        failures: what the launcher says, by failed rank, root cause first.
        log_tail: the last lines of each stream, by rank and stream.
        logs: the files that they come from.
        faults: what came of each fault on each rank.
        return_values: what functions returned, by rank.
        workdir: the run's directory: journal and logs.
        journal: the journal of the run; None if there is none.
        exit_code: what the launcher exits with.
        error: what broke the launcher; empty if nothing did.
        external: whether the launcher is an external agent.
        asked: how many ranks an external agent was to start; 0 for jobs of derail's own.
        restarts: how often all ranks were started again; None if that is not known.
        resumed_at: the step at which the last attempt went on, as its ranks say; None if none said so.
        version: of the launcher.
        slowdown: how much slower than idle the machine was, as measured before and after the run.
        no_error_file: whether none of the ranks that were seen was given an error file.
        unjudged: the streams of which nothing shows what the launcher makes of them: derail has read them elsewhere.
        relayed: by rank and stream, what the launcher itself has printed, where it prints what its ranks print.
        doubts: why the run cannot be judged although the job ran: the verdict is INCONCLUSIVE, never FAIL.
        deadlock: the full pipes that the launcher did not read when the job timed out, in words; empty if there were
            none.
    """

    failures: Mapping[int, FailureSeen] = field(default_factory=dict)
    log_tail: Mapping[tuple[int, Stream], tuple[str, ...]] = field(default_factory=dict)
    logs: Mapping[tuple[int, Stream], Path] = field(default_factory=dict)
    faults: tuple[FaultResult, ...] = ()
    return_values: Mapping[int, object] = field(default_factory=dict)
    workdir: Path | None = None
    journal: Path | None = None
    exit_code: int | None = None
    error: str = ""
    external: bool = False
    asked: int = 0
    restarts: int | None = None
    resumed_at: int | None = None
    version: str = ""
    slowdown: float = 1.0
    no_error_file: bool = False
    unjudged: frozenset[tuple[int, Stream]] = frozenset()
    relayed: Mapping[tuple[int, Stream], tuple[str, ...]] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    deadlock: str = ""

    @property
    def message(self) -> str:
        """What the launcher says of the root cause; empty if there is none, or it says nothing."""
        failure = None if self.root_cause is None else self.failures.get(self.root_cause)
        return "" if failure is None else failure.message

    @property
    def error_file(self) -> dict[int, ErrorFileState]:
        """What the launcher made of the error file of each rank that failed."""
        return {rank: failure.error_file for rank, failure in self.failures.items()}

    @property
    def unseen(self) -> str:
        """Which ranks that were asked for were never seen, and why that may be; empty if all were."""
        lost = [str(rank) for rank in range(self.asked) if rank not in self.ranks]
        if not lost:
            return ""
        which = (
            f"rank {lost[0]} of {self.asked} was" if len(lost) == 1 else f"ranks {', '.join(lost)} of {self.asked} were"
        )
        return f"{which} never seen: {UNSEEN_CAUSE}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One expectation, and what was seen.

    Attributes:
        promise: what the supervisor would have promised with it.
        kept: whether it was met; None if the supervisor never promised it.
        expected: what, behind "expected".
        saw: what, behind "saw".
        differs: whether it was not met, where the supervisor never promised it.
    """

    promise: Promise
    kept: bool | None
    expected: str
    saw: str
    differs: bool = False

    def __str__(self) -> str:
        """``expected rank 2 as root cause, saw rank 1``."""
        return f"expected {self.expected}, saw {self.saw}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run showed.

    Attributes:
        kind: PASS, FAIL, INCONCLUSIVE (a fault did not verifiably happen) or SKIPPED (nothing could be run).
        reasons: why it is not PASS: violations ("expected ..., saw ..."), or faults that did not happen.
        violations: what was violated, also where the verdict is INCONCLUSIVE.
        findings: each expectation, met or not.
    """

    kind: Kind
    reasons: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it is PASS."""
        return self.kind == "PASS"

    @property
    def exit_code(self) -> int:
        """What ``derail run`` exits with."""
        return EXIT_CODES[self.kind]
