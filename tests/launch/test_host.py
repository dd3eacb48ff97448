"""The launching process is left as it was, and unknown facts are never invented."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from derail import DefaultLogsSpecs, Std, start_processes
from derail.model.exit import UNKNOWN_RETURNCODE
from program_files import program_text


def test_the_callers_dicts_are_untouched(tmp_path):
    """``args`` and ``envs`` are copied: nothing is added to them."""
    args, envs = {0: ("-c", "exit 0")}, {0: {"A": "b"}}
    start_processes("job", "/bin/sh", args, envs, DefaultLogsSpecs(str(tmp_path))).wait(60)
    assert (args, envs) == ({0: ("-c", "exit 0")}, {0: {"A": "b"}})


def test_a_job_without_a_log_directory_leaves_none(run_python, tmp_path):
    """The temporary directories of derail are gone after the interpreter."""
    source = "from derail import *\nstart_processes('job', '/bin/true', {0: ()}, {0: {}}, DefaultLogsSpecs()).wait()\n"
    run_python(source, env={"TMPDIR": str(tmp_path)})
    assert os.listdir(tmp_path) == []


def test_logs_of_earlier_attempts_are_kept(tmp_path):
    """The same specs serve several attempts, and one attempt twice; nothing is deleted or overwritten."""
    specs = DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT)
    told = []
    for attempt, word in ((0, "first"), (0, "again"), (1, "second")):
        env = {"TORCHELASTIC_RESTART_COUNT": str(attempt), "TORCHELASTIC_RUN_ID": "run"}
        context = start_processes("job", "/bin/echo", {0: (word,)}, {0: env}, specs)
        context.wait(60)
        told.append(context.stdouts[0])
    texts = [Path(path).read_text() for path in told]
    assert texts == ["first\nagain\n", "first\nagain\n", "second\n"]


def test_jobs_run_concurrently_in_threads(jobs):
    """Twenty jobs from ten threads, all correct."""
    results = {}

    def run(number):
        results[number] = jobs.sh(f"exit {number}").wait(60)

    for batch in (range(10), range(10, 20)):
        threads = [threading.Thread(target=run, args=(number,)) for number in batch]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    assert {n: r.exit_code for n, r in results.items()} == {n: n for n in range(20)}


def test_a_job_may_run_in_asyncio(jobs):
    """A thread of the executor waits; the event loop continues."""
    import asyncio

    async def main():
        return await asyncio.to_thread(lambda: jobs.sh("exit 0").wait(60))

    assert asyncio.run(main()).succeeded


def test_an_ignored_sigchld_does_not_turn_a_crash_into_a_success(jobs):
    """The kernel would discard the exit codes; they are right anyway, and SIGCHLD stays ignored."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    result = jobs.sh("exit 7", "exec sleep 600").wait(60)
    assert (result.failures[0].exitcode, signal.getsignal(signal.SIGCHLD)) == (7, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, before)


def test_a_stolen_wait_is_never_a_success(jobs):
    """Other code in the process reaps the rank: its real status if the kernel still has it, else a lost one."""

    class Thief:
        wants_lines = False

        def attach(self, control):
            self.control = control

        def observe(self, event):
            if type(event).__name__ == "PhaseChanged" and event.phase == "running":
                stolen.append(os.waitid(os.P_PID, self.control.pid(0), os.WEXITED).si_status)

    stolen = []
    result = jobs.sh("exit 7", observers=[Thief()]).wait(60)
    assert stolen == [7]
    assert result.failures[0].exitcode in (7, UNKNOWN_RETURNCODE)
    assert result.exit_code in (7, UNKNOWN_RETURNCODE)


def test_polling_a_ranks_popen_leaves_the_status_for_the_result(jobs):
    """``subprocess_handlers[0].proc.poll()``, as agents call it, returns the code and leaves it for the result."""
    context = jobs.sh("exit 7")
    assert context.subprocess_handlers[0].proc.wait(60) == 7
    assert context.subprocess_handlers[0].proc.poll() == 7
    assert context.wait(60).failures[0].exitcode == 7


def test_the_real_time_signals_have_names(jobs):
    """SIGRTMIN+3 breaks no formatter."""
    from derail import ChildFailedError

    result = jobs.sh(f"kill -{signal.SIGRTMIN + 3} $$").wait(60)
    assert result.failures[0].signal_name() == "SIGRTMIN+3"
    assert "SIGRTMIN+3" in str(ChildFailedError("job", result.failures))


@pytest.mark.parametrize(
    ("entrypoint", "error"),
    [("/nonexistent/program", FileNotFoundError), ("plain file", PermissionError), ("", OSError)],
)
def test_a_program_that_cannot_be_run_is_a_clear_error(jobs, tmp_path, entrypoint, error):
    """The error names rank and program; nothing is left."""
    if entrypoint == "plain file":
        entrypoint = str(tmp_path / "plain")
        (tmp_path / "plain").touch(mode=0o644)
    with pytest.raises(error, match="rank 0"):
        jobs.start(entrypoint, 1)


def test_no_descriptor_left_at_start_is_a_clear_error(run_python, tmp_path):
    """EMFILE while ranks are started: running ones are ended, the error has a remedy."""
    source = program_text("launch/few_descriptors")
    out = run_python(source, str(tmp_path)).stdout.splitlines()
    assert out[0].startswith("24 ")
    assert out[-1] == "True"


def test_mismatched_ranks_are_refused_before_anything_starts(tmp_path):
    """``args`` and ``envs`` must name the same ranks; the error names the missing ones."""
    with pytest.raises(RuntimeError, match=r"mapping mismatch.*1"):
        start_processes("job", "/bin/true", {0: (), 1: ()}, {0: {}}, DefaultLogsSpecs(str(tmp_path)))


def test_a_rank_that_has_no_such_stream_choice_is_refused(tmp_path):
    """Streams for rank 5 of a job of 2 are an error, not silence."""
    with pytest.raises(ValueError, match="5"):
        start_processes(
            "job", "/bin/true", {0: (), 1: ()}, {0: {}, 1: {}}, DefaultLogsSpecs(str(tmp_path), redirects={5: Std.ALL})
        )


def test_a_rank_is_bound_to_its_cpus_before_its_first_instruction(jobs, monkeypatch):
    """``numa_options`` become the affinity of the rank; the launcher's own stays."""
    from derail import AffinityMode, NumaOptions

    mine = os.sched_getaffinity(0)
    chosen = frozenset({max(mine)})
    monkeypatch.setattr("derail.platform.topology.cpus_for", lambda rank, options, *, ranks: chosen)
    source = "import os; print(sorted(os.sched_getaffinity(0)))"
    context = jobs.py(source, numa_options=NumaOptions(AffinityMode.NODE))
    context.wait(60)
    assert json.loads(Path(context.stdouts[0]).read_text()) == sorted(chosen)
    assert os.sched_getaffinity(0) == mine


def test_numa_options_that_the_machine_cannot_honour_are_refused(jobs, monkeypatch):
    """A clear error before anything is started."""
    from derail import AffinityMode, NumaOptions
    from derail.platform.topology import TopologyError

    def refuse(rank, options, *, ranks):
        raise TopologyError("this machine has no such node")

    monkeypatch.setattr("derail.platform.topology.cpus_for", refuse)
    with pytest.raises(TopologyError, match="no such node"):
        jobs.sh("exit 0", numa_options=NumaOptions(AffinityMode.NODE))
