"""Kinds of launchers, each in small: what MPI's and Slurm's do that others do not, and what derail sees of it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agents.test_planted_bugs import SHELL, write_wrapper
from agents.test_planted_bugs import agent as steady
from derail import faults, when
from derail.agents.custom import CommandAgent, Declaration
from derail.agents.external.agent import lines_of
from derail.agents.launcher_under_test import run_launcher
from derail.model.spec import JOB_ENV
from derail.scenario.expect import judge
from derail.scenario.load import find, load
from derail.scenario.model import Expect, Scenario
from derail.scenario.observe import TAIL_LINES
from wording import Tells

WRAPPERS = {
    "shell": SHELL,
    "string": '#!/bin/sh\nexec sh -c "trap : HUP INT QUIT TERM; $*; exit \\$?"\n',
    "timeout": '#!/bin/sh\nexec timeout --foreground 600 "$@"\n',
}
PROXY = f"#!{sys.executable}\nimport subprocess, sys\nsys.exit(subprocess.call(sys.argv[1:]) % 256)\n"
LAUNCHERS = Path(__file__).parents[2] / "programs" / "launchers"
PYTHON = shlex.quote(sys.executable)
STEPS = """
import time
for step in range(1, 1001):
    print(f"step {step}", flush=True)
    time.sleep(0.02)
"""


def agent(name, *options, declaration=None):
    """A launcher of this folder, with the number of ranks, options, and the worker's command line."""
    words = " ".join(options)
    return CommandAgent(f"{PYTHON} -u {LAUNCHERS / f'{name}.py'} {{ranks}} {words} {{command}}", declaration)


