"""A fault in the middle of the tests of reused ranks."""

import threading

import pytest
from notes import note

from derail import faults, when


@pytest.mark.ranks(2, reuse="module")
def test_before(rank, seen):
    note(seen, rank, "before")


@pytest.mark.ranks(2, reuse="module")
@pytest.mark.faults(faults.signal("SIGKILL", rank=1, when=when.line("here")))
@pytest.mark.xfail(strict=True)
def test_broken(rank, seen):
    print("here", flush=True)
    threading.Event().wait()


@pytest.mark.ranks(2, reuse="module")
def test_after(rank, seen):
    note(seen, rank, "after")
