"""torch's own launchers as agents, plain and with derail's launcher; real jobs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from derail import faults, when
from derail.agents.launchers.torch_elastic import TorchElastic
from derail.agents.launchers.torchrun import DerailTorchrun, Torchrun, read_report
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause
from derail.scenario.model import Scenario

torch_here = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
BOTH = when.all_of(when.line("step 3", rank=0), when.line("step 3", rank=1))
"""Both ranks are at work: neither is still on its way."""
PROGRAMS = Path(__file__).parents[2] / "programs"
STEPS = """
import os, sys, time
for step in range(1, int(sys.argv[1]) + 1):
    print(f"rank {os.environ['RANK']}: step {step}", flush=True)
    time.sleep(0.02)
print("done", flush=True)
"""
AGENTS = {"torchrun": Torchrun, "derail-torchrun": DerailTorchrun, "torch_elastic": TorchElastic}


def scenario(tmp_path, plan=(), source=STEPS, ranks=2, **more):
    """Return a job of small ranks that make many steps if they are not disturbed."""
    worker = tmp_path / "worker.py"
    worker.write_text(source)
    given = {"args": ("1000",), "timeout": 90.0, "grace": 1.0, **more}
    return Scenario("t", ranks, worker, faults.plan(plan), **given)


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path, monkeypatch):
    """Give torch a temporary directory, so that its caches are no leftovers of a job."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))


@torch_here
@pytest.mark.torch
@pytest.mark.parametrize("name", AGENTS)
def test_a_killed_rank_is_the_root_cause(tmp_path, name):
    """All three report the killed rank and its signal; only torch's own reports bystanders as well."""
    kill = faults.signal("SIGKILL", rank=1, when=when.line("step 3"))
    seen = AGENTS[name]().run(scenario(tmp_path, [kill]), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"]
    assert {rank: fate.cause for rank, fate in seen.ranks.items()} == {0: Cause.STOPPED_BY_US, 1: Cause.SELF}
    assert (seen.root_cause, seen.failures[1].status, seen.leftovers) == (1, ExitStatus(signal=9), ())
    assert seen.log_tail[1, "stdout"][2] == "rank 1: step 3"
    assert (tuple(seen.failures), seen.exit_code) == (((1,), 137) if name == "derail-torchrun" else ((1, 0), 1))


@torch_here
@pytest.mark.torch
@pytest.mark.parametrize("name", ["torchrun", "derail-torchrun"])
def test_a_truncated_error_file_breaks_torchrun_and_not_derail(tmp_path, name):
    """Torch's own launcher ends with a JSONDecodeError; derail's does not depend on the content of the file."""
    source = (
        "import os, sys\nif os.environ['RANK'] == '1':\n"
        "    open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write('{\"message\": {\"mess')\n    sys.exit(7)\n" + STEPS
    )
    seen = AGENTS[name]().run(scenario(tmp_path, source=source, args=("100",)), tmp_path / "run")
    printed = next((tmp_path / "run").glob(f"{name}-0.log")).read_text()

    assert ("JSONDecodeError" in printed, seen.root_cause, seen.exit_code) == (
        (True, None, 1) if name == "torchrun" else (False, 1, 7)
    )


@torch_here
@pytest.mark.torch
@pytest.mark.parametrize("name", ["torchrun", "derail-torchrun"])
def test_a_killed_torchrun_leaves_its_ranks_and_derail_does_not(tmp_path, name):
    """No handler runs on SIGKILL; derail's launcher has a keeper."""
    kill = faults.signal("SIGKILL", rank="the agent", when=BOTH)
    seen = AGENTS[name]().run(scenario(tmp_path, [kill]), tmp_path / "run")

    assert [told.status for told in seen.faults] == ["injected"]
    assert sorted(left.rank for left in seen.leftovers) == ([0, 1] if name == "torchrun" else [])
    assert all(left.ended for left in seen.leftovers)


@torch_here
@pytest.mark.torch
def test_derails_launcher_handles_a_signal_to_torchrun(tmp_path):
    """Torch's agent catches the exception, and ends the ranks."""
    term = faults.signal("SIGTERM", rank="the agent", when=BOTH)
    seen = DerailTorchrun().run(scenario(tmp_path, [term]), tmp_path / "run")

    assert (seen.stopped, seen.leftovers, seen.exit_code != 0) == ((0, 1), (), True)


@torch_here
@pytest.mark.torch
def test_the_elastic_agent_restarts(tmp_path):
    """A fault acts in the first attempt, and the second one succeeds."""
    leave = faults.exit(7, rank=0, when=when.line("step 2"))
    seen = TorchElastic().run(scenario(tmp_path, [leave], restarts=1, args=("100",)), tmp_path / "run")

    assert ([told.status for told in seen.faults], seen.restarts, seen.exit_code) == (["injected"], 1, 0)


@torch_here
@pytest.mark.torch
@pytest.mark.slow
def test_a_training_on_two_nodes_that_lost_a_rank_ends_with_the_same_loss(tmp_path):
    """Four ranks, two agents, rank 3 killed at step 5 of epoch 1: all restart from the end of epoch 0."""
    worker = PROGRAMS / "ddp_training.py"
    kill = faults.signal("SIGKILL", rank=3, when=when.line("epoch 1 step 5"))
    losses = {}
    for kind, plan in (("calm", ()), ("killed", (kill,))):
        kept = tmp_path / kind
        kept.mkdir()
        job = Scenario(
            kind, 4, worker, faults.plan(plan), args=(str(kept),), nodes=2, restarts=2, timeout=150, grace=2.0
        )
        seen = DerailTorchrun().run(job, tmp_path / f"run-{kind}")
        assert (seen.error, seen.exit_code, seen.leftovers) == ("", 0, ())
        assert [told.status for told in seen.faults] == ["injected"] * len(plan)
        assert (seen.restarts, seen.resumed_at) == ((1, 9) if plan else (0, None))
        losses[kind] = [seen.log_tail[rank, "stdout"][-1] for rank in range(4)]

    assert losses["killed"] == losses["calm"]
    assert " loss " in losses["calm"][0]


REPORT = """
E1122 22:45:02 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: -9) local_rank: 2 (pid: 8203)
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-22_22:45:02
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : 7 (pid: 8201)
  error_file: /tmp/error.json
  traceback : Traceback (most recent call last):
    File "train.py", line 3, in main
      rank      : 9
  ValueError: no

------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_22:45:02
  host      : localhost
  rank      : 12 (local_rank: 2)
  exitcode  : -9 (pid: 8203)  (SIGKILL)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 8203
============================================================
"""


def test_the_report_of_torchrun_is_read():
    """The root cause comes first; a traceback may contain anything."""
    said = read_report(REPORT)

    assert (said.blamed, list(said.failures)) == (12, [12, 0])
    assert (said.failures[12].status, said.failures[12].error_file) == (ExitStatus(signal=9), "missing")
    assert (said.failures[0].status, said.failures[0].error_file) == (ExitStatus(code=7), "good")
    assert said.failures[0].message.endswith("ValueError: no")


@pytest.mark.parametrize(
    "text", ["", "Failures:", "Failures:\n[1]:\n", "Failures:\n[0]:\n  rank      : x\n", REPORT[:700]]
)
def test_a_report_that_is_cut_off_is_read_as_far_as_it_goes(text):
    """It does not break the run."""
    assert read_report(text).blamed in (None, 0)
