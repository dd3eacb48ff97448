"""In the rank: write down what it died of, in a file that its launcher reads.

Nothing here may hide the error that it is about: whatever goes wrong is said on stderr, and the error goes on.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import signal
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TextIO, TypeVar

from derail.errors.protocol import ErrorRecord, Json, encode, identify, read
from derail.errors.text import NOT_AVAILABLE, ends, neutral, short
from derail.errors.wording import MESSAGE_LIMIT, message_of, traceback_of
from derail.model.clock import SYSTEM_CLOCK
from derail.model.spec import JOB_ENV

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.errors.protocol import Malformed

_P = ParamSpec("_P")
_R = TypeVar("_R")

ERROR_FILE_ENV = "TORCHELASTIC_ERROR_FILE"
"""Environment variable that names the error file of a rank."""

STACK_SIGNAL: int | None = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else None
"""Makes a rank of a job print the Python stacks of all its threads on stderr; None where there is no such signal."""


class ErrorHandler:
    """Writes error files. Subclass it to write them in another way, or elsewhere."""

    def initialize(self) -> None:
        """Get ready, before the code runs whose errors are to be written down.

        Lets a crash in C print a Python traceback, and, in a rank of a job, lets the launcher ask for one. What is
        already in place stays.
        """
        stderr = _stderr()
        if stderr is None:
            return
        try:
            if not faulthandler.is_enabled():
                faulthandler.enable(file=stderr, all_threads=True)
            if STACK_SIGNAL and os.environ.get(JOB_ENV) and signal.getsignal(STACK_SIGNAL) is signal.SIG_DFL:
                faulthandler.register(STACK_SIGNAL, file=stderr, all_threads=True, chain=False)
        except (OSError, RuntimeError, ValueError) as error:
            _say(f"crashes will not print a Python traceback: {_short_text(error)}")

    def record_exception(self, e: BaseException) -> None:
        """Write an exception and its traceback to the error file, if there is one. Never raises."""
        try:
            path = self._get_error_file_path()
            if path:
                now = SYSTEM_CLOCK
                data = encode(
                    message_of(e),
                    traceback_of(e, without=__file__),
                    wall=now.wall(),
                    monotonic=now.now(),
                    pid=os.getpid(),
                )
                self._write_error_file(path, data.decode("ascii"))
        except BaseException as error:  # a subclass, or no memory: the exception that is recorded matters more
            _say(f"the error could not be recorded: {_short_text(error)}")

    def dump_error_file(self, rootcause_error_file: str, error_code: int = 0) -> None:
        """Make the error file of a child, the root cause, one's own. Of a bad one, write what is known. Never raises.

        Args:
            rootcause_error_file: the child's.
            error_code: how the child ended, which it could not write itself; 0 leaves the file's own word.
        """
        try:
            data = _readable(rootcause_error_file, read(rootcause_error_file))
            _sign(data)
            if error_code:
                self.override_error_code_in_rootcause_data(rootcause_error_file, data, error_code)
            path = self._get_error_file_path()
            if path:
                self._rm(path)
                self._write_error_file(path, json.dumps(data))
            else:
                _say(f"no error file of one's own ({ERROR_FILE_ENV} is not set) to copy {rootcause_error_file} to")
        except BaseException as error:  # as above
            _say(f"{rootcause_error_file} could not be copied: {_short_text(error)}")

    def override_error_code_in_rootcause_data(
        self, rootcause_error_file: str, rootcause_error: Json, error_code: int = 0
    ) -> None:
        """Put the exit code into what was read from the child's file. A plain text message has no place for it."""
        told = rootcause_error.get("message")
        if isinstance(told, dict):
            told["errorCode"] = error_code
        elif "message" not in rootcause_error:
            _say(f"{rootcause_error_file} has no message; its error code {error_code} is not passed on")

    def _get_error_file_path(self) -> str | None:
        """Where to write; None for nowhere."""
        return os.environ.get(ERROR_FILE_ENV) or None

    def _write_error_file(self, file_path: str, error_msg: str) -> None:
        """Write the text of an error file, at once or not at all; on stderr if that fails."""
        try:
            _store(file_path, error_msg.encode(errors="backslashreplace"))
        except (OSError, ValueError) as error:
            _say(f"cannot write the error file {file_path}: {_short_text(error)}")

    def _rm(self, my_error_file: str) -> None:
        """Say what is about to be overwritten. It stays until then, so that there is always one of the two."""
        found = read(my_error_file)
        if isinstance(found, ErrorRecord):
            _say(f"{my_error_file} is overwritten; it said: {ends(found.message, 1000)}")


def get_error_handler() -> ErrorHandler:
    """The handler that ``record`` uses if it is given none."""
    return ErrorHandler()


def record(fn: Callable[_P, _R], error_handler: ErrorHandler | None = None) -> Callable[_P, _R | None]:
    """Write what the function dies of to the error file of this rank, and let it die of it.

    ``sys.exit(0)`` becomes a return of None, as programs that are run as functions need it. Other exits are recorded
    unless the function has recorded something itself; ``sys.exit()`` without a code is no error. A ChildFailedError
    passes the error file of its root cause on.

    Args:
        fn: the outermost function of the rank.
        error_handler: who writes; the default one if it is None.
    """
    handler = error_handler if error_handler is not None else get_error_handler()

    @functools.wraps(fn)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        handler.initialize()
        before, process = _written(handler), os.getpid()
        try:
            return fn(*args, **kwargs)
        except SystemExit as stop:
            if isinstance(stop.code, int) and stop.code == 0:
                return None
            if stop.code is not None and _written(handler) == before and os.getpid() == process:
                _guarded(handler.record_exception, stop)
            raise
        except Exception as error:
            if os.getpid() == process:  # a forked child that unwinds to here is not the rank
                _guarded(_record_failure, handler, error)
            raise
        except BaseException as error:  # KeyboardInterrupt and its like end a rank as well
            if _written(handler) == before and os.getpid() == process:
                _guarded(handler.record_exception, error)
            raise

    return wrapper


