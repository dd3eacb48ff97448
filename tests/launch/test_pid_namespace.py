"""Jobs in a separate PID namespace, as in a container: pids are consecutive there, and wrap around soon."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from program_files import PROGRAMS

NAMESPACES = (
    ("unshare", "--pid", "--fork", "--mount-proc"),
    ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"),
)

LAUNCH = PROGRAMS / "launch"
JOBS = "import os\nfrom small_jobs import job, sleepers\n"


@functools.cache
def _why_not(namespace: tuple[str, ...]) -> str:
    try:
        done = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False, timeout=60)
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


@pytest.fixture
def run_inside():
    """Return a function that runs a program (or source behind ``JOBS``) as the first process of a PID namespace."""

    def run(source: str | Path, *arguments: str, proc: bool = True) -> str:
        namespace = next((each for each in NAMESPACES if not _why_not(each)), None)
        if namespace is None:
            pytest.skip(f"no PID namespace may be made here: {_why_not(NAMESPACES[0]).strip()}")
        command = [part for part in namespace if proc or part != "--mount-proc"]
        done = subprocess.run(
            [
                *command,
                sys.executable,
                *([str(source)] if isinstance(source, Path) else ["-c", JOBS + source]),
                *arguments,
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(LAUNCH), os.environ.get("PYTHONPATH", "")])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout

    return run


@pytest.fixture
def run_command():
    """Return a function that runs ``derail`` as the first process of a PID namespace."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        namespace = next((each for each in NAMESPACES if not _why_not(each)), None)
        if namespace is None:
            pytest.skip(f"no PID namespace may be made here: {_why_not(NAMESPACES[0]).strip()}")
        derail = [sys.executable, "-c", "from derail.cli import main; main()"]
        return subprocess.run(
            [*namespace, *derail, *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("last", ["exit 0", "sleep 777 & exit 0"])
def test_helpers_of_earlier_ranks_are_found_although_nothing_was_started_since(run_inside, last):
    """The last assigned pid is that of the last rank, and does not reveal earlier processes."""
    source = f"""
_, left = job("sleep 777 & exit 0", "exit 0", {last!r})
print(sorted(left), sleepers())
"""
    helpers = [("sleep 777", rank, True) for rank, script in ((0, "sleep"), (2, last)) if "sleep" in script]
    assert run_inside(source) == f"{helpers} []\n"


def test_a_helper_with_the_number_of_an_earlier_process_is_found(run_inside, tmp_path):
    """PIDs may be reused at any time: more than its PID distinguishes a process from those before the job."""
    assert run_inside(LAUNCH / "reused_pid.py", str(tmp_path)) == "[('sleep 777', 0, True)] []\n"


def test_pids_of_another_namespace_are_ignored(run_inside):
    """Without its own /proc, a namespace shows the pids of the outer one: they mean other processes inside. The groups
    of the ranks are still ended."""
    source = """
from derail.platform.leftovers import find_processes
from derail.platform.processes import every_pid, known_processes
_, left = job("sleep 600 & exit 0")
print(every_pid(), known_processes(), find_processes("", {1, 2, 3}), left)
print(os.waitpid(-1, 0)[1])  # orphans are the first process's here
"""
    assert run_inside(source, proc=False) == "[] frozenset() [] []\n9\n"


def test_the_launcher_of_a_container_reaps_orphans_while_its_job_runs(run_command, tmp_path):
    """Those in the rank's session and those in other sessions; the rank's own status is not lost."""
    orphans = "for i in $(seq 15); do (true &); (setsid true &); done"
    done = run_command(
        "launch",
        "--output-dir",
        str(tmp_path / "logs"),
        "--",
        "sh",
        "-c",
        f"{orphans}; exec {sys.executable} {LAUNCH / 'orphans.py'}",
    )

    assert "were there" in done.stdout
    assert "are gone" in done.stdout
    assert done.returncode == 7


def test_a_program_that_is_the_first_process_keeps_its_own_children(run_inside):
    """A job of derail's library reaps orphans of its ranks, but no child with a status that the program may query."""
    assert run_inside(LAUNCH / "other_children.py") == "[5, 5]\n"
