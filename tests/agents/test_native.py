"""derail as the supervisor: real jobs, their faults, their evidence."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from agents import rank_functions
from derail import faults, when
from derail.agents.invocation import LocalJob
from derail.agents.native import NativeAgent
from derail.agents.native_job import default_teardown, start_job
from derail.faults import Plan
from derail.model.events import Started
from derail.model.input_error import InputError
from derail.scenario.model import Scenario

if TYPE_CHECKING:
    from pathlib import Path

KILL = faults.signal("SIGKILL", rank=1, when=when.line("step 3"))


def test_functions_get_their_arguments_and_their_rank(tmp_path: Path) -> None:
    """Arguments are the same for each rank; rank, world size and further variables are in the environment."""
    job = start_job(LocalJob(rank_functions.who_am_i, ranks=2, args=(7, "x"), env={"COLOUR": "red"}), workdir=tmp_path)
    seen = job.wait(60)
    job.close()
    assert dict(seen.return_values) == {0: (0, 2, (7, "x"), "red"), 1: (1, 2, (7, "x"), "red")}


def test_a_script_gets_its_arguments_and_its_output_is_kept(tmp_path: Path) -> None:
    """Both streams of each rank go to files, and their last lines are in the result."""
    script = tmp_path / "say.py"
    script.write_text("import os, sys; print(os.environ['RANK'], sys.argv[1:]); print('err', file=sys.stderr)")
    job = start_job(LocalJob(script, ranks=2, args=("a", "b")), workdir=tmp_path / "evidence")
    seen = job.wait(60)
    job.close()
    assert dict(seen.log_tail) == {
        (0, "stdout"): ("0 ['a', 'b']",),
        (0, "stderr"): ("err",),
        (1, "stdout"): ("1 ['a', 'b']",),
        (1, "stderr"): ("err",),
    }
    assert job.log(1, "stdout").read_text() == "1 ['a', 'b']\n"


def test_lines_of_a_script_arrive_as_they_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A print without flush fires a trigger: the script needs no change."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    script = tmp_path / "steps.py"
    script.write_text("import time\nprint('step 3')\ntime.sleep(600)")
    job = start_job(LocalJob(script, ranks=2, plan=Plan((KILL,))), workdir=tmp_path / "evidence")
    seen = job.wait(60)
    job.close()
    assert [result.status for result in seen.faults] == ["injected"]
    assert seen.root_cause == 1


def test_a_fault_is_injected_and_journalled(tmp_path: Path) -> None:
    """The killed rank is the root cause, the others are stopped, and the journal is in the evidence."""
    job = start_job(LocalJob(rank_functions.steps, ranks=3, plan=Plan((KILL,), 5)), workdir=tmp_path)
    seen = job.wait(60)
    job.close()
    assert (seen.root_cause, seen.failed, seen.stopped) == (1, (1,), (0, 2))
    assert [result.status for result in seen.faults] == ["injected"]
    assert seen.journal == job.journal == tmp_path / "journal.jsonl"
    assert job.plan.seed == 5


def test_a_job_that_exceeds_its_timeout_is_ended_and_reported(tmp_path: Path) -> None:
    """The deadline is the caller's; what was observed tells of it, and no rank is called a failure for it."""
    job = start_job(LocalJob(rank_functions.steps, ranks=2, teardown=default_teardown(5)), workdir=tmp_path)
    seen = job.wait(0.2)
    job.close()
    assert (seen.timed_out, seen.failed, seen.stopped) == (True, (), (0, 1))
    assert "0.2 s" in seen.stop_reason


def test_waiting_again_gives_the_same_object(tmp_path: Path) -> None:
    """A result is made once."""
    job = start_job(LocalJob("true", ranks=1), workdir=tmp_path)
    seen = job.wait(60)
    job.close()
    assert job.wait(0) is seen
    assert job.poll() is seen


def test_polling_does_not_end_a_job(tmp_path: Path) -> None:
    """A running job has no result, and continues."""
    job = start_job(LocalJob(rank_functions.steps, ranks=1), workdir=tmp_path)
    try:
        assert job.poll() is None
        assert job.poll() is None
    finally:
        job.close()
    seen = job.poll()
    assert seen is not None
    assert seen.stopped == (0,)


def test_a_helper_in_its_own_session_is_ended_and_named(tmp_path: Path) -> None:
    """The toolkit's jobs leave no process, in any session."""
    job = start_job(LocalJob(rank_functions.leave_a_helper, ranks=1), workdir=tmp_path)
    seen = job.wait(60)
    job.close()
    assert [(left.pid, left.ended) for left in seen.leftovers] == [(seen.return_values[0], True)]


