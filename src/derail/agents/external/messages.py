"""What goes into the sandbox and what comes out of it: plain values, which travel by pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

Source: TypeAlias = Literal["own", "copy", "derail"]

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.faults.model.plan import Plan
    from derail.faults.model.results import FaultResult
    from derail.faults.model.triggers import Data
    from derail.model.events import Stream
    from derail.model.exit import ExitStatus
    from derail.model.outcome import Leftover


@dataclass(frozen=True, slots=True)
class Invocation:
    """How one supervisor is started: one per node.

    Attributes:
        argv: its command line.
        env: variables besides those of this process, which win.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done in the sandbox.

    Attributes:
        name: of the supervisor.
        job: the mark of the job.
        nodes: how the supervisors are started.
        ranks: how many ranks there are to be.
        restarts: how often they may be started again.
        plan: the faults.
        run: what the ranks run, for the journal.
        journal: where it goes.
        logs: where the streams of ranks go that have no file of their own; None to leave them.
        outputs: where stdout and stderr of each supervisor go.
        timeout: seconds until everything is ended.
        copies: where copies go of what ranks write to pipes and terminals of their supervisor; None if those streams
            are redirected to ``logs``, which takes them away from it.
        declared: the files in which the supervisor keeps the streams of ranks, if that is known.
        script: the path of the program that each rank runs, which is in the command line of what runs it; else empty.
        variables: by the name that workers read, the variable by which the supervisor is declared to give the same.
        port: a TCP port of loopback that no socket is bound to.
        temporary: where temporary files go, with a short name, as sockets are among them; gone after the run. None for
            the usual place.
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
    temporary: Path | None = None


@dataclass(slots=True)
class Life:
    """One process of one rank, from its start to its end.

    Attributes:
        rank: its number; ``AGENT_RANK`` for the supervisor of the first node.
        attempt: 0, and one more each time that the number appears again.
        pid: its process.
        started_at: monotonic seconds at which it was found.
        streams: the files that its streams go to, or are copied to.
        sources: whose files these are: the supervisor's ("own"), copies of what goes to a pipe of the supervisor
            ("copy"), or files that derail has put in the place of a stream that was not the rank's alone ("derail").
        runs_worker: whether it, or a process below it, runs the worker; a helper that carries a rank does not.
        wrapped: whether a process of the launcher with the same rank stays above it and waits for it.
        error_file: where it writes its error file; None if nobody told it.
        status: how it ended; None while it lives.
        exited_at: when that was seen.
        order: 0 for the first rank of the job that ended, and so on.
        signals: those that a fault sent to it.
        asked: those that somebody else sent to it, as far as its program has Python handlers for them.
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
    """The fate of one supervisor.

    Attributes:
        pid: its process.
        status: how it ended; None if it had to be ended.
        ended_at: monotonic seconds at which that was seen.
    """

    pid: int
    status: ExitStatus | None = None
    ended_at: float | None = None


@dataclass(slots=True)
class Seen:
    """What was seen of a job in the sandbox.

    Attributes:
        agents: the supervisors, one per node.
        lives: all processes of all ranks, in the order in which they were found.
        faults: what came of the faults.
        leftovers: what was still there after the end of the last supervisor; ranks are among it.
        started_at: monotonic seconds at which the first supervisor was started.
        ended_at: the same for the end of the last.
        asked_at: monotonic seconds at which a fault first signalled the supervisor; None if none did.
        timed_out: whether they had to be ended.
        full: the streams of ranks that were full pipes then, which no process read.
        nameless: the command lines of processes that ran the worker without a rank in their environment.
        hidden: by rank, the command line of the Python that faults acted in, above the one that ran the worker.
        error: what went wrong with the sandbox itself, or with starting a supervisor; empty if nothing did.
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
    nameless: tuple[str, ...] = ()
    hidden: Mapping[int, str] = field(default_factory=dict)
    error: str = ""
