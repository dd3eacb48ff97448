"""Journal: many writers, one line per record, readable even with a torn last line."""

import json
import os
import resource
import stat
import subprocess
import sys

import pytest

from derail import faults, when
from derail.faults.engine.journal import Journal, Reader, read, unfinished
from derail.faults.model.targets import AGENT_RANK
from derail.model.clock import FakeClock
from derail.model.events import (
    DeadlinePassed,
    Exited,
    Finished,
    LineSeen,
    PhaseChanged,
    SignalSent,
    Started,
    StopRequested,
    ValueReceived,
)
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, JobOutcome, RankOutcome
from program_files import program_text

WRITER = """
import sys
from pathlib import Path
from derail.faults.engine.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(200):
    journal.write("n", writer=int(sys.argv[2]), number=number, filling="x" * (number * 37 % 900))
"""


def test_a_record_has_event_time_and_pid(tmp_path):
    """Time is the monotonic clock, which all processes share."""
    Journal(tmp_path / "j", clock=FakeClock(now=2.5)).write("started", rank=1)

    assert json.loads((tmp_path / "j").read_text()) == {"event": "started", "at": 2.5, "by": os.getpid(), "rank": 1}


def test_records_of_many_processes_never_mix(tmp_path):
    """Each record is one append."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "j", str(n)]) for n in range(4)]
    codes = [writer.wait(60) for writer in writers]

    records = read(tmp_path / "j")

    assert codes == [0] * 4
    assert len((tmp_path / "j").read_text().splitlines()) == len(records) == 800
    for writer in range(4):
        assert [record["number"] for record in records if record["writer"] == writer] == list(range(200))


@pytest.mark.parametrize(
    "torn", [b'{"event": "en', b"{", b"\xff\xfe", b"[" * 100_000, b'{"no": "event"}', b"null", b"\n\n"]
)
def test_a_torn_last_line_is_left_out(tmp_path, torn):
    """A rank may be killed while it writes."""
    journal = Journal(tmp_path / "j")
    journal.write("started")
    with (tmp_path / "j").open("ab") as file:
        file.write(torn)

    assert [record["event"] for record in read(tmp_path / "j")] == ["started"]


def test_a_reader_continues_and_leaves_a_partial_line_for_later(tmp_path):
    """The driver follows the journal while ranks write to it."""
    reader = Reader(tmp_path / "j")
    nothing = reader.read()
    journal = Journal(tmp_path / "j")
    journal.write("a")
    with (tmp_path / "j").open("a") as file:
        file.write('{"event": "b"')
    first = reader.read()
    with (tmp_path / "j").open("a") as file:
        file.write("}\n")
    second = reader.read()

    assert [nothing, [r["event"] for r in first], [r["event"] for r in second], reader.read()] == [[], ["a"], ["b"], []]


def test_the_plan_is_first_with_its_hash_and_seed(tmp_path):
    """The journal alone is enough to repeat the run."""
    plan = faults.plan([faults.signal("SIGKILL", rank=2, when=when.line("step 3"))], seed=7)
    Journal(tmp_path / "j").write_plan(plan, (0, 1))

    from derail.faults.codec import from_data

    (record,) = read(tmp_path / "j")

    assert (record["event"], record["hash"], record["seed"], record["ranks"]) == ("plan", plan.hash, 7, [0, 1])
    assert from_data(record["plan"]) == plan


def test_every_event_of_the_launcher_but_lines_is_kept(tmp_path):
    """Lines are many; the driver writes those that fire a fault."""
    journal = Journal(tmp_path / "j")
    fate = RankOutcome(0, 12, ExitStatus(code=3), Cause.SELF)
    for event in (
        Started(0, 12, 1.0),
        LineSeen(0, "stdout", "x", 1.0),
        ValueReceived(0, 1.0),
        Exited(0, 12, ExitStatus(signal=9), 1.0),
        StopRequested("because", 15, 2.0, 1.0),
        DeadlinePassed("kill", 1.0),
        SignalSent(0, 15, 1.0),
        PhaseChanged("running", 1.0),
        Finished(JobOutcome(ranks={0: fate}, root_cause=0, started_at=0.0, ended_at=1.0), 1.0),
    ):
        journal.write_event(event)

    kept = {record["event"]: record for record in read(tmp_path / "j")}

    assert [*kept] == ["started", "value", "exited", "stop_requested", "deadline", "signal_sent", "phase", "finished"]
    assert kept["exited"]["status"] == "SIGKILL (9)"
    assert kept["finished"]["ranks"] == {"0": "rank 0: exit 3, by itself"}


def test_a_record_that_does_not_fit_is_an_error(tmp_path):
    """An action without a journal record must not happen."""
    journal = Journal(tmp_path / "j")
    journal.write("a")
    size = (tmp_path / "j").stat().st_size
    source = program_text("faults/journal_on_full_disk", JOURNAL=str(tmp_path / "j"), SIZE=size)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60)

    assert "10 of" in done.stdout
    assert [record["event"] for record in read(tmp_path / "j")] == ["a"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != size + 10


def test_nothing_is_kept_open(tmp_path):
    """A journal needs no close."""
    before = set(os.listdir("/proc/self/fd"))
    Journal(tmp_path / "j").write("a")

    assert set(os.listdir("/proc/self/fd")) == before


def test_a_start_without_an_end_is_unfinished(tmp_path):
    """Its outcome is unknown."""
    journal = Journal(tmp_path / "j")
    journal.write("start", fault="a", rank=1)
    journal.write("start", fault="a", rank=2)
    journal.write("end", fault="a", rank=1)

    assert [(r["fault"], r["rank"]) for r in unfinished(read(tmp_path / "j"))] == [("a", 2)]


def test_the_agent_has_its_own_records(tmp_path):
    """It is not a rank: neither its start nor a fault on it counts as a rank's."""
    journal = Journal(tmp_path / "j")
    journal.write_event(Started(AGENT_RANK, 77, 1.0))
    journal.write("start", fault="f", rank=AGENT_RANK)
    journal.write_event(Exited(AGENT_RANK, 77, ExitStatus(signal=9), 2.0))
    told = [
        {key: record.get(key) for key in ("event", "rank", "agent", "pid", "status")} for record in read(journal.path)
    ]

    assert told == [
        {"event": "agent_started", "rank": None, "agent": "agent", "pid": 77, "status": None},
        {"event": "start", "rank": None, "agent": None, "pid": None, "status": None},
        {"event": "agent_exited", "rank": None, "agent": "agent", "pid": 77, "status": "SIGKILL (9)"},
    ]


def test_only_this_user_reads_a_journal(tmp_path):
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        Journal(tmp_path / "j").write("started")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_journal_of_another_user_is_not_written_to(tmp_path):
    """It could contain forged records."""
    path = tmp_path / "j"
    path.touch()
    os.chown(path, 65534, 65534)

    with pytest.raises(PermissionError, match="belongs to user 65534"):
        Journal(path).write("started")
    assert path.read_bytes() == b""


def test_a_journal_is_no_link(tmp_path):
    """The target of the link is not modified."""
    (tmp_path / "other").write_text("kept")
    (tmp_path / "j").symlink_to(tmp_path / "other")

    with pytest.raises(OSError, match="symbolic links"):
        Journal(tmp_path / "j").write("started")
    assert (tmp_path / "other").read_text() == "kept"
