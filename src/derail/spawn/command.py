"""A rank that runs a program: its environment, session, streams, directory and CPUs are set before exec."""

from __future__ import annotations

import os
import signal as _signal
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.model.spec import Command, RankSpec, Streams
from derail.platform import exits, groups, topology
from derail.platform.threads import unblocked_signals
from derail.spawn import descriptors
from derail.spawn.child_handle import Child
from derail.spawn.spawn_error import StartError, start_error
from derail.spawn.streams import opened

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from derail.model.exit import ExitStatus

__all__ = ["CommandHandle", "StartError", "SubprocessHandler", "get_subprocess_handler", "start_command"]


class CommandHandle(Child):
    """A ``ProcessHandle`` of a program. Its methods may be called from any thread."""

    def __init__(self, rank: int, proc: Program, exit_fd: exits.ExitFd) -> None:
        super().__init__(rank, proc.pid, exit_fd)
        self._proc = proc
        self._opened_by = os.getpid()

    @property
    def proc(self) -> Program:
        """The same process as a ``subprocess.Popen``."""
        return self._proc

    @property
    def is_ours(self) -> bool:
        """Whether this process started it; False in a forked copy of the launcher."""
        return self._opened_by == os.getpid()

    def wait_readable(self, seconds: float | None) -> None:
        """Block until the program has ended, for at most ``seconds``; for ``Program.wait`` only, never for a loop."""
        with self._lock:
            if self._status is not None:
                return
            # A copy: another thread may close the original during the wait, and its number may be reused.
            fd = exits.open_exit_fd(self._pid) if self._exit_fd.closed else os.dup(self._exit_fd.fileno())
        try:
            exits.is_readable(fd if isinstance(fd, int) else fd.fileno(), seconds)
        finally:
            os.close(fd) if isinstance(fd, int) else fd.close()

    def _look(self) -> ExitStatus | None:
        if self._status is None:
            status = super()._look()
            if status is not None:
                self._proc.returncode = status.returncode
        return self._status


class Program(subprocess.Popen[bytes]):
    """A ``Popen`` that another owner reaps: ``poll`` and ``wait`` only query the exit status.

    Users get it as ``handler.proc``. Their calls must neither take the exit status away from the supervisor nor report
    another one than the supervisor does.

    Attributes:
        handle: the handle of the process; None until it is started.
        reaps: whether there is no supervisor, so that ``poll`` and ``wait`` do reap.
    """

    handle: CommandHandle | None = None
    reaps = False

    def poll(self) -> int | None:
        """Return the return code; None while it runs; UNKNOWN_RETURNCODE if the status was lost."""
        if self.handle is not None and (self.returncode is None or self.reaps):
            if not self.reaps:
                self.handle.peek()
            elif self.handle.reap() is not None:
                self.handle.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit, for at most ``timeout`` seconds, and return the return code.

        Raises:
            subprocess.TimeoutExpired: if it still runs then.
        """
        deadline = None if timeout is None else SYSTEM_CLOCK.now() + timeout
        while (returncode := self.poll()) is None:
            left = None if deadline is None else deadline - SYSTEM_CLOCK.now()
            if timeout is not None and left is not None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout)
            if self.handle is not None:
                self.handle.wait_readable(left)
        return returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal to the program, if it has not ended."""
        if self.handle is not None:
            self.handle.signal(sig)

    def __del__(self, *_: object) -> None:
        """Neither warn nor wait: the object does not own the process. Without a supervisor, reap an ended one."""
        if self.reaps and self.handle is not None and self.handle.is_ours:
            self.poll()


def start_command(spec: RankSpec, *, use_pidfd: bool | None = None) -> CommandHandle:
    """Start the program of ``spec``, as leader of a new session, with exactly its environment.

    Its output is appended to the files of ``spec.streams``; without a file, it inherits our stream. Its stdin is ours,
    as with torch, even if that is a terminal, for ``breakpoint()``. It is not the controlling terminal of the rank's
    session. So the kernel lets each rank read it (tty_check_change in drivers/tty/tty_jobctrl.c) and sends Ctrl-C to
    the launcher only. No signal is blocked in it; ignored ones stay ignored (nohup), except for SIGPIPE and
    SIGXFSZ, which Python itself ignores.

    In the main thread, a signal handler that raises may do so in here; then the program is ended. Even so, do not call
    this in the main thread while such handlers are installed: the interpreter leaves a window of one instruction.

    Args:
        spec: its ``run`` must be a ``Command``.
        use_pidfd: as in ``open_exit_fd``.

    Raises:
        StartError: if it cannot be started; nothing of it is left then.
    """
    if not isinstance(spec.run, Command):
        raise TypeError(f"rank {spec.rank} is not a program but {spec.run!r}")
    argv = spec.run.argv
    if not argv:
        raise start_error(spec, argv, ValueError("there is no program to start: argv is empty"))
    try:
        with opened(spec.streams) as (stdout, stderr):
            return start_program(spec, argv, stdin=_stdin(), stdout=stdout, stderr=stderr, use_pidfd=use_pidfd)
    except (OSError, ValueError) as error:
        raise start_error(spec, argv, error) from error


