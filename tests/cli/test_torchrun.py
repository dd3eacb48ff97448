"""``derail torchrun``: torch's launcher on the outside, derail's below."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from derail.torch import shutdown_timeout

torch_here = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
CALL = [sys.executable, "-c", "import sys; from derail.cli import main; sys.exit(main())", "torchrun"]


def call(*words: str, cwd):
    """Run the command."""
    return subprocess.run(
        [*CALL, *words], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


@torch_here
@pytest.mark.torch
def test_it_exits_as_the_rank_that_failed(tmp_path):
    """It says whom it blames, as torchrun does, and no bystander with it."""
    (tmp_path / "w.py").write_text(
        "import os, sys, time\nif os.environ['LOCAL_RANK'] == '1':\n    sys.exit(7)\ntime.sleep(600)\n"
    )
    ran = call("--standalone", "--nproc-per-node=2", "--log-dir=logs", "--redirects=3", "w.py", cwd=tmp_path)

    assert ran.returncode == 7
    assert "Root Cause (first observed failure):" in ran.stderr
    assert ("rank      : 1" in ran.stderr, "rank      : 0" in ran.stderr) == (True, False)


@torch_here
@pytest.mark.torch
def test_what_was_installed_can_be_taken_back():
    """Torch's agent starts ranks as before then, and signals raise what they raised before."""
    source = """
import torch.distributed.elastic.agent.server.local_elastic_agent as agent
from derail.launch.signals import REGISTRY, SignalException
from torch.distributed.elastic.multiprocessing import SignalException as TorchsSignalException
import derail.torch
before = agent.start_processes
put_back = derail.torch.install()
both = REGISTRY.exception("why", 15)
assert agent.start_processes is not before
assert isinstance(both, SignalException) and isinstance(both, TorchsSignalException) and both.sigval == 15
put_back()
assert agent.start_processes is before and REGISTRY.exception is SignalException
"""
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)

    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("argv", "seconds"),
    [
        (["--shutdown-timeout=3", "w.py"], "3"),
        (["--shutdown_timeout", "4", "w.py"], "4"),
        (["w.py", "--shutdown-timeout=3"], None),
        (["--nnodes=1", "w.py"], None),
        (["--shutdown-timeout"], None),
    ],
)
def test_torchruns_shutdown_timeout_is_found_among_its_own_options(argv, seconds):
    """What stands behind the program is the program's."""
    assert shutdown_timeout(argv) == seconds
