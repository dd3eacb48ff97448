"""Waits of a thread whose signal handlers raise."""

from __future__ import annotations

import ast
import subprocess
import sys

from program_files import program_text


def test_an_exception_of_a_signal_handler_at_any_point_of_a_wait_harms_no_later_wait():
    """It is not replaced by another, and the flag can be set and waited for afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", program_text("platform/interrupted_waits")],
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip

    assert ast.literal_eval(done.stdout) == {"interrupted": 3000, "others": 0, "not set": 0}
