"""Starts Python programs as recorded ranks, and builds rings by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from derail.diagnose.rings import Collective, Ring
from derail.faults.engine.prepare import SITE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def environment(rings: Path, rank: int, *, ranks: int, port: int = 0) -> dict[str, str]:
    """Return the environment of a recorded rank."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    return {
        **own,
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "DERAIL_RECORDER": str(rings),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH")))),
    }


@contextmanager
def started(
    source: str, rings: Path, *args: str, ranks: int = 1, port: int = 0
) -> Iterator[list[subprocess.Popen[str]]]:
    """Run a program on recorded ranks; kill them at the end."""
    argv = [sys.executable, "-u", "-c", source, *args]
    processes = []
    try:
        for rank in range(ranks):
            env = environment(rings, rank, ranks=ranks, port=port)
            pipe = subprocess.PIPE
            processes.append(subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def call(place: int, operation: str = "all_reduce", **facts: object) -> Collective:
    """Return a collective of all four ranks, finished unless ``left`` is None."""
    usual = {
        "number": place,
        "group": "torch:0",
        "ranks": frozenset(range(4)),
        "shapes": "float32[8]",
        "compared": True,
        "file": "/x/train.py",
        "line": 88,
        "entered": 100.0 + place / 1000,
        "left": 100.0005 + place / 1000,
    }
    return Collective(place=place, operation=operation, **{**usual, **facts})  # type: ignore[arg-type]


def ring(rank: int, calls: Sequence[Collective], **facts: object) -> Ring:
    """Return the ring of a rank of four."""
    return Ring(rank=rank, pid=1000 + rank, world=4, calls=tuple(calls), **facts)  # type: ignore[arg-type]
