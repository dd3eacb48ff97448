"""Inspection of a process that may be a rank: its variables, its streams, and its changes before the start."""

from __future__ import annotations

import os
import select
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from derail.agents.external.variables import missing
from derail.faults.engine.prepare import change_before_start
from derail.faults.inrank.bootstrap import OWNER, RANK_VARIABLE, RANK_VARIABLES
from derail.faults.model.targets import AGENT_RANK
from derail.model.events import Stream
from derail.model.spec import Command, RankSpec, Streams
from derail.platform.exits import is_readable
from derail.platform.leftovers import carries_mark
from derail.platform.private_files import make_private
from derail.platform.processes import command_line, environment, look_up, runs_as_us

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from derail.agents.external.messages import Life
    from derail.faults.model.plan import Plan
    from derail.platform.handshake import PrivateDirectory


def rank_of(pid: int, job: str) -> int | None:
    """Return the rank in the initial environment of a process of the job; None if it has none."""
    environ = environment(pid)
    if not carries_mark(environ, job):
        return None
    for name in (variable(environ, RANK_VARIABLE.encode()) or "", *RANK_VARIABLES):
        value = variable(environ, name.encode())
        if value is not None and value.isdigit():
            return int(value)
    return None


def started_by(pid: int, job: str) -> int | None:
    """Return the pid of the acting Python that executed a process; None if there is none."""
    owner_job, _, owner = (variable(environment(pid), OWNER.encode()) or "").rpartition(":")
    return int(owner) if owner_job == job and owner.isdigit() else None


def variable(environ: bytes, name: bytes) -> str | None:
    """Return a variable of an environment; None if it is not set."""
    for entry in environ.split(b"\0"):
        if entry.startswith(name + b"="):
            return entry[len(name) + 1 :].decode(errors="replace")
    return None


@dataclass(frozen=True, slots=True)
class Places:
    """Destinations of the ranks' streams.

    Attributes:
        shared: the supervisors' own files, which a rank may have inherited as its streams.
        logs: the directory for streams without their own file; None to leave them unchanged.
        copies: the directory for copies of output to pipes and terminals of the supervisor; None if such streams are
            redirected like the others.
        declared: the declared files in which the supervisor keeps the streams of ranks.
    """

    shared: Collection[Path] = ()
    logs: Path | None = None
    copies: Path | None = None
    declared: Mapping[tuple[int, Stream], Path] = field(default_factory=dict)

    def place(self, life: Life, pid: int) -> None:
        """Choose the files of a rank's streams, for a process of the rank that can copy and redirect them itself."""
        life.streams, life.sources = {}, {}
        for number, stream in streams():
            own, is_held = _stream(pid, number, self.shared)
            if own is not None:
                life.streams[stream], life.sources[stream] = own, "own"
            elif is_held and self.copies is not None:
                life.streams[stream], life.sources[stream] = _path(self.copies, life, stream), "copy"
            elif self.logs is not None:
                life.streams[stream], life.sources[stream] = _path(self.logs, life, stream), "derail"

    def declares(self, path: Path) -> bool:
        """Return whether the supervisor keeps this file for all attempts of a rank."""
        return path in self.declared.values()

    def find(self, life: Life) -> None:
        """Find the files of the streams of a rank with streams that are not redirected."""
        for number, stream in streams():
            own, is_held = _stream(life.pid, number, self.shared)
            path = own or (self.declared.get((life.rank, stream)) if is_held else None)
            if path is not None:
                life.streams[stream], life.sources[stream] = path, "own"


