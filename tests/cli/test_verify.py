"""``derail verify-agent``: runs, output, exit codes, and clean-up after an interrupt."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from program_files import program_text
from report.trace_format import check_trace

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail, StartDerail

DEADLINE = 100.0
WORKER = """
import os, sys, time
print("pid", os.getpid(), flush=True)
with open(os.path.join(os.path.dirname(__file__), "pids"), "a") as file:
    file.write(f"{os.getpid()}\\n")
for step in range(int(sys.argv[1]) if sys.argv[1:] else 30):
    print("step", step, flush=True)
    time.sleep(0.02)
"""
SCENARIO = """
title = "a rank is killed"
ranks = 2
worker = "../worker.py"
grace = 1
{more}
[expect]
succeeded = false
root_cause = {cause}
"""
LONG = 'args = ["50000"]\n'  # who is to be killed waits for that
KILL = '[[faults]]\nfault = "signal"\nsignal = "SIGKILL"\nrank = 1\nwhen = {{ line = "{line}" }}'


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return a folder of scenarios: one passes, one fails, one has a fault that is never due, one cannot be run."""
    root = tmp_path / "library"
    for folder in ("one", "two"):
        (root / folder).mkdir(parents=True)
    (root / "worker.py").write_text(WORKER)
    (root / "one" / "right.toml").write_text(SCENARIO.format(more=LONG + KILL.format(line="step 3"), cause=1))
    (root / "one" / "wrong.toml").write_text(SCENARIO.format(more=LONG + KILL.format(line="step 3"), cause=0))
    (root / "two" / "never.toml").write_text(SCENARIO.format(more=KILL.format(line="no such"), cause=1))
    (root / "two" / "skipped.toml").write_text(SCENARIO.format(more='needs = ["no_such_module"]', cause=1))
    return root


def test_the_scorecard_is_printed_and_written_in_each_form(derail_command: Derail, library: Path) -> None:
    """Stderr has a line for each verdict, stdout the scorecard; JSON, JUnit and HTML are optional files."""
    files = {form: library / f"card.{form}" for form in ("json", "junit", "html")}
    options = [word for form, path in files.items() for word in (f"--{form}", path)]
    done = derail_command("verify-agent", "native", "--scenario", library, "-j", 2, *options)
    assert done.returncode == 1, done.stderr
    told = json.loads(files["json"].read_bytes())
    verdicts = {row["scenario"]: row["verdict"] for row in told["rows"]}
    assert verdicts == {
        "one/right": "PASS", "one/wrong": "FAIL", "two/never": "INCONCLUSIVE", "two/skipped": "SKIPPED",
    }  # fmt: skip
    assert len(ET.parse(files["junit"]).getroot().findall(".//testcase")) == 4
    assert files["html"].read_text().startswith("<!DOCTYPE html>")
    for name, verdict in verdicts.items():
        assert f"{verdict} {name}" in done.stderr
        assert name in done.stdout
    assert "4 scenarios: 1 PASS, 1 FAIL, 1 INCONCLUSIVE, 1 SKIPPED" in done.stdout.splitlines()[-1]


def test_a_run_that_hangs_shows_which_rank_the_others_waited_for(derail_command: Derail, tmp_path: Path) -> None:
    """With --record, in the page and as JSON."""
    (tmp_path / "worker.py").write_text(program_text("diagnose/one_goes_elsewhere"))
    (tmp_path / "hangs.toml").write_text(
        'title = "it hangs"\nranks = 3\ntimeout = 5\ngrace = 0\nworker = "worker.py"\n[expect]\nsucceeded = true\n'
    )
    files = {form: tmp_path / f"card.{form}" for form in ("json", "html")}
    options = [word for form, path in files.items() for word in (f"--{form}", path)]
    derail_command("verify-agent", "native", "--scenario", tmp_path / "hangs.toml", "--record", *options)
    [row] = json.loads(files["json"].read_bytes())["rows"]

    assert row["hang"][0].startswith("hang: ranks 0, 2 wait in exchange #6 called at worker.py:")
    assert "rank 1 never called it: after exchange #5 it went to evaluate()" in row["hang"][1]
    assert (
        "rank 1 never called it" in files["html"].read_text().partition('<pre class="hang">')[2].partition("</pre>")[0]
    )


def test_the_trace_has_a_process_for_each_run(derail_command: Derail, library: Path) -> None:
    """In the order of the scorecard; a skipped run has no track."""
    derail_command("verify-agent", "native", "--scenario", library, "-j", 2, "--trace", library / "t.json")
    tracks = check_trace((library / "t.json").read_bytes())

    assert list(dict.fromkeys(track.process for track in tracks)) == [
        "derail: one/right", "derail: one/wrong", "derail: two/never",
    ]  # fmt: skip
    assert [track.name for track in tracks] == ["launcher", "rank 0", "rank 1"] * 3


@pytest.mark.parametrize(
    ("chosen", "code"),
    [(["one/right.toml", "two/skipped.toml"], 0), (["two/never.toml"], 3), (["two/skipped.toml"], 4)],
)
def test_the_exit_code_is_that_of_the_worst_verdict(
    derail_command: Derail, library: Path, chosen: list[str], code: int
) -> None:
    """A skipped scenario does not change the code if another one passed."""
    options = [word for name in chosen for word in ("--scenario", library / name)]
    done = derail_command("verify-agent", "native", *options)
    assert done.returncode == code, done.stdout


