"""A supervisor that is not ours as an agent: how it is started, what is seen of its ranks, and what it says itself.

A subclass says how its supervisor is called and reads its report; all else is the same for every program: it runs in
the sandbox, its ranks are found and broken there, and what happened is put together here. Which rank failed by itself
is seen, not told: the first that ended badly, and those that ended by a signal that a fault sent. Ranks that ended by
another signal after that, or whose handler of one ran, were stopped by the supervisor.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from derail.agents.external.messages import Invocation, Order
from derail.agents.external.variables import handed_on
from derail.agents.invocation import LOGS
from derail.faults.engine.journal import JOURNAL
from derail.faults.model.targets import AGENT, AGENT_RANK
from derail.model.outcome import Cause, JobOutcome, RankOutcome, fields_of
from derail.platform.ports import free_port
from derail.platform.private_files import make_private
from derail.scenario.model import ALL_PROMISES, UNSEEN_CAUSE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from derail.agents.external.messages import Life, Seen, Source
    from derail.faults.model.plan import Plan
    from derail.model.events import Stream
    from derail.scenario.model import FailureSeen, JobResult, Promise, Scenario

SANDBOX_LOG = "sandbox.log"
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""By which a supervisor asks a rank to end."""
OUTPUT_BYTES = 4 << 20
"""Bytes of what a supervisor prints that are read for its report, from the end."""
RELAYED_BYTES = 16 << 20
"""Bytes of it that are read for what it prints of its ranks."""
COPIES = "copies"
NAMELESS = "no rank in the environment"
"""What workers print that find no rank."""
_RANK = re.compile(r"\brank (\d+): ")
"""Whose line it is, as workers begin theirs; a launcher that prints in pieces puts several into one."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a supervisor is to run.

    Attributes:
        scenario: the job, as it stands.
        workdir: the run's directory, which exists.
        port: a TCP port of loopback that nobody has bound.
        shown: whether the supervisor must print what ranks print, as the scenario is about the supervisor.
    """

    scenario: Scenario
    workdir: Path
    port: int
    shown: bool = False

    @property
    def ranks_per_node(self) -> int:
        """How many ranks each supervisor has."""
        return self.scenario.ranks // self.scenario.nodes

    @property
    def script(self) -> str:
        """The worker."""
        return os.fspath(self.scenario.worker)

    @property
    def rank_argv(self) -> tuple[str, ...]:
        """What each rank runs, as one command line: a ``.py`` by this Python."""
        python = (sys.executable, "-u") if self.script.endswith(".py") else ()
        return (*python, self.script, *self.scenario.args)

    def directory(self, name: str) -> Path:
        """A directory of this run, made if it is not there."""
        path = self.workdir / name
        return make_private(path)


@dataclass(frozen=True, slots=True)
class Said:
    """What a supervisor says of a job.

    Attributes:
        blamed: the rank that it calls the root cause; None if it calls none.
        failures: what it says of the ranks that it calls failed, root cause first.
        doubts: why its report cannot be read; empty if it can.
    """

    blamed: int | None = None
    failures: Mapping[int, FailureSeen] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


