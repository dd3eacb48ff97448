"""Ranks that leave a process and a file."""

import subprocess
import tempfile

import pytest


@pytest.mark.ranks(2)
def test_process(rank):
    if rank == 1:
        subprocess.Popen(["sleep", "619"], start_new_session=True)


@pytest.mark.ranks(2)
def test_file(rank):
    tempfile.mkstemp(suffix=f"-of-{rank}")
