"""Hostile TOML in scenarios, plans and declarations: one error of the reader's own type."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from derail.agents.custom import read_declaration
from derail.cli.fault_option import read_plan
from derail.faults.codec import load as load_plan
from derail.model.input_error import InputError
from derail.scenario.load import load as load_scenario

READERS = {
    "scenario": (load_scenario, InputError),
    "plan": (load_plan, InputError),
    "agent": (read_declaration, InputError),
}
CONTENTS = {
    "deep nesting": (b"a = " + b"[" * 100_000, "not valid TOML"),
    "an integer with thousands of digits": (b"ranks = " + b"9" * 5000, "not valid TOML"),
    "a hexadecimal integer with thousands of digits": (
        b"ranks = 0x" + b"f" * 6000,
        "expected integers of at most 64 bits, got one of 24000",
    ),
    "bad UTF-8": (b"title = '\xff'", "cannot be read: 'utf-8'"),
    "UTF-16": ("a = 1".encode("utf-16"), "cannot be read: 'utf-8'"),
    "a key twice": (b"a = 1\na = 2\n", "not valid TOML"),
    "20 MB": (b"#" * (20 << 20), "is longer than"),
}


@pytest.mark.parametrize(("load", "kind"), READERS.values(), ids=READERS)
@pytest.mark.parametrize(("content", "why"), CONTENTS.values(), ids=CONTENTS)
def test_a_hostile_file_is_one_error_with_its_name(tmp_path, load, kind, content, why):
    """The error has the file name and the problem."""
    path = tmp_path / "file.toml"
    path.write_bytes(content)

    with pytest.raises(kind) as error:
        load(path)

    assert str(error.value).startswith(f"{path}: ")
    assert why in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(("load", "kind"), READERS.values(), ids=READERS)
def test_a_path_that_is_not_a_file_is_refused_at_once(tmp_path, load, kind):
    """A device, a directory, a loop of links."""
    (tmp_path / "loop.toml").symlink_to("loop.toml")

    for path in (Path("/dev/zero"), tmp_path, tmp_path / "loop.toml"):
        with pytest.raises(kind, match="cannot be read"):
            load(path)


def test_a_fifo_without_a_writer_is_an_empty_file(tmp_path):
    """Reading does not block."""
    os.mkfifo(tmp_path / "plan.toml")

    assert load_plan(tmp_path / "plan.toml").faults == ()


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000, "0x" + "f" * 6000])
def test_a_hostile_option_is_a_problem_of_the_plan(value):
    """Nested deeply, or a number without bounds."""
    with pytest.raises(InputError, match="rank"):
        read_plan((f"signal=SIGKILL rank={value}",), file=None, seed=None, ranks=2)
