"""``derail run``: verdicts, their exit codes and output formats."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from derail.scenario.goodput import schedule
from report.trace_format import check_trace

if TYPE_CHECKING:
    from cli.conftest import Derail, StartDerail

SCENARIO = """
title = "a rank fails"
ranks = 2
worker = "worker.py"
grace = 1

{faults}

[expect]
succeeded = {succeeded}
"""
KILL = '[[faults]]\nfault = "signal"\nsignal = "SIGKILL"\nrank = 1\nwhen = {{ line = "{line}" }}'


@pytest.fixture
def write_scenario(tmp_path: Path):
    """Write a scenario whose rank 1 may be killed at a line."""
    worker = "import time\nfor i in range({steps}):\n    print('step', i)\n    time.sleep(0.02)"

    def write(succeeded: str, line: str = "") -> Path:
        path = tmp_path / "scenario.toml"
        steps = 6000 if line.startswith("step") else 30  # a rank that is to be killed waits for that
        (tmp_path / "worker.py").write_text(worker.format(steps=steps))
        path.write_text(SCENARIO.format(succeeded=succeeded, faults=KILL.format(line=line) if line else ""))
        return path

    return write


@pytest.mark.parametrize(
    ("succeeded", "line", "code", "verdict"),
    [
        ("false", "step 3", 0, "PASS"),
        ("true", "", 0, "PASS"),
        ("false", "", 1, "FAIL"),
        ("true", "step 3", 1, "FAIL"),
        ("true", "no such line", 3, "INCONCLUSIVE"),
    ],
)
def test_the_exit_code_is_the_verdict(
    derail_command: Derail, write_scenario, succeeded: str, line: str, code: int, verdict: str
) -> None:
    """0 is PASS, 1 FAIL, 3 INCONCLUSIVE: a fault that did not happen never gives PASS."""
    done = derail_command("run", write_scenario(succeeded, line))
    assert (done.returncode, done.stdout.split()[0]) == (code, verdict), done.stderr


def test_what_cannot_be_done_here_is_skipped(
    derail_command: Derail, write_scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 4; nothing is started, and the reason is printed."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "from derail.faults import registry\nfrom dataclasses import replace\n"
        "known = dict(registry.entries())\n"
        "signal = known['signal']\n"
        "requires = replace(signal.requires, unavailable=lambda: 'no signals on this machine')\n"
        "known['signal'] = replace(signal, requires=requires)\n"
        "registry.entries = lambda: known\n"
    )
    done = derail_command("run", write_scenario("false", "step 3"), env={"PYTHONPATH": str(site)})
    assert done.returncode == 4, done.stderr
    assert "no signals on this machine" in done.stdout


def test_a_scenario_with_a_mistake_exits_with_2_and_says_where(derail_command: Derail, write_scenario) -> None:
    """The message has file, path and nearest name; nothing is started."""
    path = write_scenario("false")
    path.write_text(path.read_text().replace("grace", "grcae"))
    done = derail_command("run", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(path) in done.stderr
    assert "did you mean 'grace'?" in done.stderr


def test_the_main_job_prints_the_verdict_and_what_it_rests_on(derail_command: Derail) -> None:
    """Root cause, exits, log tail and teardown time of the killed rank."""
    done = derail_command("run", "crash/killed_at_step_3")
    assert done.returncode == 0, done.stdout
    for report in ("PASS  crash/killed_at_step_3", "root cause: rank 2: SIGKILL (9)", "step 3", "teardown: "):
        assert report in done.stdout


def test_json_holds_the_whole_picture(derail_command: Derail, write_scenario, tmp_path: Path) -> None:
    """Verdict, ranks, faults and the plan for a rerun; stdout has nothing else."""
    done = derail_command("run", "--json", "--output-dir", tmp_path / "kept", write_scenario("false", "step 3"))
    report = json.loads(done.stdout)
    assert {key: report[key] for key in ("verdict", "root_cause", "exit_code", "agent", "timed_out")} == {
        "verdict": "PASS",
        "root_cause": 1,
        "exit_code": 137,
        "agent": "native",
        "timed_out": False,
    }
    assert [(rank["rank"], rank["ended_with"], rank["cause"]) for rank in report["ranks"]] == [
        (0, "SIGTERM (15)", "stopped by us"),
        (1, "SIGKILL (9)", "by itself"),
    ]
    assert [fault["result"] for fault in report["faults"]] == ["injected"]
    assert report["journal"] == str(tmp_path / "kept" / "journal.jsonl")


def test_evidence_is_kept_where_asked_for_and_nowhere_else(
    derail_command: Derail, write_scenario, tmp_path: Path
) -> None:
    """Without --output-dir nothing is left, and no path to removed files is printed."""
    own = tmp_path / "tmp"
    own.mkdir()
    done = derail_command("run", write_scenario("false", ""), env={"TMPDIR": str(own)})
    assert list(own.iterdir()) == []
    assert "journal:" not in done.stdout
    assert "--output-dir" in done.stderr
    derail_command("run", "--output-dir", tmp_path / "kept", write_scenario("false", "step 3"))
    assert (tmp_path / "kept" / "journal.jsonl").is_file()
    assert list((tmp_path / "kept").rglob("stdout.log"))


def test_a_scenario_of_two_nodes_names_the_agents_that_can_run_it(derail_command: Derail) -> None:
    """Derail's own launcher runs one node; the machine decides which other agents there are."""
    done = derail_command("run", "node/all_succeed")

    assert done.returncode == 4
    assert re.search(
        r"derail: (.+ can run it: derail run node/all_succeed --agent \S+"
        r"|no agent that can be run here supports it; .*torchrun.* could)",
        done.stderr,
    )


