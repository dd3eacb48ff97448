"""``derail launch`` with a fault at a call of a function, in an unmodified script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from faults.inrank.test_runtime import PYTHONS

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail

SCRIPT = """
import json
for n in range(1, 6):
    print("call", n, flush=True)
    json.dumps({"step": n})
"""


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("exit=7 call=json:dumps hit=3", 7),
        ("signal=KILL call=json:dumps hit=3", 137),
        ("signal=KILL call=json:dumps hit=3 at=exit", 137),
    ],
)
def test_a_script_ends_at_exactly_the_third_call(
    derail_command: Derail, tmp_path: Path, version: str, fault: str, code: int
) -> None:
    """With each supported Python."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = derail_command("launch", "--ranks", 1, "--fault", fault, "--", PYTHONS[version], script)

    assert (done.returncode, done.stdout) == (code, "".join(f"[rank0]:call {n}\n" for n in (1, 2, 3))), done.stderr
    assert "injected" in done.stderr


def test_a_function_that_is_not_there_is_said(derail_command: Derail, tmp_path: Path) -> None:
    """The script runs as usual, and the fault counts as one that did not happen."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = derail_command("launch", "--fault", "exit=7 call=json:lods", script)

    assert done.returncode == 0
    assert "errored: the rank failed to inject it: json has no 'lods'; did you mean 'loads'?" in done.stderr
