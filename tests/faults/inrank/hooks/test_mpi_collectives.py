"""What mpi4py's collectives leave in a ring."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from derail.diagnose.rings import read_rings
from derail.diagnose.verdict import RankView, judge
from diagnose.recorded import environment
from program_files import program_text

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import WaitUntil

MPIEXEC = shutil.which("mpiexec")
pytestmark = [
    pytest.mark.skipif(MPIEXEC is None, reason="needs mpiexec"),
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py"),
]
EXPECTED = [
    ("Barrier", 1, {0, 1}), ("bcast", 2, {0, 1}), ("Split", 3, {0, 1}), ("Barrier", 1, None), ("Dup", 4, {0, 1}),
    ("allreduce", 5, {0, 1}),
]  # fmt: skip


def test_the_collectives_of_all_communicators_are_recorded(tmp_path: Path, wait_until: WaitUntil) -> None:
    """COMM_WORLD and what is made from it; the rank that leaves one out is named."""
    env = environment(tmp_path, 0, ranks=2)
    for name in ("RANK", "WORLD_SIZE"):
        del env[name]
    env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "TMPDIR": str(tmp_path / "mpi")}
    os.mkdir(env["TMPDIR"])
    oversubscribed = ["--oversubscribe"] if os.path.basename(os.path.realpath(MPIEXEC or "")) == "orterun" else []
    argv = [MPIEXEC, *oversubscribed, "-n", "2", sys.executable, "-c", program_text("diagnose/mpi_collectives")]
    job = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        printed = [job.stdout.readline() for _ in range(2)]  # type: ignore[union-attr]
        rings = wait_until(lambda: (found := read_rings(tmp_path)) and found[0].blocking and found)
    finally:
        job.terminate()
        job.communicate()
    verdict = judge({rank: RankView(ring) for rank, ring in rings.items()}, now=float("inf"))

    assert printed == ["True 2 1\n"] * 2
    for rank, ring in rings.items():
        got = [(call.operation, call.place, call.ranks) for call in ring.calls]
        assert got[:6] == [(*each[:2], each[2] or {rank}) for each in EXPECTED]
        assert (ring.calls[6].operation, ring.calls[6].peer) == (("send", 1), ("recv", 0))[rank]
    assert verdict.ranks == (1,)
    assert verdict.lines[0].startswith("hang: rank 0 waits in Barrier #6 called at ")