def start_program(
    spec: RankSpec,
    argv: Sequence[str],
    *,
    stdin: int | None,
    stdout: int,
    stderr: int,
    pass_fds: Collection[int] = (),
    use_pidfd: bool | None = None,
) -> CommandHandle:
    """Start ``argv`` as the process of a rank: in a new session, with the rank's environment, directory and CPUs.

    Args:
        spec: the rank; its ``run`` is ignored.
        argv: the program and its arguments.
        stdin: as for ``subprocess``.
        stdout: descriptor.
        stderr: descriptor.
        pass_fds: descriptors that the program keeps, under their numbers.
        use_pidfd: as in ``open_exit_fd``.

    Raises:
        OSError: if it cannot be started; nothing of it is left then.
        ValueError: the same, for arguments that cannot be passed to a program.
    """
    proc = Program.__new__(Program)
    with nullcontext() if spec.cpus is None else topology.bound_to(spec.cpus), unblocked_signals():
        try:
            proc.__init__(  # type: ignore[misc]
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=dict(spec.env),
                cwd=spec.cwd,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
            exit_fd = exits.open_exit_fd(proc.pid, use_pidfd=use_pidfd)
            descriptors.own(exit_fd.fileno())
            proc.handle = CommandHandle(spec.rank, proc, exit_fd)
            return proc.handle
        except BaseException:
            _end_at_once(proc)
            raise


class SubprocessHandler:
    """One program without a job, with torch's interface: merged environment, paths as strings, ``Popen`` for waiting.

    Args:
        entrypoint: the program.
        args: its arguments; each is converted to a string.
        env: variables that override the environment of this process.
        stdout: path that stdout is appended to; empty or None for ours.
        stderr: the same for stderr.
        local_rank_id: local rank.
        numa_options: binds the program to the CPUs near its rank's GPU.
    """

    def __init__(
        self,
        entrypoint: str,
        args: Sequence[object],
        env: Mapping[str, str],
        stdout: str | None,
        stderr: str | None,
        local_rank_id: int,
        numa_options: topology.NumaOptionsLike | None = None,
    ) -> None:
        self.local_rank_id = local_rank_id
        self._handle = start_command(
            RankSpec(
                rank=local_rank_id,
                run=Command((entrypoint, *(str(arg) for arg in args))),
                env={**os.environ, **env},
                streams=Streams(Path(stdout) if stdout else None, Path(stderr) if stderr else None),
                cpus=topology.cpus_for(local_rank_id, numa_options),
            )
        )
        self.proc = self._handle.proc
        self.proc.reaps = True

    def close(self, death_sig: int | None = None) -> None:
        """Send ``death_sig`` (SIGTERM) to the program's group, if that has members. Does not wait."""
        self._handle.signal(death_sig or _signal.SIGTERM, group=True)


def get_subprocess_handler(
    entrypoint: str,
    args: Sequence[object],
    env: Mapping[str, str],
    stdout: str | None,
    stderr: str | None,
    local_rank_id: int,
    numa_options: topology.NumaOptionsLike | None = None,
) -> SubprocessHandler:
    """Start one program without a job; see ``SubprocessHandler``."""
    return SubprocessHandler(entrypoint, args, env, stdout, stderr, local_rank_id, numa_options)


def _end_at_once(proc: Program) -> None:
    """End a program after an incomplete start."""
    pid = getattr(proc, "pid", None)
    if pid is None or proc.returncode is not None:  # after a failed exec, Popen has reaped it already
        return
    try:
        # Checked first: only an unreaped child of ours passes.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        groups.signal_process(pid, None, _signal.SIGKILL)
        groups.signal_group(pid, _signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED)
    except ChildProcessError:
        pass
    proc.returncode = -_signal.SIGKILL


def _stdin() -> int | None:
    return None if _is_open(0) else subprocess.DEVNULL


def _is_open(fd: int) -> bool:
    """Return whether a descriptor is open. A closed one must not be inherited: the program's first file would get its
    number."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
