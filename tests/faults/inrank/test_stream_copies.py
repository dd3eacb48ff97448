"""Copies of a rank's streams that its launcher reads: the launcher gets every byte, and derail the same ones."""

from __future__ import annotations

import subprocess

import pytest

from derail.faults.inrank import stream_copies
from faults.injectors.test_crashes import VERSIONS
from program_files import program_text

PROGRAM = program_text("faults/copies_streams")


@pytest.mark.parametrize("buffering", [[], ["-u"]], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_copy_has_all_bytes_of_the_launchers_pipe(tmp_path, version, buffering):
    """Text, bytes, a partial last line, and the traceback."""
    words = [str(VERSIONS[version]), "-X", "utf8", *buffering, "-c", PROGRAM, stream_copies.__file__, str(tmp_path)]
    ran = subprocess.run(words, capture_output=True, check=False, timeout=100)

    assert ran.stdout.startswith("h\u00e9llo <stdout> utf-8 ".encode())
    assert ran.stdout.endswith(b"1 w\nraw \xff\nno line end")
    assert b"RuntimeError: its last words" in ran.stderr
    assert ((tmp_path / "stdout").read_bytes(), (tmp_path / "stderr").read_bytes()) == (ran.stdout, ran.stderr)


def test_a_stream_replaced_by_the_program_is_not_copied(tmp_path, capsys):
    """The object that replaces sys.stdout is no stream on descriptor 1."""
    stream_copies.begin("stdout", str(tmp_path / "stdout"))
    print("mine")

    assert (capsys.readouterr().out, (tmp_path / "stdout").exists()) == ("mine\n", False)