@dataclass(frozen=True, slots=True)
class Worker:
    """Program of the ranks.

    Attributes:
        script: its path; empty if no command line contains it.
        variables: the declared variables of the supervisor, by the name that the program reads for the same value.
        port: a free TCP port of loopback.
    """

    script: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    port: int = 0

    @property
    def is_python(self) -> bool:
        """Whether Python runs the program, by its name."""
        return self.script.endswith(".py")

    def is_run(self, pid: int, argv: object = None) -> bool:
        """Return whether a process runs it, by its command line, which includes a shell that will run it."""
        return not self.script or runs(argv, self.script) or self.script in words_of(pid)

    def missing(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that it reads and does not have."""
        return missing(environ, self.variables, self.port)


def streams() -> Iterator[tuple[int, Stream]]:
    """Yield the descriptors of a process's streams, with their names."""
    for number, stream in enumerate(get_args(Stream), start=1):
        yield number, cast("Stream", stream)


def _stream(pid: int, number: int, shared: Collection[Path]) -> tuple[Path | None, bool]:
    """Return the process's own file of a stream, if any, and whether another process reads it.

    The latter holds for a pipe, a socket and a terminal. Neither is available for a process of another user.
    """
    if not runs_as_us(pid):
        return None, False
    try:
        about = os.stat(f"/proc/{pid}/fd/{number}")
        path = Path(os.readlink(f"/proc/{pid}/fd/{number}"))
    except OSError:
        return None, False
    if stat.S_ISREG(about.st_mode):
        return (None if any(_is_file(each, about) for each in shared) else path), False
    is_terminal = stat.S_ISCHR(about.st_mode) and os.fspath(path).startswith(("/dev/pts/", "/dev/tty"))
    return None, stat.S_ISFIFO(about.st_mode) or stat.S_ISSOCK(about.st_mode) or is_terminal


def _path(root: Path, life: Life, stream: Stream) -> Path:
    """Return the file for a stream of a life, after making its directory."""
    directory = root / f"attempt_{life.attempt}" / str(life.rank)
    return make_private(directory) / f"{stream}.log"


def is_full(pid: int, number: int) -> bool:
    """Return whether a stream of a process is a full pipe or terminal: the process at its other end does not read."""
    path = f"/proc/{pid}/fd/{number}"
    if not runs_as_us(pid):
        return False
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return False
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # the process has ended, or it is a socket, which cannot be opened
        return False
    try:
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        return not poller.poll(0)
    finally:
        os.close(fd)


def _is_file(path: Path, about: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), about)
    except OSError:
        return False


def has_ended(pidfd: int) -> bool:
    """Return whether the process of a pidfd has ended; -1 counts as ended."""
    return pidfd < 0 or is_readable(pidfd)


def leads_a_group(pid: int) -> bool:
    """Return whether a process leads its process group."""
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def uppermost(pid: int, rank: int, job: str, agents: Collection[int]) -> int:
    """Return the uppermost process from ``pid`` upwards, below the supervisors, that was started as this rank."""
    while True:
        process = look_up(pid)
        if process is None or process.ppid in (*agents, os.getpid(), 1, 0) or rank_of(process.ppid, job) != rank:
            return pid
        pid = process.ppid


def words_of(pid: int) -> str:
    """Return the command line of a process; empty if it has none."""
    process = look_up(pid)
    return "" if process is None else command_line(process)


def written_by(pid: int) -> str:
    """Return the kernel's count of bytes written by a process; empty if it is not visible."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("wchar:")), "")


def runs(argv: object, script: str) -> bool:
    """Return whether a Python with this command line runs the script as its program."""
    if not isinstance(argv, list) or not script:
        return False
    words = iter(map(str, argv[1:]))
    for word in words:
        if word in ("-X", "-W"):
            next(words, None)
        elif not word.startswith("-") or word in ("-c", "-m"):
            return word == script
    return False


def executes(pid: int, script: str) -> bool:
    """Return whether a process is a Python that runs the script as its program, rather than just naming it."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return runs([os.fsdecode(word) for word in words], script) and is_python(pid)


def is_python(pid: int) -> bool:
    """Return whether a process is Python, by the name of its executable."""
    try:
        return "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def environment_of(pid: int) -> dict[str, str]:
    """Return the initial environment of a process."""
    entries = os.fsdecode(environment(pid)).split("\0")
    return dict(entry.partition("=")[::2] for entry in entries if "=" in entry)


def changed(
    plan: Plan,
    ranks: Sequence[int],
    life: Life,
    argv: object,
    sockets: PrivateDirectory,
    env: Mapping[str, str],
) -> dict[str, object] | None:
    """Return ``exec`` and ``env`` of a rank that faults change before its start; None if no fault does.

    This applies only to its first attempt: a fault acts once in a job. ``env`` is the environment without the change.
    """
    if life.attempt or not isinstance(argv, list):
        return None
    files = Streams(life.streams.get("stdout"), life.streams.get("stderr"))
    was = RankSpec(life.rank, Command(tuple(map(str, argv))), dict(env), files, error_file=life.error_file)
    now = change_before_start(plan, (*ranks, AGENT_RANK), was, sockets)
    if (now.run, now.env) == (was.run, was.env) or not isinstance(now.run, Command):
        return None
    return {"exec": list(now.run.argv), "env": dict(now.env)}
