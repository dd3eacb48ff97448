"""Capabilities of this machine are determined by trials, and agree with the results of other programs."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from derail.platform import capabilities, cgroups, trials
from program_files import program_text

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mechanisms of Linux")
PROBES = {name: getattr(capabilities, name) for name in dir(capabilities) if name.startswith("why_no_")}
SIMPLE = sorted(set(PROBES) - {"why_no_cgroup"})
NETEM = ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
CONTROLLERS = ("memory", "cpu", "freezer")


def works(*command):
    """Return whether another program can do it."""
    try:
        return subprocess.run(command, capture_output=True, timeout=120, check=False, cwd="/").returncode == 0
    except FileNotFoundError:
        pytest.skip(f"there is no {command[0]} to compare with")


@LINUX
@pytest.mark.parametrize(
    ("probe", "command"),
    [
        (capabilities.why_no_user_namespace, ("unshare", "--user", "--map-root-user", "true")),
        (capabilities.why_no_pid_namespace, ("unshare", "--user", "--map-root-user", "--pid", "--fork", "true")),
        (
            capabilities.why_no_netem,
            ("unshare", "--user", "--map-root-user", "--net", *NETEM),
        ),
        (capabilities.why_no_idle_priority, ("chrt", "--idle", "0", "true")),
        (capabilities.why_no_prlimit, ("prlimit", "--core=0", "true")),
        (capabilities.why_no_shared_memory, ("test", "-w", "/dev/shm")),
        (capabilities.why_no_full_device, ("test", "-c", "/dev/full")),
        (capabilities.why_no_proc, ("test", "-r", "/proc/self/limits")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_probe_agrees_with_another_program(probe, command):
    """It returns no reason exactly where that program succeeds."""
    assert (probe() == "") == works(*command)


@LINUX
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_cgroups_are_tried_and_left_as_they_were(controller):
    """A trial group is made and removed; without permission, or without its controller, there is a reason."""
    hierarchy = cgroups.hierarchy(controller)
    own = None if hierarchy is None else hierarchy.standing(os.getpid())
    before = None if own is None else {path.name for path in own.iterdir()}
    reason = capabilities.why_no_cgroup(controller)

    if own is None:
        assert reason.endswith("is mounted here")
    elif not os.access(own, os.W_OK):
        assert "was not delegated to this user" in reason
    elif hierarchy.version == 2 and controller not in (
        "freezer",
        *(own / "cgroup.subtree_control").read_text().split(),
    ):
        assert f", and not {controller}" in reason
    else:
        assert reason == ""
    trials_left = set() if own is None else {path.name for path in own.iterdir()} - before
    assert f"derail-trial-{os.getpid()}" not in trials_left  # others may be at their own trials


FORBIDDEN = {  # x86_64, aarch64
    "unshare": (272, 97), "ptrace": (101, 117), "pidfd_open": (434, 434), "memfd_create": (319, 279),
    "sched_setscheduler": (144, 119), "prlimit64": (302, 261),
}  # fmt: skip
CONTAINED = program_text("platform/contained")


@LINUX
@pytest.mark.skipif(bool(capabilities.why_no_seccomp()), reason="no filter can be had to forbid anything")
def test_a_mechanism_forbidden_in_a_container_reports_the_kernels_reason():
    """Behind a filter as in containers, each forbidden probe reports its failure; the others work."""
    column = ("x86_64", "aarch64").index(platform.machine())
    numbers = [pair[column] for pair in FORBIDDEN.values()]
    ran = subprocess.run(
        [sys.executable, "-c", CONTAINED, json.dumps(numbers), json.dumps(SIMPLE)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)

    assert told["why_no_user_namespace"] == told["why_no_pid_namespace"] == told["why_no_netem"]
    assert told["why_no_user_namespace"] == "unshare: Operation not permitted"
    assert told["why_no_ptrace"] == "ptrace: Operation not permitted"
    assert told["why_no_pidfd"] == "pidfd_open: Operation not permitted"
    assert told["why_no_prlimit"] == "prlimit: Operation not permitted"
    assert told["why_no_idle_priority"] == "sched_setscheduler: Operation not permitted"
    assert told["why_no_memory_files"].endswith("Operation not permitted")
    others = ("why_no_proc", "why_no_full_device", "why_no_shared_memory", "why_no_seccomp", "why_no_memory_access")
    assert {name: told[name] for name in others} == {name: PROBES[name]() for name in others}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", ""),
        ("import sys; sys.exit('no such thing')", "no such thing"),
        ("raise OSError(5, 'cannot be read')", "OSError: [Errno 5] cannot be read"),
        ("import os; os._exit(7)", "the trial ended with 7"),
        ("import os; os.abort()", "the trial ended with -6"),
    ],
)
def test_a_trial_reports_its_last_line(source, reason):
    """A trial that dies without output has failed as well."""
    assert trials.run(source) == reason


def test_a_trial_that_never_ends_is_ended():
    """No caller waits for it for ever."""
    assert "timed out" in trials.run("while True: pass", seconds=0.2)


def test_a_trial_that_cannot_be_started_reports_that(monkeypatch, tmp_path):
    """It does not count as a mechanism that works, nor as one that does not."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert trials.run("").startswith("it could not be tried: ")
    monkeypatch.setattr(sys, "executable", "")
    assert trials.run("").startswith("it could not be tried: ")


@LINUX
def test_without_proc_other_processes_cannot_be_inspected(monkeypatch):
    """Functions that need /proc report that."""
    monkeypatch.setattr(capabilities, "PROC", Path("/nowhere"))
    monkeypatch.setattr(cgroups, "PROC", Path("/nowhere"))
    monkeypatch.setattr(capabilities, "YAMA", Path("/nowhere"))

    assert "there is no /proc" in capabilities.why_no_proc()
    assert capabilities.why_no_cgroup.__wrapped__("memory") == "no cgroup with memory is mounted here"
    assert capabilities.ptrace_scope() == "Yama is not available"


@pytest.mark.parametrize(("scope", "text"), [("1\n", "Yama scope 1: descendants"), ("9\n", "Yama scope 9: unknown")])
def test_yama_is_read(monkeypatch, tmp_path, scope, text):
    """Its scope, with the meaning."""
    (tmp_path / "scope").write_text(scope)
    monkeypatch.setattr(capabilities, "YAMA", tmp_path / "scope")

    assert capabilities.ptrace_scope() == text
