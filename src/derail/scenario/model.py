"""Frozen values of a scenario: expectations, result and verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from derail.faults.model.plan import Plan
from derail.model.outcome import JobOutcome
from derail.scenario.recovery import STEP, Recovery

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.diagnose.verdict import HangVerdict
    from derail.faults.model.results import FaultResult
    from derail.model.events import Stream
    from derail.model.exit import ExitStatus
    from derail.scenario.recovery import Measure

Kind: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE", "SKIPPED"]
ErrorFileState: TypeAlias = Literal["good", "malformed", "missing"]
Leaves: TypeAlias = Literal["none", "ended", "any"]
ControlKind: TypeAlias = Literal["no-fault", "wrong-target"]
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
"""Promises of a launcher. "ends": it gives a result in time. The last two are subjects of whole scenarios; the others
are named like the expectations in ``Expect``."""
Subject: TypeAlias = Literal[Promise, "budget"]
"""Subject of a finding: a promise of the launcher; or a limit of the caller's budget, which counts for any launcher."""
ALL_PROMISES: frozenset[Promise] = frozenset(get_args(Promise))
UNSEEN_CAUSE = (
    "the launcher started fewer ranks, or it cleared their environment: derail identifies a rank by RANK and "
    "DERAIL_JOB in it, and needs DERAIL_INRANK and PYTHONPATH as the launcher received them"
)
TEARDOWN_MARGIN = 1.0
"""Seconds that a teardown may take beyond the grace period, on an idle machine."""
HIGHEST_SLOWDOWN = 2.5
"""Maximum factor by which a slow machine increases a margin."""
EXIT_CODES: dict[Kind, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "SKIPPED": 4}


@dataclass(frozen=True, slots=True)
class LogTail:
    """Expected last lines of a rank's stream.

    Attributes:
        rank: number of the rank.
        stream: "stdout" or "stderr".
        like: patterns with ``*`` and ``?``, each for a whole line; they must match in this order, with lines between.
        unlike: patterns that no line may match.
    """

    rank: int
    like: tuple[str, ...] = ()
    stream: Stream = "stdout"
    unlike: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expect:
    """Expectations of a run. None or an empty value is not checked.

    Attributes:
        succeeded: whether the job succeeds.
        root_cause: the rank that is the root cause.
        failures: exactly the ranks that the launcher reports as failed.
        stopped: exactly the ranks that the launcher ended because of others.
        exits: by rank, an exit code or the name of a signal.
        message: a regular expression that matches in the root cause's message.
        log_tail: expected last lines of ranks.
        error_file: by failed rank, the state of its error file as reported by the launcher.
        exit_code: the exit code of the launcher.
        teardown_seconds: maximum seconds from the decision to stop until the last rank has ended; None for the grace
            period and a second, infinity for any time.
        restarts: the number of restarts of all ranks.
        resumed_at: the step at which the last attempt resumed, as its ranks report it: "resumed at step 5".
        leftovers: "none": nothing outlives its rank; "ended": leftovers were ended; "any".
        promise: the one promise that all expectations are about; None if each is a separate promise.
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
    """Job, its faults, and the expected result.

    Attributes:
        title: what happens, in a few words.
        ranks: the number of ranks on all nodes together.
        worker: the program that each rank runs; a ``.py`` file is run by this Python.
        function: the function of that file that each rank calls instead of running it as a program.
        faults: the plan; empty for a job without faults.
        expect: the expected result.
        why: the failure in practice that it protects against.
        issue: a report of that failure, if there is one.
        args: arguments of the program; ``{workdir}`` in them stands for the directory of the run, which ranks share.
        env: variables of the ranks, besides those of a job.
        timeout: seconds until the job is ended from outside.
        grace: seconds between SIGTERM and SIGKILL.
        nodes: the number of nodes, each with its own launcher and the same number of ranks.
        restarts: how often the launcher may restart all ranks.
        launches: 0; or, for a scenario about the launcher itself, the number of worker ranks that it launches. The
            launcher is then the one rank of derail's job.
        needs: modules that the worker imports, besides Python's own and derail.
        step: a regular expression of the step lines of its ranks, with the number as its first group; empty for the
            pattern of derail's own workers, and only in jobs with restarts.
        budget: the highest allowed values of measures of the recovery, in seconds or steps.
        control: the negative controls, which must not pass: the same without faults, and with each fault aimed at
            another rank. If one passes, the scenario tests nothing.
        name: its name among the scenarios: ``crash/killed_at_step_3``.
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
    step: str = ""
    budget: Mapping[Measure, float] = field(default_factory=dict)
    control: tuple[ControlKind, ...] = ()
    name: str = ""
    path: Path | None = None

    def named(self, text: str) -> str:
        """Return the text with "the launcher" instead of rank 0, if the scenario is about the launcher."""
        return re.sub(r"rank(\(s\))? 0\b", "the launcher", text) if self.launches else text

    @property
    def family(self) -> str:
        """First part of its name; empty if it has only one."""
        first, slash, _ = self.name.partition("/")
        return first if slash else ""

    @property
    def watched_steps(self) -> str:
        """Pattern of the step lines that are recorded; empty if none are: ranks that run once repeat no step."""
        return self.step or (STEP if self.restarts else "")

    def placed(self, workdir: Path) -> Scenario:
        """Return the scenario for one run, with ``{workdir}`` in arguments and variables replaced by its directory."""
        from dataclasses import replace

        where = str(workdir.absolute())
        args = tuple(text.replace("{workdir}", where) for text in self.args)
        env = {name: text.replace("{workdir}", where) for name, text in self.env.items()}
        return replace(self, args=args, env=env)


