"""A file that is replaced again and again by a process of ours, until somebody makes it stop."""

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
"""Seconds within which the first replacements must be seen: a Python starts before that, on a busy machine too."""
SEEN = 4
"""So many of them are enough."""

_PROGRAM = """
import os, select, sys, time
path, one, two, new, every = *sys.argv[1:5], float(sys.argv[5])
while not select.select([0], [], [], every)[0]:  # its end is that of whoever started it
    for kept in (two, one):
        os.link(kept, new)
        os.replace(new, path)
"""


class Replacing:
    """Puts two files in the place of one by turns. ``start`` it, and ``stop`` it; then the file is what it was."""

    def __init__(self, path: Path, *, other: bytes, every: float) -> None:
        self._path = path
        self._other = other
        self._every = every
        self._kept = [path.with_name(f".{path.name}-{os.getpid()}-{word}") for word in ("one", "two", "new")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Result:
        """Begin, and wait (a few milliseconds) until some replacements are seen."""
        if not sys.executable:
            return Unavailable("it is not known which Python this is (sys.executable)")
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
            return Errored(f"{self._path} was seen to be replaced {found} times within {SEEN_WITHIN:g} s")
        inodes = f"inodes {one.stat().st_ino} and {two.stat().st_ino}"
        return Injected(f"{self._path} is replaced by pid {self._process.pid} again and again: {inodes} by turns")

    def stop(self) -> None:
        """End it, and put the first file back."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        one = self._kept[0]
        if one.exists():
            one.replace(self._path)
        for path in self._kept:  # the first too: to rename a file to what is a link to it does nothing
            path.unlink(missing_ok=True)
