"""Messages to and from the sandbox: plain values, sent by pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

Source: TypeAlias = Literal["own", "copy", "derail"]

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.diagnose.verdict import HangVerdict
    from derail.faults.model.plan import Plan
    from derail.faults.model.results import FaultResult
    from derail.faults.model.triggers import Data
    from derail.model.events import Stream
    from derail.model.exit import ExitStatus
    from derail.model.outcome import Leftover


@dataclass(frozen=True, slots=True)
class Invocation:
    """Start of one supervisor: one per node.

    Attributes:
        argv: its command line.
        env: variables that override those of this process.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """Order to the sandbox.

    Attributes:
        name: the name of the supervisor.
        job: the mark of the job.
        nodes: the starts of the supervisors.
        ranks: the expected number of ranks.
        restarts: the maximum number of their restarts.
        plan: the faults.
        run: the ranks' programs, for the journal.
        journal: the path of the journal.
        logs: the directory for streams of ranks without their own file; None to leave them unchanged.
        outputs: the file for stdout and stderr of each supervisor.
        timeout: seconds until everything is ended.
        copies: the directory for copies of the ranks' output to pipes and terminals of their supervisor; None if those
            streams are redirected to ``logs``, away from the supervisor.
        declared: the files in which the supervisor keeps the streams of ranks, if they are known.
        script: the path of the ranks' program, as in the command line of its process; empty if it is not there.
        variables: the declared variables of the supervisor, by the name that ranks read for the same value.
        port: a free TCP port of loopback.
        rings: the directory in which ranks record their collectives; None if they do not.
        steps: a regular expression of the ranks' step lines, with the number as its group; empty if they are not read.
        temporary: the directory for temporary files, which is removed after the run; its name is short because of the
            sockets in it. None for the usual place.
    """

    name: str
    job: str
    nodes: tuple[Invocation, ...]
    ranks: int
    restarts: int
    plan: Plan
    run: Mapping[str, Data]
    journal: Path
    logs: Path | None
    outputs: tuple[Path, ...]
    timeout: float
    copies: Path | None = None
    declared: Mapping[tuple[int, Stream], Path] = field(default_factory=dict)
    script: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    rings: Path | None = None
    steps: str = ""
    temporary: Path | None = None


@dataclass(slots=True)
class Life:
    """One process of one rank, from its start to its exit.

    Attributes:
        rank: its rank; ``AGENT_RANK`` for the supervisor of the first node.
        attempt: 0, and one more for each further process of the rank.
        pid: its pid.
        started_at: monotonic time in seconds at which it was found.
        streams: the files of its streams, or of their copies.
        sources: the origin of these files: the supervisor's own ("own"), copies of output to a pipe of the supervisor
            ("copy"), or files with which derail has replaced a stream that the rank shared ("derail").
        runs_worker: whether it, or a process below it, runs the ranks' program; a helper with a rank does not.
        wrapped: whether a launcher process with the same rank stays above it and waits for it.
        error_file: the path of its error file; None if it was given none.
        status: its exit status; None while it runs.
        exited_at: monotonic time in seconds at which its exit was observed.
        order: its place in the order of exits of the job, from 0.
        signals: the signals that faults sent to it.
        asked: the signals that other processes sent to it, if its program has Python handlers for them.
    """

    rank: int
    attempt: int
    pid: int
    started_at: float
    streams: dict[Stream, Path] = field(default_factory=dict)
    sources: dict[Stream, Source] = field(default_factory=dict)
    runs_worker: bool = True
    wrapped: bool = False
    error_file: Path | None = None
    status: ExitStatus | None = None
    exited_at: float | None = None
    order: int | None = None
    signals: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)


@dataclass(slots=True)
class AgentEnd:
    """Exit of one supervisor.

    Attributes:
        pid: its pid.
        status: its exit status; None if it had to be killed.
        ended_at: monotonic time in seconds at which its exit was observed.
    """

    pid: int
    status: ExitStatus | None = None
    ended_at: float | None = None


@dataclass(slots=True)
class Seen:
    """Observations of a job in the sandbox.

    Attributes:
        agents: the supervisors, one per node.
        lives: all processes of all ranks, in the order in which they were found.
        faults: the results of the faults.
        leftovers: processes that outlived the last supervisor, including ranks.
        started_at: monotonic time in seconds at which the first supervisor started.
        ended_at: monotonic time in seconds at which the last supervisor ended.
        asked_at: monotonic time in seconds at which a fault first signalled the supervisor; None if none did.
        timed_out: whether the supervisors had to be killed at the timeout.
        full: the streams of ranks that were full and unread pipes at the timeout.
        hang: the verdict on the ranks at the timeout, if they recorded their collectives.
        nameless: the command lines of processes that ran the ranks' program without a rank in their environment.
        hidden: by rank, the command line of the Python that faults acted in, above the one that ran the program.
        error: the failure of the sandbox itself, or of starting a supervisor; empty if there was none.
    """

    agents: list[AgentEnd] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    faults: tuple[FaultResult, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    started_at: float = 0.0
    ended_at: float = 0.0
    asked_at: float | None = None
    timed_out: bool = False
    full: tuple[tuple[int, Stream], ...] = ()
    hang: HangVerdict | None = None
    nameless: tuple[str, ...] = ()
    hidden: Mapping[int, str] = field(default_factory=dict)
    error: str = ""
