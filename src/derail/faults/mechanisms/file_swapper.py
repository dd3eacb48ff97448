"""Helper process that keeps replacing a file until it is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from derail.faults.model.results import Errored, Injected, Unavailable
from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from pathlib import Path

    from derail.faults.model.results import Result

SEEN_WITHIN = 60.0
"""Seconds to wait for the first replacements: longer than Python takes to start, even on a busy machine."""
SEEN = 4
"""Number of observed replacements that count as evidence."""

_PROGRAM = """
import os, select, sys, time
path, one, two, new, every = *sys.argv[1:5], float(sys.argv[5])
while not select.select([0], [], [], every)[0]:  # ends when its starter closes the pipe
    for kept in (two, one):
        os.link(kept, new)
        os.replace(new, path)
"""


class Replacing:
    """Alternating replacement of a file by two versions. After ``start`` and ``stop`` it is the original again."""

    def __init__(self, path: Path, *, other: bytes, every: float) -> None:
        self._path = path
        self._other = other
        self._every = every
        self._kept = [path.with_name(f".{path.name}-{os.getpid()}-{word}") for word in ("one", "two", "new")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Result:
        """Start the replacements, and wait (a few milliseconds) until some are observed."""
        if not sys.executable:
            return Unavailable("sys.executable is empty: derail cannot start Python")
        one, two, _ = self._kept
        os.link(self._path, one)
        two.write_bytes(self._other)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, self._path, *self._kept, str(self._every)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env={}, cwd="/",
        )  # fmt: skip
        found, last = 0, self._path.stat().st_ino
        end = SYSTEM_CLOCK.now() + SEEN_WITHIN
        while found < SEEN and SYSTEM_CLOCK.now() < end and self._process.poll() is None:
            now = self._path.stat().st_ino
            found, last = found + (now != last), now
        if found < SEEN:
            return Errored(f"{self._path}: expected {SEEN} replacements within {SEEN_WITHIN:g} s, got {found}")
        inodes = f"inodes {one.stat().st_ino} and {two.stat().st_ino}"
        return Injected(f"pid {self._process.pid} keeps replacing {self._path}: {inodes} in turn")

    def stop(self) -> None:
        """End the process, and restore the first file."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        one = self._kept[0]
        if one.exists():
            one.replace(self._path)
        for path in self._kept:  # the first as well: renaming a file onto a hard link to itself does nothing
            path.unlink(missing_ok=True)
