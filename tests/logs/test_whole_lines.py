"""Many ranks, both streams, one console: every line is whole and there exactly once, also while the host prints."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = 16
LINES = 600
DEADLINE = 200.0

WRITER = program_text("logs/writer")

HOST = program_text("logs/console_host")


def _expected(rank: int) -> list[str]:
    lines = []
    for number in range(LINES):
        width = 20_000 if number % 150 == 149 else number * 7 % 150
        lines += [f"[t{rank}]:<{rank} {name} {number} " + "€" * width + ">" for name in ("out", "err")]
        if number % 50 == 0:
            lines.append(f"[t{rank}]:<{rank} part {number} >")
    return lines


def _start(tmp_path: Path, notify: bool, out: int) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    arguments = [str(tmp_path), WRITER, str(WRITERS), str(LINES), str(notify)]
    command = [sys.executable, "-c", HOST, *arguments]
    return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)


def _run(tmp_path: Path, notify: bool, console: str) -> bytes:
    if console == "file":
        path = tmp_path / "console"
        with path.open("ab") as file:
            host = _start(tmp_path, notify, file.fileno())
        assert host.wait(DEADLINE) == 0, path.read_bytes()[-3000:]
        return path.read_bytes()
    reading, writing = os.openpty() if console == "terminal" else os.pipe()
    host = _start(tmp_path, notify, writing)
    os.close(writing)
    chunks = []
    with os.fdopen(reading, "rb", buffering=0) as file:
        while True:
            try:
                chunk = file.read(1 << 16)
            except OSError:  # the other end of a terminal was closed
                break
            if not chunk:
                break
            chunks.append(chunk)
    assert host.wait(DEADLINE) == 0, b"".join(chunks)[-3000:]
    return b"".join(chunks).replace(b"\r\n", b"\n")


@pytest.mark.parametrize("console", ["file", "pipe", "terminal"])
def test_every_line_is_whole_and_there_once(tmp_path: Path, notify: bool, console: str) -> None:
    """16 ranks with both streams on one console, and a host that prints at the same time: no line is torn, lost or
    doubled, and each rank's lines of one stream are in order."""
    lines = _run(tmp_path, notify, console).decode().removesuffix("\n").split("\n")
    by_host = [line for line in lines if line.startswith("<host")]
    by_ranks = collections.Counter(line for line in lines if not line.startswith("<host"))
    expected = collections.Counter(line for rank in range(WRITERS) for line in _expected(rank))
    assert [line[:200] for line in (by_ranks - expected)] == []
    assert [line[:200] for line in (expected - by_ranks)] == []
    assert (by_host[0], by_host[-1]) == ("<host before>", "<host after>")
    assert len(set(by_host)) == len(by_host)
    for rank in range(WRITERS):
        numbers = [int(line.split()[2]) for line in lines if line.startswith(f"[t{rank}]:<{rank} out ")]
        assert numbers == list(range(LINES))