RESTARTS = """
title = "a rank is killed, and the job runs again"
ranks = 2
restarts = 1
worker = "worker.py"
args = ["{workdir}"]
grace = 1
STEP

[[faults]]
fault = "signal"
signal = "SIGKILL"
rank = 1
when = { all_of = [{ line = "tick 4", rank = 0 }, { line = "tick 4", rank = 1 }] }

[expect]
succeeded = true
restarts = 1
"""
TICKS = """
import os, sys, time
again = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
if again:
    open(f"{sys.argv[1]}/go-{os.environ['RANK']}", "w").close()
for tick in range(2 * again, 5):
    print("tick", tick, flush=True)
while not os.path.exists(f"{sys.argv[1]}/go-{os.environ['RANK']}"):
    time.sleep(0.01)
"""


@pytest.fixture
def restarts(tmp_path: Path) -> Path:
    """Return a scenario whose ranks print `tick 0` to `tick 4`, and `tick 2` to `tick 4` after a restart."""
    (tmp_path / "worker.py").write_text(TICKS)
    path = tmp_path / "scenario.toml"
    path.write_text(RESTARTS.replace("STEP", "step = 'tick (\\d+)'"))
    return path


def test_a_restart_is_measured_and_counted(derail_command: Derail, restarts: Path) -> None:
    """Derail's own launcher restarts ranks as well. Steps 2, 3 and 4 are run again; each time is known."""
    done = derail_command("run", "--json", "--budget", "recover=1h", "--budget", "lost-steps=3", restarts)

    assert done.returncode == 0, done.stderr
    measures = json.loads(done.stdout)["recovery"]
    assert measures["lost-steps"] == 3
    assert 0 <= measures["notice"] <= measures["recover"]
    assert 0 < measures["stop"] <= measures["recover"]


def test_a_run_beyond_its_budget_fails(derail_command: Derail, restarts: Path) -> None:
    """The finding has the limit and the value; a limit that is kept has none."""
    done = derail_command("run", "--budget", "lost-steps=2", "--budget", "recover=1h", restarts)

    assert (done.returncode, done.stdout.split()[0]) == (1, "FAIL")
    assert "  * expected at most 2 steps run again (budget lost-steps=2), got 3 steps\n" in done.stdout
    assert re.search(r"^recovery: noticed after \S+ s, stopped after \S+ s, ran again after \S+ s, 3 steps lost$",
                     done.stdout, re.MULTILINE)  # fmt: skip


