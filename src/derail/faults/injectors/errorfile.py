"""Error files that differ from those that their rank wrote: damaged, stale, of another rank, or never written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires, Setup
from derail.faults.catalogue.injector_api import AtExit, Soon
from derail.faults.catalogue.params import (
    choice_param,
    count_param,
    offset_param,
    read_seconds,
    seconds_param,
    text_param,
)
from derail.faults.mechanisms.error_file_samples import CONTENTS, NEEDS_OLD, PLACES, document, names
from derail.faults.mechanisms.file_swapper import Replacing
from derail.faults.model.plan import decide
from derail.faults.model.results import Errored, Injected, NotReached, Unavailable
from derail.faults.model.triggers import OwnExit
from derail.model.clock import SYSTEM_CLOCK
from derail.model.input_error import InputError
from derail.model.spec import Function
from derail.platform.capabilities import PROC, why_no_full_device, why_no_proc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Fault, Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.model.spec import RankSpec

VARIABLE = "TORCHELASTIC_ERROR_FILE"
"""Environment variable with the path of a rank's error file."""
FULL = Path("/dev/full")
NONE = NotReached("the rank has no error file")


def damage(aim: Aim) -> Step:
    """Replace the file or its bytes, and verify it by reading it again."""
    path = aim.control.error_file(aim.rank)
    if path is None:
        return NONE
    kind = aim.text("content")
    old = path.read_bytes() if path.is_file() else None
    if old is None and (kind in NEEDS_OLD or kind not in CONTENTS):
        return NotReached(f"the rank wrote no error file; {path} does not exist")
    if kind == "unreadable":
        return _lock(path)
    if kind in PLACES:
        path.unlink()
        seen = PLACES[kind](path)
        return Injected(f"{path} is {seen}") if seen else Errored(f"{path} did not become {kind}")
    return _rewrite(path, old, CONTENTS[kind](old or b"", decide(aim.seed, aim.fault.id, aim.rank)), kind)


def _lock(path: Path) -> Step:
    path.chmod(0)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError as error:
        return Injected(f"{path} has mode 000; opening it fails with {error.strerror!r}")
    return Unavailable(f"{path} has mode 000, but this user can still read it")


def _rewrite(path: Path, old: bytes | None, new: bytes, what: str, *, called: Path | None = None) -> Injected | Errored:
    """Write the file, and verify it by reading it again; ``called`` is its final name."""
    if new == old:
        return Errored(f"{path} ({len(new)} bytes) has nothing to change")
    path.write_bytes(new)
    seen = path.read_bytes()
    if seen != new:
        return Errored(f"{path}: expected {len(new)} bytes, got {len(seen)}")
    was = "no file" if old is None else f"{len(old)} bytes"
    return Injected(f"{called or path} was {was}, is {len(seen)} bytes ({what}), read again: {seen[:40]!r}")


def leave_stale(aim: Aim) -> Step:
    """Place a valid error file as if from an earlier attempt, and verify that the rank does not change it."""
    path, age = aim.control.error_file(aim.rank), aim.number("age")
    if path is None:
        return NONE
    then = SYSTEM_CLOCK.wall() - age
    # Its writer is a process of the earlier attempt, not the rank: this process stands for it.
    old = json.dumps(document(aim.text("message"), then, pid=os.getpid())).encode()
    aside = path.with_name(f".{path.name}-stale")  # the rank runs: it must find the whole file, or none
    try:
        written = _rewrite(aside, None, old, "of an earlier attempt", called=path)
        if isinstance(written, Errored):
            return written
        os.utime(aside, (then, then))
        put = os.stat(aside)
        os.link(aside, path)
    except FileExistsError:
        return NotReached(f"{path} already exists: the rank's own file replaces the stale one")
    finally:
        aside.unlink(missing_ok=True)
    if not aim.control.is_alive(aim.rank):
        return Injected(f"{written.evidence}; it is {age:g} s old")

    def check(status: ExitStatus) -> Result:
        seen = os.stat(path) if path.is_file() else None
        if seen is None or (seen.st_ino, seen.st_mtime_ns) != (put.st_ino, put.st_mtime_ns):
            return NotReached(f"the rank wrote its own error file over the stale one; it ended with {status}")
        return Injected(f"{written.evidence}; it is {age:g} s old, and still there when the rank ended with {status}")

    return AtExit(check, "the exit of the rank, without its own error file")