def test_a_budget_holds_for_each_scenario_that_it_can(derail_command: Derail, library: Path) -> None:
    """In the process of each run. A fault that was never due has nothing to measure, and its row stays INCONCLUSIVE."""
    card = library / "card.json"
    options = ("--scenario", library, "--budget", "stop=0", "--budget", "notice=1h", "--json", card)
    done = derail_command("verify-agent", "native", *options)
    rows = {row["scenario"]: row for row in json.loads(card.read_bytes())["rows"]}

    assert done.returncode == 1, done.stderr
    assert [row["verdict"] for row in rows.values()] == ["FAIL", "FAIL", "INCONCLUSIVE", "SKIPPED"]
    (reason,) = rows["one/right"]["reasons"]
    assert reason.startswith("expected the end of all ranks at most 0 s after the fault (budget stop=0s), got ")
    assert rows["one/right"]["recovery"]["stop"] > 0
    assert rows["two/never"]["recovery"]["stop"] is None
    assert "stopped after the fault: median " in done.stdout

    refused = derail_command("verify-agent", "native", "--scenario", library, "--budget", "recover=1s")
    assert (refused.returncode, "--budget recover: can never be measured" in refused.stderr) == (2, True)


def test_a_family_or_a_pattern_chooses_among_those_that_come_along(derail_command: Derail) -> None:
    """Both together choose what matches both."""
    done = derail_command("verify-agent", "native", "--family", "crash", "--scenario", "*/killed_at_step_3")
    assert done.returncode == 0, done.stdout
    assert "1 scenario: 1 PASS" in done.stdout
    assert "PASS crash/killed_at_step_3" in done.stderr


def test_evidence_is_kept_where_asked_for_and_nowhere_else(
    derail_command: Derail, library: Path, tmp_path: Path
) -> None:
    """Each run has a folder."""
    own = tmp_path / "tmp"
    own.mkdir()
    scenario = ["--scenario", library / "one" / "right.toml"]
    done = derail_command("verify-agent", "native", *scenario, env={"TMPDIR": str(own)})
    assert (done.returncode, list(own.iterdir())) == (0, [])
    derail_command("verify-agent", "native", *scenario, "--output-dir", tmp_path / "kept")
    assert (tmp_path / "kept" / "right" / "journal.jsonl").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "agent: none given. Give its NAME ("),
        (["nativ"], "unknown agent 'nativ'; did you mean 'native'?"),
        (["native", "--agent-cmd", "x {script}"], "expected either a NAME, or --agent-cmd"),
        (["--agent-cmd", "x {skript}"], "unknown placeholder 'skript'; did you mean 'script'?"),
        (["native", "--family", "crsh"], "unknown family 'crsh'; did you mean 'crash'?"),
        (["native", "--scenario", "crash/kiled_at_step_3"], "did you mean 'crash/killed_at_step_3'?"),
        (["native", "--scenario", "nothing/*"], "no scenario in or like nothing/*"),
        (["native", "--json", "/proc/no/such/file"], "/proc/no"),
    ],
)
def test_what_is_asked_for_wrongly_exits_with_2_and_starts_nothing(
    derail_command: Derail, words: list[str], told: str
) -> None:
    """The message has the nearest name."""
    done = derail_command("verify-agent", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "PASS" not in done.stderr


def test_all_that_is_wrong_with_scenarios_is_told_at_once(derail_command: Derail, library: Path) -> None:
    """Each has file, path and nearest name; nothing is started."""
    for name, wrong, right in (("right", "grcae", "grace"), ("wrong", "fualt", "fault")):
        path = library / "one" / f"{name}.toml"
        path.write_text(path.read_text().replace(right, wrong))
    done = derail_command("verify-agent", "native", "--scenario", library)
    assert (done.returncode, done.stdout) == (2, "")
    assert "right.toml: grcae: unknown key 'grcae'; did you mean 'grace'?" in done.stderr
    assert "did you mean 'faults'?" in done.stderr
    assert not (library / "pids").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_and_leaves_nothing(
    start_derail: StartDerail, library: Path, wait_until, pid_gone, tmp_path: Path, number: signal.Signals
) -> None:
    """No ranks, runs or temporary files; the exit code gives the signal."""
    own = tmp_path / "tmp"
    own.mkdir()
    path = library / "one" / "right.toml"
    path.write_text(path.read_text().replace("step 3", "no such").replace("grace", "timeout = 500\ngrace"))
    process = start_derail(
        "verify-agent", "native", "--scenario", path, env={**os.environ, "TMPDIR": str(own)}, start_new_session=True
    )
    pids = library / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, deadline=DEADLINE)
    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + number, errors
    assert f"derail: ended by {number.name}, 0 of 1 scenarios were judged" in errors
    assert all(pid_gone(int(pid), deadline=0) for pid in pids.read_text().split())
    assert list(own.iterdir()) == []


def test_signals_that_are_ignored_by_who_starts_it_are_heard_in_its_runs(start_derail: StartDerail) -> None:
    """As those of a job in the background of a script are; ranks inherit that, and what a rank does not hear breaks
    nothing."""

    def deaf() -> None:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    names = ("signal/sigint_to_one_rank", "regression/keyboard_interrupt_in_a_function", "signal/warning_*")
    chosen = [word for name in names for word in ("--scenario", name)]
    process = start_derail("verify-agent", "native", *chosen, preexec_fn=deaf)
    card, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, "4 scenarios: 4 PASS" in card) == (0, True), card + errors


def test_a_campaign_that_is_killed_leaves_no_ranks(
    start_derail: StartDerail, library: Path, wait_until, pid_gone
) -> None:
    """Its keeper ends all processes with the mark of the campaign."""
    path = library / "one" / "right.toml"
    path.write_text(path.read_text().replace("step 3", "no such").replace("grace", "timeout = 500\ngrace"))
    process = start_derail("verify-agent", "native", "--scenario", path, env={**os.environ, "TMPDIR": str(library)})
    pids = library / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, deadline=DEADLINE)
    process.kill()
    assert all(pid_gone(int(pid)) for pid in pids.read_text().split())
