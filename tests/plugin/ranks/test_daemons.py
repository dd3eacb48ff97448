"""A daemon that a rank leaves is an error of its test and is ended, for each way to start ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

DAEMON = program_text("suites/ranks/daemons")
WAYS = {
    **{
        f"fixture, {method}": f"""
def test_it(derail):
    outcome = derail.run(leave, ranks=2, start_method={method!r})
    print(outcome.leftovers)
"""
        for method in ("spawn", "fork", "forkserver", "warm")
    },
    **{
        f"marker, {options}": f"""
@pytest.mark.ranks(2, timeout=60, {options})
def test_it(rank):
    leave()
"""
        for options in ("start_method='spawn'", "start_method='warm'", "reuse='module'")
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_daemon_is_an_error_of_its_test(run_pytest: RunPytest, left: Callable[[], list[str]], way: str) -> None:
    """A double fork in rank 1, with its own session, no open descriptor and no exec."""
    result = run_pytest(DAEMON + WAYS[way], "-rA")
    assert {key: result.parseoutcomes().get(key, 0) for key in ("failed", "errors")} in (
        {"failed": 1, "errors": 0},
        {"failed": 0, "errors": 1},
    )
    result.stdout.fnmatch_lines(["*left behind*", "*process * rank 1*"])
    assert left() == []
