"""``derail torchrun``: torch's agent with derail's launcher."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from derail.torch import with_the_program_marked
from program_files import program_text

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
    """The summary names the root cause, as torchrun's does, and no bystander."""
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
    """Afterwards torch's agent starts ranks as before, and signals raise the original exceptions."""
    source = program_text("cli/installs_twice")
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)

    assert ran.returncode == 0, ran.stderr


def parser() -> argparse.ArgumentParser:
    """Return a short parser with options like torchrun's."""
    made = argparse.ArgumentParser()
    made.add_argument("--nnodes")
    made.add_argument("--rdzv-id", "--rdzv_id")
    made.add_argument("--rdzv-conf", "--rdzv_conf")
    made.add_argument("--shutdown-timeout", "--shutdown_timeout", type=int)
    made.add_argument("-r", "--redirects")
    made.add_argument("-m", "--module", action="store_true")
    made.add_argument("script")
    made.add_argument("words", nargs=argparse.REMAINDER)
    return made


@pytest.mark.parametrize(
    ("own", "program"),
    [
        ([], ["w.py", "--r=16", "--help", "-n", "3"]),
        (["--nnodes=1"], ["w.py", "--rdzv"]),
        (["--nnodes", "1", "-m"], ["w", "-r", "3"]),
        (["-r", "3", "--rdzv_id", "x"], ["w.py", "--shutdown-timeout=3"]),
        (["-r3"], ["w.py", "-r3"]),
        (["-r=3"], ["-", "--nn", "2"]),
        (["--nnodes", "2"], ["w.py", "--", "--rd"]),
        (["--shutdown-timeout=3"], ["w.py"]),
    ],
)
def test_what_stands_behind_the_program_is_the_programs(own, program):
    """The number of arguments of each option shows where the options end."""
    words = with_the_program_marked([*own, *program], parser())
    told = parser().parse_args(words)

    assert words == [*own, "--", *program]
    assert [told.script, *told.words] == program


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--nnodes"],
        ["--nnodes=1", "--", "w.py", "--r=16"],
        ["--rdzv", "x", "w.py"],
        ["--unknown", "w.py"],
        ["--nno", "2", "w.py"],
        ["-x", "w.py"],
    ],
)
def test_a_command_line_that_is_marked_or_wrong_is_left_alone(argv):
    """Torchrun itself reports the errors in it."""
    assert with_the_program_marked(argv, parser()) == argv


@torch_here
@pytest.mark.torch
def test_the_programs_options_and_torchruns_shutdown_timeout_do_not_meet(tmp_path):
    """Each gets its own, though torchrun alone would refuse the first one as ambiguous."""
    (tmp_path / "w.py").write_text(
        "import os, sys\nprint(sys.argv[1:], os.environ['TORCH_ELASTIC_SHUTDOWN_TIMEOUT'])\n"
    )
    ran = call(
        "--standalone",
        "--log-dir=logs",
        "--shutdown-timeout",
        "7",
        "w.py",
        "--r=16",
        "--shutdown-timeout=3",
        cwd=tmp_path,
    )

    assert (ran.returncode, ran.stdout) == (0, "['--r=16', '--shutdown-timeout=3'] 7\n"), ran.stderr


RAISES = """
import os, time
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    if os.environ["RANK"] == "1":
        raise ValueError("rank 1 had enough")
    time.sleep(600)

main()
"""
LAUNCHERS = {
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    "derail launch": [*CALL[:-1], "launch", "--ranks=2"],
    "derail torchrun": [*CALL, "--standalone", "--nproc-per-node=2"],
}


@torch_here
@pytest.mark.slow
@pytest.mark.torch
def test_the_launchers_own_error_file_is_the_same_under_each_launcher(tmp_path):
    """The launcher's TORCHELASTIC_ERROR_FILE has the document of the root cause, with its exit code."""
    (tmp_path / "w.py").write_text(RAISES)
    documents = {}
    for name, words in LAUNCHERS.items():
        reply = tmp_path / f"{name}.json"
        env = {**os.environ, "TORCHELASTIC_ERROR_FILE": str(reply), "TMPDIR": str(tmp_path)}
        subprocess.run(
            [*words, "w.py"], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=120, check=False,
        )  # fmt: skip
        documents[name] = json.loads(reply.read_text())
        documents[name]["message"]["extraInfo"]["timestamp"] = "when it was raised"

    assert documents["torchrun"]["message"]["message"] == "ValueError: rank 1 had enough"
    assert documents["torchrun"]["message"]["errorCode"] == 1
    assert documents == dict.fromkeys(LAUNCHERS, documents["torchrun"])
