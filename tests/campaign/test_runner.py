"""Many scenarios on one agent: each run in a process of its own, whatever that does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from campaign.planted_agents import SEEN, Planted, scenario
from derail.campaign import campaign, runner
from derail.campaign.campaign import Began, Judged, is_timed, verify
from derail.launch.signals import SignalException
from derail.scenario.load import load, shipped
from derail.scenario.model import Expect
from wording import Tells

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from derail.report.scorecard import Scorecard
    from derail.scenario.model import Scenario


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    """A program that nobody runs."""
    return tmp_path / "worker.py"


@pytest.fixture
def verified(tmp_path: Path) -> Callable[..., Scorecard]:
    """Verifies the planted agent."""

    def run(*scenarios: Scenario, agent: Planted | None = None, **how: object) -> Scorecard:
        return verify(agent or Planted(), scenarios, workdir=tmp_path / "runs", **how)

    return run


def test_what_an_agent_saw_is_on_its_scorecard(verified, worker, tmp_path) -> None:
    """Who it is, where it ran, and a row for each scenario, in the order of their names."""
    wrong = scenario("b/wrong", worker, expect=Expect(succeeded=False, root_cause=0, exit_code=9))
    card = verified(wrong, scenario("a/right", worker))
    assert (card.agent, card.version, card.machine.uid) == ("planted", "1.2.3", os.geteuid())
    assert [(row.scenario, row.family, row.verdict, row.reasons) for row in card.rows] == [
        ("a/right", "a", "PASS", ()),
        ("b/wrong", "b", "FAIL", (Tells("9", "137"),)),
    ]
    right = card.rows[0]
    assert (right.blame, right.reported, right.exit_code) == ("right", "rank 0: SIGKILL (9)", 137)
    assert (right.seconds, right.teardown_seconds, right.tail) == (1.0, 0.5, SEEN.log_tail[0, "stdout"])
    assert [(fault.cause, fault.result) for fault in right.faults] == [("signal SIGKILL", "injected")]
    assert [lane.name for lane in right.timeline.lanes] == ["agent", "rank 0"]
    assert right.evidence == str(tmp_path / "runs" / "a" / "right")


def test_the_timeline_of_a_launcher_under_derail_says_who_is_who(verified, worker) -> None:
    """It is the one rank of a job of derail's, and nobody's blame is counted."""
    (row,) = verified(scenario("x/right", worker, launches=2)).rows
    assert ([lane.name for lane in row.timeline.lanes], row.blame) == (["derail", "launcher"], "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfault", "the process of the run ended with SIGSEGV (11)"),
        ("raises", "the process of the run ended with exit 1: RuntimeError: no idea what to do"),
        ("exits", "the process of the run ended with exit 3"),
    ],
)
def test_a_run_that_breaks_is_reported_and_breaks_no_other(verified, worker, name: str, reason: str) -> None:
    """Nothing was learnt of the agent: it is INCONCLUSIVE, with what its process ended with and said last."""
    card = verified(scenario(f"x/{name}", worker), scenario("y/right", worker))
    broken, right = card.rows
    assert (broken.verdict, right.verdict, card.exit_code) == ("INCONCLUSIVE", "PASS", 3)
    assert [why.replace(", core dumped", "") for why in broken.reasons] == [reason]


def test_a_run_that_takes_too_long_is_ended(verified, worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """After what its scenario allows, and a margin."""
    monkeypatch.setattr(campaign, "MARGIN", 0.0)
    (row,) = verified(scenario("x/hangs", worker, timeout=1.0)).rows
    assert (row.verdict, row.reasons) == ("INCONCLUSIVE", (Tells("too long"),))


def test_what_a_run_leaves_is_ended_and_told(verified, worker, tmp_path, pid_gone) -> None:
    """A process in a session of its own too; a run that leaves something is no PASS."""
    (row,) = verified(scenario("x/leaves", worker)).rows
    pid = int((tmp_path / "runs" / "x" / "leaves" / "pid").read_text())
    assert pid_gone(pid, deadline=0)
    assert (row.verdict, len(row.leftovers)) == ("INCONCLUSIVE", 1)
    assert f"process {pid}" in row.leftovers[0]
    assert row.leftovers[0].endswith("(ended)")
    assert row.reasons == (f"outlived the run: {row.leftovers[0]}",)


def test_what_cannot_be_run_is_skipped_with_the_reason(verified, worker) -> None:
    """No process is started for it; if that is all there is, the exit code says so."""
    card = verified(scenario("x/unsupported", worker))
    assert [(row.verdict, row.reasons) for row in card.rows] == [("SKIPPED", ("planted: it never does that",))]
    assert card.exit_code == 4
    assert verified(scenario("x/right", worker), agent=Planted(missing="not installed")).rows[0].reasons == (
        "planted: not installed",
    )


def test_an_agent_that_breaks_when_it_is_asked_is_reported(verified, worker) -> None:
    """It may be anybody's code."""
    card = verified(scenario("x/unasked", worker), scenario("y/right", worker))
    assert [row.verdict for row in card.rows] == ["INCONCLUSIVE", "PASS"]
    assert card.rows[0].reasons == (Tells("planted", "RuntimeError: do not ask"),)


