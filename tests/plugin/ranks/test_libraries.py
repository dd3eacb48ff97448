"""The ``comm`` and ``jax_distributed`` fixtures: mpi4py and jax in tests on ranks."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from pathlib import Path

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

SOURCE = program_text("suites/ranks/libraries")
WITHOUT = """
import sys
import pytest

@pytest.fixture(autouse=True)
def without_libraries(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setitem(sys.modules, "jax", None)
"""

needs_mpi = pytest.mark.skipif(find_spec("mpi4py") is None, reason="needs mpi4py and an MPI library")
needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="needs jax")


@needs_mpi
@pytest.mark.parametrize("head", ["", "from mpi4py import MPI\n"])
def test_comm_is_the_world_of_the_ranks(
    run_pytest: RunPytest, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of forked ranks, too, if the module imports mpi4py: that is never preloaded. Nothing is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # Open MPI leaves files of this process, which imports the module, too
    result = run_pytest(head + SOURCE, "-k", "world and not two")
    result.assert_outcomes(passed=3)
    assert "not on warm ranks" not in result.stdout.str()
    assert "replaced" not in result.stdout.str()


@needs_mpi
def test_ranks_of_several_worlds_are_refused(run_pytest: RunPytest) -> None:
    """Each would be rank 0 of 1, and collectives would pass without a peer. The message has the remedy."""
    result = run_pytest(SOURCE, "-k", "two_worlds")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["MPI.COMM_WORLD has 1 rank(s), but the test has 2: *--derail-launcher 'mpiexec -n {ranks}'*"]
    )


@needs_mpi
@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="needs mpiexec")
def test_ranks_of_a_launcher_are_one_world(run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the size of the test."""
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"):
        monkeypatch.setenv(name, "1")
    result = run_pytest(SOURCE, "-k", "launched", "--derail-ranks=2", "--derail-launcher=mpiexec -n {ranks}")
    result.assert_outcomes(passed=1)


@needs_jax
def test_ranks_are_processes_of_jax(run_pytest: RunPytest) -> None:
    """Initialized for each test, or once for reused ranks."""
    result = run_pytest(SOURCE, "-k", "jax")
    result.assert_outcomes(passed=3)
    assert "replaced" not in result.stdout.str()


@needs_jax
def test_jax_and_a_process_group_do_not_share_a_port(run_pytest: RunPytest) -> None:
    """A test that requests both fails at once."""
    result = run_pytest(SOURCE, "-k", "both")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["jax_distributed and process_group: both listen at MASTER_PORT. Use one of them"])


def test_without_the_library_the_tests_are_skipped(run_pytest: RunPytest) -> None:
    """As tests with a process group are without torch."""
    run_pytest(SOURCE, "-k", "one_rank or two_worlds or test_jax", conftest=WITHOUT).assert_outcomes(skipped=3)


@pytest.mark.parametrize("name", ["comm", "jax_distributed"])
def test_they_need_ranks(run_pytest: RunPytest, name: str) -> None:
    """Otherwise the collection fails, unless the suite has its own fixture of that name."""
    result = run_pytest(f"def test_it({name}): pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*the `{name}` fixture needs @pytest.mark.ranks(n)*"])
    own = f"import pytest\n@pytest.fixture\ndef {name}():\n    return 3\ndef test_it({name}):\n    assert {name} == 3\n"
    run_pytest(own).assert_outcomes(passed=1)