def take_others(aim: Aim) -> Step:
    """Replace the error file of this rank by that of another rank."""
    other = int(aim.number("other"))
    if other not in aim.control.ranks or other == aim.rank:
        return Errored(f"expected another rank of the job than rank {aim.rank}, got rank {other}")
    path, source = aim.control.error_file(aim.rank), aim.control.error_file(other)
    if path is None or source is None:
        return NONE
    if not source.is_file():
        return NotReached(f"rank {other} has written no error file: {source} does not exist")
    old = path.read_bytes() if path.is_file() else None
    return _rewrite(path, old, source.read_bytes(), f"those of rank {other}")


def skew(aim: Aim) -> Step:
    """Shift all times in the file, and verify them by reading it again."""
    path, seconds = aim.control.error_file(aim.rank), aim.number("seconds")
    if path is None:
        return NONE
    if not path.is_file():
        return NotReached(f"the rank wrote no error file; {path} does not exist")
    old = path.read_bytes()
    try:
        content = json.loads(old)
    except (ValueError, RecursionError):
        content = None
    before = _times(content)
    if not before:
        return NotReached(f"{path} has no timestamp to shift")
    for holder, key, moment in before:
        unit = 1_000_000_000 if key.endswith("_ns") else 1
        moved = int(moment) + int(seconds * unit)
        holder[key] = str(moved) if isinstance(holder[key], str) else moved
    result = _rewrite(path, old, json.dumps(content).encode(), f"shifted by {seconds:+g} s")
    if isinstance(result, Errored):
        return result
    after = _times(json.loads(path.read_bytes()))
    shown = ", ".join(f"{key} {moment} -> {new}" for (_, key, moment), (_, _, new) in zip(before, after, strict=True))
    return Injected(f"{path}: {shown}")


def _times(content: object) -> list[tuple[dict[str, object], str, int]]:
    """Return the wall-clock times of an error file, each with its holder and key."""
    message = content.get("message") if isinstance(content, dict) else None
    extra = message.get("extraInfo") if isinstance(message, dict) else None
    found = []
    for holder in (content, extra):
        for key in ("timestamp", "wall_ns") if isinstance(holder, dict) else ():
            value = holder.get(key) if isinstance(holder, dict) else None
            if isinstance(value, int | str) and str(value).lstrip("-").isdigit() and isinstance(holder, dict):
                found.append((holder, key, int(value)))
    return found


