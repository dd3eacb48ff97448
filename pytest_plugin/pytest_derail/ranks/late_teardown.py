"""Failures of what reused ranks tear down late: when no more tests come, or the next one has no use for it.

They are errors of the last test that the ranks have run. That one may be over by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_derail.protocol import CURRENT
from pytest_derail.reporting.ranks import shown

if TYPE_CHECKING:
    from pytest_derail.ranks.result import Verdict


class LateTeardownFailed(Exception):  # noqa: N818 - a name of what happened reads best in a report
    """What reused ranks had kept could not be torn down; the report has all that is known.

    Attributes:
        verdict: what became of each rank.
    """

    def __init__(self, config: pytest.Config, verdict: Verdict) -> None:
        super().__init__(f"in the last tear-down of reused ranks: {shown(config, verdict)}")
        self.verdict = verdict


def report(item: pytest.Function, verdict: Verdict) -> None:
    """Report that a late tear-down failed, if it did, as an error of ``item``: in its own tear-down if that is still
    to come, else in a report of its own."""
    if not verdict.failed:
        return

    def fail() -> None:
        __tracebackhide__ = True
        raise LateTeardownFailed(item.config, verdict)

    running = item.config.stash.get(CURRENT, None)
    if running is not None and running.item is item and running.in_body:
        item.addfinalizer(fail)
    elif running is not None and running.item is item:
        fail()
    else:
        call: pytest.CallInfo[None] = pytest.CallInfo.from_call(fail, "teardown")
        found = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=found)
