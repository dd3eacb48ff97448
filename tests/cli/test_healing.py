"""Undo of faults after every kind of end of ``derail launch``, as seen from outside."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from derail.faults.engine import journal
from derail.platform.capabilities import why_no_cgroup
from derail.platform.proc_status import read_process_state
from program_files import program_text

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from cli.conftest import StartDerail

DEADLINE = 100.0
BREAKS = {
    "stopped": ["signal=STOP rank={rank} line=ready"],
    "traced": ["trace_stop rank={rank} line=ready"],
    "throttled": ["throttle=4 rank={rank} line=ready"],
    "limited": ["limit=NOFILE value=16 rank={rank} line=ready"],
    "starved": ["starve rank={rank} line=ready"],
    "hanging": ['hang rank={rank} ignore=\'["SIGTERM", "SIGINT"]\' line=ready'],
    "waiting at a barrier": [
        "signal=KILL rank={rank} barrier='{{point = \"gate\"}}' id=gate",
        "signal=WINCH rank={rank}",
    ],
    "all together": [
        "signal=STOP rank={rank} line=ready",
        "throttle=4 rank={rank} line=ready",
        "limit=NOFILE value=16 rank={rank} line=ready",
        "starve rank={rank} line=ready",
    ],
}
UNDONE = {
    "stopped": ["continue rank 0"],
    "traced": ["rank 0 without a tracer"],
    "throttled": ["continue rank 0"],
    "limited": ["NOFILE of rank 0 back to "],
    "starved": ["processors and priority of rank 0"],
}
if not why_no_cgroup("freezer"):
    BREAKS["frozen"] = ["freeze rank={rank} line=ready"]
    UNDONE["frozen"] = ["time of rank 0 without derail's limit"]
if not why_no_cgroup("cpu"):
    BREAKS["of little processor time"] = ["cpu_quota=0.2 rank={rank} line=ready"]
    UNDONE["of little processor time"] = ["processor time of rank 0 without derail's limit"]
PROGRAM = program_text("cli/stands_at_a_gate")


def broken(start_derail: StartDerail, tmp_path: Path, wait_until: Any, case: str) -> tuple[subprocess.Popen[str], Any]:
    """Return a launcher whose rank 0 has a fault, its journal, and all processes of its job."""
    script, logs = tmp_path / "script.py", tmp_path / "logs"
    script.write_text(PROGRAM)
    options = [word for fault in BREAKS[case] for word in ("--fault", fault.format(rank=0))]
    launcher = start_derail("launch", "-n", 2, "--grace", 1, "--output-dir", logs, "-r", "3", *options, script)
    waits = case.startswith("waiting")

    def done() -> bool:
        records = journal.read(logs / "journal.jsonl") if (logs / "journal.jsonl").exists() else ()
        ends = [record["result"] for record in records if record["event"] == "end"]
        assert set(ends) <= {"injected"}, records
        return len(ends) == len(BREAKS[case]) - waits and (
            not waits or any(record["event"] == "reached" for record in records)
        )

    wait_until(done, deadline=DEADLINE)
    wait_until(
        lambda: "".join(path.read_text() for path in logs.rglob("stdout.log")).count("\n") == 2, deadline=DEADLINE
    )
    lines = [path.read_text() for path in logs.rglob("stdout.log")]
    return launcher, [int(word) for line in lines for word in line.split()[1:3]]


@pytest.mark.parametrize("case", BREAKS)
def test_an_engine_that_is_killed_leaves_nobody_behind(
    start_derail: StartDerail, tmp_path: Path, wait_until: Any, pid_gone: Any, case: str
) -> None:
    """No process of the job, in whatever state, outlives it; nor do their children."""
    launcher, pids = broken(start_derail, tmp_path, wait_until, case)
    assert len(pids) == 4
    assert all(read_process_state(pid) is not None for pid in pids)

    launcher.kill()
    launcher.wait(DEADLINE)

    assert [pid for pid in pids if not pid_gone(pid)] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
@pytest.mark.parametrize("case", UNDONE)
def test_a_launcher_that_is_asked_to_end_undoes_what_it_did(
    start_derail: StartDerail, tmp_path: Path, wait_until: Any, pid_gone: Any, case: str, number: signal.Signals
) -> None:
    """Each undo is in the journal, and no rank is left."""
    launcher, pids = broken(start_derail, tmp_path, wait_until, case)

    launcher.send_signal(number)
    launcher.communicate(timeout=DEADLINE)
    records = journal.read(tmp_path / "logs" / "journal.jsonl")

    assert launcher.returncode == 128 + number
    assert [pid for pid in pids if not pid_gone(pid)] == []
    healed = [str(record["what"]) for record in records if record["event"] == "healed"]
    assert len(healed) == len(UNDONE[case])
    assert all(did.startswith(wanted) for did, wanted in zip(healed, UNDONE[case], strict=True)), healed
    assert [record for record in records if record["event"] == "heal_failed"] == []
