"""``--derail-launcher``: ranks that another launcher places, in real pytest runs."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

TINY = Path(__file__).parents[3] / "programs" / "launchers" / "tiny.py"
ELSEWHERE = ("unshare", "--user", "--map-root-user", "--mount")
HAS_MPI = importlib.util.find_spec("mpi4py") is not None and shutil.which("mpiexec") is not None


@functools.cache
def why_no_mount_namespace() -> str:
    """Return why a process cannot be in another mount namespace, which derail takes for another machine."""
    try:
        done = subprocess.run([*ELSEWHERE, "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


@functools.cache
def why_no_slurm() -> str:
    """Return why srun does not run a job here; empty if it does."""
    try:
        done = subprocess.run(["srun", "-n", "3", "true"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr if done.returncode else ""


def launcher(*, ranks: str = "{ranks}", world: str = "{ranks}") -> str:
    """Return the option for a launcher that starts ``ranks`` ranks, and gives them ``world`` as their number."""
    return f"--derail-launcher={sys.executable} {TINY} {ranks} {world}"


def test_ranks_of_a_launcher_stay_for_all_tests_and_are_started_again_after_a_failure(
    run_pytest: RunPytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure, a death and a hang fail one test each, and name the rank; session fixtures are set up again."""
    monkeypatch.setenv("SEEN", str(tmp_path))
    source = program_text("suites/spmd/launched")
    options = ("--derail-ranks=3", "--derail-timeout=10", "--derail-grace=5", "--junitxml=report.xml")
    result = run_pytest(source, launcher(), *options)

    result.assert_outcomes(passed=2, failed=3)
    said = {case.get("name"): case for case in ET.parse("report.xml").iter("testcase")}
    failures = {name: found.get("message") for name, case in said.items() for found in case.iter("failure")}
    assert failures == {
        "test_fails": "rank 1: AssertionError: no rank 1\nassert 1 != 1",
        "test_dies": "rank 2: SIGKILL (9), in call",
        "test_hangs": "not over after 10 s: rank 0 hung",
    }
    properties = {each.get("name"): each.get("value") for each in said["test_first"].iter("property")}
    assert properties == {f"own[rank {rank}]": str(rank) for rank in range(3)}
    result.stdout.fnmatch_lines(["-* stdout of rank 1 -*", "rank 1 fails", "derail: 3 jobs, 9 ranks, *"])
    worlds = {*(tmp_path / "world-2").read_text().split()}
    assert len(worlds) == 3  # others may be ended before they have set up anything


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (launcher(world="{ranks}0"), "expected ranks 0 to 2 of 3, once each, got rank * of 30"),
        (launcher(world="1"), "expected ranks 0 to 2 of 3, once each, got rank * of 1"),
        ("--derail-launcher=no-such-launcher {ranks}", "0 of 3 ranks have come, and it ended; it said:"),
        (f"--derail-launcher={sys.executable} -c 'import sys; sys.exit(\"no nodes\")' {{ranks}}", "*no nodes"),
    ],
)
def test_a_launcher_that_starts_other_ranks_is_refused(run_pytest: RunPytest, option: str, problem: str) -> None:
    """The test fails with what the launcher said; none passes on the wrong ranks."""
    result = run_pytest("def test_it():\n    pass\n", "--derail-ranks=3", option)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{problem}*"])


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--derail-launcher=mpiexec -n 4", "expected {ranks} where the number of ranks goes, got 'mpiexec -n 4'"),
        ("--derail-launcher=mpiexec '{ranks}", 'No closing quotation: "mpiexec \'{ranks}"'),
    ],
)
def test_a_wrong_command_line_is_named(run_pytest: RunPytest, option: str, problem: str) -> None:
    """Before any rank is started."""
    result = run_pytest("def test_it():\n    pass\n", "--derail-ranks=3", option)

    assert result.ret != pytest.ExitCode.OK
    assert f"--derail-launcher: {problem}" in result.stdout.str() + result.stderr.str()


