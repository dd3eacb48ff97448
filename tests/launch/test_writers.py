"""An error that a rank recorded is evidence, however it was written to the error file."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from derail import DefaultLogsSpecs, start_processes
from derail.model.spec import Teardown
from derail.platform.inotify import NO_INOTIFY_ENV
from launch.writers import UNANNOUNCED, WAYS, document, rank

METHODS = ("program", "spawn", "forkserver", "fork", "warm")
HARD = ("held open", "after many", "directory moved", "long ago")
CASES = [("warm", way) for way in WAYS] + [(method, way) for method in METHODS[:4] for way in HARD]


class LeftBehind:
    """An error file of an earlier attempt, at the path of rank 1's."""

    def __init__(self, directory):
        self.directory = directory

    def __call__(self, spec):
        """Put it there before the ranks start."""
        spec.ranks[1].error_file.write_bytes(document("of an earlier attempt"))
        return spec


@pytest.fixture
def shm():
    """A directory in memory, which is another file system."""
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield directory


def start(tmp_path, shm, method, way, **options):
    """Start a job of a victim and a rank that records."""
    env = {
        "DIR": str(tmp_path),
        "SHM": str(shm),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path]),
    }
    arguments = {0: (), 1: (way,)}
    entrypoint = rank
    if method == "program":
        entrypoint = sys.executable
        arguments = {r: ("-c", f"from launch.writers import rank; rank(*{words})") for r, words in arguments.items()}
    else:
        options |= {"start_method": method}
    if method == "warm":
        options |= {"preload": ["json"]}
    return start_processes(
        "job", entrypoint, arguments, dict.fromkeys((0, 1), env), DefaultLogsSpecs(str(tmp_path / "logs")),
        teardown=Teardown(grace=10, kill_wait=60, sweep="all"), **options,
    )  # fmt: skip


def blame(tmp_path, job, wait_until):
    """Have rank 1 record, then rank 0 fail; return the result."""
    try:
        (tmp_path / "go").touch()
        wait_until((tmp_path / "recorded").exists, what="rank 1 has recorded")
        threading.Event().wait(0.05)  # the kernel's time of a file is coarse, where that orders it
        job.wait(0)
        (tmp_path / "fail").touch()
        return job.wait(60)
    finally:
        job.close(timeout=0)


@pytest.mark.parametrize("missing", ["", NO_INOTIFY_ENV])
@pytest.mark.parametrize(("method", "way"), CASES)
def test_the_rank_that_recorded_first_is_blamed_for_every_way_of_recording(
    tmp_path, shm, wait_until, monkeypatch, method, way, missing
):
    """Also a file that its writer keeps open, one after very many others, and one that claims to be from 1970."""
    if missing:
        monkeypatch.setenv(missing, "1")
    prepare = LeftBehind(tmp_path) if way == "over an old one" else None
    job = start(tmp_path, shm, method, way, **({"prepare": prepare} if prepare else {}))
    result = blame(tmp_path, job, wait_until)
    assert (result.root_cause, list(result.failures), result.stopped) == (1, [1, 0], ())
    assert result.failures[1].message["message"].strip() == "the cause"
    if way not in UNANNOUNCED:
        assert result.root_cause_rivals == ()
