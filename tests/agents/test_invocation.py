"""Command lines and environments of ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from derail.agents.invocation import entry_point, missing_program, rank_environment


def test_a_script_is_run_by_this_python_without_buffering() -> None:
    """A path that ends in .py runs under sys.executable -u, as under torchrun."""
    assert entry_point("train.py") == (sys.executable, ("-u", "train.py"))
    assert entry_point(Path("a/train.py")) == (sys.executable, ("-u", "a/train.py"))


def test_any_other_path_is_a_program() -> None:
    """Only scripts get a Python."""
    assert entry_point("sleep") == ("sleep", ())


def test_an_argv_is_not_modified() -> None:
    """The caller decides about everything in it."""
    assert entry_point(["python3", Path("train.py"), "x"]) == ("python3", ("train.py", "x"))


def test_a_function_has_no_argv() -> None:
    """Functions need no argv."""
    assert entry_point(print) == (print, ())


@pytest.mark.parametrize("nothing", [[], "", [""]])
def test_nothing_to_run_is_refused(nothing: list[str] | str) -> None:
    """An empty argv is an error at once, not at the start of the ranks."""
    with pytest.raises(ValueError, match="no program"):
        entry_point(nothing)


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    """The message has the whole path, resolved as by the ranks."""
    (tmp_path / "here.py").touch()
    assert missing_program("here.py", tmp_path) == ""
    assert missing_program("gone.py", tmp_path) == f"there is no script {tmp_path}/gone.py"
    assert missing_program(["gone.py"]) == missing_program(print) == missing_program("gone") == ""


def test_a_rank_gets_the_variables_of_torchrun() -> None:
    """Every variable that torchrun sets for one node is set, so that none of an outer job shines through."""
    assert rank_environment(1, ranks=4, run_id="x", master_port=29500) == {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "ROLE_RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "4",
        "ROLE_WORLD_SIZE": "4",
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_NAME": "default",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "x",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }
