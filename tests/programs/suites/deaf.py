"""Ranks that ignore SIGTERM."""

import os
import pathlib
import signal
import threading

import pytest


def deaf(path):
    here = pathlib.Path(path)
    signal.signal(signal.SIGTERM, lambda *_: (here / f"asked-{os.environ['RANK']}").touch())
    (here / f"there-{os.environ['RANK']}").touch()
    while True:
        threading.Event().wait(600)


@pytest.mark.ranks(2)
def test_mark(rank):
    deaf(os.environ["HERE"])


def test_fixture(derail):
    jobs = [derail.start(deaf, args=(os.environ["HERE"],), ranks=1), derail.start(deaf, args=(os.environ["HERE"],))]
    (pathlib.Path(os.environ["HERE"]) / "waits").touch()
    jobs[-1].wait()
