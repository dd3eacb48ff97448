"""Five ways in which a rank does not finish its test, on rank 0 and on rank 3, while the others wait for it or do not:
the bodies of tests, for derail's plugin and for torch's own class."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

RANKS = 4


def kill() -> None:
    """Die of SIGKILL, without any output."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    """Die of SIGSEGV, like a faulty extension."""
    ctypes.string_at(0)


def exit_seven() -> NoReturn:
    """Exit with 7, without clean-up."""
    os._exit(7)


def exit_early() -> NoReturn:
    """Exit with 0, like a successful rank."""
    os._exit(0)


def hang_in_c() -> None:
    """Hang with the GIL held, like a stuck C library."""
    libc = ctypes.PyDLL(None)
    while True:
        libc.pause()


DIES = {function.__name__: function for function in (kill, segfault, exit_seven, exit_early, hang_in_c)}


@dataclass(frozen=True, slots=True)
class Death:
    """One test.

    Attributes:
        die: which way.
        rank: which rank.
        missed: whether the others wait for that rank, as in a collective.
    """

    die: str
    rank: int
    missed: bool

    @property
    def id(self) -> str:
        """For the name of a test."""
        return f"{self.die}-{self.rank}-{'missed' if self.missed else 'not_missed'}"


ALL = [
    Death(die, rank, missed)
    for die, rank, missed in itertools.product(DIES, (0, RANKS - 1), (True, False))
    if die != "hang_in_c" or not missed  # whoever waits for a rank that hangs does so too
]


def body(death: Death, rank: int, folder: Path) -> None:
    """Run a rank: all ranks meet, then one of them dies."""
    print(f"last words of {rank}", flush=True)
    (folder / str(rank)).touch()
    while len(os.listdir(folder)) < RANKS:
        threading.Event().wait(0.01)  # and no yielding: four that spin would keep each other from coming
    if rank == death.rank:
        DIES[death.die]()
    elif death.missed:
        threading.Event().wait()