class ForeignAgent(ABC):
    """A program that supervises ranks. Subclasses say what it is; ``run`` is the same for all.

    Attributes:
        name: what it is called on the command line and in reports.
        promises: what it promises; the rest is not held against it.
        nodes: whether a job may have several nodes, each with a supervisor of its own.
        restarts: whether it can start all ranks again after a failure.
        evidence: patterns of the files that a run leaves besides the journal, the logs and the supervisors' output.
        keeps_logs: whether ranks' streams are left as the supervisor made them; else those that go to no file of their
            own, and to no pipe or terminal that the supervisor reads, get one.
        takes_streams: whether streams that the supervisor reads get a file as well: it does not see them then.
        shows_script: whether the command line of the process that runs the script names it.
        must_relay: whether it promises to print what its ranks print.
        variables: by the name that workers read, the variable by which it gives ranks the same, if it is no usual one.
    """

    name: str
    promises: frozenset[Promise] = ALL_PROMISES
    nodes: bool = False
    restarts: bool = False
    evidence: tuple[str, ...] = ()
    keeps_logs: bool = False
    takes_streams: bool = False
    shows_script: bool = True
    must_relay: bool = False
    variables: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def version(self) -> str:
        """The version that is installed here; empty if that cannot be known."""

    @abstractmethod
    def unavailable(self) -> str:
        """Why it cannot be run here at all; empty if it can."""

    @abstractmethod
    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """How it is started: one command line for each node, in the order of the nodes."""

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """What it says of the job: by its exit alone, if it is not known how to read its report.

        Args:
            job: what it ran.
            outputs: what it printed, both streams, one text for each node.
            seen: what was seen of it; the order of the lives tells which ranks there were.
        """
        del job, outputs, seen
        return Said()

    def unsupported(self, scenario: Scenario) -> str:
        """Why this scenario cannot be run on it; empty if it can."""
        if scenario.nodes > 1 and not self.nodes:
            return f"it runs on one node, and the scenario wants {scenario.nodes}"
        if scenario.restarts and not self.restarts:
            return f"it starts each rank once, and the scenario allows {scenario.restarts} restart(s)"
        if scenario.function:
            return "it runs programs, and the ranks of the scenario are functions"
        return _beyond_foreign(scenario.faults)

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """Run the job of a scenario, and return its result."""
        from derail.agents.external import sandbox
        from derail.agents.launcher_under_test import run_launcher
        from derail.faults.engine.prepare import check

        check(scenario.faults, (*range(scenario.ranks), AGENT_RANK))
        make_private(workdir)
        self._clear(workdir)
        if scenario.launches:
            from dataclasses import replace
            from tempfile import TemporaryDirectory

            inner = Job(replace(scenario, ranks=scenario.launches, launches=0), workdir, free_port(), shown=True)
            started = self.invocations(inner)[0]
            with TemporaryDirectory(prefix="derail-", ignore_cleanup_errors=True) as temporary:
                told = {"TMPDIR": temporary, **handed_on(self.variables), **started.env}
                settings = [f"{name}={value}" for name, value in told.items()]
                return self._with_ranks(run_launcher(scenario, ["env", *settings, *started.argv], workdir))
        job = Job(scenario, workdir, free_port())
        order = self._order(job)
        try:
            seen = sandbox.run(order, workdir / SANDBOX_LOG)
        except OSError as error:
            return _broken(f"no sandbox could be made: {error}", workdir)
        return self._observe(job, order, seen)

    def _clear(self, workdir: Path) -> None:
        """Remove what an earlier run has left in the directory, and what this one would take for its own."""
        from shutil import rmtree

        rmtree(workdir / LOGS, ignore_errors=True)
        for pattern in (JOURNAL, SANDBOX_LOG, f"{self.name}-[0-9]*.log", *self.evidence):
            for path in workdir.glob(pattern):
                path.unlink()

    def _with_ranks(self, seen: JobResult) -> JobResult:
        """Return the result of the launcher, in doubt if its ranks say that they have no number."""
        from dataclasses import replace

        if not any(NAMELESS in line for lines in seen.log_tail.values() for line in lines):
            return seen
        return replace(seen, doubts=(*seen.doubts, f"the ranks have no number: {_hint(self.variables)}"))

    def _order(self, job: Job) -> Order:
        scenario = job.scenario
        nodes = tuple(Invocation(each.argv, {**scenario.env, **each.env}) for each in self.invocations(job))
        return Order(
            name=self.name,
            job=f"foreign-{os.urandom(6).hex()}",
            nodes=nodes,
            ranks=scenario.ranks,
            restarts=scenario.restarts,
            plan=scenario.faults,
            run={"agent": self.name, "name": scenario.name, "ranks": scenario.ranks, "argv": list(nodes[0].argv)},
            journal=job.workdir / JOURNAL,
            logs=None if self.keeps_logs else job.workdir / LOGS,
            outputs=tuple(job.workdir / f"{self.name}-{node}.log" for node in range(len(nodes))),
            timeout=scenario.timeout,
            copies=None if self.takes_streams else job.workdir / (COPIES if self.keeps_logs else LOGS),
            declared=self.log_files(job),
            script=job.script if self.shows_script else "",
            variables=dict(self.variables),
            port=job.port,
        )

    def _observe(self, job: Job, order: Order, seen: Seen) -> JobResult:
        from derail.scenario.model import JobResult
        from derail.scenario.observe import resumed_at, tail

        journal = order.journal if order.journal.is_file() else None
        if seen.error:
            return _broken(seen.error, job.workdir, seen)
        aimed_at_agent = any(fault.target == AGENT for fault in order.plan.faults)
        if not (seen.lives or seen.timed_out or seen.nameless or aimed_at_agent):
            output = read_end(order.outputs[0])
            last = next((line for line in reversed(output.splitlines()) if line.strip()), "nothing")
            ended = seen.agents[0].status
            why = f"; no rank was seen: {UNSEEN_CAUSE}" if ended is not None and ended.ok else ""
            why = "".join(f"; {each}" for each in _not_importable(job.scenario.needs, {}, [output])) or why
            return _broken(
                f"{self.name} ended with {ended} before any rank was seen; it said: {last}{why}", job.workdir, seen
            )
        code = None if seen.timed_out else exit_code(seen)
        # If all went well in the end, it speaks of earlier attempts.
        outputs = tuple(read_end(path) for path in order.outputs)
        said = Said() if code == 0 else _said_of_programs(self.said(job, outputs, seen), seen)
        logs = self.logs(job, seen)
        tails = {key: tail(path) for key, path in logs.items()}
        relayed = self._relayed(order, seen, logs)
        return JobResult(
            **{**fields_of(outcome_of(seen, said)), "root_cause": said.blamed},
            failures=said.failures,
            log_tail=tails,
            logs=logs,
            faults=seen.faults,
            workdir=job.workdir,
            journal=journal,
            exit_code=code,
            external=True,
            asked=job.scenario.ranks,
            restarts=max((life.attempt for life in seen.lives), default=0),
            resumed_at=resumed_at(tails),
            version=self.version(),
            no_error_file=bool(seen.lives) and not any(life.error_file for life in seen.lives),
            unjudged=unjudged(seen, relayed, self.log_files(job)),
            relayed=relayed,
            doubts=(*said.doubts, *_not_importable(job.scenario.needs, tails, outputs), *self._doubts(job, seen)),
            deadlock="; ".join(
                f"the launcher does not read {name} of rank {rank}: it is full" for rank, name in seen.full
            ),
        )

    def _relayed(
        self, order: Order, seen: Seen, logs: Mapping[tuple[int, Stream], Path]
    ) -> dict[tuple[int, Stream], tuple[str, ...]]:
        """What the supervisor has printed of its ranks: of the streams that it reads, if it prints any line of them."""
        from derail.scenario.observe import tail

        copied = [key for key in logs if _source(seen, key) == "copy" and key not in order.declared]
        if not copied:
            return {}
        lines = [line for path in order.outputs for line in read_end(path, RELAYED_BYTES).splitlines()]
        text = "\n".join(lines)
        relays = self.must_relay or any(line.strip() and line in text for key in copied for line in tail(logs[key]))
        if not relays:
            return {}
        of_rank = {rank: lines_of(rank, lines) for rank in {rank for rank, _ in copied}}
        return {(rank, stream): of_rank[rank] for rank, stream in copied}

    def _doubts(self, job: Job, seen: Seen) -> Iterator[str]:
        """Why it cannot be judged by what was seen: ranks that it has started, or is, and that were not seen so."""
        ranks = {life.rank for life in seen.lives}
        lost = [rank for rank in range(job.scenario.ranks) if rank not in ranks]
        if lost and seen.nameless:
            many = len(seen.nameless)
            yield f"{many} process(es) run the worker without a number ({seen.nameless[0]}): {_hint(self.variables)}"
        elif lost == [0] and ranks:
            yield "rank 0 was never seen: a launcher that is rank 0 itself cannot be told from one that starts none"
        for rank, words in sorted(seen.hidden.items())[: bool(job.scenario.faults.faults)]:
            yield f"rank {rank} runs below another Python with the same rank ({words}), in which faults act instead"

    def log_files(self, job: Job) -> dict[tuple[int, Stream], Path]:
        """The files in which the supervisor keeps the streams of ranks, by what is known of it beforehand."""
        del job
        return {}

    def logs(self, job: Job, seen: Seen) -> dict[tuple[int, Stream], Path]:
        """The files that the streams of the last attempt went to, or were copied to."""
        if declared := self.log_files(job):
            return declared
        last = {life.rank: life for life in seen.lives}
        return {(rank, stream): path for rank, life in sorted(last.items()) for stream, path in life.streams.items()}


