"""Planted bugs of a launcher, each found by its scenario for the right reason."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from derail.agents.custom import CommandAgent, Declaration, Report
from derail.campaign.run_scenario import run_scenario
from derail.scenario.load import find, load, shipped
from derail.scenario.model import ALL_PROMISES
from programs.launchers import steady

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="external agents are watched by pidfds"),
]
LAUNCHER = Path(__file__).parents[1] / "programs" / "launchers" / "steady.py"
DECLARATION = Declaration(
    name="steady",
    promises=ALL_PROMISES - {"error_file"},
    logs="{log_dir}/{rank}/{stream}.log",
    report=Report(
        root_cause=r"^root cause: rank (?P<rank>\d+)$",
        failure=r"^rank (?P<rank>\d+): (?:exit (?P<code>\d+)|signal (?P<signal>\w+)): (?P<message>.*)$",
    ),
)
SHELL = '#!/bin/sh\ntrap : HUP INT QUIT TERM USR1 USR2\n"$@"\nexit $?\n'
"""Stays above its program, and exits with 128+n where signal n ended it."""
KILLED_BY = {
    "blames_last": ("regression/victim_right_behind", "root_cause", "got rank 0"),
    "rank_order": ("regression/victim_right_behind", "root_cause", "got rank 0"),
    "blames_nobody": ("crash/killed_at_step_3", "root_cause", "got none"),
    "stopped_failed": ("crash/killed_at_step_3", "failures", "got rank(s) 0, 1, 2, 3"),
    "grace_each": ("teardown/all_are_deaf", "teardown_seconds", "a teardown of at most"),
    "slow_look": ("crash/exits_with_code_7", "teardown_seconds", "a teardown of at most"),
    "no_grace": ("teardown/leaves_with_0", "exits", "exit 0 of rank 1, got SIGKILL"),
    "no_kill": ("hang/deaf_to_sigterm", "ends", "got a timeout"),
    "no_stop": ("crash/killed_at_step_3", "stopped", "expected stopped: "),
    "no_cont": ("teardown/stopped_for_good", "ends", "got a timeout"),
    "leader_only": ("teardown/helpers_go_with_the_rank", "leftovers", "to be ended"),
    "no_sweep": ("teardown/orphan_that_is_a_daemon", "leftovers", "to be ended"),
    "code_1": ("crash/exits_with_code_7", "exit_code", "exit code 7 of the launcher, got 1"),
    "signal_is_fine": ("crash/segfault", "succeeded", "got succeeded"),
    "zero_on_failure": ("crash/exits_with_code_7", "succeeded", "got succeeded"),
    "tells_code_1": ("crash/exits_with_code_7", "exits", "got exit 1"),
    "no_message": ("crash/raises_in_its_work", "message", "got 'it failed'"),
    "first_line": ("error_file/unwritable", "message", "a message like"),
    "breaks_on_bad_file": ("error_file/truncated", "root_cause", "got none"),
    "believes_stale": ("error_file/stale", "message", "of an earlier attempt"),
    "opens_fifo": ("error_file/fifo", "ends", "got a timeout"),
    "never_restarts": ("restart/resumes_after_a_kill", "restarts", "1 restart(s), got 0"),
    "one_restart_more": ("restart/gives_up", "restarts", "2 restart(s), got 3"),
    "restarts_success": ("calm/all_succeed", "restarts", "although the scenario allows none"),
    "keeps_helpers": ("restart/helpers_of_the_first_attempt", "succeeded", "got failed"),
    "old_port": ("restart/meets_on_another_port", "succeeded", "got failed"),
    "old_port_for_some": ("restart/meets_on_another_port", "succeeded", "got failed"),
    "fewer_after_restart": ("restart/meets_on_another_port", "succeeded", "got failed"),
    "one_rank_less": ("calm/all_succeed", "succeeded", "never seen"),
    "rank_0_decides": ("regression/third_rank_false_green", "succeeded", "got succeeded"),
    "lost_is_zero": ("supervisor/somebody_else_waits", "succeeded", "got succeeded"),
    "ignores_term": ("supervisor/asked_to_end", "succeeded", "got succeeded"),
    "exits_before_ranks": ("supervisor/terminal_is_closed", "leftovers", "no leftovers"),
    "console_kills": ("supervisor/nobody_reads_its_console", "exit_code", " of the launcher, got "),
    "no_forward": ("supervisor/passes_the_warning_on", "forwards_signals", "expected outcome succeeded"),
    "orphans": ("supervisor/killed", "ends_with_launcher", "no leftovers"),
    "no_files": ("calm/all_succeed", "log_tail", "it is empty"),
    "pipe_deadlock": ("logs/flood", "ends", "got a timeout"),
}
"""By bug: the scenario, the promise that it finds broken, and a part of what it says."""

BELOW_A_SHELL = (
    *("blames_last", "blames_nobody", "stopped_failed", "no_kill", "no_stop", "code_1", "zero_on_failure", "slow_look"),
    *("tells_code_1", "no_message", "believes_stale", "never_restarts", "grace_each", "old_port", "no_sweep"),
)
"""The bugs that are looked for once more where a shell stays above each rank; it hides ends by signals."""


def agent(bug="", wrapper=""):
    """Return the launcher with that bug; it starts each rank by the wrapper, which gets the rank's command line."""
    words = [sys.executable, str(LAUNCHER), *(["--bug", bug] if bug else [])]
    start = f"{shlex.join([wrapper, sys.executable, '-u'])} {{script}}" if wrapper else "{script}"
    return CommandAgent(
        f"{shlex.join(words)} -n {{ranks}} -r {{restarts}} -g {{grace}} -l {{log_dir}} {start} {{args}}", DECLARATION
    )


def write_wrapper(tmp_path, source):
    """Write a program that starts another one, and stays above it."""
    path = tmp_path / "wrapper"
    path.write_text(source)
    path.chmod(0o755)
    return str(path)


def check_that_a_bug_is_found(tmp_path, bug, wrapper=""):
    """Run the scenario for a bug, and compare its findings."""
    name, promise, words = KILLED_BY[bug]
    run = run_scenario(load(find(name)), agent(bug, wrapper), workdir=tmp_path / "run")
    broken = [str(finding) for finding in run.verdict.findings if finding.kept is False and finding.promise == promise]

    assert run.verdict.kind == "FAIL", run.verdict
    assert any(words in reason for reason in broken), run.verdict.reasons


@pytest.mark.parametrize("bug", KILLED_BY)
def test_a_planted_bug_is_found_by_its_scenario(tmp_path, bug):
    """The verdict is FAIL, with the broken promise in the right words."""
    check_that_a_bug_is_found(tmp_path, bug)


@pytest.mark.parametrize("bug", BELOW_A_SHELL)
def test_a_planted_bug_is_found_where_a_shell_stays_above_each_rank(tmp_path, bug):
    """For the same reason as without the shell."""
    check_that_a_bug_is_found(tmp_path, bug, write_wrapper(tmp_path, SHELL))


@pytest.mark.parametrize("name", sorted(name for name in shipped() if not name.startswith(("node/", "values/"))))
def test_the_launcher_without_a_bug_keeps_all_its_promises(tmp_path, name):
    """In every scenario that it supports."""
    run = run_scenario(load(find(name)), agent(), workdir=tmp_path)

    assert run.verdict.kind in ("PASS", "SKIPPED"), run.verdict.reasons


def test_each_bug_is_planted():
    """Every bug of the launcher has a scenario, and the table has no other bugs."""
    assert set(KILLED_BY) == set(steady.BUGS)
