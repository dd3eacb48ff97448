"""External agents: how their supervisors are started, what is observed of their ranks, and what they report.

A subclass provides the command line of its supervisor and reads its report; everything else is the same for every
program: it runs in the sandbox, its ranks are found and broken there, and this module combines the observations. Which
rank failed by itself is observed, not reported: the first that ended badly, and those that ended by a signal from a
fault. Ranks that ended by another signal after that, or that handled one, were stopped by the supervisor.
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
from derail.diagnose.examine import RINGS
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
"""Signals by which a supervisor asks a rank to end."""
OUTPUT_BYTES = 4 << 20
"""Maximum bytes of a supervisor's output to read for its report, from the end."""
RELAYED_BYTES = 16 << 20
"""Maximum bytes of a supervisor's output to read for its ranks' output, from the end."""
COPIES = "copies"
NAMELESS = "no rank in the environment"
"""Text that the ranks' program prints if its environment has no rank."""
_RANK = re.compile(r"\brank (\d+): ")
"""Rank at the start of a line, as the ranks' programs print it; a launcher that prints in pieces may join several."""


@dataclass(frozen=True, slots=True)
class Job:
    """Job for a supervisor to run.

    Attributes:
        scenario: the scenario.
        workdir: the run's directory, which exists.
        port: a free TCP port of loopback.
        shown: whether the supervisor must print the ranks' output, as the scenario is about the supervisor.
    """

    scenario: Scenario
    workdir: Path
    port: int
    shown: bool = False

    @property
    def ranks_per_node(self) -> int:
        """Number of ranks of each supervisor."""
        return self.scenario.ranks // self.scenario.nodes

    @property
    def script(self) -> str:
        """Path of the ranks' program."""
        return os.fspath(self.scenario.worker)

    @property
    def rank_argv(self) -> tuple[str, ...]:
        """Command line of each rank: a ``.py`` is run by this Python."""
        python = (sys.executable, "-u") if self.script.endswith(".py") else ()
        return (*python, self.script, *self.scenario.args)

    def directory(self, name: str) -> Path:
        """Return a directory of this run, which is made if it does not exist."""
        path = self.workdir / name
        return make_private(path)


@dataclass(frozen=True, slots=True)
class Said:
    """Report of a supervisor about a job.

    Attributes:
        blamed: the root cause that it reports; None if it reports none.
        failures: the ranks that it reports as failed, root cause first.
        doubts: why its report cannot be read; empty if it can.
    """

    blamed: int | None = None
    failures: Mapping[int, FailureSeen] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


class ExternalAgent(ABC):
    """External agent: a program that supervises ranks. Subclasses describe it; ``run`` is the same for all.

    Attributes:
        name: its name on the command line and in reports.
        promises: its promises; expectations beyond them are not judged.
        nodes: whether a job may have several nodes, each with its own supervisor.
        restarts: whether it can restart all ranks after a failure.
        evidence: patterns of the files that a run leaves besides the journal, the logs and the supervisors' output.
        keeps_logs: whether the ranks' streams stay as the supervisor made them; otherwise a stream gets a file unless
            it has its own, or goes to a pipe or terminal that the supervisor reads.
        takes_streams: whether streams that the supervisor reads are redirected to files, so that it does not see them.
        shows_script: whether the command line of the process that runs the script contains its path.
        must_relay: whether it promises to print its ranks' output.
        record: whether ranks record their collectives, so that a job that times out gets a verdict.
        variables: its own variables, by the name that ranks read for the same value, unless they are common ones.
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
    record: bool = False
    variables: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def version(self) -> str:
        """Return the installed version; empty if it is unknown."""

    @abstractmethod
    def unavailable(self) -> str:
        """Return why it cannot run here at all; empty if it can."""

    @abstractmethod
    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return its command lines: one for each node, in the order of the nodes."""

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Return its report about the job; without a known format, only its exit counts.

        Args:
            job: the job that it ran.
            outputs: its output on both streams, one text for each node.
            seen: the observations of it; the order of the lives shows the ranks.
        """
        del job, outputs, seen
        return Said()

    def unsupported(self, scenario: Scenario) -> str:
        """Return why it cannot run this scenario; empty if it can."""
        if scenario.nodes > 1 and not self.nodes:
            return f"it runs on one node, and the scenario needs {scenario.nodes}"
        if scenario.restarts and not self.restarts:
            return f"it starts each rank once, and the scenario allows {scenario.restarts} restart(s)"
        if scenario.function:
            return "it runs programs, and the ranks of the scenario are functions"
        return _beyond_external(scenario.faults)

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
                env = {"TMPDIR": temporary, **handed_on(self.variables), **started.env}
                settings = [f"{name}={value}" for name, value in env.items()]
                return self._with_ranks(run_launcher(scenario, ["env", *settings, *started.argv], workdir))
        job = Job(scenario, workdir, free_port())
        order = self._order(job)
        try:
            seen = sandbox.run(order, workdir / SANDBOX_LOG)
        except OSError as error:
            return _broken(f"cannot make the sandbox: {error}", workdir)
        return self._observe(job, order, seen)

    def _clear(self, workdir: Path) -> None:
        """Remove files of an earlier run from the directory, which this run would take for its own."""
        from shutil import rmtree

        rmtree(workdir / LOGS, ignore_errors=True)
        for pattern in (JOURNAL, SANDBOX_LOG, f"{self.name}-[0-9]*.log", *self.evidence):
            for path in workdir.glob(pattern):
                path.unlink()

    def _with_ranks(self, seen: JobResult) -> JobResult:
        """Return the result of the launcher, with a doubt if its ranks report that they have no number."""
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
            rings=make_private(job.workdir / RINGS) if self.record else None,
            steps=scenario.watched_steps,
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
            why = f"; no rank was found: {UNSEEN_CAUSE}" if ended is not None and ended.ok else ""
            why = "".join(f"; {each}" for each in _not_importable(job.scenario.needs, {}, [output])) or why
            return _broken(
                f"{self.name} ended with {ended} before any rank was found; its last output: {last}{why}",
                job.workdir,
                seen,
            )
        code = None if seen.timed_out else exit_code(seen)
        # If the job succeeded in the end, its report is about earlier attempts.
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
            hang=seen.hang,
        )

    def _relayed(
        self, order: Order, seen: Seen, logs: Mapping[tuple[int, Stream], Path]
    ) -> dict[tuple[int, Stream], tuple[str, ...]]:
        """Return the supervisor's output of its ranks, for the streams that it reads, if it prints any of them."""
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
        """Yield why it cannot be judged: ranks that it has started, or is itself, and that were not found."""
        ranks = {life.rank for life in seen.lives}
        lost = [rank for rank in range(job.scenario.ranks) if rank not in ranks]
        if lost and seen.nameless:
            many = len(seen.nameless)
            what = f"{many} process(es) run the ranks' program without a rank ({seen.nameless[0]})"
            yield f"{what}: {_hint(self.variables)}"
        elif lost == [0] and ranks:
            yield "rank 0 was never found: a launcher that is rank 0 itself looks like one that does not start it"
        for rank, words in sorted(seen.hidden.items())[: bool(job.scenario.faults.faults)]:
            yield f"rank {rank} is a child of another Python with the same rank ({words}), and faults act in that one"

    def log_files(self, job: Job) -> dict[tuple[int, Stream], Path]:
        """Return the files in which the supervisor keeps the ranks' streams, if they are known in advance."""
        del job
        return {}

    def logs(self, job: Job, seen: Seen) -> dict[tuple[int, Stream], Path]:
        """Return the files with the streams of the last attempt, or with their copies."""
        if declared := self.log_files(job):
            return declared
        last = {life.rank: life for life in seen.lives}
        return {(rank, stream): path for rank, life in sorted(last.items()) for stream, path in life.streams.items()}


