"""The ``process_group`` fixture: torch's default group, per test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]


@pytest.mark.torch
def test_a_group_is_joined_before_the_test_and_left_after_it(run_pytest: RunPytest) -> None:
    """Collectives work; a failure in one rank is the root cause of what the others then meet."""
    result = run_pytest(
        """
import pytest

@pytest.mark.ranks([1, 2])
def test_all_reduce(rank, world_size, process_group):
    import torch
    tensor = torch.tensor(float(rank))
    torch.distributed.all_reduce(tensor, group=process_group)
    assert tensor == sum(range(world_size))

@pytest.fixture
def after(request):
    yield
    import torch
    assert not torch.distributed.is_initialized()

@pytest.mark.ranks(2)
def test_one_fails(after, process_group, rank):
    import torch
    if rank == 1:
        raise ValueError("only here")
    torch.distributed.barrier()
"""
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "rank 0: *",
            "rank 1: failed in call: ValueError: only here  <- root cause",
            "FAILED *test_one_fails - rank 1: ValueError: only here",
        ]
    )


def test_without_torch_the_test_is_skipped_and_nobody_else_imports_it(run_pytest: RunPytest) -> None:
    """Nobody imports it but tests that ask for the group."""
    result = run_pytest(
        """
import sys
import pytest

@pytest.mark.ranks(2)
def test_group(process_group):
    pass

@pytest.mark.ranks(2)
def test_other():
    assert "torch" not in sys.modules
""",
        conftest="""
import sys
import pytest

@pytest.fixture(autouse=True)
def without_torch(request, monkeypatch):
    if request.node.name == "test_group":
        monkeypatch.setitem(sys.modules, "torch", None)
""",
    )
    result.assert_outcomes(passed=1, skipped=1)
