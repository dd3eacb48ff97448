"""``--derail-debugpy``: ranks wait for an IDE, here a small client of its protocol."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from plugin.debug_adapter import DebugAdapterClient
from program_files import program_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

SOURCE = program_text("suites/ranks/debugged")
FIRST, SECOND = (number for number, line in enumerate(SOURCE.splitlines(), 1) if line.endswith("# stop here"))

needs_debugpy = pytest.mark.skipif(find_spec("debugpy") is None, reason="needs debugpy: pip install '.[debug]'")


class Session:
    """A pytest that runs in the background."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.path = path
        self.shown = ""
        self._process = process

    def ports(self, *ranks: int) -> list[int]:
        """Wait until the ports of these ranks are shown, and return them."""
        found: dict[int, int] = {}
        while found.keys() != set(ranks):
            line = self._line()
            assert line, self.shown
            match = re.fullmatch(r"rank (\d) waits for a debugger at 127\.0\.0\.1:(\d+) pid \d+\n", line)
            if match:
                found[int(match[1])] = int(match[2])
        return [found[rank] for rank in ranks]

    def finish(self) -> int:
        """Wait for the end and return the exit code."""
        while self._line():
            pass
        return self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.shown += line
        return line


@pytest.fixture
def debugged(pytester: pytest.Pytester) -> Callable[..., AbstractContextManager[Session]]:
    """Return a function that runs the tests with the given options in the background."""

    @contextmanager
    def run(*options: str) -> Iterator[Session]:
        path = pytester.makepyfile(test_it=SOURCE)
        plugins = ("-p", "pytest_derail.plugin", "-p", "no:cacheprovider")
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *plugins, "test_it.py", "--basetemp=base", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            text=True,
        )
        try:
            yield Session(process, path)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    return run


@needs_debugpy
@pytest.mark.parametrize(("options", "ranks"), [(("--derail-debugpy",), (0, 1)), (("--derail-debugpy=1",), (1,))])
def test_an_ide_stops_at_its_breakpoint_in_each_rank(debugged, options, ranks, left, wait_until) -> None:
    """With the value of the rank; afterwards the test passes."""
    with debugged("-k", "passes", *options) as session:
        ports = session.ports(*ranks)
        clients = [DebugAdapterClient("127.0.0.1", port) for port in ports]
        for client in clients:
            client.attach(session.path, FIRST)
        for rank, client in zip(ranks, clients, strict=True):
            assert client.value_at_stop("value") == str(rank + 40)
        code = session.finish()
        for client in clients:
            client.__exit__()
    assert "1 passed" in session.shown
    assert code == 0
    wait_until(lambda: not left(), what="nothing is left")


@needs_debugpy
def test_a_failure_of_the_debugged_rank_ends_the_others(debugged) -> None:
    """They may wait for it in vain, and no time limit applies."""
    with debugged("-k", "fails", "--derail-debugpy=1") as session:
        [port] = session.ports(1)
        with DebugAdapterClient("127.0.0.1", port) as client:
            client.attach(session.path, SECOND)
            assert client.value_at_stop("value") == "7"
            code = session.finish()
    assert "rank 1: failed in call: assert 7 == 8" in session.shown
    assert "rank 0: stopped in call, because of another rank" in session.shown
    assert code == 1


@needs_debugpy
@pytest.mark.slow
def test_no_time_limit_applies(debugged) -> None:
    """While ranks wait for an IDE, and while they are stopped in it."""
    with debugged("-k", "passes", "--derail-debugpy=0") as session:
        [port] = session.ports(0)
        with DebugAdapterClient("127.0.0.1", port) as client:
            client.attach(session.path, FIRST)
            assert client.value_at_stop("__import__('time').sleep(8) or value") == "40"
            code = session.finish()
    assert "1 passed" in session.shown
    assert code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--derail-debugpy", "test_it.py"),
            "*--derail-debugpy: expected the number of a rank, got 'test_it.py'. Write *",
        ),
        (("--derail-debugpy=-1",), "*expected the number of a rank, got '-1'*"),
    ],
)
def test_a_wrong_rank_is_an_error(run_pytest: RunPytest, options: tuple[str, ...], message: str) -> None:
    """A path that was taken for it is explained."""
    result = run_pytest(SOURCE, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_without_debugpy_the_command_that_installs_it_is_shown(run_pytest: RunPytest) -> None:
    """Before any test runs."""
    hides = "import sys, importlib.util as util\nfind = util.find_spec\nimport pytest_derail.options as options\n"
    hides += "options.find_spec = lambda name: None if name == 'debugpy' else find(name)\n"
    result = run_pytest(SOURCE, "--derail-debugpy", conftest=hides)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*debugpy is not installed. Run: pip install 'derail?debug?'*"])
