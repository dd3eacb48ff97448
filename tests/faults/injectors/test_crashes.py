"""Real crashes: the exit status as the rank's parent sees it, and crashes that do not happen."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.injectors import crashes
from derail.faults.registry import entries
from faults.inrank.test_runtime import PYTHONS
from faults.real_job import ENDED
from program_files import UNTIL
from wording import Tells

VERSIONS = {version: path for version, path in PYTHONS.items() if version.split(".")[1] in ("9", "12", "13")} or PYTHONS
WAITS = "import time\nprint('ready', flush=True); time.sleep(60)\n"
READY = when.line("ready")
CRASHES = [
    (faults.segfault, {}, signal.SIGSEGV),
    (faults.segfault, {"how": "write"}, signal.SIGSEGV),
    (faults.segfault, {"how": "call"}, signal.SIGSEGV),
    (faults.stack_overflow, {}, signal.SIGSEGV),
    (faults.abort, {}, signal.SIGABRT),
    (faults.abort, {"how": "fatal_error"}, signal.SIGABRT),
    (faults.double_free, {}, signal.SIGABRT),
    (faults.bus_error, {}, signal.SIGBUS),
    (faults.illegal_instruction, {}, signal.SIGILL),
    (faults.fpe, {}, signal.SIGFPE),
    (faults.bad_syscall, {}, signal.SIGSYS),
    (faults.broken_pipe, {}, signal.SIGPIPE),
    (faults.cpu_limit, {}, signal.SIGXCPU),
    (faults.file_limit, {}, signal.SIGXFSZ),
    (faults.alarm, {}, signal.SIGALRM),
]
BY_KIND = {make.__name__: (make, number) for make, _, number in CRASHES}
NAMES = [f"{make.__name__}-{'-'.join(given.values())}".strip("-") for make, given, _ in CRASHES]


def available(name):
    """Skip crashes that this machine cannot inject, with the reason."""
    reason = entries()[name].requires.unavailable()
    if reason:
        pytest.skip(reason)


def test_every_crash_is_tested():
    """Each one of the catalogue is tested."""
    at_their_moment = {"crash_at_import", "crash_at_exit", "crash_in_del", "crash_in_handler"}  # see test_process

    assert set(BY_KIND) | at_their_moment == {entry.name for entry in crashes.ENTRIES}


@pytest.mark.parametrize(("make", "given", "number"), CRASHES, ids=NAMES)
def test_a_crash_is_the_signal_in_the_exit_status(run_faults, make, given, number):
    """By waitid, in a rank with its own handlers, without a core file."""
    available(make.__name__)
    rank = f"""
import resource, signal
signal.signal({int(number)}, lambda *_: print("handled", flush=True))
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
{WAITS}"""
    run = run_faults([make(rank=0, when=READY, **given)], rank)

    assert run.one().injected, run.one()
    assert (run.job.status[0].signal, run.job.status[0].core_dumped) == (number, False)
    assert run.log(0) == "ready\n"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [name for name in BY_KIND if name != "cpu_limit"])
def test_ranks_crash_in_every_python(run_faults, version, name):
    """At their start, without an installed derail."""
    available(name)
    make, number = BY_KIND[name]
    run = run_faults([make(rank=0)], WAITS, python=VERSIONS[version])

    assert run.one().injected, run.one()
    assert run.job.status[0].signal == number


@pytest.mark.parametrize("name", BY_KIND)
def test_an_impossible_or_never_due_crash_does_not_happen(run_faults, name):
    """An isolated Python, a program that is not Python, a line that is never written."""
    available(name)
    make, _ = BY_KIND[name]
    given = [make(rank=rank, when=when.line("never") if rank == 2 else when.start()) for rank in range(3)]
    run = run_faults(given, (sys.executable, "-I", "-c", "pass"), ("/bin/true",), "print('ran')")

    assert [str(run.job.status[rank]) for rank in range(3)] == ["exit 0"] * 3
    assert [result.status for result in run.results] == ["unavailable", "unavailable", "not_reached"]


def test_a_crash_under_a_shell_is_its_exit_code_for_that_signal(run_faults, tmp_path):
    """The shell exits with 128 plus the number."""
    script = tmp_path / "train.py"
    script.write_text(WAITS)
    shell = f"{sys.executable} {script}; code=$?; echo shell says $code; exit $code"
    run = run_faults([faults.segfault(rank=0, when=READY)], ("/bin/sh", "-c", shell))

    assert run.log(0).splitlines()[-1] == "shell says 139"
    assert run.one().injected, run.one()


def test_a_shell_with_another_exit_code_is_no_evidence(run_faults, tmp_path):
    """Its exit code hides the crash."""
    script = tmp_path / "train.py"
    script.write_text(WAITS)
    shell = f"{sys.executable} {script}; exit 5"
    run = run_faults([faults.segfault(rank=0, when=READY)], ("/bin/sh", "-c", shell))

    assert run.one().status == "errored"
    assert "exit 5" in run.one().detail


def test_faulthandler_reports_a_crash(run_faults):
    """Its handler stays, as in jobs of torch, and passes the signal on."""
    run = run_faults([faults.segfault(rank=0, when=READY)], "import faulthandler\nfaulthandler.enable()\n" + WAITS)

    assert run.one().injected
    assert run.log(0, "stderr").startswith("Fatal Python error: Segmentation fault")
    assert run.job.status[0].signal == signal.SIGSEGV


def test_a_double_free_is_detected_by_the_c_library(run_faults):
    """It is no call of abort by derail."""
    run = run_faults([faults.double_free(rank=0)], WAITS)

    assert "double free" in run.log(0, "stderr")


PR_GET_DUMPABLE = 3
CORES = Path("/proc/sys/kernel/core_pattern").read_text().strip() if os.path.exists("/proc/sys/kernel") else "|"
with_cores = pytest.mark.skipif(
    "/" in CORES or "|" in CORES or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0,
    reason=f"cores do not go to the working directory ({CORES}), or may not be written",
)


@with_cores
def test_a_core_is_written_where_it_is_requested(run_faults, tmp_path):
    """The parent sees the flag, and the file is in the working directory."""
    source = f"import os\nos.chdir({str(tmp_path)!r})\n{WAITS}"
    run = run_faults([faults.abort(rank=0, core=True, when=READY)], source)

    assert run.one().detail == Tells("rank0.py:4", "<module>", "SIGABRT", "core dumped")
    assert run.job.status[0].core_dumped
    assert [path.read_bytes()[:4] for path in tmp_path.glob("core*")] == [b"\x7fELF"]


@pytest.mark.parametrize("hard", [None, 0], ids=["as here", "none"])
def test_a_crash_without_a_core_does_not_hide_the_exit_status(hard):
    """From a supervisor of the same user, unless cores go to a program regardless of the limit."""
    source = f"""