def lines_of(rank: int, lines: Sequence[str]) -> tuple[str, ...]:
    """Return the last lines that a launcher has printed of a rank: those with its number, and those without any.

    A rank may leave half a line, which then stands in front of the next line of another rank: that half counts.
    """
    from derail.scenario.observe import TAIL_LINES

    prefix = min((found.start() for line in lines if (found := _RANK.search(line))), default=0)
    kept, own = [], 0
    for line in reversed(lines):
        named = _RANK.findall(line)
        if not named or str(rank) in named:
            kept.append(line)
            own += 1
        elif len(half := _RANK.split(line, maxsplit=1)[0]) > prefix:
            kept.append(half)
        if own == TAIL_LINES:
            break
    return tuple(reversed(kept))


def _not_importable(
    needs: Collection[str], tails: Mapping[tuple[int, Stream], Sequence[str]], outputs: Collection[str]
) -> Iterator[str]:
    """Why the ranks could not run the worker: their Python lacks a module of the scenario, which derail's has. A rank
    that dies of it may be gone before it is seen; what its launcher prints says it as well."""
    printed = [(f"rank {rank}", "\n".join(lines)) for (rank, _), lines in sorted(tails.items())]
    for whose, text in [*printed, *(("a rank", output) for output in outputs)]:
        for name in needs:
            if f"ModuleNotFoundError: No module named '{name}'" in text:
                yield (
                    f"the Python that {whose} was started with has no {name}: start the launcher with "
                    f"{sys.executable}, or install {name} for it"
                )
                return


