"""Tests on ranks whose time is frozen, in the controller, in the ranks, or in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("tool", ["freezegun", "time-machine"])
def test_hangs_are_ended_and_others_pass_while_the_time_is_frozen(run_pytest: RunPytest, tool: str) -> None:
    """Timeouts of ranks and jobs count real seconds."""
    result = run_pytest(program_text("suites/ranks/frozen_time", TOOL=tool))

    result.assert_outcomes(passed=10, failed=1)
    result.stdout.fnmatch_lines(["*test_hangs*"])