@dataclass(frozen=True, slots=True)
class FailureSeen:
    """Report of the launcher about a failed rank.

    Attributes:
        rank: number of the rank.
        message: the text that the launcher reports.
        error_file: the reported state of the rank's error file.
        problem: the reason why the error file is malformed.
        status: the reported exit status of the rank; None if there is none.
    """

    rank: int
    message: str
    error_file: ErrorFileState = "missing"
    problem: str = ""
    status: ExitStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult(JobOutcome):
    """Result of a job: the exits of its ranks, its launcher's report about them, the faults, and the evidence.

    For an external agent, ``ranks`` and values derived from it are derail's observation (of the last attempt);
    ``root_cause``, ``failures`` and ``exit_code`` are the agent's own report, true or not. The job never ran if the
    agent broke or no rank was started.

    Attributes:
        failures: the launcher's reports, by failed rank, root cause first.
        log_tail: the last lines of each stream, by rank and stream.
        logs: the files that they come from.
        faults: the result of each fault on each rank.
        return_values: return values of functions, by rank.
        workdir: the run's directory: journal and logs.
        journal: the journal of the run; None if there is none.
        exit_code: the exit code of the launcher.
        error: the error that broke the launcher; empty if there was none.
        external: whether the launcher is an external agent.
        asked: the number of ranks that an external agent was to start; 0 for derail's own jobs.
        restarts: the number of restarts of all ranks; None if unknown.
        resumed_at: the step at which the last attempt resumed, as its ranks report it; None without a report.
        version: version of the launcher.
        slowdown: how much slower than idle the machine was, measured before and after the run.
        no_error_file: whether no observed rank had an error file.
        unjudged: streams whose handling by the launcher cannot be observed, because derail has read them elsewhere.
        relayed: by rank and stream, the launcher's own output, if it prints the output of its ranks.
        doubts: reasons why the run cannot be judged although the job ran: the verdict is INCONCLUSIVE, never FAIL.
        deadlock: description of the full pipes that the launcher did not read when the job timed out; empty if there
            were none.
        hang: verdict on a job that timed out, if its ranks recorded their collectives; else None.
        recovery: how soon the launcher noticed the first fault that made a rank fail, stopped the job and ran it again.
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
    hang: HangVerdict | None = None
    recovery: Recovery = field(default_factory=Recovery)

    @property
    def message(self) -> str:
        """The launcher's message about the root cause; empty if there is none."""
        failure = None if self.root_cause is None else self.failures.get(self.root_cause)
        return "" if failure is None else failure.message

    @property
    def error_file(self) -> dict[int, ErrorFileState]:
        """State of the error file of each failed rank, as reported by the launcher."""
        return {rank: failure.error_file for rank, failure in self.failures.items()}

    @property
    def unseen(self) -> str:
        """Description of the ranks that never appeared, with possible reasons; empty if all appeared."""
        lost = [str(rank) for rank in range(self.asked) if rank not in self.ranks]
        if not lost:
            return ""
        which = (
            f"rank {lost[0]} of {self.asked} was" if len(lost) == 1 else f"ranks {', '.join(lost)} of {self.asked} were"
        )
        return f"{which} never seen: {UNSEEN_CAUSE}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One expectation, and the result.

    Attributes:
        promise: the launcher's promise that the expectation belongs to, or "budget".
        kept: whether it was met; None if the launcher never promised it, or if there was nothing to measure.
        expected: text after "expected".
        got: text after "got".
        differs: whether it was not met, without a promise of the launcher.
    """

    promise: Subject
    kept: bool | None
    expected: str
    got: str
    differs: bool = False

    def __str__(self) -> str:
        """Return the finding as text: ``expected root cause rank 2, got rank 1``."""
        return f"expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on a run.

    Attributes:
        kind: PASS, FAIL, INCONCLUSIVE (a fault did not verifiably happen) or SKIPPED (nothing could be run).
        reasons: why it is not PASS: violations ("expected ..., got ..."), or faults that did not happen.
        violations: unmet expectations, also if the verdict is INCONCLUSIVE.
        findings: each expectation, met or not.
    """

    kind: Kind
    reasons: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the verdict is PASS."""
        return self.kind == "PASS"

    @property
    def exit_code(self) -> int:
        """Exit code of ``derail run``."""
        return EXIT_CODES[self.kind]