def unjudged(
    seen: Seen, relayed: Collection[tuple[int, Stream]], declared: Collection[tuple[int, Stream]]
) -> frozenset[tuple[int, Stream]]:
    """The streams of which nothing shows what the supervisor makes of them."""
    streams = {(life.rank, stream) for life in seen.lives for stream in life.streams}
    return frozenset(
        key for key in streams if key not in relayed and key not in declared and _source(seen, key) != "own"
    )


def _source(seen: Seen, key: tuple[int, Stream]) -> Source | None:
    """Where a stream of a rank went in its last attempt."""
    rank, stream = key
    lives = [life for life in seen.lives if life.rank == rank]
    return lives[-1].sources.get(stream) if lives else None


def _hint(declared: Mapping[str, str]) -> str:
    from derail.agents.external.variables import named

    return f"none of {named(declared)} is set; name the launcher's own in [variables] of the declaration"


def _said_of_programs(said: Said, seen: Seen) -> Said:
    """What the supervisor says, with 128+n for signal n read as that signal where it waits for a wrapper of the rank:
    a shell can exit with nothing else for a program that a signal has ended."""
    from dataclasses import replace

    failures = dict(said.failures)
    for life in seen.lives:
        failure, status = failures.get(life.rank), life.status
        if failure is None or not life.wrapped or status is None or status.signal is None:
            continue
        if failure.status is not None and failure.status.code == status.shell_code:
            failure = replace(failure, status=status)
        if re.search(rf"\b{status.shell_code}\b", failure.message):
            failure = replace(failure, message=f"{failure.message} ({status})")
        failures[life.rank] = failure
    return replace(said, failures=failures)


