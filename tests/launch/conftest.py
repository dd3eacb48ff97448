"""Jobs of real processes, closed at the end of each test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from derail import DefaultLogsSpecs, Std, start_processes
from derail.model.spec import Teardown

if TYPE_CHECKING:
    from pathlib import Path

PATIENT = Teardown(grace=60.0, kill_wait=60.0, sweep="all")
"""Grace long enough for a rank that obeys, and for one that only waits for CPU time."""


class Jobs:
    """Starter of jobs, which ends them later; each rank's ``DIR`` is the test's own directory."""

    def __init__(self, directory: Path, wait_until) -> None:
        self.directory = directory
        self._wait_until = wait_until
        self._contexts = []

    def start(self, entrypoint, ranks=2, *, args=None, env=None, redirects=Std.ALL, tee=Std.NONE, specs=None, **beyond):
        """Start a job. ``entrypoint`` may be a program, a function, or ``sh`` / ``py`` source by rank."""
        beyond.setdefault("teardown", PATIENT)
        specs = specs or DefaultLogsSpecs(str(self.directory / "logs"), redirects=redirects, tee=tee)
        envs = {r: {"RANK": str(r), "DIR": str(self.directory), **(env or {})} for r in range(ranks)}
        context = start_processes("job", entrypoint, args or dict.fromkeys(range(ranks), ()), envs, specs, **beyond)
        self._contexts.append(context)
        return context

    def sh(self, *scripts, **beyond):
        """Start one rank per shell script."""
        return self.start("/bin/sh", len(scripts), args={r: ("-c", s) for r, s in enumerate(scripts)}, **beyond)

    def py(self, *sources, **beyond):
        """Start one rank per Python source."""
        return self.start(sys.executable, len(sources), args={r: ("-c", s) for r, s in enumerate(sources)}, **beyond)

    def file(self, name: str) -> str:
        """Return the contents of a file that a rank writes, once they end with a newline."""

        def whole() -> str:
            path = self.directory / name
            text = path.read_text() if path.exists() else ""
            return text if text.endswith("\n") else ""

        return self._wait_until(whole, what=f"{name} is written").strip()

    def close(self) -> None:
        """End what a test left running."""
        for context in self._contexts:
            context.close(timeout=0)


@pytest.fixture
def jobs(tmp_path, wait_until):
    """Return a starter of jobs, and end their ranks after the test."""
    started = Jobs(tmp_path, wait_until)
    yield started
    started.close()