import ctypes, resource
if {hard!r} is not None: resource.setrlimit(resource.RLIMIT_CORE, ({hard!r},) * 2)
from derail.faults.inrank.actions.crashes import core_setting
core_setting(core=False)()
print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}))
"""
    told = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    limit = 0 if hard == 0 or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1

    assert told.split() == [str(limit), "0" if CORES[0] == "@" or (CORES[0] == "|" and limit == 0) else "1"]


@with_cores
def test_a_missing_core_is_reported(run_faults, tmp_path):
    """Its directory was gone."""
    (tmp_path / "gone").mkdir()
    source = f"import os\nos.chdir({str(tmp_path / 'gone')!r})\nos.rmdir(os.getcwd())\n{WAITS}"
    run = run_faults([faults.abort(rank=0, core=True, when=READY)], source)

    assert (run.one().status, run.job.status[0].signal) == ("errored", signal.SIGABRT)
    assert "the kernel wrote no core file" in run.one().detail


@pytest.mark.parametrize(
    ("fault", "before", "why"),
    [
        (faults.segfault(core=True, rank=0, when=READY), "RLIMIT_CORE, (0, 0)", "its hard limit for core files is 0"),
        (faults.cpu_limit(rank=0, when=READY), "RLIMIT_CPU, (1, 1)", "its hard limit of processor time is 1 s"),
    ],
    ids=["core", "cpu"],
)
def test_a_hard_limit_that_prevents_a_core_is_reported(run_faults, fault, before, why):
    """The rank continues."""
    source = f"{UNTIL}import resource\nresource.setrlimit(resource.{before})\nprint('ready')\nuntil('{ENDED}')\n"
    run = run_faults([fault], source)

    assert (run.one().status, str(run.job.status[0])) == ("unavailable", "exit 0")
    assert f"in rank 0: {why}" in run.one().detail


def test_a_python_without_ctypes_does_not_crash(run_faults, tmp_path):
    """Such builds exist where libffi is missing."""
    (tmp_path / "ctypes.py").write_text("raise ImportError('no ctypes here')\n")
    run = run_faults([faults.segfault(rank=0)], "print('ran')", env={"PYTHONPATH": str(tmp_path)})

    assert run.one().detail == Tells("rank 0", "no ctypes")
    assert (run.one().status, run.log(0)) == ("unavailable", "ran\n")


def test_machine_code_is_run_on_its_machine_only(run_faults, monkeypatch):
    """On others the fault is unavailable from the start."""
    monkeypatch.setattr(crashes, "this_machine", lambda: None)
    run = run_faults([faults.fpe(rank=0), faults.illegal_instruction(rank=0)], "print(1)")

    assert [result.status for result in run.results] == ["unavailable"] * 2
    assert run.log(0) == "1\n"


def test_a_program_continues_until_its_alarm(run_faults):
    """An alarm after the end of the program has no effect."""
    late = run_faults([faults.alarm(600, rank=0)], "print('done')")

    assert (late.one().status, str(late.job.status[0])) == ("errored", "exit 0")


def test_a_rank_that_the_supervisor_stops_first_has_not_crashed(run_faults, tmp_path):
    """Its alarm was set, but SIGTERM came first."""
    here = tmp_path / "here"
    fails = f"import os, sys, time\nwhile not os.path.exists({str(here)!r}): time.sleep(0.01)\nsys.exit(3)\n"
    run = run_faults([faults.alarm(600, rank=0)], f"open({str(here)!r}, 'w').close()\n{WAITS}", fails)

    assert run.one().status == "not_reached"
    assert "supervisor" in run.one().detail


@pytest.mark.parametrize("name", ["SIGRTMIN+3", "SIGRTMAX-1"])
def test_a_real_time_signal_ends_a_rank(run_faults, name):
    """Python has no name for most of them; the parent sees the number."""
    run = run_faults([faults.signal(name, rank=0, when=READY)], WAITS)
    base, sign, offset = name.partition("+" if "+" in name else "-")

    assert run.job.status[0].signal == getattr(signal, base) + int(sign + offset)
    assert run.one().injected
    assert name in run.one().detail