def outcome_of(seen: Seen, said: Said) -> JobOutcome:
    """What happened to the ranks of the last attempt, as it was seen."""
    last = {life.rank: life for life in seen.lives}
    failed = [life for life in last.values() if life.status is not None and not life.status.ok]
    first = min((life for life in failed if not _asked(life, seen)), key=lambda life: life.order or 0, default=None)
    ranks = {rank: _fate(life, first, seen, said) for rank, life in sorted(last.items())}
    ended = [life.exited_at for life in last.values() if life.exited_at is not None]
    stops = [] if seen.asked_at is None else [(seen.asked_at, "the supervisor was asked to end it")]
    if first is not None and first.exited_at is not None:
        stops.append((first.exited_at, f"rank {first.rank} failed"))
    stop, why = min(stops, default=(None, ""))
    return JobOutcome(
        ranks=ranks,
        root_cause=None if first is None else first.rank,
        started_at=min((life.started_at for life in seen.lives), default=seen.started_at),
        ended_at=max(ended, default=seen.ended_at),
        stop_requested_at=stop,
        stop_reason=why,
        timed_out=seen.timed_out,
        leftovers=seen.leftovers,
    )


def _asked(life: Life, seen: Seen) -> bool:
    """Whether the supervisor has made a rank end: its handler ran, or it ended by a signal after that was asked to."""
    if any(number in ENDING for number in life.asked):
        return True
    after = seen.asked_at is not None and life.exited_at is not None and life.exited_at >= seen.asked_at
    return after and life.status is not None and life.status.signal is not None and not _by_fault(life)


def _by_fault(life: Life) -> bool:
    return life.status is not None and life.status.signal is not None and life.status.signal in life.signals


def _fate(life: Life, first: Life | None, seen: Seen, said: Said) -> RankOutcome:
    status = life.status
    if status is None:
        return RankOutcome(life.rank, life.pid, None, Cause.ABANDONED)
    by_itself = life is first or status.ok or _by_fault(life) or (status.signal is None and life.rank in said.failures)
    stopped = life is not first and (_asked(life, seen) or not by_itself)
    return RankOutcome(
        life.rank,
        life.pid,
        status,
        Cause.STOPPED_BY_US if stopped else Cause.SELF,
        exit_order=life.order,
        exited_at=life.exited_at,
        signals_sent=tuple(life.asked),
        succeeded=status.ok and not stopped,
        stopped_by="the agent",
    )


def exit_code(seen: Seen) -> int | None:
    """What the supervisor exits with, as a shell says it; of several, the first that is not 0."""
    codes = [end.status.shell_code for end in seen.agents if end.status is not None]
    return next((code for code in codes if code), codes[0] if codes else None)


def read_end(path: Path, limit: int = OUTPUT_BYTES) -> str:
    """The end of a file as text, whatever is in it; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def _beyond_foreign(plan: Plan) -> str:
    """Which fault of a plan cannot be done to ranks that somebody else starts, signals and hears; empty if all can."""
    from derail.faults.model.triggers import Phase, walk
    from derail.faults.registry import entry

    for fault in plan.faults:
        known = entry(fault.name)
        if known.family == "values":
            return f"{fault.name!r} is about what functions return, and it runs programs"
        if any(isinstance(part, Phase) for part in walk(fault.when)):
            return f"{fault.id} waits for a phase of the supervisor, of which this one tells nobody"
    return ""


def _broken(error: str, workdir: Path, seen: Seen | None = None) -> JobResult:
    from derail.scenario.model import JobResult

    return JobResult(faults=() if seen is None else seen.faults, workdir=workdir, error=error, external=True)
