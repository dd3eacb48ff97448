"""One start of the command of a campaign: in a separate directory, watched or not, with a time limit."""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from derail.agents.invocation import LocalJob
from derail.agents.launcher_under_test import without_rank
from derail.agents.native_job import default_teardown, start_job
from derail.faults.mechanisms.persistence import PersistenceWatch, fixed_part, matcher, under_watch
from derail.model.clock import SYSTEM_CLOCK
from derail.model.events import Finished
from derail.model.input_error import InputError
from derail.model.spec import Command
from derail.platform.handshake import PrivateDirectory
from derail.platform.leftovers import find_processes
from derail.platform.threads import Flag
from derail.recovery.points import rank_of, text_of

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from derail.agents.native_job import NativeJob
    from derail.faults.mechanisms.persistence import Answer, Operation
    from derail.model.events import Event, JobControl
    from derail.model.spec import JobSpec
    from derail.scenario.model import JobResult

_EXCEPTION = re.compile(r"\b\w*(?:Error|Exception)(?::|$)")
_LAUNCHERS = ("ChildFailedError", "SignalException")  # what torchrun and derail raise because of a rank
GRACE_S = 5.0  # seconds between SIGTERM and SIGKILL if an attempt exceeds its time limit


SMALL_BYTES, SMALL_FILES = 16 << 20, 1000
"""An entry of the user's directory with at most so many bytes and files is copied for each run."""