def test_a_budget_that_cannot_be_checked_is_inconclusive(derail_command: Derail, restarts: Path) -> None:
    """The ranks write no line that the usual pattern matches, so no time until they ran again is known."""
    restarts.write_text(RESTARTS.replace("STEP", ""))
    done = derail_command("run", "--budget", "recover=1h", restarts)

    assert (done.returncode, done.stdout.split()[0]) == (3, "INCONCLUSIVE")
    assert "budget recover: not measured: no line of a rank before the fault matches the step pattern" in done.stdout


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (("recver=30s",), "--budget recver=30s: unknown measure 'recver'; did you mean 'recover'?"),
        (("recover",), "--budget recover: expected a limit, as in recover=30s"),
        (("recover=soon",), "--budget recover=soon: expected a time like 30s, 500ms or 5m, got 'soon'"),
        (("lost-steps=1.5",), "--budget lost-steps=1.5: expected a number of steps, got '1.5'"),
        (("stop=1s", "stop=2s"), "--budget stop=2s: stop is given twice"),
        (("recover=30s",), "--budget recover: can never be measured: no chosen scenario has faults in its ranks, and"),
    ],
)
def test_a_budget_with_a_mistake_exits_with_2(
    derail_command: Derail, write_scenario, budget: tuple[str, ...], says: str
) -> None:
    """Nothing is started; a limit that no run can reach is a mistake as well: this scenario has no restarts."""
    words = [word for each in budget for word in ("--budget", each)]
    done = derail_command("run", *words, write_scenario("false", "step 3"))

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


LOOP = """
import os, sys, time
file = f"{sys.argv[1]}/rank-{os.environ['RANK']}"
step = int(open(file).read()) if os.path.exists(file) else 0
while True:
    step += 1
    print("tick", step, flush=True)
    with open(f"{file}.new", "w") as draft:
        draft.write(str(step))
    os.replace(f"{file}.new", file)
    time.sleep(0.01)
"""


def test_a_job_is_broken_by_a_schedule_for_a_time(derail_command: Derail, restarts: Path, tmp_path: Path) -> None:
    """Stderr has the schedule before anything runs, stdout only the result. A replay of the journal has the same."""
    (tmp_path / "worker.py").write_text(LOOP)
    options = ("--mtbf", "500ms", "--for", "3s", "--seed", 2, "--quiet-rate", 100, "--json")
    done = derail_command("run", restarts, *options, "--output-dir", tmp_path / "kept")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    planned = schedule(2, mtbf=0.5, seconds=3.0, ranks=2)
    assert [(each["at"], each["rank"]) for each in report["breaks"]] == [(each.at, each.rank) for each in planned]
    assert done.stderr.startswith(f"schedule of seed 2: {len(planned)} breaks in 3 s, one in 0.5 s on average\n")
    assert report["useful_steps"] > 0
    assert report["attempts"] > 1
    low, high = report["interval"]
    assert low <= report["goodput"] <= high

    derail_command("replay", tmp_path / "kept" / "run-1", "--output-dir", tmp_path / "again")
    first, again = (
        json.loads(path.read_text().splitlines()[0])
        for path in (tmp_path / "kept" / "run-1" / "journal.jsonl", tmp_path / "again" / "journal.jsonl")
    )
    assert (first["plan"], first["hash"], first["seed"]) == (again["plan"], again["hash"], 2)
    assert len(first["plan"]["faults"]) == len(planned)


def test_a_goodput_beyond_a_budget_exits_with_1(derail_command: Derail, restarts: Path, tmp_path: Path) -> None:
    """Each recovery counts, and the worst is named."""
    (tmp_path / "worker.py").write_text(LOOP)
    options = ("--mtbf", "500ms", "--for", "8s", "--seed", 2, "--quiet-rate", 100)
    done = derail_command("run", restarts, *options, "--budget", "recover=0", "--budget", "notice=1h")

    assert done.returncode == 1, done.stderr
    assert re.search(r"  \* budget recover=0s: \d+ of \d+ recoveries exceed it, the worst with \S+ s\n", done.stdout)
    assert "budget notice" not in done.stdout


