"""The exit of a forked process: as the interpreter would exit, and never by a return into the forking code's stack."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable


MPI = "mpi4py.MPI"
"""Module that initializes MPI when it is imported: with threads, which a fork would not have, and as one rank, which
several processes cannot be."""


def leave(run: Callable[[], None]) -> NoReturn:
    """Run the rank's function and end the process as the interpreter would.

    Threads are joined, exit handlers run, output is flushed, and the process is killed by SIGINT if that stopped it.
    """
    from derail.spawn.worker import exit_code

    code, interrupted = 1, False
    of_parent = MPI in sys.modules
    try:
        try:
            run()
            code = 0
        except SystemExit as error:
            code = exit_code(error)
        except KeyboardInterrupt:
            interrupted = True
            _show_error()
        except BaseException:  # the top of this process: no caller is above
            _show_error()
        _join_threads()
        run_exit_functions()
        if not of_parent:
            _finalize_mpi()
        code = _flush(code)
        if interrupted:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        os._exit(code)


def _show_error() -> None:
    import traceback

    from derail.spawn.worker import without_own_frames

    kind, error, trace = sys.exc_info()
    if kind is None or error is None:
        return
    error = error.with_traceback(without_own_frames(trace))
    try:
        sys.excepthook(kind, error, error.__traceback__)
    except BaseException:  # a broken hook of the user must not hide the error
        traceback.print_exc()


def _join_threads() -> None:
    import threading

    module: Any = threading
    try:
        module._shutdown()  # noqa: SLF001 - as the interpreter itself does
    except AssertionError:
        # Python's threading did not start the thread that forked.
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()


def run_exit_functions() -> None:
    """Run the functions registered with ``atexit``, as the interpreter does at its exit."""
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001


def _finalize_mpi() -> None:
    """Finalize MPI as mpi4py does at the exit of the interpreter, where Python code cannot ask for it.

    Otherwise an MPI launcher takes the exit for a failure, and Open MPI leaves its files behind.
    """
    mpi: Any = sys.modules.get(MPI)
    wanted = getattr(getattr(sys.modules.get("mpi4py"), "rc", None), "finalize", None)
    if mpi is not None and wanted is not False and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()


def _flush(code: int) -> int:
    """Flush the standard streams; lost output is a failure, with the interpreter's own code for it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = code or 120
    return code
