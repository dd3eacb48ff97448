"""The rank's side: recording a fatal error in a file that the launcher reads.

Nothing here may hide the recorded error: a problem is reported on stderr, and the error propagates.
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
"""Signal on which a rank prints the Python stacks of all its threads on stderr; None if the platform lacks it."""


class ErrorHandler:
    """A writer of error files. Override its methods to write them in another way, or elsewhere."""

    def initialize(self) -> None:
        """Prepare for the recording of errors, before the recorded code runs.

        Makes a crash in C print a Python traceback, and, in a rank of a job, lets the launcher request one by signal.
        Existing handlers stay.
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
        except BaseException as error:  # a faulty subclass, or no memory: the recorded exception matters more
            _say(f"the error could not be recorded: {_short_text(error)}")

    def maybe_enrich_signal_failure_message(self, message: str, error_file: str) -> str:
        """Return a ChildFailedError's paragraph about a root cause that a signal ended; here without a change.

        A rank that a signal ends leaves no traceback. Override this to add information from elsewhere, such as the
        lines of a driver in the kernel's log. Torch calls it from version 2.14 on.

        Args:
            message: the paragraph of that rank.
            error_file: the path of its error file, or torch's "<N/A>".
        """
        del error_file
        return message

    def dump_error_file(self, rootcause_error_file: str, error_code: int = 0) -> None:
        """Copy the error file of a child, the root cause, to this process's own; replace an unusable one. Never raises.

        Args:
            rootcause_error_file: the child's.
            error_code: the child's exit code, which it could not write itself; 0 keeps the one in the file.
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
                _say(f"no error file of this process ({ERROR_FILE_ENV} is not set) to copy {rootcause_error_file} to")
        except BaseException as error:  # as above
            _say(f"{rootcause_error_file} could not be copied: {_short_text(error)}")

    def override_error_code_in_rootcause_data(
        self, rootcause_error_file: str, rootcause_error: Json, error_code: int = 0
    ) -> None:
        """Set the exit code in the content of the child's file. A plain text message has no place for it."""
        message = rootcause_error.get("message")
        if isinstance(message, dict):
            message["errorCode"] = error_code
        elif "message" not in rootcause_error:
            _say(f"{rootcause_error_file} has no message; its error code {error_code} is not passed on")

    def _get_error_file_path(self) -> str | None:
        """Return the path to write to, or None for none."""
        return os.environ.get(ERROR_FILE_ENV) or None

    def _write_error_file(self, file_path: str, error_msg: str) -> None:
        """Write the text of an error file atomically; report a failure on stderr."""
        try:
            _store(file_path, error_msg.encode(errors="backslashreplace"))
        except (OSError, ValueError) as error:
            _say(f"cannot write the error file {file_path}: {_short_text(error)}")

    def _rm(self, my_error_file: str) -> None:
        """Report the message that is about to be overwritten. The file stays until then, so that one always exists."""
        content = read(my_error_file)
        if isinstance(content, ErrorRecord):
            _say(f"{my_error_file} is overwritten; its message was: {ends(content.message, 1000)}")


def get_error_handler() -> ErrorHandler:
    """Return the default handler of ``record``."""
    return ErrorHandler()


def record(fn: Callable[_P, _R], error_handler: ErrorHandler | None = None) -> Callable[_P, _R | None]:
    """Record the error that ends the function in the error file of this rank, and let it propagate.

    ``sys.exit(0)`` becomes a return of None, as programs that are run as functions need it. Other exits are recorded
    unless the function has recorded something itself; ``sys.exit()`` without a code is no error. For a
    ChildFailedError, the error file of its root cause is copied.

    Args:
        fn: the outermost function of the rank.
        error_handler: the writer; None for the default one.
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
        except BaseException as error:  # KeyboardInterrupt and similar exceptions end a rank as well
            if _written(handler) == before and os.getpid() == process:
                _guarded(handler.record_exception, error)
            raise

    return wrapper


def pass_on(error: Exception) -> None:
    """Copy the error file of a job's root cause to the launcher's own, as ``record`` does; never raises.

    Without TORCHELASTIC_ERROR_FILE nothing is written: no parent requests it.
    """
    if os.environ.get(ERROR_FILE_ENV):
        _guarded(_record_failure, get_error_handler(), error)


def _record_failure(handler: ErrorHandler, error: Exception) -> None:
    """Record an exception; for a ChildFailedError, derail's or torch's, copy the error file of its root cause."""
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
    """Call a function while an exception propagates, and never replace that exception by another."""
    try:
        action(*args)
    except BaseException as error:  # a faulty custom handler, a second Ctrl-C
        _say(f"the error could not be recorded: {_short_text(error)}")


def _written(handler: ErrorHandler) -> object:
    """Return the identity of the current error file, or None."""
    try:
        path = handler._get_error_file_path()  # noqa: SLF001 (torch's hook, of our own class)
    except Exception:  # a faulty subclass; the recording meets the same error, and reports it
        return None
    return identify(path) if path else None


def _sign(document: Json) -> None:
    """Replace the writer's pid by this process's, as the document becomes this process's own record."""
    message = document.get("message")
    extra = message.get("extraInfo") if isinstance(message, dict) else None
    if isinstance(extra, dict) and "pid" in extra:
        extra["pid"] = os.getpid()


def _readable(path: str, content: ErrorRecord | Malformed | None) -> Json:
    """Return the document to pass on for any content of the root cause's error file."""
    if isinstance(content, ErrorRecord):
        return content.data
    now = SYSTEM_CLOCK
    reason = "it does not exist" if content is None else str(content)
    problem = f"The error file of the root cause, {path}, is unusable: {reason}"
    salvaged = "" if content is None else content.message
    stack = None if content is None else content.traceback
    text = f"{salvaged}\n({problem})" if salvaged else problem
    data: Json = json.loads(encode(ends(text, MESSAGE_LIMIT), stack, wall=now.wall(), monotonic=now.now()))
    return data


def _store(path: str, data: bytes) -> None:
    """Write a file such that a reader finds all of it or none of it.

    A new file is readable for this user only, because messages quote arguments and values; an existing one keeps its
    mode. Without fsync: that protects from a crash of the machine, and may take seconds, which would change the order
    in which exits of ranks are detected.

    Raises:
        OSError: if it cannot be written, or the path is not a regular file and refuses the data.
    """
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG | 0o600
    if not stat.S_ISREG(mode):  # /dev/null must not be replaced, and a FIFO without a reader must not block
        _write(os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), data)
        return
    new = f"{os.path.dirname(target)}/.{os.getpid()}-{SYSTEM_CLOCK.now():.6f}.error"
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        if not os.path.exists(target):
            raise
        _overwrite(target, data)  # the directory accepts no new file, but the launcher has created this one
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
    """Overwrite a file in place."""
    _write(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY | os.O_CLOEXEC), data)


def _write(fd: int, data: bytes) -> None:
    """Write all data, and close the descriptor."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _stderr() -> TextIO | None:
    """Return a stream with a descriptor to write to in a crash, or None.

    The stream, not its number: a reference to the stream keeps it open, and its number from being reused.
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
    except BaseException:  # not even a text can be made
        return short(type(error))


def _say(text: str) -> None:
    """Write a line on stderr, if there is one, without control sequences that a file or a path could contain."""
    try:
        sys.stderr.write(f"derail: {neutral(text)}\n")
        sys.stderr.flush()
    except BaseException:  # closed, full, or replaced by a hostile object; the error itself propagates
        pass
