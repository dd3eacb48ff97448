"""Collection of the suite in the zygote, from which warm ranks are forked: conftest files and modules of tests.

Only files are collected here that have the same effect in every rank when they are imported. Each rank collects the
rest itself.
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
"""Seconds for importing the suite's modules. All of them were imported before in the process that runs pytest."""

ROUNDS = 4
"""Number of attempts, each without the files that the last one excluded."""

END = b"\n"
"""Last byte of a complete answer."""


@dataclass(slots=True)
class Gathered:
    """Session that has begun, with the output of its collection.

    Attributes:
        session: the session, with its tests in ``COLLECTED``.
        streams: stdout and stderr of this process, which modules may have kept.
        printed: descriptor of a stream, and the output written to it.
    """

    session: pytest.Session
    streams: tuple[Any, ...]
    printed: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gathering:
    """Inputs of a collection. Calling the object collects; ``take`` returns the result.

    Attributes:
        preparation: the session to continue, which was prepared in this process before.
        worker: ``config.workerinput`` for plugins, pickled.
        files: the files of tests that may follow.
    """

    preparation: Preparation
    worker: bytes
    files: tuple[str, ...]

    def __call__(self) -> None:
        """Begin the session and collect its tests, unless conftest files differ between ranks."""
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
        """Return the files that have the same effect in all ranks; None if not even conftest files do."""
        files = list(self.files)
        for _ in range(ROUNDS):
            same = self._try(files)
            if same is None or same == files:
                return same
            files = same  # their imports may have been done by a file that is excluded now
        return self._try([])

    def _try(self, files: Sequence[str]) -> list[str] | None:
        """Return those files that have the same effect in all ranks, determined in a fork."""
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
        signal_process(pid, None, signal.SIGKILL)  # if it hangs, or one of its threads keeps it alive
        signal_group(pid, signal.SIGKILL)  # processes that a module has started
        os.waitid(os.P_PID, pid, os.WEXITED)
        same: list[str] | None = json.loads(answer) if answer.endswith(END) else None
        return same

    def _find_out(self, answer: int, files: Sequence[str]) -> None:
        from pytest_derail.ranks.prefork.import_purity import alike

        null = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(null, number)
        same = alike(self.preparation, pickle.loads(self.worker), files)
        with open(answer, "wb") as file:
            file.write(json.dumps(same).encode() + END)


_gathered: dict[Preparation, Gathered] = {}


def take(preparation: Preparation, basetemp: str) -> pytest.Session | None:
    """In a rank: return the prepared session once, after writing its output; None if there is none.

    Args:
        preparation: what the session depends on.
        basetemp: base folder of its temporary directories.
    """
    gathered = _gathered.pop(preparation, None)
    if gathered is None:
        return None
    for number, text in gathered.printed.items():
        with open(number, "wb", closefd=False) as stream:
            stream.write(text)
    for kept in gathered.streams:
        atexit.register(kept.flush)  # output still buffered in them goes where the rank's own output goes
    from _pytest.tmpdir import TempPathFactory

    config: Any = gathered.session.config
    config.option.basetemp = basetemp
    config._tmp_path_factory = TempPathFactory.from_config(config, _ispytest=True)  # noqa: SLF001
    return gathered.session


@contextmanager
def _kept(printed: dict[int, bytes]) -> Iterator[None]:
    """Divert what the body writes to stdout and stderr into ``printed``."""
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
            with open(file, "rb") as output:
                output.seek(0)
                printed[number] = output.read()
