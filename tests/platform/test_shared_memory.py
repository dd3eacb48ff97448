"""Unused entries of /dev/shm: with real files that other processes have open or mapped."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from derail.platform.shared_memory import unused

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
if sys.argv[2] == "mapped":
    kept = mmap.mmap(fd, 1)
    os.close(fd)
print("holds", flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="shared memory is not in files here")


@pytest.fixture
def entry() -> Iterator[str]:
    """Return a file of one byte in /dev/shm that no process has open."""
    path = f"/dev/shm/derail-test-{os.urandom(8).hex()}"
    with open(path, "wb") as file:
        file.write(b"x")
    yield path
    os.unlink(path)


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_an_entry_that_another_process_has_open_or_mapped_is_used(entry: str, how: str) -> None:
    """It is unused after that process has ended."""
    assert unused([entry]) == [entry]
    command = [sys.executable, "-c", HOLD, entry, how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"holds\n"
        assert unused([entry]) == []
        child.communicate()
    assert unused([entry]) == [entry]


def test_an_entry_that_this_process_has_mapped_is_used(entry: str) -> None:
    """Of several entries, only the others are returned."""
    with open(entry, "r+b") as file, mmap.mmap(file.fileno(), 1):
        assert unused([entry, "/dev/shm/derail-that-is-not-there"]) == []
