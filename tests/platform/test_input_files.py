"""Input files of commands are read in bounded time and size."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from derail.platform import input_files
from derail.platform.input_files import read_input


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """Up to the limit, which counts bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)

    assert read_input(path, 3_000_000) == b"x" * 3_000_000
    with pytest.raises(OSError, match="is longer than 2999999 bytes"):
        read_input(path, 2_999_999)


def test_a_sparse_file_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    """A terabyte of it needs no memory."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(OSError, match="is longer than"):
        read_input(path)


def test_a_process_substitution_is_read_to_its_end() -> None:
    """``<(...)`` is the name of a pipe with a slow writer."""
    reader, writer = os.pipe()
    go = threading.Event()

    def write() -> None:
        with open(writer, "wb", buffering=0) as file:
            file.write(b"first ")
            go.wait(60)
            file.write(b"second")

    thread = threading.Thread(target=write)
    thread.start()
    timer = threading.Timer(0.1, go.set)
    timer.start()
    try:
        assert read_input(Path(f"/dev/fd/{reader}")) == b"first second"
    finally:
        go.set()
        thread.join()
        timer.join()
        os.close(reader)


def test_a_pipe_with_a_silent_writer_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error states the timeout."""
    monkeypatch.setattr(input_files, "WRITER_TIMEOUT_S", 0.1)
    reader, writer = os.pipe()
    try:
        with pytest.raises(TimeoutError, match=r"its writer is silent for 0\.1 s"):
            read_input(Path(f"/dev/fd/{reader}"))
    finally:
        os.close(reader)
        os.close(writer)


def test_files_without_an_end_or_without_bytes_are_refused(tmp_path: Path) -> None:
    """Devices, directories, loops of links; a FIFO without a writer is empty."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")

    assert read_input(tmp_path / "fifo") == b""
    for path in ("/dev/zero", str(tmp_path), str(tmp_path / "loop"), str(tmp_path / "absent")):
        with pytest.raises(OSError, match=r"is neither|is a directory|symbolic links|No such file"):
            read_input(Path(path))