def pass_on(error: Exception) -> None:
    """Make the error file of a job's root cause the launcher's own, as ``record`` does around a launcher. Never raises.

    Without TORCHELASTIC_ERROR_FILE nothing is written: no parent asks for it.
    """
    if os.environ.get(ERROR_FILE_ENV):
        _guarded(_record_failure, get_error_handler(), error)


def _record_failure(handler: ErrorHandler, error: Exception) -> None:
    """Record an exception; of a ChildFailedError, ours or torch's, what its root cause has left."""
    first_failure = getattr(error, "get_first_failure", None)
    if not callable(first_failure):
        handler.record_exception(error)
        return
    rank, failure = first_failure()
    if getattr(failure, "recorded_by", None) is not None:  # the file describes another process
        handler.record_exception(error)
        return
    path = getattr(failure, "error_file_path", "") or failure.error_file
    if path and path != NOT_AVAILABLE:
        handler.dump_error_file(path, failure.exitcode)
    else:
        _say(f"rank {rank} failed and left no error file; decorate the function that it runs with @record")


def _guarded(action: Callable[..., None], *args: object) -> None:
    """Do something for an exception that is on its way, which whatever happens here must not replace."""
    try:
        action(*args)
    except BaseException as error:  # a handler of somebody else, a second Ctrl-C
        _say(f"the error could not be recorded: {_short_text(error)}")


def _written(handler: ErrorHandler) -> object:
    """Which error file is there now."""
    try:
        path = handler._get_error_file_path()  # noqa: SLF001 (torch's hook, of our own class)
    except Exception:  # a subclass; whoever records will meet it again, and say so
        return None
    return identify(path) if path else None


def _sign(document: Json) -> None:
    """Put this process in the place of the one that wrote the document, which is this one's own record from now on."""
    told = document.get("message")
    extra = told.get("extraInfo") if isinstance(told, dict) else None
    if isinstance(extra, dict) and "pid" in extra:
        extra["pid"] = os.getpid()


def _readable(path: str, found: ErrorRecord | Malformed | None) -> Json:
    """The document to pass on for whatever was found."""
    if isinstance(found, ErrorRecord):
        return found.data
    now = SYSTEM_CLOCK
    reason = "there is none" if found is None else str(found)
    message = f"The error file of the root cause, {path}, is of no use: {reason}"
    told = "" if found is None else found.message
    stack = None if found is None else found.traceback
    text = f"{told}\n({message})" if told else message
    data: Json = json.loads(encode(ends(text, MESSAGE_LIMIT), stack, wall=now.wall(), monotonic=now.now()))
    return data


def _store(path: str, data: bytes) -> None:
    """Write a file such that a reader sees all of it or none of it.

    A new file is for this user only, since messages quote arguments and values; one that is there keeps its mode.
    Without fsync: that protects from a crash of the machine, and may take seconds that would change the order in
    which ranks are seen to die.

    Raises:
        OSError: if it cannot be written, or something lies there that is no file and does not take it.
    """
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG | 0o600
    if not stat.S_ISREG(mode):  # /dev/null must stay what it is, and a FIFO without a reader must not block
        _write(os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), data)
        return
    new = f"{os.path.dirname(target)}/.{os.getpid()}-{SYSTEM_CLOCK.now():.6f}.error"
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        if not os.path.exists(target):
            raise
        _overwrite(target, data)  # the directory takes no new file, but the launcher has made this one
        return
    try:
        with suppress(OSError):  # a file system without modes
            os.fchmod(fd, mode & 0o777)
        _write(fd, data)
        try:
            os.replace(new, target)
        except OSError:
            if not os.path.exists(target):
                raise
            # A mount point (Kubernetes mounts /dev/termination-log) and, in a sticky directory, the file of another
            # user cannot be replaced.
            _overwrite(target, data)
            os.unlink(new)
    except BaseException:
        os.unlink(new)
        raise


def _overwrite(path: str, data: bytes) -> None:
    """Write a file in place."""
    _write(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY | os.O_CLOEXEC), data)


def _write(fd: int, data: bytes) -> None:
    """Write all of it, and close."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _stderr() -> TextIO | None:
    """A stream that has a descriptor to write to in a crash; None if there is none.

    The stream, not its number: whoever keeps it keeps it open, and the number from becoming another file's.
    """
    for stream in (sys.stderr, sys.__stderr__):
        try:
            if stream is not None:
                os.fstat(stream.fileno())
                return stream
        except (OSError, ValueError, AttributeError):
            continue
    return None


def _short_text(error: BaseException) -> str:
    try:
        return ends(message_of(error), 500)
    except BaseException:  # nothing is left to say
        return short(type(error))


def _say(text: str) -> None:
    """Write a line on stderr, if there is one. A terminal obeys nothing of what a file or a path says."""
    try:
        sys.stderr.write(f"derail: {neutral(text)}\n")
        sys.stderr.flush()
    except BaseException:  # closed, full, or replaced by something hostile; the error itself goes on
        pass