@dataclass(frozen=True, slots=True)
class Program:
    """The command of a campaign, and what of it is watched.

    Attributes:
        argv: the command.
        cwd: the directory in which the user runs it.
        watch: patterns of watched files, relative to ``cwd``.
        step: pattern of the lines that report a step; empty if there are none.
        copy: patterns of further files that each run gets its own copy of, however large they are.
        env: additional variables.
    """

    argv: tuple[str, ...]
    cwd: str
    watch: tuple[str, ...]
    step: str = ""
    copy: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that the patterns of watched files begin with."""
        return tuple(dict.fromkeys(fixed_part(pattern) for pattern in self.watch))

    def is_watched(self, path: str) -> bool:
        """Return whether a path relative to the directory of a run is watched."""
        return matcher(self.watch)(path)


def check_patterns(*patterns: Sequence[str], values: Sequence[str] = (), step: str = "") -> None:
    """Check patterns of files, which must be relative, and regular expressions of values.

    Args:
        patterns: patterns of files.
        values: regular expressions.
        step: the one of them whose first group is the number of a step; empty if there is none.

    Raises:
        InputError: with all errors in them.
    """
    problems = [
        f"{pattern}: expected a pattern below the working directory, such as 'ckpt/**'. Each run has its own "
        "directory; let the command write to relative paths"
        for group in patterns
        for pattern in group
        if pattern.startswith("/") or ".." in pattern.split("/")
    ]
    for value in values:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            problems.append(f"{value}: not a regular expression: {error}")
        else:
            if value == step and not groups:
                problems.append(f"{value}: expected a group with the number of the step, such as 'step (\\d+)'")
    if problems:
        raise InputError(*problems)


def make_directory(program: Program, directory: Path, *, leave_out: Sequence[Path] = ()) -> None:
    """Make the directory of a run: a copy of the user's, in which large entries are links unless they are watched.

    What a run writes is in the copy then. What is large, a data set or an environment, programs only read.

    Raises:
        OSError: if it cannot be made.
    """
    directory.mkdir(parents=True)
    copied = {pattern.split("/")[0] for pattern in (*program.watch, *program.copy)}
    chosen = matcher((*copied, *program.watch, *program.copy))
    hidden = {os.path.realpath(path) for path in leave_out}
    for name in os.listdir(program.cwd):
        source, target = os.path.join(program.cwd, name), directory / name
        if os.path.realpath(source) in hidden:
            continue
        if os.path.islink(source) or not (chosen(name) or is_small(source)):
            target.symlink_to(os.path.abspath(source))
        elif os.path.isdir(source):
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target)


def is_small(path: str) -> bool:
    """Return whether a file or a folder is small enough to be copied for each run. Special files are not."""
    size = count = 0
    for folder, folders, names in os.walk(path) if os.path.isdir(path) else [(os.path.dirname(path), [], [path])]:
        count += len(folders) + len(names)
        for name in names:
            about = os.lstat(os.path.join(folder, name))
            if not (stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode)):
                return False
            size += about.st_size
        if count > SMALL_FILES or size > SMALL_BYTES:
            return False
    return True


class _News:
    """Observer that sets flags at the end of a job."""

    wants_lines = False

    def __init__(self, *flags: Flag) -> None:
        self._flags = flags

    def attach(self, _: JobControl) -> None:
        """Do nothing: the end is enough."""

    def observe(self, event: Event) -> None:
        """Note the end."""
        if isinstance(event, Finished):
            for flag in self._flags:
                flag.set()


class Attempt:
    """A start of the command. A context manager: it leaves no process.

    Args:
        program: the command.
        directory: the directory of the run.
        evidence: the directory for its logs.
        decide: the decision on each operation; None if nothing is watched.

    Attributes:
        news: set when the job has ended, or by the caller.
        finished: set when the job has ended.
        began: monotonic seconds of its start.
    """

    def __init__(
        self,
        program: Program,
        directory: Path,
        evidence: Path,
        decide: Callable[[Operation], Answer] | None = None,
    ) -> None:
        self._program = program
        self._directory = directory
        self._evidence = evidence
        self._decide = decide
        self._sockets = PrivateDirectory()
        self._watch: PersistenceWatch | None = None
        self._job: NativeJob | None = None
        self._mark = ""
        self.news, self.finished = Flag(), Flag()
        self.began = 0.0

    def __enter__(self) -> Self:
        self.began = SYSTEM_CLOCK.now()
        try:
            self._job = start_job(
                LocalJob(
                    ["env", *without_rank(), *self._program.argv],
                    ranks=1,
                    env=dict(self._program.env),
                    cwd=self._directory,
                    teardown=default_teardown(GRACE_S),
                    name="survive",
                ),
                self._evidence,
                observers=[_News(self.news, self.finished)],
                prepare=self._prepare,
            )
            if self._decide is not None:
                self._watch = PersistenceWatch(
                    self.root, self._directory, self._program.is_watched, self._decide, lines=True
                )
                self._watch.start(self._sockets.endpoint(str(self.root)))
                self._watch.release()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, number: signal.Signals | None = None) -> None:
        """End all processes, and then the watch: no held call may proceed before its caller has been killed."""
        try:
            if self._job is not None:
                self._job.close(number)
        finally:
            if self._watch is not None:
                self._watch.stop()
            self._sockets.close()

    @property
    def job(self) -> NativeJob:
        """The job, whose only rank is the command."""
        assert self._job is not None, "the attempt has been entered"
        return self._job

    @property
    def root(self) -> int:
        """The first process of the command."""
        return self.job.pids()[0]

    @property
    def problem(self) -> str:
        """Why its operations could not be watched; empty if they were."""
        problem = None if self._watch is None else self._watch.problem
        return "" if problem is None else str(problem)

    def processes(self) -> dict[int, int | None]:
        """Return the ranks of all processes of the job, by pid; None for those without one."""
        return {process.pid: rank_of(process.pid) for process in find_processes(self._mark, ())}

    def signal(self, number: signal.Signals, to: Literal["launcher", "ranks", "all"]) -> None:
        """Send a signal to the first process, to all processes with a rank (else to the first), or to all."""
        processes = self.processes()
        ranks = [pid for pid, rank in processes.items() if rank is not None]
        chosen = [self.root] if to == "launcher" else (ranks or [self.root]) if to == "ranks" else list(processes)
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, seconds: float) -> JobResult:
        """Wait for the end of the command; it is ended after ``seconds``, and the result is marked as timed out."""
        return self.job.wait(seconds)

    def output(self) -> str:
        """Return what the command has written to stdout, and then to stderr."""
        return "".join(self.stream(name) for name in ("stdout", "stderr"))

    def stream(self, name: str) -> str:
        """Return the text of "stdout" or "stderr"."""
        return text_of(self.job.log(0, name))

    def last_words(self) -> str:
        """Return the line of the output that says most about a failure."""
        return last_words(self.stream("stderr"), self.stream("stdout"))

    def _prepare(self, spec: JobSpec) -> JobSpec:
        from dataclasses import replace

        self._mark = spec.job_id
        if self._decide is None:
            return spec
        (rank,) = spec.ranks
        assert isinstance(rank.run, Command), "the command is no function"
        argv, env = under_watch(rank.run.argv, self._sockets.endpoint())
        return replace(spec, ranks=(replace(rank, run=Command(tuple(argv)), env={**rank.env, **env}),))


def last_words(*streams: str) -> str:
    """Return the last line of an exception in these texts, else the last line of the first one that has any.

    Launchers print further lines behind the exception of a rank, and an exception about the failed rank.
    """
    lines = [line for text in streams for line in _backwards(text)]
    exceptions = (line for line in lines if _EXCEPTION.search(line) and not any(word in line for word in _LAUNCHERS))
    return next(exceptions, lines[0] if lines else "no output")


def _backwards(text: str) -> Iterator[str]:
    return (line.strip() for line in reversed(text.splitlines()) if line.strip())
