"""Warm ranks in real pytest runs: the zygote, its imports, and its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from derail import faults
from derail.agents.invocation import LocalJob
from derail.agents.native_job import start_job
from derail.faults import Plan
from derail.faults.mechanisms import namespaces
from derail.platform import exits
from program_files import program_text

if TYPE_CHECKING:
    from pathlib import Path

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

NAMESPACES = pytest.mark.skipif(bool(namespaces.why_not("mount")), reason=namespaces.why_not("mount"))


@pytest.fixture
def noted(tmp_path_factory, monkeypatch):
    """Return what inner tests have written with ``note``: one JSON document a line."""
    path = tmp_path_factory.mktemp("noted") / "lines"
    path.touch()
    monkeypatch.setenv("NOTED", str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


NOTE = program_text("suites/prefork/notes")


def test_all_tests_are_forked_from_one_process(run_pytest: RunPytest, pytester: pytest.Pytester, noted) -> None:
    """It imports what all test modules import; ranks import conftest files and the modules themselves."""
    pytester.makepyfile(
        test_other=NOTE
        + """
import wave

@pytest.mark.ranks(1)
def test_other():
    note("other", os.getppid(), os.getpid())
"""
    )
    result = run_pytest(
        NOTE
        + """
import colorsys

note("module", os.getpid(), os.environ.get("RANK"))

@pytest.mark.ranks(2)
@pytest.mark.parametrize("number", [1, 2])
def test_it(rank, number):
    note("test", os.getppid(), os.getpid())
""",
        conftest=NOTE
        + """
loaded = [name for name in ("colorsys", "wave") if name in sys.modules]
note("conftest", os.getpid(), os.environ.get("RANK"), loaded)
""",
    )
    result.assert_outcomes(passed=3)
    told = noted()
    (resident,) = {line[1] for line in told if line[0] in ("test", "other")}
    ranks = {line[2] for line in told if line[0] in ("test", "other")}
    assert len(ranks) == 5
    imported = [line for line in told if line[0] in ("module", "conftest")]
    assert all(line[1] != resident and (line[2] is None) == (line[1] not in ranks) for line in imported)
    assert {tuple(line[3]) for line in imported if line[0] == "conftest" and line[2]} == {("colorsys", "wave")}


def test_a_session_that_was_made_ready_is_like_one_that_was_not(run_pytest: RunPytest, noted) -> None:
    """Its options, settings, plugins, fixtures and paths, and what conftest files add to them, are those of a spawned
    rank."""
    source = program_text("suites/prefork/configuration")
    conftest = program_text("suites/prefork/conftest_with_options")
    ini = "own_ini = here\naddopts = --own=given --strict-markers\nfilterwarnings =\n    error\npythonpath = .\n"
    for method in ("warm", "spawn"):
        options = ("-p", "xdist", f"--derail-start-method={method}", "test_it.py")
        result = run_pytest(source, *options, ini=ini, conftest=conftest)
        result.assert_outcomes(passed=1)
    (warm,), (spawned,) = noted()
    for facts in (warm, spawned):
        del facts["options"]["derail_start_method"]
    assert warm == spawned


def test_a_session_is_made_ready(pytester: pytest.Pytester, run_python) -> None:
    """All of pytest's work before the suite's own code is done before the fork."""
    pytester.makepyfile(test_it="def test_it():\n    pass\n")
    directory = str(pytester.path)
    done = run_python(
        f"""
from pytest_derail.ranks.prefork import pytest_session
made = pytest_session.Preparation.of(("-p", "no:cacheprovider"), {directory!r})
made()
assert pytest_session.take(pytest_session.Preparation.of(("-q",), {directory!r})) is None
session = pytest_session.take(made)
print(type(session).__name__, session.config.rootpath, pytest_session.take(made))
"""
    )
    assert done.stdout.split() == ["Session", directory, "None"]


def test_plugins_of_the_suite_itself_are_left_to_the_ranks(
    run_pytest: RunPytest, pytester: pytest.Pytester, noted
) -> None:
    """A plugin that is not installed may read RANK when it is imported."""
    pytester.makepyfile(own_plugin=NOTE + "note(os.getpid(), os.environ.get('RANK'))\n")
    result = run_pytest(
        NOTE
        + """
@pytest.mark.ranks(1)
def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.hasplugin("own_plugin")
    note(os.getpid(), "in the test")
