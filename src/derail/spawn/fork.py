"""A rank that is forked from the launcher itself: it inherits the function and its arguments."""

from __future__ import annotations

import os
import select
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from derail.model.exit import SIGKILL
from derail.platform import exits, groups
from derail.spawn import descriptors, process_exit, streams, worker
from derail.spawn.child_handle import Child
from derail.spawn.zygote import child_setup

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.model.spec import Function, RankSpec
    from derail.spawn.return_values import Slot

START_SECONDS = 60.0
"""Maximum seconds for a forked rank to set up its session and environment, which normally takes milliseconds."""


def start(spec: RankSpec, function: Function, slot: Slot, in_child: Callable[[], None] | None) -> Child:
    """Fork the rank, and return when it has its own session, streams and environment.

    Raises:
        OSError: if that failed; nothing of the rank is left.
        ValueError: the same, where the operating system has no number for it.
    """
    # Imported here, once, instead of in each rank.
    import ctypes  # noqa: F401
    import multiprocessing.process
    import multiprocessing.util  # noqa: F401

    from derail.errors import recorder  # noqa: F401

    launcher_pid = os.getpid()
    with ExitStack() as stack:
        stdout, stderr = stack.enter_context(streams.opened(spec.streams))
        setting = child_setup.Setting.of(spec, stdout, stderr)
        report_read, report_write = os.pipe()
        stack.callback(os.close, report_read)

        def child() -> NoReturn:
            child_setup.become_rank(setting, report_write, in_child)
            os.close(report_read)
            worker.mark_as_rank(spec.rank, launcher_pid, slot)
            process_exit.leave(lambda: worker.run_function(lambda: (function.target, function.args), slot))

        streams.flush()
        try:
            with descriptors.kept_by_forks(slot.fds):
                pid = child_setup.fork(child)
        finally:
            os.close(report_write)
        process = Child(spec.rank, pid, _open_exit_fd(pid))
        _await_ready(process, report_read)
        return process


def _open_exit_fd(pid: int) -> exits.ExitFd:
    """Open the exit descriptor of a new child; if that fails, end the child."""
    try:
        exit_fd = exits.open_exit_fd(pid)
    except BaseException:
        groups.signal_process(pid, None, SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED)
        raise
    descriptors.own(exit_fd.fileno())
    return exit_fd


def _await_ready(process: Child, report_fd: int) -> None:
    try:
        poll = select.poll()
        poll.register(report_fd, select.POLLIN)
        poll.register(process.exit_fd, select.POLLIN)
        ready = dict(poll.poll(START_SECONDS * 1000))
        # It may have reported and ended since: the report is still in the pipe.
        line = os.read(report_fd, child_setup.REPORT_LIMIT) if report_fd in ready else b""
        child_setup.read_report(line)
    except BaseException:
        process.signal(SIGKILL)
        exits.is_readable(process.exit_fd, 5.0)
        process.reap()
        process.close()
        raise
