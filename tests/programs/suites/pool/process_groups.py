"""torch's process group in reused ranks."""

import pytest
import torch
from notes import note
from torch import distributed

groups = []


@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_it(rank, seen, number, process_group):
    note(seen, rank, number)
    groups.append(process_group)
    assert len(set(map(id, groups))) == 1
    tensor = torch.tensor(float(rank))
    distributed.all_reduce(tensor)
    assert tensor == 1.0
    torch.set_default_dtype(torch.float64)
    if number == 3:
        distributed.destroy_process_group()
