"""``--derail-ranks``: suites that were written for ``torchrun -m pytest``, in real pytest runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import psutil
import pytest

from plugin.ranks.deaths import ALL
from plugin.ranks.test_deaths import ENDS, PATH
from program_files import program_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

CONFTEST, PLAIN = (program_text(f"suites/spmd/{name}") for name in ("conftest_of_ranks", "plain"))
BAD = ("error", "failure", "skipped")
BY_RANK = "import os\nimport pytest\nRANK = int(os.environ['RANK'])\n"
ENDS_A_RANK = """
def test_ends_a_rank():
    if RANK == 1:
        os._exit(3)
def test_goes_on():
    pass
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Return what each rank has noted under a name."""
    monkeypatch.setenv("SEEN", str(tmp_path))
    return lambda name, ranks=3: [(tmp_path / f"{name}-{rank}").read_text().splitlines() for rank in range(ranks)]


def cases() -> Iterator[ET.Element]:
    """Yield the tests of the report of derail in the current directory."""
    return ET.parse("report.xml").iter("testcase")


def test_each_rank_imports_and_sets_up_everything_itself(run_pytest: RunPytest, seen) -> None:
    """Also fixtures of the module and the session: once, with the rank's own RANK, in processes that are reused."""
    result = run_pytest(PLAIN, "--derail-ranks=3", "-rs", conftest=CONFTEST)

    result.assert_outcomes(passed=6, skipped=1)
    result.stdout.fnmatch_lines(["derail: 1 job, 3 ranks, *", "SKIPPED * rank 1: not on this rank"])
    assert seen("module") == [["up"]] * 3
    for up, down in seen("session"):
        assert up.removeprefix("up") == down.removeprefix("down")


@pytest.mark.parametrize("given", ["environment", "ini"])
def test_the_number_of_ranks_may_stand_elsewhere(run_pytest: RunPytest, seen, monkeypatch, given: str) -> None:
    """The environment, and the ini file."""
    if given == "environment":
        monkeypatch.setenv("DERAIL_RANKS", "3")
    result = run_pytest(PLAIN, conftest=CONFTEST, ini="derail_ranks = 3" if given == "ini" else "")

    result.assert_outcomes(passed=6, skipped=1)
    assert seen("module") == [["up"]] * 3


@pytest.mark.parametrize("given", ["-1", "two"])
def test_a_wrong_number_of_ranks_is_a_usage_error(run_pytest: RunPytest, monkeypatch, given: str) -> None:
    """It says where it was found."""
    monkeypatch.setenv("DERAIL_RANKS", given)
    result = run_pytest("")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: DERAIL_RANKS: expected a number of ranks, 0 or more, got '{given}'"])


def test_a_marker_has_priority_and_can_keep_a_test_off_the_ranks(run_pytest: RunPytest) -> None:
    """Tests that start jobs themselves, and doctests, stay in the controller as well: it has no RANK any more."""
    result = run_pytest(program_text("suites/spmd/elsewhere"), "--derail-ranks=3", "--doctest-modules")

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["derail: 3 jobs, 6 ranks, *"])


def test_all_ranks_are_replaced_after_a_death_and_set_up_again(run_pytest: RunPytest, seen) -> None:
    """The failure names the rank; the session continues."""
    result = run_pytest(BY_RANK + ENDS_A_RANK, "--derail-ranks=3", conftest=CONFTEST)

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_ends_a_rank - rank 1: exit 3, in call"])
    assert [line.split()[0] for line in seen("session")[1]] == ["up", "up", "down"]
    for *_, up, down in seen("session"):
        assert up.removeprefix("up") == down.removeprefix("down")


@pytest.mark.parametrize("afterwards", [False, True], ids=["as collected", "afterwards"])
@pytest.mark.parametrize("chosen", ["-k=two", "test_it.py::test_two", "--pdb"])
def test_a_conftest_may_write_the_rank_into_node_ids(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, chosen: str, afterwards: bool
) -> None:
    """Ranks find their tests nevertheless; also with --pdb, when each test has new ranks."""
    if afterwards:
        monkeypatch.setenv("AFTERWARDS", "1")
    source = BY_RANK + "def test_one():\n    pass\ndef test_two():\n    assert RANK in (0, 1)\n"
    conftest = program_text("suites/spmd/conftest_that_renames")
    result = run_pytest(source, "--derail-ranks=2", "-v", chosen, conftest=conftest)

    result.assert_outcomes(passed=2 if chosen == "--pdb" else 1, deselected=chosen.startswith("-k"))
    result.stdout.fnmatch_lines(["*::test_two*Rank 0* PASSED*"])


def test_tests_that_differ_between_ranks_are_an_error_that_names_the_first(run_pytest: RunPytest) -> None:
    """With torchrun the ranks would wait for each other in different tests."""
    source = BY_RANK + "@pytest.mark.parametrize('shard', [0, RANK + 5])\ndef test_shard(shard):\n    pass\n"
    result = run_pytest(source, "--derail-ranks=2")

    result.assert_outcomes(failed=2)
    difference = "number 1 is test_it.py::test_shard[[]6[]] in rank 1, and test_it.py::test_shard[[]5[]] in rank 0"
    result.stdout.fnmatch_lines([f"*the ranks have collected different tests: {difference}*"])


def test_workers_of_xdist_have_their_own_ranks(run_pytest: RunPytest, seen) -> None:
    """And no RANK once the tests are collected."""
    source = PLAIN + "\n@pytest.mark.no_ranks\ndef test_here():\n    assert 'RANK' not in os.environ\n"
    conftest = CONFTEST.replace(", autouse=True", "")
    result = run_pytest(source, "--derail-ranks=3", "-n2", "--dist=loadfile", conftest=conftest, plugins=("xdist",))

    result.assert_outcomes(passed=7, skipped=1)
    assert seen("module") == [["up"]] * 3


