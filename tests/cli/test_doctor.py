"""``derail doctor``: available and missing mechanisms of this machine, and the exit code for required ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from derail.faults.registry import entries
from derail.report import doctor
from derail.report.doctor import Checkup, Finding, as_data, examine, render_checkup

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail

SEEN = Checkup(
    (Finding("proc", True, "", "seeing"), Finding("netem", False, "unknown qdisc", "delays")),
    (Finding("signal", True, "", "Sends."), Finding("sever", False, "not permitted", "Cuts.")),
)


def test_each_mechanism_and_each_fault_is_told(derail_command: Derail) -> None:
    """In JSON each has its reason, and the faults agree with the catalogue."""
    done = derail_command("doctor", "--json")
    told = json.loads(done.stdout)

    assert (done.returncode, done.stderr, told["missing"]) == (0, "", [])
    assert all(found["available"] or found["told"] for found in told["mechanisms"])
    assert {found["name"] for found in told["mechanisms"]} >= {
        "pidfd_open", "pidfd_getfd", "user_namespace", "mount_namespace", "net_namespace", "time_namespace",
        "pid_namespace", "seccomp", "seccomp_notify", "ptrace", "prlimit", "cgroup_memory", "cgroup_cpu",
        "cgroup_freezer", "netem", "dev_shm", "dev_full", "memfd", "process_memory", "sched_idle", "sitecustomize",
        "python", "disk", "torch",
    }  # fmt: skip
    assert told["faults"] == [
        {"name": name, "available": not entry.requires.unavailable(), "told": entry.requires.unavailable()}
        for name, entry in entries().items()
    ]


def test_it_is_readable(derail_command: Derail) -> None:
    """The text has a yes or no for each mechanism; its last line counts the faults."""
    done = derail_command("doctor")
    lines = done.stdout.splitlines()
    answers = {line.split()[1]: line.split()[0] for line in lines if line.startswith(("yes  ", "no   "))}

    assert answers == {found.name: "yes" if found.available else "no" for found in examine().mechanisms}
    assert lines[-1].endswith(f"of {len(entries())} faults are available on this machine")
    assert max(map(len, lines)) <= doctor.WIDTH


@pytest.mark.parametrize(
    ("required", "missing"),
    [
        (["1"], []),
        (["2"], ["2 faults are required, 1 of 2 are available here"]),
        (["proc", "signal"], []),
        (["netem", "sever", "proc"], ["netem: unknown qdisc", "sever: not permitted"]),
    ],
)
def test_what_is_required_and_missing_is_named(required: list[str], missing: list[str]) -> None:
    """Mechanisms and faults are required by name, faults also by number."""
    assert SEEN.missing(required) == missing


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--require", "1", "--require", "signal, exit"), 0, ""),
        (("--require", "9999"), 1, "derail: required and missing: 9999 faults are required, "),
        (("--require", "signl"), 2, "derail: --require: unknown mechanism or fault 'signl'; did you mean 'signal'?"),
    ],
)
def test_its_exit_says_whether_that_is_enough(
    derail_command: Derail, words: tuple[str, ...], code: int, said: str
) -> None:
    """0 if all requirements are met, 1 if one is missing, 2 if a name is unknown."""
    done = derail_command("doctor", *words)

    assert (done.returncode, done.stderr[: len(said)]) == (code, said)


def test_what_does_not_work_is_told_with_its_reason() -> None:
    """In the text and in JSON."""
    text = render_checkup(SEEN)

    assert "no   netem            delays\n                      unknown qdisc\n" in text
    assert "fault sever is unavailable here: not permitted\n1 of 2 faults are available on this machine\n" in text
    assert as_data(SEEN)["mechanisms"] == [
        {"name": "proc", "available": True, "told": "", "for": "seeing"},
        {"name": "netem", "available": False, "told": "unknown qdisc", "for": "delays"},
    ]


def test_a_trial_that_throws_is_no_mechanism_that_works() -> None:
    """Its exception is the reason, and all other mechanisms are still tried."""

    def throw() -> str:
        raise RuntimeError("broken")

    found = doctor._tried(doctor.Mechanism("odd", "nothing", throw))
    assert (found.available, found.told) == (False, "trial failed: RuntimeError: broken")


def test_a_python_that_reads_no_environment_cannot_be_entered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The mechanism that enters a rank depends on the environment, which -I disables."""
    isolated = tmp_path / "python"
    isolated.write_text(f'#!/bin/sh\nexec {sys.executable} -I "$@"\n')
    isolated.chmod(0o755)
    entered = doctor._why_not_entered()
    monkeypatch.setattr(sys, "executable", str(isolated))

    assert entered == ""
    assert doctor._why_not_entered() == "Python did not run the sitecustomize on PYTHONPATH"


def test_little_room_for_evidence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and journals need disk space."""
    monkeypatch.setattr(doctor, "_evidence_room", lambda: 2**20)

    assert doctor._why_no_room() == "1 MiB are free for temporary files; 128 MiB should be"


def test_torch_is_no_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing torch is reported and changes nothing else."""
    monkeypatch.setattr(doctor, "_torch_version", str)
    found = {each.name: each for each in map(doctor._tried, doctor._mechanisms())}

    assert (found["torch"].available, found["torch"].told) == (False, "not installed")


def test_the_list_of_faults_and_doctor_agree() -> None:
    """Both use the same checks of availability."""
    checkup = examine()
    listed = subprocess.run(
        [sys.executable, "-c", "from derail.cli import main; main(['list', 'faults', '--json'])"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = {fault["name"]: fault["unavailable"] for fault in json.loads(listed.stdout)}

    assert {fault.name: replace(fault).told for fault in checkup.faults} == told


ORDINARY = """
import json
from pathlib import Path
from derail.report.doctor import examine
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
rights = [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")]
print(json.dumps([rights, status["Uid"].split(), [fault.name for fault in examine().faults if fault.available]]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities of Linux")
def test_an_ordinary_user_without_any_capability_can_do_sixty_faults_and_more() -> None:
    """As root, the test changes to uid 65534 first."""
    nobody: dict[str, Any] = {} if os.geteuid() else {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        done = subprocess.run(
            [sys.executable, "-c", ORDINARY],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **nobody,
        )
    except PermissionError as error:
        pytest.skip(f"another user cannot run this Python: {error}")
    if "No module named 'derail'" in done.stderr:
        pytest.skip("another user cannot read this derail")
    assert done.returncode == 0, done.stderr
    rights, uids, able = json.loads(done.stdout)

    assert (rights, "0" in uids) == ([0, 0, 0, 0], False)
    assert len(able) >= 60, able
