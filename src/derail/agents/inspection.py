"""What the kernel tells of a process that may be a rank: its variables, its streams, what it is to become."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from derail.faults.inrank.bootstrap import OWNER, RANK_VARIABLES
from derail.faults.prepare import change_before_start
from derail.faults.targets import AGENT_RANK
from derail.model.events import Stream
from derail.model.spec import Command, RankSpec, Streams
from derail.platform.exits import is_readable
from derail.platform.leftovers import carries_mark
from derail.platform.private_files import make_private
from derail.platform.processes import environment, look_up, runs_as_us

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from derail.agents.order import Life
    from derail.faults.plan import Plan
    from derail.platform.handshake import PrivateDirectory


def rank_of(pid: int, job: str) -> int | None:
    """The rank that a process of the job was executed with; None if it has none."""
    environ = environment(pid)
    if not carries_mark(environ, job):
        return None
    for name in RANK_VARIABLES:
        told = variable(environ, name.encode())
        if told is not None and told.isdigit():
            return int(told)
    return None


def started_by(pid: int, job: str) -> int | None:
    """The acting Python that a process was executed by, and not only left by: its pid; None if there is none."""
    told_job, _, owner = (variable(environment(pid), OWNER.encode()) or "").rpartition(":")
    return int(owner) if told_job == job and owner.isdigit() else None


def variable(environ: bytes, name: bytes) -> str | None:
    """A variable of an environment; None if it is not set."""
    for entry in environ.split(b"\0"):
        if entry.startswith(name + b"="):
            return entry[len(name) + 1 :].decode(errors="replace")
    return None


def own_streams(pid: int, shared: Collection[Path]) -> dict[Stream, Path]:
    """The files that the streams of a process go to, if they are its own, and it runs as this user."""
    found: dict[Stream, Path] = {}
    if not runs_as_us(pid):  # a path of another user is not believed
        return found
    for number, stream in enumerate(get_args(Stream), start=1):
        try:
            about = os.stat(f"/proc/{pid}/fd/{number}")
            path = Path(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            continue
        if stat.S_ISREG(about.st_mode) and not any(_is_file(each, about) for each in shared):
            found[cast("Stream", stream)] = path
    return found


def _is_file(path: Path, about: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), about)
    except OSError:
        return False


def has_ended(pidfd: int) -> bool:
    """Whether the process of a pidfd has ended; -1 is nobody's."""
    return pidfd < 0 or is_readable(pidfd)


def leads_a_group(pid: int) -> bool:
    """Whether a process leads its process group."""
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def uppermost(pid: int, rank: int, job: str, agents: Collection[int]) -> int:
    """The uppermost process above ``pid``, below the supervisors, that was started as this rank."""
    while True:
        process = look_up(pid)
        if process is None or process.ppid in (*agents, os.getpid(), 1, 0) or rank_of(process.ppid, job) != rank:
            return pid
        pid = process.ppid


def streams_of(life: Life, own: dict[Stream, Path], logs: Path | None) -> dict[Stream, Path]:
    """The files that the streams of a rank go to, or are to go to where they have none; their directory is made."""
    if logs is None or len(own) == len(get_args(Stream)):
        return own
    directory = logs / f"attempt_{life.attempt}" / str(life.rank)
    make_private(directory)
    return {stream: own.get(stream, directory / f"{stream}.log") for stream in get_args(Stream)}


def is_python(pid: int) -> bool:
    """Whether a process is a Python, by the name of its program."""
    try:
        return "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False


def changed(
    plan: Plan, ranks: Sequence[int], life: Life, argv: object, sockets: PrivateDirectory
) -> dict[str, object] | None:
    """What a rank is to become for the faults that change it before its start: ``exec`` and ``env``; None for nothing.

    Only in its first attempt: a fault acts once in a job.
    """
    if life.attempt or not isinstance(argv, list):
        return None
    entries = os.fsdecode(environment(life.pid)).split("\0")
    env = dict(entry.partition("=")[::2] for entry in entries if "=" in entry)
    streams = Streams(life.streams.get("stdout"), life.streams.get("stderr"))
    was = RankSpec(life.rank, Command(tuple(map(str, argv))), env, streams, error_file=life.error_file)
    now = change_before_start(plan, (*ranks, AGENT_RANK), was, sockets)
    if (now.run, now.env) == (was.run, was.env) or not isinstance(now.run, Command):
        return None
    return {"exec": list(now.run.argv), "env": dict(now.env)}
