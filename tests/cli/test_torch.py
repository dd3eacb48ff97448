"""``derail launch`` of a real torch script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from program_files import program_text
from report.trace_format import check_trace

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail

SCRIPT = """
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
value = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(value)
print(f"the sum is {value.item():g}")
dist.destroy_process_group()
"""


TELLS = program_text("cli/tells_variables")


@pytest.mark.torch
@pytest.mark.slow
def test_options_mean_to_ranks_what_they_mean_under_torchrun(derail_command: Derail, tmp_path: Path) -> None:
    """The variables of all attempts and the lines on the console are equal."""
    script = tmp_path / "tells.py"
    script.write_text(TELLS)
    options = ["--nproc-per-node=2", "--max-restarts=1", "--virtual-local-rank", "--signals-to-handle=SIGTERM,SIGUSR1"]
    options += ["--local-ranks-filter=1", "--redirects=2", "--tee=1", script]
    env = {
        "CUDA_VISIBLE_DEVICES": "5,7",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "${role_name}/${rank}/${local_rank}> ",
    }
    own = derail_command("launch", *options, tmp_path / "own", env=env)
    torchs = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *map(str, options), str(tmp_path / "torchs")],
        env={**os.environ, **env, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip

    told = {
        name: {path.name.partition("-")[2]: json.loads(path.read_text()) for path in tmp_path.glob(f"{name}-*")}
        for name in ("own", "torchs")
    }
    assert (own.returncode, torchs.returncode) == (0, 0), own.stderr + torchs.stderr
    assert sorted(told["own"]) == ["0-0", "0-1", "1-0", "1-1"]
    assert told["own"] == told["torchs"]
    assert set(own.stdout.splitlines()) == set(torchs.stdout.splitlines()) == {"default/1/1> as prefixed"}


PROFILED = """
import sys

import torch
from torch.profiler import ProfilerActivity, profile

with profile(activities=[ProfilerActivity.CPU]) as profiled:
    torch.ones(8) + torch.ones(8)
profiled.export_chrome_trace(sys.argv[1])
"""


@pytest.mark.torch
@pytest.mark.slow
def test_a_trace_has_the_clock_of_torch_profiler(derail_command: Derail, tmp_path: Path) -> None:
    """Both have the same base: in one file, a rank's profile lies within the span of its life."""
    script, profile, trace = tmp_path / "profiled.py", tmp_path / "profile.json", tmp_path / "trace.json"
    script.write_text(PROFILED)
    done = derail_command("launch", "--trace", trace, script, profile)
    assert done.returncode == 0, done.stderr
    base = {path: json.loads(path.read_text())["baseTimeNanoseconds"] for path in (profile, trace)}
    launcher, rank = check_trace(trace.read_bytes())
    (alive,) = rank.spans
    (added,) = [event for event in json.loads(profile.read_text())["traceEvents"] if event["name"] == "aten::add"]

    assert launcher.name == "launcher"
    assert base[trace] == base[profile]
    assert alive["ts"] < added["ts"] < added["ts"] + added["dur"] < alive["ts"] + alive["dur"]


@pytest.mark.torch
@pytest.mark.slow
def test_two_ranks_of_torch_add_their_numbers(derail_command: Derail, tmp_path: Path) -> None:
    """init_process_group needs only the environment: rank 0 serves the store on MASTER_PORT."""
    script = tmp_path / "reduce.py"
    script.write_text(SCRIPT)
    done = derail_command("launch", "--ranks", 2, script)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (
        0,
        ["[rank0]:the sum is 3", "[rank1]:the sum is 3"],
    ), done.stderr