def test_close_ends_ranks_that_ignore_sigterm_within_their_grace_period(tmp_path: Path, wait_until) -> None:
    """A rank that ignores SIGTERM is killed after the grace period of the job's own teardown."""
    job = start_job(LocalJob(rank_functions.deaf, ranks=2, teardown=default_teardown(0.2)), workdir=tmp_path)
    wait_until(lambda: all(job.log(rank, "stdout").read_text() == "deaf\n" for rank in (0, 1)))
    job.close()
    seen = job.wait()
    assert [str(fate.status) for fate in seen.ranks.values()] == ["SIGKILL (9)"] * 2


def test_the_master_port_is_free_and_differs_between_jobs(tmp_path: Path) -> None:
    """Rank 0 can serve on MASTER_PORT, and two concurrent jobs have different ones."""
    serve = "import os, socket; s = socket.create_server((os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])))"
    ask = f"{serve}; print(s.getsockname()[1], flush=True); import time; time.sleep(600)"
    jobs = [start_job(LocalJob([sys.executable, "-c", ask], ranks=1), workdir=tmp_path / str(i)) for i in range(2)]
    try:
        ports = set()
        for job in jobs:
            with job.log(0, "stdout").open() as log:
                line = ""
                while not line.endswith("\n"):
                    line += log.readline()
                    assert job.poll() is None
            ports.add(int(line))
            socket.create_connection(("127.0.0.1", int(line))).close()
        assert len(ports) == 2
    finally:
        for job in jobs:
            job.close()


def test_the_environment_of_an_outer_job_does_not_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job inside a rank of another job has its own identity; other variables are passed on."""
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("COLOUR", "blue")
    show = "import os; print(*map(os.environ.get, ['RANK', 'TORCHELASTIC_USE_AGENT_STORE', 'COLOUR']))"
    job = start_job(LocalJob([sys.executable, "-c", show], ranks=1), workdir=tmp_path)
    seen = job.wait(60)
    job.close()
    assert seen.log_tail[0, "stdout"] == ("0 False blue",)
    assert os.environ["RANK"] == "7"


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"run": "true", "ranks": 0}, ValueError, "expected 1 or more, got 0"),
        ({"run": "gone.py", "ranks": 1}, FileNotFoundError, "no script .*gone.py"),
        ({"run": "no-such-program-anywhere", "ranks": 2}, OSError, "no-such-program-anywhere"),
        ({"run": "true", "ranks": 1, "plan": faults.plan([KILL])}, InputError, "no rank 1"),
    ],
)
def test_a_failed_start_is_reported_and_leaves_nothing(
    tmp_path: Path, how: dict[str, object], error: type[Exception], says: str
) -> None:
    """The error has the problem before anything runs, or after everything has been ended."""
    with pytest.raises(error, match=says):
        start_job(LocalJob(**how), workdir=tmp_path)


def test_the_native_agent_runs_a_scenario_to_its_end(tmp_path: Path) -> None:
    """It observes what the job's own launcher tells, with the scenario's arguments and variables."""
    worker = tmp_path / "worker.py"
    worker.write_text("import os, sys; sys.exit(int(os.environ['CODE']) if os.environ['RANK'] == sys.argv[1] else 0)")
    scenario = Scenario("one fails", ranks=2, worker=worker, args=("1",), env={"CODE": "9"})
    seen = NativeAgent().run(scenario, tmp_path / "evidence")
    assert (seen.root_cause, seen.exit_code) == (1, 9)


class Begins:
    """Observer of the starts of ranks."""

    wants_lines = False

    def __init__(self) -> None:
        self.times: list[float] = []

    def attach(self, control: object) -> None:
        """Need nothing."""

    def observe(self, event: object) -> None:
        """Note the time of a start."""
        if isinstance(event, Started):
            self.times.append(event.at)


@pytest.mark.parametrize(("restarts", "code"), [(0, 9), (1, 9), (2, 0)])
def test_the_native_agent_restarts_all_ranks_of_a_scenario(tmp_path: Path, restarts: int, code: int) -> None:
    """After each failure, as often as the scenario allows; the result is that of the last attempt."""
    worker = tmp_path / "worker.py"
    worker.write_text("import os, sys\nsys.exit(9 if int(os.environ['TORCHELASTIC_RESTART_COUNT']) < 2 else 0)")
    begins = Begins()
    scenario = Scenario("fails twice", ranks=2, worker=worker, restarts=restarts)
    seen = NativeAgent(observers=[begins]).run(scenario, tmp_path / "evidence")

    assert len(begins.times) == 2 * (restarts + 1)
    assert seen.started_at <= min(begins.times)  # that of the first attempt
    assert (seen.restarts, seen.exit_code) == (restarts, code)
    assert NativeAgent().unsupported(scenario) == ""


def test_a_job_that_cannot_be_started_gives_a_result(tmp_path: Path) -> None:
    """A broken program breaks the run of its scenario, not the campaign."""
    seen = NativeAgent().run(Scenario("gone", ranks=1, worker=tmp_path / "gone.py"), tmp_path / "evidence")
    assert not seen.ran
    assert "gone.py" in seen.error