def test_runs_go_on_side_by_side(verified, worker) -> None:
    """As many as were asked for: all of them begin before the first is judged."""
    heard: list[str] = []
    names = ["x/a", "x/b", "x/c"]
    verified(
        *(scenario(name, worker) for name in names), jobs=3, on_news=lambda news: heard.append(type(news).__name__)
    )
    assert heard[:3] == ["Began"] * 3
    assert sorted(heard) == ["Began"] * 3 + ["Judged"] * 3


def test_one_after_the_other_if_nothing_else_is_said(verified, worker) -> None:
    """Each is judged before the next begins."""
    heard: list[object] = []
    verified(scenario("x/a", worker), scenario("x/b", worker), on_news=heard.append)
    assert [type(news) for news in heard] == [Began, Judged, Began, Judged]


def test_scenarios_that_are_held_against_the_clock_run_alone() -> None:
    """A straggler beside others would be slow for another reason."""
    known = shipped()
    assert is_timed(load(known["straggler/throttled"]))
    assert not is_timed(load(known["crash/killed_at_step_3"]))


def test_folders_are_removed_if_nobody_wants_them(verified, worker, tmp_path) -> None:
    """As soon as the row is read."""
    (row,) = verified(scenario("x/right", worker), keep=False).rows
    assert (row.evidence, list((tmp_path / "runs").rglob("*"))) == ("", [tmp_path / "runs" / "x"])


def test_an_exception_ends_all_runs(verified, worker, wait_until, tmp_path) -> None:
    """Whatever leaves ``verify`` leaves no process behind: a Ctrl-C, a listener that throws."""

    def hear(news: object) -> None:
        if isinstance(news, Judged):
            output = tmp_path / "runs" / "x" / "hangs" / "runner.log"
            wait_until(lambda: b"here I stay" in output.read_bytes(), deadline=100)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # the guard of all tests looks for processes afterwards
        verified(scenario("x/hangs", worker, timeout=500.0), scenario("x/right", worker), jobs=2, on_news=hear)


def test_a_signal_while_an_agent_is_asked_ends_the_campaign(verified, worker) -> None:
    """It was taken for the agent's own failure: INCONCLUSIVE, and the campaign went on."""
    heard: list[object] = []
    with pytest.raises(SignalException):
        verified(scenario("x/interrupted", worker), on_news=heard.append, handle_signals=True)
    assert [type(news) for news in heard] == [Began]


def test_a_second_signal_ends_at_once_what_does_not_end(
    verified, worker, wait_until, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits any longer for a run that has been asked."""
    monkeypatch.setattr(runner, "FAREWELL", 500.0)
    output = tmp_path / "runs" / "x" / "deaf" / "runner.log"

    def interrupt() -> None:
        for line in (b"here I stay", b"I do not care"):
            wait_until(lambda line=line: output.exists() and line in output.read_bytes(), deadline=100)
            os.kill(os.getpid(), signal.SIGINT)

    impatient = threading.Thread(target=interrupt)
    impatient.start()
    with pytest.raises(SignalException):
        verified(scenario("x/deaf", worker, timeout=500.0), handle_signals=True)
    impatient.join()


def test_an_agent_that_cannot_be_handed_on_is_refused(verified, worker) -> None:
    """With what is to be done about it."""
    with pytest.raises(ValueError, match="Define its class at the top level of a module"):
        verified(scenario("x/right", worker), agent=Planted(hook=lambda: None))


@pytest.mark.parametrize("names", [("x/a", "x/a"), ("",)])
def test_scenarios_need_names_of_their_own(verified, worker, names: tuple[str, ...]) -> None:
    """Rows and folders are called by them."""
    with pytest.raises(ValueError, match="needs a unique name"):
        verified(*(scenario(name, worker) for name in names))


def test_an_agent_of_the_main_program_can_be_verified(tmp_path, unmeasured) -> None:
    """Its class is found in the processes of the runs, as multiprocessing does it."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nsys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from campaign.planted_agents import Planted, scenario\n"
        "from derail.campaign.campaign import verify\n"
        "class Mine(Planted):\n    name = 'mine'\n"
        "if __name__ == '__main__':\n"
        "    (row,) = verify(Mine(), [scenario('x/right', Path('w'))], workdir=Path(sys.argv[1])).rows\n"
        "    print(row.verdict, *row.reasons)\n"
    )
    ran = subprocess.run(
        [sys.executable, program, tmp_path / "runs"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.stdout, ran.stderr) == ("PASS\n", "")


def test_a_second_campaign_into_the_same_folder_clears_the_first_ones_runs(verified, worker, tmp_path) -> None:
    """Logs and checkpoints of an earlier run are not this one's."""
    verified(scenario("a/right", worker))
    old = tmp_path / "runs" / "a" / "right" / "checkpoint.txt"
    old.write_text("step 20")
    beside = tmp_path / "runs" / "notes.txt"
    beside.write_text("mine")
    card = verified(scenario("a/right", worker))

    assert (card.counts["PASS"], old.exists(), beside.read_text()) == (1, False, "mine")


def test_a_run_never_clears_a_folder_that_no_campaign_made(verified, worker, tmp_path) -> None:
    """It is refused before anything is started."""
    own = tmp_path / "runs" / "a" / "right" / "thesis.tex"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(ValueError, match="contains files that do not come from a run of derail"):
        verified(scenario("b/right", worker), scenario("a/right", worker))

    assert (own.read_text(), (tmp_path / "runs" / "b").exists()) == ("mine", False)
