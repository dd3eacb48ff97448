"""Failures in late tear-downs of reused ranks: at the end of the session, or when the next test cannot reuse a fixture.

They count as errors of the last test that the ranks have run, which may be over by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_derail.protocol import CURRENT
from pytest_derail.reporting.ranks import shown

if TYPE_CHECKING:
    from pytest_derail.ranks.result import Verdict


class LateTeardownFailed(Exception):  # noqa: N818 - a name of what happened reads best in a report
    """Failure of the tear-down of fixtures that reused ranks had kept; the report has all that is known.

    Attributes:
        verdict: result of each rank.
    """

    def __init__(self, config: pytest.Config, verdict: Verdict) -> None:
        super().__init__(f"in the last tear-down of reused ranks: {shown(config, verdict)}")
        self.verdict = verdict


def report(item: pytest.Function, verdict: Verdict) -> None:
    """Report a failed late tear-down as an error of ``item``.

    If the tear-down of ``item`` is still pending, the error is part of it; else it gets a separate report.
    """
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
        late_report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=late_report)
