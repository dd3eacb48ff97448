"""Real torch programs under ``derail launch``, tensors as values, and error files that cross from one to the other."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from conftest import RunPython

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
]

DERAIL = str(Path(sys.executable).with_name("derail"))
TESTS = str(Path(__file__).resolve().parents[1])

ALL_REDUCE = """
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
value = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(value)
print(f"rank {dist.get_rank()} of {dist.get_world_size()} has {value.item()}", flush=True)
dist.destroy_process_group()
"""


def test_two_ranks_of_derail_launch_reduce_a_tensor(tmp_path: Path) -> None:
    """``derail launch --ranks 2`` gives a torch script what ``init_process_group`` needs: both ranks have the sum."""
    script = tmp_path / "reduce.py"
    script.write_text(ALL_REDUCE)
    done = subprocess.run(
        [DERAIL, "launch", "--ranks", "2", "--output-dir", str(tmp_path / "logs"), str(script)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    seen = [rank for rank in (0, 1) if f"rank {rank} of 2 has 3.0" in done.stdout]
    assert (done.returncode, seen) == (0, [0, 1]), done.stdout + done.stderr


WRITES = """
import sys, os
from {home} import record

@record
def main():
    raise ValueError("written by {who}")

main()
"""

READS = """
import json, sys
from {home} import ChildFailedError, ProcessFailure

failure = ProcessFailure(0, 4000, 1, sys.argv[1])
text = str(ChildFailedError("job", {{0: failure}}))
print(json.dumps([failure.message["message"], failure.timestamp > 1_700_000_000, "in main" in text]))
"""

HOME = {"torch": "torch.distributed.elastic.multiprocessing.errors", "derail": "derail.errors"}


@pytest.mark.parametrize(("writer", "reader"), [("torch", "derail"), ("derail", "torch")])
def test_error_files_cross_over(writer: str, reader: str, run_python: RunPython, tmp_path: Path) -> None:
    """What one implementation's ``record`` writes, the other's ProcessFailure reads."""
    file = tmp_path / "error.json"
    run_python(
        WRITES.format(home=HOME[writer], who=writer),
        env={"TORCHELASTIC_ERROR_FILE": str(file)},
        check=False,
    )
    done = run_python(READS.format(home=HOME[reader]), str(file))
    assert json.loads(done.stdout) == [f"ValueError: written by {writer}", True, True]


TENSORS = program_text("contract/tensors")


def test_tensors_are_returned_by_value(run_python: RunPython) -> None:
    """A rank may return a tensor; it is whole after the rank has ended."""
    done = run_python(TENSORS, env={"PYTHONPATH": TESTS}, deadline=200)
    assert done.stdout.strip() == "[[3, 100000, True], [4, 100000, True]]"
