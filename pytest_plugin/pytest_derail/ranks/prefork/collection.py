"""The suite's own part of a session, made in the process that warm ranks are forked from: conftest files, and modules
of tests. Only what is alike in every rank; the rest is left to each of them.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import select
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.groups import signal_group, signal_process
from derail.spawn.return_values import create_memory_file
from pytest_derail.ranks.prefork import pytest_session
from pytest_derail.ranks.worker.session import COLLECTED, begin, collect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from pytest_derail.ranks.prefork.pytest_session import Preparation

TRIAL_SECONDS = 60.0
"""How long the suite's modules may take to be imported. All of them were, in the process that runs pytest."""

ROUNDS = 4
"""How often files are left out, and the rest is tried once more."""

END = b"\n"
"""The last byte of an answer that is whole."""


@dataclass(slots=True)
class Gathered:
    """A session that has begun, with what was printed meanwhile.

    Attributes:
        session: with its tests in ``COLLECTED``.
        streams: those of this process, which modules may have kept.
        printed: the descriptor of a stream, and what was written to it.
    """

    session: pytest.Session
    streams: tuple[Any, ...]
    printed: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gathering:
    """What it depends on. Calling it does it, for ``take`` to find.

    Attributes:
        preparation: the session to go on with; it was made here before.
        worker: what plugins find in ``config.workerinput``, pickled.
        files: of the tests that may come.
    """

    preparation: Preparation
    worker: bytes
    files: tuple[str, ...]

    def __call__(self) -> None:
        """Begin the session and collect its tests, if that is alike in all ranks."""
        if not pytest_session.is_made(self.preparation):
            return
        here = os.getcwd()
        os.chdir(self.preparation.directory)
        try:
            files = self._alike()
            if files is None:
                return
            printed: dict[int, bytes] = {}
            with _kept(printed):
                session = begin(self.preparation, pickle.loads(self.worker))
                items, _ = collect(session, files) if files else ([], [])
            session.stash[COLLECTED] = {
                file: [item for item in items if os.fspath(item.path) == file] for file in files
            }
            _gathered[self.preparation] = Gathered(session, (sys.stdout, sys.stderr), printed)
        finally:
            os.chdir(here)

    def _alike(self) -> list[str] | None:
        """The files that are alike in all ranks; None if not even conftest files are."""
        files = list(self.files)
        for _ in range(ROUNDS):
            found = self._try(files)
            if found is None or found == files:
                return found
            files = found  # what they import may have been imported by one that is left out now
        return self._try([])

    def _try(self, files: Sequence[str]) -> list[str] | None:
        """Which of these are, as a fork finds out."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                self._find_out(write, files)
            finally:
                os._exit(0)
        os.close(write)
        answer = b""
        end = SYSTEM_CLOCK.now() + TRIAL_SECONDS
        while not answer.endswith(END) and select.select([read], [], [], max(0.0, end - SYSTEM_CLOCK.now()))[0]:
            part = os.read(read, 65536)
            if not part:
                break
            answer += part
        os.close(read)
        signal_process(pid, None, signal.SIGKILL)  # if it hangs, or something in it does not let it end
        signal_group(pid, signal.SIGKILL)  # what a module has started
        os.waitid(os.P_PID, pid, os.WEXITED)
        found: list[str] | None = json.loads(answer) if answer.endswith(END) else None
        return found

    def _find_out(self, answer: int, files: Sequence[str]) -> None:
        from pytest_derail.ranks.prefork.import_purity import alike

        null = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(null, number)
        found = alike(self.preparation, pickle.loads(self.worker), files)
        with open(answer, "wb") as file:
            file.write(json.dumps(found).encode() + END)


_gathered: dict[Preparation, Gathered] = {}


def take(preparation: Preparation, basetemp: str) -> pytest.Session | None:
    """In a rank: the session that was made for this, and what it has printed; None if there is none. It is taken once.

    Args:
        preparation: what it depends on.
        basetemp: where its temporary directories are made.
    """
    found = _gathered.pop(preparation, None)
    if found is None:
        return None
    for number, text in found.printed.items():
        with open(number, "wb", closefd=False) as stream:
            stream.write(text)
    for kept in found.streams:
        atexit.register(kept.flush)  # what was kept of them ends up where those of the rank do
    from _pytest.tmpdir import TempPathFactory

    config: Any = found.session.config
    config.option.basetemp = basetemp
    config._tmp_path_factory = TempPathFactory.from_config(config, _ispytest=True)  # noqa: SLF001
    return found.session


@contextmanager
def _kept(printed: dict[int, bytes]) -> Iterator[None]:
    """Keep what the body writes to stdout and stderr; nobody sees it yet."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    files = {number: create_memory_file("derail-printed") for number in saved}
    for number, file in files.items():
        os.dup2(file, number)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, file in files.items():
            os.dup2(saved[number], number)
            os.close(saved[number])
            with open(file, "rb") as heard:
                heard.seek(0)
                printed[number] = heard.read()