""",
        ini="pythonpath = .",
        plugins=("own_plugin",),
    )
    result.assert_outcomes(passed=1)
    *_, [rank, _] = noted()
    assert [line[1] for line in noted()][-2:] == ["0", "in the test"]
    assert {line[1] for line in noted()[:-1] if line[0] != rank} == {None}


def test_what_is_preloaded_can_be_said(run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, noted) -> None:
    """The order of precedence is marker, command line, environment, ini file."""
    source = (
        NOTE
        + """
import wave
FOUND = [name for name in ("colorsys", "tabnanny", "timeit", "zipapp") if name in sys.modules]

@pytest.mark.ranks(1)
def test_it():
    note(FOUND)

@pytest.mark.ranks(1, preload=["colorsys"])
def test_marker():
    note(FOUND)
"""
    )
    for options, env, ini, found in (
        ((), None, "derail_preload = tabnanny timeit", ["tabnanny", "timeit"]),
        ((), "zipapp", "derail_preload = tabnanny", ["zipapp"]),
        (("--derail-preload=timeit, zipapp",), "tabnanny", "", ["timeit", "zipapp"]),
    ):
        before = len(noted())
        monkeypatch.delenv("DERAIL_PRELOAD", raising=False)
        if env is not None:
            monkeypatch.setenv("DERAIL_PRELOAD", env)
        result = run_pytest(source, *options, ini=ini)
        result.assert_outcomes(passed=2)
        assert noted()[before:] == [[found], [["colorsys"]]]


def test_what_is_wrong_with_preload_is_told(run_pytest: RunPytest) -> None:
    """The error for a name in place of a list of names."""
    result = run_pytest("import pytest\n@pytest.mark.ranks(1, preload='torch')\ndef test_it():\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*preload: expected a list of module names, got 'torch'"])


def test_a_module_that_has_changed_is_imported_anew(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    """Also a preloaded one of the suite."""
    pytester.makepyfile(own_module="value = 1")
    result = run_pytest(
        program_text("suites/prefork/changes_module"),
        ini="pythonpath = .\nderail_preload = own_module",
    )
    result.assert_outcomes(passed=3)


def test_where_a_fork_would_not_be_like_a_new_process_ranks_are_spawned(
    run_pytest: RunPytest, pytester: pytest.Pytester, noted
) -> None:
    """The last lines of pytest give the reason once for all tests."""
    pytester.makepyfile(
        starts_thread="import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    result = run_pytest(
        NOTE
        + """
@pytest.mark.ranks(1)
@pytest.mark.parametrize("number", [1, 2])
def test_it(number):
    note(os.getppid(), sys.argv[0])
""",
        ini="pythonpath = .\nderail_preload = starts_thread",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["derail: 2 tests not on warm ranks, but on spawned ones: preloaded modules have started 1 thread(s), *"]
    )


def test_one_module_that_cannot_be_preloaded_spoils_it_for_its_own_tests_only(
    run_pytest: RunPytest, pytester: pytest.Pytester, noted
) -> None:
    """The imports of all modules are tried together first, then those of each module."""
    site = pytester.mkdir("site")
    (site / "starts_thread.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    test = "@pytest.mark.ranks(1)\ndef test_it():\n    note(os.environ['PYTEST_CURRENT_TEST'], os.getppid())\n"
    for name in ("test_a", "test_z"):
        pytester.makepyfile(**{name: f"{NOTE}\nimport starts_thread\n{test}"})
    result = run_pytest(
        NOTE + test,
        # Where packages are installed: the module of this test is one of them.
        conftest="""
import os
from derail.spawn.zygote import import_scan

installed = import_scan._installed()
import_scan._installed = lambda: (*installed, os.path.join(os.path.dirname(__file__), "site") + os.sep)
""",
        ini="pythonpath = site",
    )
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["derail: 2 tests not on warm ranks, *have started 1 thread(s)*"])
    told = {name.partition(".")[0]: parent for name, parent in noted()}
    assert told["test_a"] == told["test_z"] != told["test_it"]


def test_jobs_of_the_fixture_may_be_warm(run_pytest: RunPytest) -> None:
    """The zygote, which stays for later tests, is no leftover of the test."""
    result = run_pytest(
        """
import os
from pytest_derail import assert_succeeded

def work():
    return os.getppid()

def test_it(derail):
    first, second = (derail.run(work, ranks=1, start_method="warm") for _ in range(2))
    assert_succeeded(first)
    assert first.return_values == second.return_values
