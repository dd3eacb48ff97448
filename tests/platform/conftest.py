"""Children as test objects: each is ended and reaped after its test, on every path."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from derail.platform import exits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Child:
    """A child in its own session that only the test waits for."""

    def __init__(self, argv: list[str], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self.pid = self.process.pid
        # Popen returns in the middle of the exec: for a moment there is no command line and no environment yet.
        while not self._has_ended() and Path("/proc/self").exists() and not _words(self.pid):
            pass

    def read_line(self) -> str:
        """Return the next line of its stdout; blocks until there is one, or the end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def tell(self, line: str = "") -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> None:
        """Kill and reap it, unless that was done already."""
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            os.kill(self.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.pid, os.WEXITED)
        except (ChildProcessError, ProcessLookupError):
            pass
        self.process.returncode = 0
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                pass


def _words(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Return a function that starts a child: ``start("sh", "-c", ...)``."""
    with ExitStack() as stack:

        def start_child(*argv: str, env: dict[str, str] | None = None) -> Child:
            child = Child(list(argv), env)
            stack.callback(child.end)
            return child

        yield start_child


@pytest.fixture
def start_python(start: Callable[..., Child]) -> Callable[..., Child]:
    """Return a function that starts a child with Python source."""

    def start_child(source: str, *args: str, env: dict[str, str] | None = None) -> Child:
        return start(sys.executable, "-c", source, *args, env=env)

    return start_child


@pytest.fixture(params=["pidfd", "thread"])
def use_pidfd(request: pytest.FixtureRequest) -> bool:
    """Whether exits are detected by pidfd or by a waiting thread."""
    return request.param == "pidfd"


@pytest.fixture
def watch(use_pidfd: bool) -> Iterator[Callable[[int], exits.ExitFd]]:
    """Return a function that opens exit descriptors, and close them after the test."""
    with ExitStack() as stack:

        def open_one(pid: int) -> exits.ExitFd:
            exit_fd = exits.open_exit_fd(pid, use_pidfd=use_pidfd)
            stack.callback(exit_fd.close)
            return exit_fd

        yield open_one