def test_options_of_pytest_work_on_tests_and_not_on_ranks(run_pytest: RunPytest) -> None:
    """-x stops after a test, --maxfail counts tests, and JUnit has one case each."""
    source = BY_RANK + "@pytest.mark.parametrize('n', range(4))\ndef test_fails(n):\n    assert RANK == 0\n"
    run_pytest(source, "--derail-ranks=2", "-x").assert_outcomes(failed=1)
    run_pytest(source, "--derail-ranks=2", "--maxfail=2", "--junitxml=report.xml").assert_outcomes(failed=2)

    assert [case.get("name") for case in cases()] == ["test_fails[0]", "test_fails[1]"]


def test_a_conftest_that_waits_for_other_ranks_is_named(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    """With the environment of rank 0, a process group would wait for them for half an hour."""
    pytester.makepyfile(quick="import pytest_derail.ranks.spmd as spmd\nspmd.START_SECONDS = 0.0\n")
    pytester.syspathinsert()
    conftest = "import threading\ndef join():\n    threading.Event().wait()\njoin()\n"
    result = run_pytest("", "--derail-ranks=2", "--derail-timeout=0.5", conftest=conftest, plugins=("quick",))

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stderr.no_fnmatch_line("*_pytest*")
    result.stderr.fnmatch_lines(
        ["derail: the collection was not over after 0.5 s.*It was here:", "*conftest.py*, in join"]
    )


@pytest.mark.slow
def test_each_death_of_a_plain_suite_is_named_and_the_session_goes_on(
    run_pytest: RunPytest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that hang take their whole time."""
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setenv("MEETING", str(tmp_path))
    options = ("--derail-ranks=4", "--derail-timeout=10", "--show-capture=no", "--junitxml=report.xml")
    result = run_pytest(program_text("suites/spmd/deaths"), *options)

    result.assert_outcomes(failed=len(ALL), passed=1)
    said = {case.get("name"): found.get("message") for case in cases() for found in case.iter("failure")}
    assert said == {
        f"test_death[{death.id}]": f"rank {death.rank}: {ENDS[death.die]}"
        if death.die in ENDS
        else f"not over after 10 s: rank {death.rank} hung"
        for death in ALL
    }


def torchrun(directory: Path, *options: str, seconds: float) -> tuple[int | None, str, dict[str, set[str]]]:
    """Run the suite in a directory with torchrun; return its exit code, its output, and the results of each test.

    The exit code is None if it was not over after ``seconds``.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    command += ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:derail", "--junitxml=report-$RANK.xml", *options]
    with subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            ranks = psutil.Process(process.pid).children(recursive=True)
            for each in (*ranks, process):
                each.kill()
            output, _ = process.communicate()
            code = None
    results: dict[str, set[str]] = defaultdict(set)
    for path in directory.glob("report-?.xml"):
        for case in ET.parse(path).iter("testcase"):
            results[f"{case.get('name')}"].add(next((found.tag for found in case if found.tag in BAD), "passed"))
    return code, output, results


@pytest.mark.torch
def test_a_suite_for_torchrun_has_the_same_verdicts(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of collectives, groups, state of modules, skips, expected failures, and failures of all ranks or of one."""
    conftest, source = (program_text(f"suites/spmd/{name}") for name in ("conftest_of_torch", "collectives"))
    ours = run_pytest(source, "--derail-ranks=4", "--junitxml=report.xml", conftest=conftest)
    theirs = torchrun(pytester.path, seconds=100)

    found = {f"{case.get('name')}": next((each.tag for each in case if each.tag in BAD), "passed") for case in cases()}
    merged = {name: next(tag for tag in (*BAD, "passed") if tag in tags) for name, tags in theirs[2].items()}
    print(f"{len(found)} tests: {Counter(found.values())}")
    assert found == merged, theirs[1]
    ours.assert_outcomes(passed=15, skipped=1, xfailed=1, failed=3)
    ours.stdout.fnmatch_lines(
        [
            "FAILED *::test_fails_on_rank_two - rank 2: AssertionError: rank 2 ha*",
            "FAILED *::test_raises_on_rank_three - rank 3: RuntimeError: checkpoi*",
        ]
    )


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_has_no_report_of_any_death(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same deaths: each hangs for ever, is green, or ends the session, and is in no rank's JUnit file."""
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setenv("MEETING", str(tmp_path))
    pytester.makepyfile(test_it=program_text("suites/spmd/deaths"))
    found: dict[str, list[str]] = defaultdict(list)
    for death in ALL:
        code, _, results = torchrun(pytester.path, "-k", f"{death.id} or another", seconds=20)
        if code is None:
            found["hangs"].append(death.id)
        elif code == 0:
            found["green"].append(death.id)
        elif "failure" not in results.get(f"test_death[{death.id}]", ()):
            found["ends the session"].append(death.id)
        for path in pytester.path.glob("report-?.xml"):
            path.unlink()

    print({name: len(deaths) for name, deaths in found.items()})
    assert sorted(each for deaths in found.values() for each in deaths) == sorted(death.id for death in ALL)
    assert set(found["green"]) == {f"exit_early-{rank}-not_missed" for rank in (0, 3)}
    assert {f"hang_in_c-{rank}-not_missed" for rank in (0, 3)} <= set(found["hangs"])
