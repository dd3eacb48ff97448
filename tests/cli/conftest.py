"""Fixtures that run the installed ``derail`` command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE = 120.0


class Derail(Protocol):
    """Runs ``derail`` with these arguments and waits for its end."""

    def __call__(self, *words: object, env: dict[str, str] | None = ...) -> subprocess.CompletedProcess[str]:
        """What it printed, and what it exited with."""
        ...


class StartDerail(Protocol):
    """Starts ``derail`` with these arguments; the fixture ends it with the test."""

    def __call__(self, *words: object, **how: object) -> subprocess.Popen[str]:
        """Its streams are pipes."""
        ...


def command(*words: object) -> list[str]:
    """Return the console script of the Python that runs the tests."""
    return [str(Path(sys.executable).with_name("derail")), *map(str, words)]


@pytest.fixture
def derail_command(tmp_path: Path) -> Derail:
    """Run the command line in a process of its own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def run(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words),
            env={**os.environ, "PYTHONUNBUFFERED": "", "TMPDIR": str(temporary), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    return run


@pytest.fixture
def start_derail() -> Iterator[StartDerail]:
    """Start the command line without waiting for it."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object, **how: object) -> subprocess.Popen[str]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(command(*words), text=True, bufsize=1, **{**streams, **how})
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(DEADLINE)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a program whose first argument selects what a rank does."""
    path = tmp_path / "rank.py"
    path.write_text(program_text("cli/rank"))
    return path
