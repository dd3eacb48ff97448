"""A pytest plugin: runs the tests that it is told to, as often as it is told, and answers how long each took."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any, TextIO

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


class Driven:
    """Takes the place of pytest's loop over its tests."""

    def __init__(self, orders: Iterable[str], answers: TextIO, reuse: str | None) -> None:
        self._orders, self._answers, self._reuse = orders, answers, reuse
        self._reports: list[pytest.TestReport] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Have ranks reused where that is to be measured."""
        if self._reuse is not None:
            for item in items:
                mark = item.get_closest_marker("ranks")
                if mark is not None:
                    again = pytest.mark.ranks(*mark.args, **{**mark.kwargs, "reuse": self._reuse})
                    item.add_marker(again, append=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test came to."""
        self._reports.append(report)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run a test for each order, from its set-up to its tear-down."""
        numbers: dict[str, Any] = {}
        items = {}
        for item in session.items:
            name = getattr(item, "originalname", item.name)
            items[f"{name}_{next(numbers.setdefault(name, itertools.count()))}"] = item
        for line in self._orders:
            item = items[json.loads(line)["case"]]
            following = [other for other in session.items if other is not item and other.path == item.path]
            self._reports.clear()
            session._setupstate.teardown_exact(item)  # of the last one's module: no other test of it comes next
            begun = time.monotonic()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following[0])
            taken = time.monotonic() - begun
            failed = [report.longreprtext for report in self._reports if report.failed]
            print(json.dumps({"seconds": taken, "problem": "\n".join(failed)}), file=self._answers, flush=True)
        return True
