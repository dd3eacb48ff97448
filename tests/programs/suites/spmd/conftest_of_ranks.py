"""A suite's conftest for torchrun: RANK is read on import, and a session fixture notes each of its set-ups."""

import os
from pathlib import Path

import pytest

RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
SEEN = Path(os.environ["SEEN"])


def note(name, word):
    with (SEEN / f"{name}-{RANK}").open("a") as file:
        file.write(f"{word}\n")


@pytest.fixture(scope="session", autouse=True)
def group():
    note("session", f"up in {os.getpid()}")
    yield (RANK, WORLD_SIZE)
    note("session", f"down in {os.getpid()}")


@pytest.fixture(scope="module")
def of_module():
    note("module", "up")
    return RANK
