"""``derail launch`` of a real torch script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail

SCRIPT = """
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
value = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(value)
print(f"the sum is {value.item():g}")
dist.destroy_process_group()
"""


@pytest.mark.torch
@pytest.mark.slow
def test_two_ranks_of_torch_add_their_numbers(derail_command: Derail, tmp_path: Path) -> None:
    """The environment is all that init_process_group needs: rank 0 serves the store on MASTER_PORT."""
    script = tmp_path / "reduce.py"
    script.write_text(SCRIPT)
    done = derail_command("launch", "--ranks", 2, script)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (
        0,
        ["[rank0]:the sum is 3", "[rank1]:the sum is 3"],
    ), done.stderr
