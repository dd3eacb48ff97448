"""Stacks that ranks write on request: parsed, reduced to the program's own frames, and grouped by equality."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')
THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-fA-F]+")
OWN = re.compile(r"[/\\](?:_pytest|pluggy|pytest_derail|derail)[/\\]")
"""Files of pytest and derail: the same in every test, and no place in a program."""
LIBRARY = re.compile(r"[/\\](?:site-packages|dist-packages|lib[/\\]python3\.\d+t?)[/\\]|^<frozen|[/\\]torch[/\\]")
RETURNED = "wait_for_the_others"
"""Function of derail in which a rank waits after its own function has returned (``derail.spawn.worker``)."""
MOST_FRAMES = 512
"""Frames of a thread that are kept."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Frame of a stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        """Return ``evaluate() at train.py:131``."""
        name = self.file.replace("\\", "/").rpartition("/")[2]
        return f"{self.function}() at {name}:{self.line}" if self.function != "<module>" else f"{name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Stack:
    """Stacks of all threads of a rank, innermost frame first; the main thread is the last."""

    threads: tuple[tuple[Frame, ...], ...]

    @property
    def main(self) -> tuple[Frame, ...]:
        """The frames of the main thread."""
        return self.threads[-1]

    @property
    def place(self) -> Frame | None:
        """The innermost frame of the program in the main thread: of no library, of neither pytest nor derail."""
        program = [frame for frame in self.main if not OWN.search(frame.file)]
        return next((frame for frame in program if not LIBRARY.search(frame.file)), program[0] if program else None)

    @property
    def inner(self) -> tuple[Frame, ...]:
        """The frames of the main thread that are called from that place."""
        place = self.place
        return self.main if place is None else self.main[: self.main.index(place)]

    @property
    def has_returned(self) -> bool:
        """Whether the function of the rank has returned, and the rank waits for the others."""
        return any(frame.function == RETURNED and OWN.search(frame.file) for frame in self.main)


def parse_stack(text: str) -> Stack | None:
    """Return the stacks in what ``faulthandler`` has written; None if there are none."""
    threads: list[list[Frame]] = []
    for line in text.splitlines():
        if THREAD.match(line):
            threads.append([])
        elif threads and len(threads[-1]) < MOST_FRAMES and (match := FRAME.match(line)):
            number = match["line"]
            threads[-1].append(Frame(match["file"], int(number) if number.isdigit() else 0, match["function"]))
    whole = tuple(tuple(frames) for frames in threads if frames)
    return Stack(whole) if whole else None


def equal_stacks(texts: Mapping[int, str]) -> list[tuple[tuple[int, ...], str]]:
    """Return each different text with the ranks that have it, in the order of their first rank.

    Numbers of threads and processes do not make texts different.
    """
    ranks: dict[str, list[int]] = {}
    first: dict[str, str] = {}
    for rank, text in sorted(texts.items()):
        key = re.sub(r"0x[0-9a-fA-F]+", "0x", text)
        ranks.setdefault(key, []).append(rank)
        first.setdefault(key, text)
    return [(tuple(same), first[key]) for key, same in ranks.items()]
