"""What every test gets: a guard against leaks, and the few ways to wait for something."""

from __future__ import annotations

import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, settings

import leak_guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
DEADLINE = 60.0
"""Seconds that no event needs; they end a wait that would never end, and decide nothing else."""

# A loaded machine makes an example slow, not wrong. A test that has settings of its own keeps these.
settings.register_profile("derail", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("derail")


def pytest_configure() -> None:
    """All that tests start is like what a user's terminal starts: a job in the background of a script ignores what
    Ctrl-C sends, one under nohup what a closed terminal does, and an image of a container may have Python write its
    lines unbuffered."""
    os.environ.pop("PYTHONUNBUFFERED", None)
    usually = (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    )
    for number, usual in usually:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need torch are skipped where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        skip = pytest.mark.skip(reason="needs torch: pip install torch==2.13.0")
        for item in items:
            if item.get_closest_marker("torch"):
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The run has a temporary directory of its own: what is new in it was left by us and nobody else."""
    tmp_path_factory.getbasetemp()  # pytest's own lies beside it, where it can be looked at after a failure
    directory = tempfile.mkdtemp(prefix="dg-")  # a short path: sockets have at most 107 bytes for theirs
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory)
        patch.setenv(leak_guard.MARK, uuid.uuid4().hex)
        patch.setattr(tempfile, "tempdir", directory)
        for name in ("CI", "BUILD_NUMBER"):  # pytest shows more there, also where a test runs it
            patch.delenv(name, raising=False)
        yield
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def _leak_guard(_own_temporary_directory: None) -> Iterator[None]:
    """Children, descriptors, threads, signal handlers, environment and temporary files are as before the test."""
    before = leak_guard.hold()
    yield
    warm = sys.modules.get("derail.spawn.zygote.warm")
    if warm is not None:
        warm.end_idle()  # kept for the next job; ended here, they must leave nothing
    leaked = leak_guard.leaks(before)
    if leaked:
        leak_guard.end_leaked_processes(before)
        pytest.fail("the test left behind:\n  " + "\n  ".join(leaked), pytrace=False)


class WaitUntil(Protocol):
    """Asks again and again until the answer is true, and returns that answer."""

    def __call__(self, predicate: Callable[[], T], /, *, deadline: float = ..., what: str = ...) -> T:
        """Fail, with ``what`` was waited for, when ``deadline`` seconds have passed."""
        ...


class RunPython(Protocol):
    """Runs Python source in a fresh interpreter."""

    def __call__(
        self, source: str, /, *args: str, env: dict[str, str] | None = ..., deadline: float = ..., check: bool = ...
    ) -> subprocess.CompletedProcess[str]:
        """Return what it printed; fail, with its output, if it exits with another code than 0 (unless ``check`` is
        False) or outlives ``deadline`` seconds. ``env`` is added to the environment."""
        ...


@pytest.fixture
def wait_until() -> WaitUntil:
    """For what no event tells: the only place where tests poll."""

    def wait(predicate: Callable[[], T], /, *, deadline: float = DEADLINE, what: str = "") -> T:
        end = time.monotonic() + deadline
        while True:
            answer = predicate()
            if answer:
                return answer
            if time.monotonic() > end:
                pytest.fail(f"not so within {deadline} s: {what or predicate!r}; last answer: {answer!r}")
            time.sleep(0.005)  # noqa: TID251 - the one polling loop of the tests

    return wait


@pytest.fixture
def run_python() -> RunPython:
    """Runs source in a fresh interpreter, with a deadline."""

    def run(
        source: str,
        /,
        *args: str,
        env: dict[str, str] | None = None,
        deadline: float = 2 * DEADLINE,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", source, *args],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"exit {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}")
        return done

    return run


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that this test starts are not measured by coverage, which loads modules and keeps a file open there."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        monkeypatch.delenv(name)


@pytest.fixture
def pid_gone() -> Callable[..., bool]:
    """Waits until a process, ours or not, has ended, and says whether it did within the deadline."""

    def gone(pid: int, *, deadline: float = DEADLINE) -> bool:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            return bool(poller.poll(deadline * 1000))
        finally:
            os.close(pidfd)

    return gone