def test_a_signal_ends_a_measurement_and_leaves_no_rank(
    start_derail: StartDerail, restarts: Path, tmp_path: Path, pid_gone, wait_until
) -> None:
    """The exit code is 128 + n, in whichever attempt the job is."""
    (tmp_path / "worker.py").write_text(LOOP)
    options = ("--mtbf", "1s", "--for", "10m", "--quiet-rate", 100, "--output-dir", tmp_path / "kept")
    launcher = start_derail("run", restarts, *options)
    journal = tmp_path / "kept" / "run-1" / "journal.jsonl"

    def started() -> list[int]:
        text = journal.read_text() if journal.exists() else ""
        return [int(pid) for pid in re.findall(r'"started".*"pid": (\d+)', text)]

    wait_until(lambda: len(started()) >= 4)
    launcher.send_signal(signal.SIGTERM)
    _, stderr = launcher.communicate(timeout=100)

    assert (launcher.returncode, "ended by SIGTERM" in stderr) == (128 + signal.SIGTERM, True), stderr
    assert all(pid_gone(pid) for pid in started())


def test_what_shows_no_progress_has_no_goodput(derail_command: Derail, write_scenario) -> None:
    """The exit code is 3 with the reason; a job that cannot be broken so is skipped."""
    silent = write_scenario("true")
    (silent.parent / "worker.py").write_text("import time; time.sleep(60)")
    done = derail_command("run", silent, "--mtbf", "1s", "--for", "60s", "--quiet", "200ms")
    assert (done.returncode, "the quiet run showed no two steps in 0.2 s" in done.stdout) == (3, True), done.stderr

    skipped = derail_command("run", "supervisor/killed", "--mtbf", "1s", "--for", "60s")
    assert (skipped.returncode, skipped.stdout.split()[:2]) == (4, ["SKIPPED", "supervisor/killed"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--mtbf", "20s"), "--mtbf: expected --for as well"),
        (("--for", "5m", "--seed", "1"), "--for, --seed: expected --mtbf as well"),
        (("--mtbf", "1s", "--for", "5m", "--record"), "--mtbf: cannot be combined with --record or --trace"),
        (("--mtbf", "1s", "--for", "5m", "--quiet", "1s", "--quiet-rate", "3"), "expected one of them"),
        (("--mtbf", "soon", "--for", "5m"), "expected a time like 30s, 500ms or 5m, got 'soon'"),
        (("--mtbf", "0s", "--for", "5m"), "expected more than 0 s, got '0s'"),
        (("--mtbf", "1ms", "--for", "5h"), "more than 10000 breaks in 18000 s with a mean of 0.001 s between them"),
    ],
)
def test_options_of_a_measurement_that_do_not_fit_exit_with_2(
    derail_command: Derail, write_scenario, options: tuple[str, ...], says: str
) -> None:
    """Nothing is started."""
    done = derail_command("run", write_scenario("true"), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_trace_shows_the_fault_the_exits_and_a_track_for_each_rank(derail_command: Derail, tmp_path: Path) -> None:
    """The launcher has a track too; logs and journal need not be kept."""
    done = derail_command("run", "crash/killed_at_step_3", "--trace", tmp_path / "new" / "t.json")
    launcher, *ranks = check_trace((tmp_path / "new" / "t.json").read_bytes())

    assert done.returncode == 0, done.stdout
    assert [track.name for track in (launcher, *ranks)] == ["launcher", "rank 0", "rank 1", "rank 2", "rank 3"]
    assert {track.process for track in (launcher, *ranks)} == {"derail: crash/killed_at_step_3"}
    assert [span["name"] for span in launcher.spans] == ["starting", "running", "stopping"]
    faults = [(track.name, span["name"], span["args"]) for track in ranks for span in track.spans[1:]]
    assert faults == [("rank 2", "signal SIGKILL on rank 2 at line 'step 3'", {"result": "injected"})]
    exits = {track.name: [event["name"] for event in track.instants if event["cat"] == "exit"] for track in ranks}
    assert exits == {
        "rank 0": ["ended: SIGTERM (15)"],
        "rank 1": ["ended: SIGTERM (15)"],
        "rank 2": ["ended: SIGKILL (9)"],
        "rank 3": ["ended: SIGTERM (15)"],
    }
    assert {event["cat"] for event in ranks[2].instants} >= {"start", "line", "fault", "exit"}
    assert {event["cat"] for event in ranks[0].instants} == {"start", "signal", "exit"}


def honest_launcher() -> str:
    """Return the command line of an external launcher, with placeholders."""
    launcher = Path(__file__).parents[1] / "programs" / "launchers" / "honest.py"
    return f"{sys.executable} {launcher} {{ranks}} 0 {{grace}} {{script}}"


def test_a_scenario_runs_on_an_agent_of_ones_own(derail_command: Derail, write_scenario, tmp_path: Path) -> None:
    """By its command line or by a declaration with a name; the evidence is in the given directory."""
    declaration = tmp_path / "declaration.toml"
    declaration.write_text('name = "honest"\npromises = ["succeeded"]\n')
    options = ("--agent-cmd", honest_launcher(), "--declaration", declaration, "--output-dir", tmp_path / "kept")
    done = derail_command("run", "--json", *options, write_scenario("false", "step 3"))

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["agent"], report["verdict"], report["faults"][0]["result"]) == ("honest", "PASS", "injected")
    assert (tmp_path / "kept" / "journal.jsonl").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--agent", "torchrn"), "unknown agent 'torchrn'; did you mean 'torchrun'?"),
        (("--agent", "native", "--agent-cmd", "x {script}"), "expected either a NAME, or --agent-cmd"),
        (("--agent-cmd", "x {skript}"), "did you mean 'script'?"),
        (("--declaration", "gone.toml"), "gone.toml: cannot be read"),
    ],
)
def test_an_agent_that_cannot_be_is_refused_before_anything_is_cleared(
    derail_command: Derail, write_scenario, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    """The evidence of an earlier run stays."""
    kept, file = tmp_path / "kept", write_scenario("false", "step 3")
    derail_command("run", "--output-dir", kept, file)
    before = (kept / "journal.jsonl").read_bytes()
    done = derail_command("run", *words, "--output-dir", kept, file)

    assert (done.returncode, says in done.stderr, (kept / "journal.jsonl").read_bytes()) == (2, True, before)


def test_a_signal_ends_the_run_of_another_agent_and_leaves_no_rank(
    start_derail: StartDerail, write_scenario, tmp_path: Path, pid_gone, wait_until
) -> None:
    """The exit code is 128 + n, as with derail's own launcher."""
    kept, file = tmp_path / "kept", write_scenario("true")
    (tmp_path / "worker.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    launcher = start_derail("run", "--agent-cmd", honest_launcher(), "--output-dir", kept, file)
    journal = kept / "journal.jsonl"

    def started() -> list[int]:
        text = journal.read_text() if journal.exists() else ""
        return [int(pid) for pid in re.findall(r'"started".*"pid": (\d+)', text)]

    wait_until(lambda: len(started()) == 2)
    launcher.send_signal(signal.SIGTERM)
    _, stderr = launcher.communicate(timeout=100)

    assert (launcher.returncode, "ended by SIGTERM" in stderr) == (128 + signal.SIGTERM, True), stderr
    assert all(pid_gone(pid) for pid in started())


def test_no_line_of_the_commands_help_is_cut(derail_command: Derail) -> None:
    """At any width of the terminal."""
    for columns in ("40", "80", "200"):
        assert "..." not in derail_command("--help", env={"COLUMNS": columns}).stdout.partition("Commands:")[2]


def test_the_command_line_imports_what_is_slow_only_where_it_is_used() -> None:
    """``derail --help`` imports neither rich nor msgspec nor psutil."""
    import subprocess

    source = "import sys, derail.cli; print(*sorted({'rich', 'msgspec', 'psutil', 'asyncio'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_second_run_into_the_same_folder_has_no_evidence_of_the_first(
    derail_command: Derail, write_scenario, tmp_path: Path
) -> None:
    """The journal is replaced; a folder with other files is refused and not changed."""
    kept, file = tmp_path / "kept", write_scenario("false", "step 3")
    derail_command("run", "--output-dir", kept, file)
    (kept / "checkpoint.txt").write_text("step 20")
    first = (kept / "journal.jsonl").read_text().count('"event": "plan"')
    again = derail_command("run", "--output-dir", kept, file)
    assert (again.returncode, (kept / "checkpoint.txt").exists()) == (0, False)
    assert (kept / "journal.jsonl").read_text().count('"event": "plan"') == first == 1

    (kept / ".derail").unlink()
    (kept / "thesis.tex").write_text("mine")
    refused = derail_command("run", "--output-dir", kept, file)
    assert (refused.returncode, (kept / "thesis.tex").read_text()) == (2, "mine")
    assert f"{kept}: has the journal of an earlier run and other files. Give an empty directory" in refused.stderr