def test_tests_with_mpi_on_ranks_without_its_world_are_refused(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    """Each rank would be alone, and pass."""
    pytester.mkpydir("mpi4py").joinpath("MPI.py").write_text(program_text("suites/spmd/lonely_mpi"))
    source = "from mpi4py import MPI\ndef test_it():\n    pass\n"
    result = run_pytest(source, "--derail-ranks=3", ini="pythonpath = .")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*MPI.COMM_WORLD has 1 rank(s), and the test has 3:*--derail-launcher*"])


@pytest.mark.skipif(not HAS_MPI, reason="needs mpiexec, and mpi4py: pip install mpi4py")
def test_a_suite_with_mpi_runs_unchanged_and_goes_on_in_a_new_world(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed rank fails one test."""
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"):
        monkeypatch.setenv(name, "1")
    options = ("--derail-ranks=3", "--derail-timeout=10", "--derail-launcher=mpiexec -n {ranks}")
    result = run_pytest(program_text("suites/spmd/with_mpi"), *options)

    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "hang: ranks 0, 2 wait in Barrier #3 called at test_it.py:*",
            "      rank 1 never called it: after allreduce #2 it went to evaluate() at test_it.py:*   <- look here",
            "derail: 2 jobs, 6 ranks, *",
            "FAILED *::test_dies - rank 2: *in call",
            "FAILED *::test_hangs - not over after 10 s: *",
        ]
    )


def test_a_suite_runs_unchanged_under_slurm(
    run_pytest: RunPytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm lets other ranks run when one has gone: that one is blamed at the latest at the time limit."""
    if problem := why_no_slurm():
        pytest.skip(f"needs a Slurm that runs jobs, which SLURM_CONF names: {problem}")
    monkeypatch.setenv("SEEN", str(tmp_path))
    options = ("--derail-ranks=3", "--derail-timeout=10", "--derail-grace=60", "--derail-launcher=srun -n {ranks}")
    result = run_pytest(program_text("suites/spmd/launched"), *options)

    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "rank 2: SIGKILL (9), in call  <- root cause",
            "derail: 3 jobs, 9 ranks, *",
            "FAILED *::test_fails - rank 1: AssertionError: no rank 1",
            "FAILED *::test_dies - rank 2: SIGKILL (9), in call",
            "FAILED *::test_hangs - not over after 10 s: rank 0 hung",
        ]
    )

    result = run_pytest(program_text("suites/spmd/hangs"), *options, "-k", "elsewhere")
    result.stdout.fnmatch_lines(
        ["      rank 1 never called it: after exchange #5 of group 'halo' it went to evaluate() *"]
    )


@pytest.mark.parametrize("elsewhere", ["", "0", "1", "012"], ids=["none", "waits", "culprit", "all"])
def test_a_hang_names_the_rank_that_the_others_wait_for(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, elsewhere: str
) -> None:
    """Ranks on other machines answer with their collectives and stacks."""
    if elsewhere and why_no_mount_namespace():
        pytest.skip(f"no rank can be where the controller does not see it: {why_no_mount_namespace()}")
    monkeypatch.setenv("TINY_ELSEWHERE", elsewhere)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what a killed rank leaves there, derail does not see
    result = run_pytest(program_text("suites/spmd/hangs"), launcher(), "--derail-ranks=3", "--derail-timeout=2")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "hang: ranks 0, 2 wait in exchange #6 (group 'halo') called at test_it.py:*",
            "      rank 1 never called it: after exchange #5 of group 'halo' it went to evaluate() at *   <- look here",
            "-* rank 1: where it was -*",
            "*, line * in evaluate",
            "hang: ranks 0, 1 wait in exchange #2 (group 'halo') called at test_it.py:*",
            "      rank 2 has finished the test after exchange #1 of group 'halo'   <- look here",
        ]
    )


def test_a_rank_elsewhere_that_does_not_answer_does_not_delay_the_verdict(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It holds the interpreter's lock; what the others have recorded counts."""
    if why_no_mount_namespace():
        pytest.skip(f"no rank can be where the controller does not see it: {why_no_mount_namespace()}")
    monkeypatch.setenv("TINY_ELSEWHERE", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    source = program_text("suites/spmd/hangs").replace("evaluate()\n    exchange", "hold()\n    exchange")
    options = ("--derail-ranks=3", "--derail-timeout=2", "-k", "elsewhere")
    result = run_pytest(source, launcher(), *options)

    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "hang: no rank stands out: rank 1 has recorded nothing and gave no stack",
            "      ranks 0, 2 wait in exchange #6 (group 'halo') called at test_it.py:*",
            "derail: 1 job, 3 ranks, *",
        ]
    )


def test_without_records_a_hang_has_stacks_and_no_verdict(run_pytest: RunPytest) -> None:
    """The recorder can be switched off."""
    options = ("--derail-ranks=3", "--derail-timeout=2", "--derail-record=no", "-k", "elsewhere")
    result = run_pytest(program_text("suites/spmd/hangs"), launcher(), *options)

    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["-* rank 1: where it was -*", "*, line * in evaluate"])
    result.stdout.no_fnmatch_line("*look here*")


def test_a_rank_that_has_gone_is_blamed_when_the_launcher_lets_the_others_run(
    run_pytest: RunPytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the latest at the time limit of the test, and the others do not hang."""
    monkeypatch.setenv("SEEN", str(tmp_path))
    monkeypatch.setenv("TINY_LETS_RUN", "1")
    options = ("--derail-ranks=3", "--derail-timeout=3", "--derail-grace=60", "-k", "test_dies")
    result = run_pytest(program_text("suites/spmd/launched"), launcher(), *options)

    result.assert_outcomes(failed=1, deselected=4)
    result.stdout.fnmatch_lines(
        ["rank 0: stopped in call, because of another rank", "rank 2: *in call  <- root cause", "FAILED * - rank 2: *"]
    )


def test_the_rank_that_ended_first_is_blamed_whatever_the_launcher_says(
    run_pytest: RunPytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPICH's hydra names any of the ranks that it has killed itself."""
    monkeypatch.setenv("SEEN", str(tmp_path))
    monkeypatch.setenv("TINY_BLAMES", "0")
    options = ("--derail-ranks=3", "--derail-timeout=30", "-k", "test_dies")
    result = run_pytest(program_text("suites/spmd/launched"), launcher(), *options)

    result.assert_outcomes(failed=1, deselected=4)
    result.stdout.fnmatch_lines(["rank 2: *in call  <- root cause"])