def replace_again_and_again(aim: Aim) -> Step:
    """Alternate between the file and its first half until the job is over."""
    path = aim.control.error_file(aim.rank)
    if path is None:
        return NONE
    if not path.is_file():
        return NotReached(f"the rank wrote no error file; {path} does not exist")
    data = path.read_bytes()
    replacing = Replacing(path, other=data[: len(data) // 2], every=aim.number("every"))
    aim.undo.append((f"{path} is what the rank wrote", replacing.stop))
    return replacing.start()  # type: ignore[return-value]


def _unwritable(path: Path, how: str) -> Path:
    return {"missing_directory": path.parent / "gone" / path.name, "full_disk": FULL, "directory": path.parent}[how]


def prepare_unwritable(rank: RankSpec, fault: Fault) -> RankSpec:
    """Return the rank with a path for its error file that cannot be written.

    Raises:
        InputError: if the rank has no error file, or its environment is not visible from outside.
    """
    if rank.error_file is None:
        raise InputError(f"{fault.name} on rank {rank.rank}: this rank has no error file ({fault.id})")
    if isinstance(rank.run, Function) and rank.run.start_method != "spawn":
        raise InputError(
            f"{fault.name} on rank {rank.rank}: the environment of a forked rank ({rank.run.start_method}) is not "
            f'visible from outside. Use start_method="spawn" ({fault.id})'
        )
    where = _unwritable(rank.error_file, str(fault.param("how")))
    return replace(rank, env={**rank.env, VARIABLE: os.fspath(where)})


def cannot_write(aim: Aim) -> Step:
    """Verify that the rank's environment has the unwritable path, and that a write to it fails."""
    path, pid = aim.control.error_file(aim.rank), aim.control.pid(aim.rank)
    if path is None:
        return NONE
    where = _unwritable(path, aim.text("how"))
    pair = f"{VARIABLE}={where}".encode()

    def check() -> Result | None:
        try:
            environment = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            return None
        if pair not in environment:
            return None
        try:
            with where.open("ab", buffering=0) as file:
                file.write(b"\n")
        except OSError as error:
            return Injected(f"{VARIABLE} of pid {pid} is {where}; writing there fails with {error.strerror!r}")
        return Errored(f"{VARIABLE} of pid {pid} is {where}, which is writable")

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"the rank ended with {status} before its environment was visible in /proc/{pid}/environ")

    return Soon(check, f"{VARIABLE}={where} in /proc/{pid}/environ", at_exit=at_exit)


def _check_age(values: Mapping[str, Value]) -> str:
    return "age: expected more than 0 seconds, as the file is from an earlier attempt" if values["age"] == 0 else ""


def _check_skew(values: Mapping[str, Value]) -> str:
    seconds = values["seconds"]
    too_little = isinstance(seconds, float) and abs(seconds) < 1
    return "seconds: expected 1 or more, or -1 or less: torch's error files have whole seconds" if too_little else ""


OWN = "a rank with an error file"

ENTRIES = (
    Entry(
        name="error_file",
        side="outside",
        summary="Damages the error file of a rank between the rank's exit and the supervisor's read.",
        inject=damage,
        verified="the file's bytes, or the entry in its place, read again",
        healed="",
        example='faults.error_file("truncated", rank=1)',
        params=(choice_param("content", names(), "Content or file type that the supervisor finds instead."),),
        acts=Acts(triggers=("own_exit",), default=OwnExit()),
        requires=Requires(f"{OWN}; for unreadable, a user other than root"),
    ),
    Entry(
        name="error_file_stale",
        side="outside",
        summary="A stale error file of an earlier attempt, with its old times, is in place, and the rank writes none.",
        inject=leave_stale,
        verified="the file's bytes, and the same file with the same time at the rank's exit",
        healed="",
        example="faults.error_file_stale(rank=1)",
        params=(
            Param("age", read_seconds, "Age of the file, by its own times.", "seconds", default=3600.0),
            text_param("message", "Error message in it.", default="RuntimeError: of an earlier attempt"),
        ),
        acts=Acts(triggers=("start", "own_exit")),
        requires=Requires(f"{OWN} that it does not write"),
        check=_check_age,
    ),
    Entry(
        name="error_file_of_other_rank",
        side="outside",
        summary="After the rank's exit, its error file is replaced by that of another rank.",
        inject=take_others,
        verified="the file's bytes, read again, equal to those of the other rank",
        healed="",
        example="faults.error_file_of_other_rank(0, rank=1)",
        params=(count_param("other", "Rank of the other file, which must exist by then.", default=0),),
        acts=Acts(triggers=("own_exit",), default=OwnExit()),
        requires=Requires(f"{OWN}, and another rank that has written its own before"),
    ),
    Entry(
        name="error_file_skewed",
        side="outside",
        summary="After the rank's exit, all times in its error file are shifted by a number of seconds.",
        inject=skew,
        verified="the times in the file, read again",
        healed="",
        example="faults.error_file_skewed(-3600, rank=1)",
        params=(offset_param("seconds", "Seconds later, or earlier if negative."),),
        acts=Acts(triggers=("own_exit",), default=OwnExit()),
        requires=Requires(f"{OWN} that it writes"),
        check=_check_skew,
    ),
    Entry(
        name="error_file_replaced",
        side="outside",
        summary="From the rank's exit to the end of the job, its error file alternates with the first half of itself.",
        inject=replace_again_and_again,
        verified="the inode under its name, which keeps changing",
        healed="the file that the rank wrote is restored",
        example="faults.error_file_replaced(rank=1)",
        params=(seconds_param("every", "Seconds between two replacements.", default=0.0002),),
        acts=Acts(triggers=("own_exit",), default=OwnExit()),
        requires=Requires(f"{OWN} that it writes; hard links"),
    ),
    Entry(
        name="error_file_unwritable",
        side="before start",
        summary="The path of the rank's error file cannot be written, so that the supervisor finds no file.",
        inject=cannot_write,
        verified=f"{VARIABLE} in /proc/PID/environ, and the error of derail's own write to that path",
        healed="ends with the rank",
        example='faults.error_file_unwritable("full_disk", rank=1)',
        params=(
            choice_param(
                "how",
                ("missing_directory", "full_disk", "directory"),
                "Path in a missing directory, on a full disk (/dev/full), or of a directory.",
                default="missing_directory",
            ),
        ),
        acts=Acts(triggers=("start",)),
        requires=Requires(
            f"{OWN} that is a program or a spawned function",
            unavailable=lambda: why_no_proc() or why_no_full_device(),
        ),
        setup=Setup(prepare=prepare_unwritable),
    ),
)