"""
    )
    result.assert_outcomes(passed=1)


def test_each_worker_of_xdist_forks_from_a_process_of_its_own(run_pytest: RunPytest, noted) -> None:
    """No worker waits for the zygote of another."""
    result = run_pytest(
        NOTE
        + """
@pytest.mark.ranks(1)
@pytest.mark.parametrize("number", range(6))
def test_it(number, worker_id):
    note(worker_id, os.getppid())
""",
        "-n",
        "2",
        plugins=("xdist",),
    )
    result.assert_outcomes(passed=6)
    told = set(map(tuple, noted()))
    assert (len(told), len(dict(told)), len({resident for _, resident in told})) == (2, 2, 2)


# ---- the plugin's own failures


def kernel_keeps_statuses() -> bool:
    """Return whether the exit status of a process reaped elsewhere can be read (Linux 6.15)."""
    child = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(child.pid)
    try:
        child.wait()
        return exits.ask_kernel(pidfd) is not None
    finally:
        os.close(pidfd)


def test_the_zygote_is_killed_in_the_middle_of_a_test(run_pytest: RunPytest, noted) -> None:
    """How the ranks of that test ended the kernel tells, if it keeps that; else it may be lost, and the test fails, and
    says so. The next ones have a new one; ranks that are kept go on."""
    result = run_pytest(program_text("suites/prefork/killed_zygote"))
    if kernel_keeps_statuses() or result.parseoutcomes() == {"passed": 5}:
        result.assert_outcomes(passed=5)
    else:
        result.assert_outcomes(passed=4, failed=1)
        result.stdout.fnmatch_lines(["rank 0: exit status lost: the zygote (*), * was killed, *"])
    told = noted()
    assert len({line[1] for line in told if line[0] in ("killed", "after")}) == 2
    assert len({line[1] for line in told if line[0] == "kept"}) == 2


@NAMESPACES
@pytest.mark.parametrize("reuse", ["None", "'module'"])
def test_the_disk_is_full(pytester: pytest.Pytester, tmp_path: Path, reuse: str) -> None:
    """Each test fails with the error, none hangs, and pytest ends."""
    pytester.makepyfile(
        test_it=f"""
import pytest

@pytest.mark.ranks(2, timeout=10, reuse={reuse})
@pytest.mark.parametrize("number", [1, 2, 3])
def test_it(number):
    print("x" * 200_000)
"""
    )
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_derail.plugin", "-rA"]
    job = start_job(
        LocalJob(
            [*command, f"--basetemp={disk}/b", str(pytester.path / "test_it.py")],
            ranks=1,
            env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            plan=Plan((faults.full_disk(str(disk), size="300K", rank=0),)),
        ),
        workdir=tmp_path / "work",
    )
    try:
        seen = job.wait(120)
    finally:
        job.close()
    text = job.log(0, "stdout").read_text()
    assert [str(told.status) for told in seen.faults] == ["injected"]
    assert (str(seen.ranks[0].status), seen.leftovers) == ("exit 1", ()), text
    assert "No space left on device" in text
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("number", [30, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_many_tests_in_a_row_cost_nothing_in_the_end(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """There are no more descriptors, processes or threads after the last one than after the first."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("NUMBER", str(number))
    pytester.makepyfile(test_it=program_text("suites/prefork/rows"))
    options = ("-q", "-p", "no:cacheprovider", "-p", "pytest_derail.plugin")
    result = pytester.runpytest_subprocess(*options, timeout=6 * number + 60)
    result.assert_outcomes(passed=2 * number + 4)


def test_what_handed_values_are_made_of_is_preloaded(run_pytest: RunPytest, noted) -> None:
    """A plugin's fixture gives each test an object of its package, which ranks find imported."""
    result = run_pytest(
        """
import pytest

@pytest.fixture(scope="session")
def handed():
    from fractions import Fraction
    return Fraction(1, 3)

@pytest.mark.ranks(2)
def test_it(handed):
    assert handed.denominator == 3
""",
        conftest=NOTE
        + """
@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    note(os.environ.get("RANK"), "fractions" in sys.modules)
    return (yield)
""",
        ini="derail_preload = json",
    )
    result.assert_outcomes(passed=1)
    assert sorted(noted(), key=str) == [["0", True], ["1", True], [None, False]]
