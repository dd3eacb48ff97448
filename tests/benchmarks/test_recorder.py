"""What the record of a collective costs; times are never judged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunPython


@pytest.mark.torch
@pytest.mark.benchmark
@pytest.mark.usefixtures("unmeasured")
def test_a_short_round_measures_a_recorded_collective(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_python: RunPython
) -> None:
    """Bare and recorded calls in turns, in the same process, by its processor time."""
    ran = run_python(program_text("benchmarks/recorded_calls"), "15", env={"TMPDIR": str(tmp_path)})
    bare, recorded, added = json.loads(ran.stdout.splitlines()[-1])
    with capsys.disabled():
        print(f"\nall_reduce of one rank: {bare:.0f} ns, recorded {recorded:.0f} ns, which adds {added:.0f} ns")

    assert bare > 0
    assert recorded > 0
