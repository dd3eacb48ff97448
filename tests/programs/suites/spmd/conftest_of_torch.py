"""A suite's conftest in the style of large training libraries: one process group for the session, more for modules."""

import os

import pytest
import torch.distributed as dist

RANK = int(os.environ["RANK"])


@pytest.fixture(scope="session", autouse=True)
def world():
    dist.init_process_group("gloo")
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def halves():
    """The two groups of a split world; each rank makes both, as torch demands."""
    return [dist.new_group([0, 1]), dist.new_group([2, 3])]
