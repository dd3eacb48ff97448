"""Many ranks, both streams, one console: every line is whole and there exactly once, also while the host prints."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = 16
LINES = 600
DEADLINE = 200.0

WRITER = """
import sys
rank, lines = int(sys.argv[1]), int(sys.argv[2])
for number in range(lines):
    width = 20_000 if number % 150 == 149 else number * 7 % 150
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        print(f"<{rank} {name} {number} " + "€" * width + ">", file=stream)
    if number % 50 == 0:
        sys.stdout.write("<" + str(rank) + " part")
        sys.stdout.flush()
        sys.stdout.write(f" {number} >\\n")
"""

HOST = """
import os, select, subprocess, sys, threading
from derail.logs import ConsoleSink, Tail

directory, writer, ranks, lines = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print("<host before>")
keys = [(rank, stream) for rank in range(ranks) for stream in ("stdout", "stderr")]
paths = {key: os.path.join(directory, f"{key[0]}.{key[1]}") for key in keys}
reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
tail = Tail(paths, notify=sys.argv[5] == "True")
consoles = []
for stream in ("stdout", "stderr"):
    console = ConsoleSink(
        getattr(sys, stream), prefix=lambda key: f"[t{key[0]}]:", on_room=lambda: os.write(writing, b"1")
    )
    console.start()
    consoles.append(console)
    tail.add(console.take, keys=[key for key in keys if key[1] == stream], ready=console.ready)
tail.open()
left = {}
for rank in range(ranks):
    streams = {name: open(paths[rank, name], "ab") for name in ("stdout", "stderr")}
    process = subprocess.Popen([sys.executable, "-c", writer, str(rank), str(lines)], **streams)
    left[rank] = process
    for file in streams.values():
        file.close()

done = threading.Event()

def chatter():
    number = 0
    while not done.wait(0.001):
        print(f"<host {number}>")
        print(f"<host err {number}>", file=sys.stderr)
        number += 1

thread = threading.Thread(target=chatter)
thread.start()
poll = select.poll()
poll.register(reading, select.POLLIN)
if tail.fd is not None:
    poll.register(tail.fd, select.POLLIN)
while not tail.done:
    if not tail.poll():
        poll.poll(min(tail.interval, 0.05) * 1000)
        try:
            os.read(reading, 4096)
        except BlockingIOError:
            pass
    for rank, process in list(left.items()):
        if process.poll() is not None:
            assert process.returncode == 0
            del left[rank]
            for name in ("stdout", "stderr"):
                tail.finish((rank, name))
done.set()
thread.join()
missed = [console.close(idle=30.0, limit=60.0) for console in consoles]
tail.close()
print("<host after>")
assert missed == [0, 0], missed
assert threading.active_count() == 1, threading.enumerate()
"""


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
    """16 ranks with both streams on one console, and a host that prints meanwhile: no line is torn, lost or doubled,
    and each rank's lines of one stream are in order."""
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
