"""Errors about ranks that could not be started: which rank, which program, and the remedy."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derail.model.spec import RankSpec


class UnfitError(Exception):
    """The error of a process from which no rank may be forked; its text has the reason."""


class StartError(OSError):
    """The error of a rank that could not be started; nothing of it is left. ``errno`` as for any ``OSError``."""


class ProgramNotFoundError(StartError, FileNotFoundError):
    """The error of a program, interpreter or working directory that does not exist."""


class ProgramNotAllowedError(StartError, PermissionError):
    """The error of a program that may not be executed, or of a file or directory that may not be used."""


_KINDS: dict[int, type[StartError]] = {
    errno.ENOENT: ProgramNotFoundError,
    errno.EACCES: ProgramNotAllowedError,
    errno.EPERM: ProgramNotAllowedError,
}


def start_error(spec: RankSpec, argv: tuple[str, ...], error: OSError | ValueError) -> StartError:
    """Return an error with meaning and remedy for ``error``, which was raised while ``spec`` was being started."""
    number = error.errno if isinstance(error, OSError) and error.errno is not None else errno.EINVAL
    program = argv[0] if argv else ""
    message = f"rank {spec.rank} could not be started: {_reason(spec, argv, program, error, number)}"
    filename = error.filename if isinstance(error, OSError) else None
    return _KINDS.get(number, StartError)(number, message, str(filename or program))


def _reason(spec: RankSpec, argv: tuple[str, ...], program: str, error: OSError | ValueError, number: int) -> str:
    filename = error.filename if isinstance(error, OSError) else None
    if filename is not None and filename in _stream_paths(spec):
        return _stream_reason(str(filename), error, number)
    if spec.cwd is not None and not os.path.isdir(spec.cwd):
        return f"its working directory {str(spec.cwd)!r} does not exist or is no directory; create it, or name another"
    match number:
        case errno.ENOENT:
            return _not_found(spec, program)
        case errno.EACCES:
            path = _resolve(spec, program) or program
            return f"{path!r} may not be executed; check its mode (chmod +x), its directories, and a noexec mount"
        case errno.ENOEXEC:
            return f"{program!r} is not a program of this machine; a script needs a first line such as '#!/bin/sh'"
        case errno.E2BIG:
            size = sum(len(word) + 1 for word in argv) + sum(len(k) + len(v) + 2 for k, v in spec.env.items())
            return (
                f"arguments and environment of {program!r} are {size} bytes together, more than the kernel accepts"
                " (getconf ARG_MAX; 128 KiB for a single string on Linux); pass large values in a file"
            )
        case errno.EMFILE | errno.ENFILE:
            return f"no descriptor is left ({_limit('RLIMIT_NOFILE')}); close some, or raise the limit (ulimit -n)"
        case errno.EAGAIN | errno.ENOMEM:
            return (
                f"no process is left, or no memory ({_limit('RLIMIT_NPROC')}); see ulimit -u and pids.max of the cgroup"
            )
        case errno.ETXTBSY:
            return f"{program!r} is open for writing; start it when that is done"
    return f"{program!r}: {error}"


def _stream_paths(spec: RankSpec) -> set[str]:
    return {str(path) for path in (spec.streams.stdout, spec.streams.stderr) if path is not None}


def _stream_reason(path: str, error: OSError | ValueError, number: int) -> str:
    what = f"its output cannot be written to {path!r}"
    match number:
        case errno.ENOENT:
            return f"{what}: its directory does not exist; create it first"
        case errno.ENXIO:
            return f"{what}: it is a FIFO without a reader, or a device that does not exist; remove it"
        case errno.EMFILE | errno.ENFILE:
            return f"{what}: no descriptor is left ({_limit('RLIMIT_NOFILE')}); raise the limit (ulimit -n)"
    return f"{what}: {os.strerror(number) if isinstance(error, OSError) else error}"


def _not_found(spec: RankSpec, program: str) -> str:
    path = _resolve(spec, program)
    if path is not None:
        return (
            f"{path!r} exists, but the interpreter in its first line, or its dynamic loader, does not;"
            " check the first line (no carriage return at its end) and the architecture"
        )
    if os.sep in program:
        return f"the program {program!r} does not exist; check the path (relative ones start at the working directory)"
    return f"the program {program!r} is not on the rank's PATH ({os.pathsep.join(os.get_exec_path(spec.env))})"


def _resolve(spec: RankSpec, program: str) -> str | None:
    """Return the file that ``program`` means for this rank; None if there is none."""
    start = os.curdir if spec.cwd is None else spec.cwd
    folders = [""] if os.sep in program else os.get_exec_path(spec.env)
    for folder in folders:
        path = os.path.join(start, folder, program)
        if program and os.path.isfile(path):
            return path
    return None


def _limit(name: str) -> str:
    import resource

    return f"{name} is {resource.getrlimit(getattr(resource, name))[0]}"