@pytest.fixture
def daemon(tmp_path):
    """A daemon that starts ranks and is no descendant of anything that derail starts; its socket."""
    path = tmp_path / "d"
    env = {name: value for name, value in os.environ.items() if name != JOB_ENV}
    command = [sys.executable, str(LAUNCHERS / "by_daemon.py"), "serve", str(path)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield str(path)
    process.terminate()
    process.wait()
    process.stdout.close()


def write_worker(tmp_path, source):
    """A worker with this source."""
    path = tmp_path / "worker.py"
    path.write_text(source)
    return path


@pytest.mark.parametrize("kind", ["group", "session", "daemon"])
def test_a_helper_is_where_its_kind_says_though_its_rank_leads_no_group(tmp_path, kind):
    """The rank's own group counts, not its number: launchers that leave all ranks in a group of their own exist."""
    worker = write_worker(tmp_path, "import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    orphan = faults.orphan(kind, rank=0, code=5, when=when.line("up"))
    seen = agent("shared_group").run(Scenario("t", 1, worker, faults.plan([orphan])), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert (seen.exit_code, len(seen.leftovers)) == (5, 1)


@pytest.mark.parametrize("pipes", ["pipes", "console"])
def test_quiet_ranks_that_outlive_a_killed_launcher_are_seen(tmp_path, pipes):
    """They print nothing and survive a broken pipe, so that they only end when a process ends them."""
    scenario = load(find("supervisor/killed"))
    command = [
        sys.executable,
        str(LAUNCHERS / "shared_group.py"),
        "2",
        pipes,
        sys.executable,
        "-u",
        str(scenario.worker),
    ]
    seen = run_launcher(scenario, command, tmp_path)

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert len([left for left in seen.leftovers if "quiet_loop.py" in left.what]) == 2


def test_what_ranks_of_a_daemon_leave_is_counted_and_ended(tmp_path, daemon, pid_gone):
    """They are no descendants of the launcher, and neither are their helpers: the job's mark shows whose they are."""
    worker = write_worker(tmp_path, STEPS)
    orphan = faults.orphan("session", rank=1, code=5, when=when.line("step 2"))
    scenario = Scenario("t", 2, worker, faults.plan([orphan]), Expect(succeeded=False, leftovers="ended"))
    launcher = agent("by_daemon", daemon)
    seen = launcher.run(scenario, tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert (seen.exit_code, [(left.rank, left.ended) for left in seen.leftovers]) == (5, [(1, True)])
    assert pid_gone(seen.leftovers[0].pid)
    assert judge(scenario, seen, launcher.promises).kind == "FAIL"


def test_ranks_of_a_daemon_that_outlive_the_launcher_are_left_over(tmp_path, daemon, pid_gone):
    """The launcher is killed, and no process notifies the daemon."""
    worker = write_worker(tmp_path, STEPS)
    kill = faults.signal("SIGKILL", rank="the agent", when=when.all_of(*(when.line("step 2", rank=r) for r in (0, 1))))
    scenario = Scenario("t", 2, worker, faults.plan([kill]), Expect(succeeded=False))
    seen = agent("by_daemon", daemon).run(scenario, tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert sorted((left.rank, left.ended) for left in seen.leftovers) == [(0, True), (1, True)]
    assert all(pid_gone(left.pid) for left in seen.leftovers)


def test_ranks_of_a_daemon_are_ended_when_the_time_is_over(tmp_path, daemon, pid_gone):
    """As those are that the launcher has started itself."""
    worker = write_worker(tmp_path, STEPS)
    seen = agent("by_daemon", daemon).run(Scenario("t", 2, worker, timeout=2.0), tmp_path / "run")

    assert seen.timed_out
    assert len(seen.ranks) == 2
    assert all(pid_gone(fate.pid) for fate in seen.ranks.values())


def run_shipped(tmp_path, launcher, name, **changes):
    """Run a scenario that comes with derail; what was seen, and the verdict."""
    scenario = replace(load(find(name)), **changes).placed(tmp_path)
    seen = launcher.run(scenario, tmp_path / "run")
    return seen, judge(scenario, seen, launcher.promises)


def finding(verdict, promise):
    """Whether a promise was kept: True, False, None for not judged; absent if it was not asked for."""
    return [found.kept for found in verdict.findings if found.promise == promise]


@pytest.mark.parametrize("mode", ["prints", "drops"])
def test_lines_of_ranks_are_seen_though_their_launcher_reads_them_through_pipes(tmp_path, mode):
    """A fault that waits for a line comes in time, and the launcher still gets every byte."""
    worker = write_worker(tmp_path, STEPS)
    leave = faults.exit(7, rank=1, when=when.line("step 3"))
    seen = agent("piped", mode).run(Scenario("t", 2, worker, faults.plan([leave])), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert (seen.exit_code, seen.log_tail[1, "stdout"][:3]) == (7, ("step 1", "step 2", "step 3"))
    output = next((tmp_path / "run").glob("python*-0.log")).read_text()
    assert ("[1] step 3" in output) == (mode == "prints")


def test_lines_of_ranks_that_are_no_python_are_read_in_the_declared_files(tmp_path, monkeypatch):
    """The launcher reads them through pipes and keeps them there, from one attempt to the next."""
    worker = tmp_path / "worker.sh"
    worker.write_text(
        "#!/bin/sh\nstep=0\nwhile [ $step -lt 1000 ]; do step=$((step + 1)); echo step $step; sleep 0.02; done\n"
    )
    worker.chmod(0o755)
    monkeypatch.setenv("KEPT", str(tmp_path))
    kill = faults.signal("SIGKILL", rank=1, when=when.line("step 3"))
    launcher = agent("piped", "keeps", declaration=Declaration(logs=f"{tmp_path}/{{rank}}.{{stream}}"))
    seen = launcher.run(Scenario("t", 2, worker, faults.plan([kill])), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert (seen.exit_code, seen.log_tail[1, "stdout"][:3]) == (137, ("step 1", "step 2", "step 3"))


@pytest.mark.parametrize(("mode", "stream"), [("at_end", "stdout"), ("in_turn", "stderr")])
def test_a_launcher_that_deadlocks_on_a_full_pipe_fails(tmp_path, mode, stream):
    """The rank waits in its write, and the fault behind it never comes: the full pipe is the proof."""
    worker = write_worker(tmp_path, STEPS)
    flood = faults.log_flood(20000, rank=1, stream=stream, when=when.line("step 3"))
    leave = faults.exit(7, rank=1, when=when.line("step 9"))
    scenario = Scenario("t", 2, worker, faults.plan([flood, leave]), Expect(succeeded=False), timeout=15.0)
    seen = agent("piped", mode).run(scenario, tmp_path / "run")
    verdict = judge(scenario, seen)

    assert verdict.kind == "FAIL"
    assert verdict.reasons[0] == Tells("launcher", stream, "rank 1", "full")


@pytest.mark.parametrize(("mode", "kept"), [("prints", True), ("glues", True), ("drops", None)])
@pytest.mark.parametrize("name", ["logs/no_utf8", "logs/half_a_line_and_an_exit"])
def test_the_launchers_own_output_is_judged_where_it_relays(tmp_path, name, mode, kept):
    """A launcher that shows nothing is not judged by the copies that derail has made."""
    seen, verdict = run_shipped(tmp_path, agent("piped", mode), name)

    assert [told.status for told in seen.faults if told.status != "injected"] == []
    assert set(finding(verdict, "log_tail")) == {kept}, verdict.findings


@pytest.mark.parametrize(
    ("printed", "of_rank_0"),
    [
        (["[0] rank 0: a", "[1] rank 1: b", "c"], ("[0] rank 0: a", "c")),
        (["[1] rank 1: a", "[0] fatal: no route to[1] rank 1: b"], ("[0] fatal: no route to[1] ",)),
        (["rank 1: a", "fatal: rank 1: b rank 0: c"], ("fatal: rank 1: b rank 0: c",)),
        ([f"rank {n % 2}: {n}" for n in range(1000)], tuple(f"rank 0: {n}" for n in range(0, 1000, 2))[-TAIL_LINES:]),
    ],
)
def test_half_a_line_belongs_to_its_rank_though_another_one_ends_it(printed, of_rank_0):
    """Text in front of the number of a rank is a prefix of the launcher, or may be of any rank."""
    assert lines_of(0, printed) == of_rank_0


def test_a_launcher_that_relays_one_stream_and_loses_the_other_fails(tmp_path):
    """The last words of a rank are on stderr."""
    _, verdict = run_shipped(tmp_path, agent("piped", "no_err"), "logs/half_a_line_and_an_exit")

    assert finding(verdict, "log_tail") == [False]


def test_a_launcher_that_promises_to_show_its_ranks_output_and_does_not_fails(tmp_path):
    """What is promised is held against it, seen or not."""
    launcher = agent("piped", "drops", declaration=Declaration(promises=frozenset({"log_tail"})))
    _, verdict = run_shipped(tmp_path, launcher, "logs/no_utf8")

    assert finding(verdict, "log_tail") == [False]


@pytest.mark.parametrize(
    "names",
    [("PMI_RANK", "PMI_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")],
)
def test_workers_find_their_numbers_under_the_names_that_they_read(tmp_path, names):
    """Whatever the launcher calls them; and a place to meet, if it knows of none."""
    asked = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    worker = write_worker(
        tmp_path, f"import os, time\nprint(*[os.environ[name] for name in {asked}])\ntime.sleep(0.3)\n"
    )
    seen = agent("numbers", *names).run(Scenario("t", 3, worker), tmp_path / "run")

    told = [seen.log_tail[rank, "stdout"][0].split() for rank in range(3)]
    assert [words[:3] for words in told] == [[str(rank), "3", "127.0.0.1"] for rank in range(3)]
    assert len({words[3] for words in told}) == 1
    assert told[0][3].isdigit()


def test_a_declaration_maps_the_launchers_own_variables(tmp_path):
    """They include variables that only this launcher uses."""
    worker = write_worker(
        tmp_path, "import os, time\nprint(os.environ['RANK'], os.environ['WORLD_SIZE'])\ntime.sleep(0.3)\n"
    )
    declaration = Declaration(variables={"RANK": "MY_NUMBER", "WORLD_SIZE": "ALL_OF_US"})
    launcher = agent("numbers", "MY_NUMBER", "ALL_OF_US", declaration=declaration)
    seen = launcher.run(Scenario("t", 2, worker), tmp_path / "run")

    assert [seen.log_tail[rank, "stdout"] for rank in (0, 1)] == [("0 2",), ("1 2",)]


def test_a_fault_that_takes_a_variable_away_is_not_undone_by_the_mapping(tmp_path):
    """The rank becomes what it is to be, and is left so."""
    worker = write_worker(tmp_path, "import os, time\nprint(os.environ.get('WORLD_SIZE'))\ntime.sleep(0.3)\n")
    take = faults.missing_variable("WORLD_SIZE", rank=1)
    seen = agent("numbers", "PMI_RANK", "PMI_SIZE").run(Scenario("t", 2, worker, faults.plan([take])), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"], seen.faults
    assert [seen.log_tail[rank, "stdout"] for rank in (0, 1)] == [("2",), ("None",)]


def test_ranks_without_a_number_cannot_be_judged(tmp_path):
    """Nothing shows which of them is which: that is no failure of the launcher."""
    _, verdict = run_shipped(tmp_path, agent("numbers", "NOBODY_KNOWS", "-"), "calm/all_succeed")

    assert verdict.kind == "INCONCLUSIVE"
    assert "run the ranks' program without a rank" in verdict.reasons[0]
    assert "[variables] of the declaration" in verdict.reasons[0]


def test_a_launcher_that_is_rank_0_itself_cannot_be_judged(tmp_path):
    """Its rank 0 was not seen, which is no end that never came."""
    seen, verdict = run_shipped(tmp_path, agent("rank_zero"), "crash/exits_with_code_7")

    assert (verdict.kind, 0 in seen.ranks) == ("INCONCLUSIVE", False)
    assert any("rank 0 was never found" in reason for reason in verdict.reasons)
    assert not any("never ended" in str(found) for found in verdict.findings)


def test_a_helper_that_carries_rank_0_is_not_rank_0(tmp_path):
    """It does not run the worker, and others do."""
    worker = write_worker(tmp_path, STEPS.replace("1001", "20"))
    seen = agent("rank_zero", "helper").run(Scenario("t", 3, worker), tmp_path / "run")

    assert (sorted(seen.ranks), seen.exit_code, seen.restarts) == ([1, 2], 0, 0)


@pytest.mark.parametrize("name", ["asked_to_end", "passes_the_warning_on"])
def test_a_launcher_that_shows_nothing_of_its_ranks_is_judged_by_scenarios_about_launchers(tmp_path, name):
    """Their faults wait for a line of a rank, which reaches derail past the launcher."""
    seen, verdict = run_shipped(tmp_path, agent("piped", "drops"), f"supervisor/{name}")

    assert [told.status for told in seen.faults] == ["injected"] * len(seen.faults), seen.faults
    assert verdict.kind in ("PASS", "FAIL"), verdict.reasons


@pytest.mark.parametrize("name", ["logs/rotated", "regression/deleted_log"])
def test_what_breaks_the_log_file_of_a_rank_is_skipped_where_there_is_none(tmp_path, name):
    """The launcher reads its ranks through pipes, and the verdict says so."""
    _, verdict = run_shipped(tmp_path, agent("piped", "prints"), name)

    assert verdict.kind == "SKIPPED"
    assert "pipe:" in verdict.reasons[0]


def test_ranks_whose_python_lacks_what_the_worker_imports_accuse_no_launcher(tmp_path):
    """Another Python than derail's runs the ranks: the verdict names it, and what is missing."""
    worker = write_worker(tmp_path, "import no_such_module_of_derail\n")
    scenario = Scenario("t", 2, worker, needs=("no_such_module_of_derail",), expect=Expect(succeeded=True))
    launcher = agent("piped", "prints")
    verdict = judge(scenario, launcher.run(scenario, tmp_path / "run"), launcher.promises)

    assert verdict.kind == "INCONCLUSIVE"
    assert "has no module no_such_module_of_derail" in verdict.reasons[0]


@pytest.mark.parametrize("kind", WRAPPERS)
@pytest.mark.parametrize(
    "name", ["crash/killed_at_step_3", "error_file/truncated", "hang/deaf_to_sigterm", "restart/resumes_after_a_kill"]
)
def test_the_rank_is_the_program_and_no_process_that_stays_above_it(tmp_path, kind, name):
    """Faults act in the program, its end is the rank's, and 128+n is a right report of signal n."""
    run = steady(wrapper=write_wrapper(tmp_path, WRAPPERS[kind]))
    seen, verdict = run_shipped(tmp_path, run, name)

    assert verdict.kind == "PASS", verdict.reasons
    assert seen.restarts == (name == "restart/resumes_after_a_kill")


def test_the_wrapper_of_a_rank_waits_like_the_launcher_while_the_rank_ends(tmp_path):
    """The error file is damaged, and the helper seen, before the wrapper can act on the exit."""
    left = tmp_path / "left"
    wrapper = f'#!/bin/sh\ntrap : TERM\n"$@"\ncode=$?\ncp "$TORCHELASTIC_ERROR_FILE" {left}-$RANK\nexit $code\n'
    seen, verdict = run_shipped(tmp_path, steady(wrapper=write_wrapper(tmp_path, wrapper)), "error_file/truncated")

    assert (verdict.kind, [told.status for told in seen.faults]) == ("PASS", ["injected"]), verdict.reasons
    damaged = Path(f"{left}-{seen.root_cause}").read_bytes()
    assert not damaged.rstrip().endswith(b"}")


def test_a_wrong_code_is_no_report_of_a_signal_though_a_shell_stays_above_the_rank(tmp_path):
    """Only 128 and the signal that ended the program says the same as the signal."""
    launcher = steady("tells_code_1", write_wrapper(tmp_path, SHELL))
    _, verdict = run_shipped(tmp_path, launcher, "crash/killed_at_step_3")

    assert verdict.kind == "FAIL"


def test_a_python_above_the_worker_accuses_no_launcher(tmp_path):
    """The first Python of a rank acts for it: faults reach that one, and the verdict says so."""
    _, verdict = run_shipped(tmp_path, steady(wrapper=write_wrapper(tmp_path, PROXY)), "hang/deaf_to_sigterm")

    assert verdict.kind == "INCONCLUSIVE"
    assert any("is a child of another Python with the same rank" in reason for reason in verdict.reasons)