def lines_of(rank: int, lines: Sequence[str]) -> tuple[str, ...]:
    """Return the last lines that a launcher has printed of a rank: those with its number, and those without any.

    A rank may leave a partial line, followed on the same line by output of another rank: that part counts.
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
    """Yield why the ranks could not run their program: their Python lacks a module of the scenario that derail's has.

    A rank that fails because of it may be gone before it is found; the output of its launcher shows the error as well.
    """
    printed = [(f"rank {rank}", "\n".join(lines)) for (rank, _), lines in sorted(tails.items())]
    for who, text in [*printed, *(("a rank", output) for output in outputs)]:
        for name in needs:
            if f"ModuleNotFoundError: No module named '{name}'" in text:
                yield (
                    f"the Python of {who} has no module {name}: start the launcher with "
                    f"{sys.executable}, or install {name} for it"
                )
                return


def unjudged(
    seen: Seen, relayed: Collection[tuple[int, Stream]], declared: Collection[tuple[int, Stream]]
) -> frozenset[tuple[int, Stream]]:
    """Return the streams without any evidence of the supervisor's handling of them."""
    streams = {(life.rank, stream) for life in seen.lives for stream in life.streams}
    return frozenset(
        key for key in streams if key not in relayed and key not in declared and _source(seen, key) != "own"
    )


def _source(seen: Seen, key: tuple[int, Stream]) -> Source | None:
    """Return where a stream of a rank went in its last attempt."""
    rank, stream = key
    lives = [life for life in seen.lives if life.rank == rank]
    return lives[-1].sources.get(stream) if lives else None


def _hint(declared: Mapping[str, str]) -> str:
    from derail.agents.external.variables import named

    return f"none of {named(declared)} is set. Name the launcher's own in [variables] of the declaration"


def _said_of_programs(said: Said, seen: Seen) -> Said:
    """Return the report with exit code 128+n read as signal n where the supervisor waits for a wrapper of the rank.

    A shell has no other exit code for a program that a signal has ended.
    """
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
    """Return the observed outcome of the ranks of the last attempt."""
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
    """Return whether the supervisor made a rank end, by a handled signal or by a deadly one after its own signal."""
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
    """Return the supervisor's exit code as a shell shows it; of several, the first that is not 0."""
    codes = [end.status.shell_code for end in seen.agents if end.status is not None]
    return next((code for code in codes if code), codes[0] if codes else None)


def read_end(path: Path, limit: int = OUTPUT_BYTES) -> str:
    """Return the end of a file as text, whatever its content; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def _beyond_external(plan: Plan) -> str:
    """Return which fault of a plan is impossible in ranks of an external agent; empty if all are possible."""
    from derail.faults.model.triggers import Phase, walk
    from derail.faults.registry import entry

    for fault in plan.faults:
        known = entry(fault.name)
        if known.family == "values":
            return f"{fault.name!r} needs ranks that are functions, and this agent runs programs"
        if any(isinstance(part, Phase) for part in walk(fault.when)):
            return f"{fault.id} waits for a phase of the supervisor, which this one does not report"
    return ""


def _broken(error: str, workdir: Path, seen: Seen | None = None) -> JobResult:
    from derail.scenario.model import JobResult

    return JobResult(faults=() if seen is None else seen.faults, workdir=workdir, error=error, external=True)
