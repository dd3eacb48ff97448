"""Result of a run, built from its parts."""

import os
from dataclasses import replace

import pytest

from derail import faults
from derail.errors.failure import ProcessFailure
from derail.faults.model.results import Unavailable
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, Leftover, RankOutcome, RunProcsResult
from derail.scenario.observe import TAIL_LINES, not_run, observe, tail

GOOD = b'{"message": {"message": "loss is nan", "extraInfo": {"py_callstack": "Trace", "timestamp": "1"}}}'


@pytest.fixture
def result(tmp_path):
    """Return the result of a job of three ranks, two of which failed."""
    for rank in range(3):
        (tmp_path / f"out{rank}").write_text(f"rank {rank}\nlast of {rank}")
    (tmp_path / "good.json").write_bytes(GOOD)
    (tmp_path / "bad.json").write_bytes(GOOD[:30])
    left = Leftover("process", "sleep 600", 99, 1, ended=True)
    ranks = {
        0: RankOutcome(0, 10, ExitStatus(code=3), Cause.SELF, exit_order=0),
        1: RankOutcome(1, 11, ExitStatus(code=1), Cause.SELF, exit_order=1),
        2: RankOutcome(2, 12, ExitStatus(signal=15), Cause.STOPPED_BY_US, exit_order=2),
    }
    return RunProcsResult(
        return_values={2: "value"},
        failures={
            0: ProcessFailure(0, 10, 3, str(tmp_path / "good.json")),
            1: ProcessFailure(1, 11, 1, str(tmp_path / "bad.json")),
        },
        stdouts={rank: str(tmp_path / f"out{rank}") for rank in range(3)},
        stderrs={0: "", 1: str(tmp_path / "gone"), 2: ""},
        ranks=ranks,
        root_cause=0,
        started_at=1.0,
        ended_at=4.0,
        stop_requested_at=3.5,
        leftovers=(left,),
    )


def test_a_result_contains_all_data_of_the_run(result, tmp_path):
    """All values are plain data."""
    (tmp_path / "journal.jsonl").write_text("")
    seen = observe(result, workdir=tmp_path)

    assert (seen.root_cause, seen.exit_code, seen.seconds, seen.teardown_seconds) == (0, 3, 3.0, 0.5)
    assert seen.log_tail == {
        (0, "stdout"): ("rank 0", "last of 0"), (1, "stdout"): ("rank 1", "last of 1"),
        (2, "stdout"): ("rank 2", "last of 2"), (1, "stderr"): (),
    }  # fmt: skip
    assert (seen.failures[0].message, seen.failures[0].error_file) == ("loss is nan", "good")
    assert (seen.failures[1].error_file, bool(seen.failures[1].problem)) == ("malformed", True)
    assert (seen.return_values, seen.journal) == ({2: "value"}, tmp_path / "journal.jsonl")
    assert [left.what for left in seen.leftovers] == ["sleep 600"]


def test_a_missing_error_file_is_not_malformed(tmp_path):
    """A missing file is not malformed."""
    seen = observe(RunProcsResult(failures={0: ProcessFailure(0, 10, 3, str(tmp_path / "none.json"))}))

    assert (seen.failures[0].error_file, seen.journal, seen.ran) == ("missing", None, False)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", ()),
        (b"a\nb\n", ("a", "b")),
        (b"a\nb", ("a", "b")),
        (b"a\r\n\xff\n", ("a", "\ufffd")),
        (b"\n\n", ("", "")),
        (b"".join(b"%d\n" % n for n in range(500)), tuple(map(str, range(400, 500)))),
        (b"x" * 200_000 + b"\nend\n", ("end",)),
    ],
)
def test_a_tail_is_the_last_lines(tmp_path, data, lines):
    """Lines are complete, however long the file is."""
    (tmp_path / "log").write_bytes(data)

    assert tail(tmp_path / "log") == lines
    assert len(lines) <= TAIL_LINES


def test_a_tail_of_something_else_is_empty(tmp_path):
    """Reading must not block on a FIFO."""
    os.mkfifo(tmp_path / "fifo")

    assert tail(tmp_path / "fifo") == tail(tmp_path) == tail(tmp_path / "missing") == ()


def test_an_available_plan_is_run(monkeypatch):
    """Only a plan with an unavailable fault has a result without a run."""
    plan = faults.plan([faults.exit(1, rank=0), faults.signal("SIGKILL", rank=0)])
    from derail.faults.registry import entries

    everything = dict(entries())
    assert not_run(plan) is None

    poor = {
        **everything,
        "signal": replace(
            everything["signal"],
            requires=replace(everything["signal"].requires, unavailable=lambda: "no luck"),
        ),
    }
    monkeypatch.setattr("derail.faults.registry.entries", lambda: poor)
    seen = not_run(plan)

    assert [(result.fault.name, result.result) for result in seen.faults] == [("signal", Unavailable("no luck"))]
    assert not seen.ran
