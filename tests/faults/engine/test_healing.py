"""Undoing of faults when the supervision itself fails."""

import pytest

from derail import faults, when
from derail.faults.engine import journal
from derail.supervise.supervisor import Supervisor, SupervisorError
from faults.real_job import running, wait_for


def test_faults_are_undone_if_the_supervision_fails(tmp_path, monkeypatch):
    """The ranks are ended then, and no observer gets the event of the job's end."""
    fault = faults.signal("SIGSTOP", rank=0, when=when.line("ready"))
    real = Supervisor._take_exits
    with running(tmp_path, "print('ready', flush=True); time.sleep(60)", fault, ranks=2) as job:
        wait_for(lambda: any(record["event"] == "end" for record in journal.read(job.journal)), "the fault")

        def take_exits(self):
            monkeypatch.setattr(Supervisor, "_take_exits", real)
            raise RuntimeError("supervision failed")

        monkeypatch.setattr(Supervisor, "_take_exits", take_exits)
        with pytest.raises(SupervisorError):
            job.wait(5)
    records = journal.read(job.journal)

    assert [record["what"] for record in records if record["event"] == "healed"] == ["continue rank 0"]
    assert "finished" not in {record["event"] for record in records}
