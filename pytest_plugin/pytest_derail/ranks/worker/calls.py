"""In a rank: functions that run instead of a test, because an adopted test in the controller would start processes.

No fixture is set up for them and no hook of the suite runs, as in the processes that the test would start.
"""

from __future__ import annotations

import os
import pickle
import unittest
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.ranks.worker.terminal import ACCESS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from pytest_derail.protocol import Order

    Call: TypeAlias = Callable[[], object]

WARNINGS = "warnings"
"""pytest's plugin for warnings. Its filters are meant for the process that runs pytest."""

IGNORED = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Categories that Python ignores by default."""

_entered: set[int] = set()
"""The pid of this process once its environment is set: reused ranks keep what earlier calls have made of it."""


def run_protocol(item: pytest.Item, order: Order, nextitem: pytest.Item | None = None) -> None:
    """Call the hook that runs a test, or the call of the order."""
    hook = item.ihook.pytest_runtest_protocol
    if order.call:
        manager = item.config.pluginmanager
        hook = manager.subset_hook_caller("pytest_runtest_protocol", [manager.get_plugin(WARNINGS)])
    hook(item=item, nextitem=nextitem)


def load_call(order: Order, rank: int) -> Call:
    """Return what this rank is to call, in the environment of the controller."""
    if os.getpid() not in _entered:
        _entered.add(os.getpid())
        ACCESS.rank = str(rank)
        for name, value in (order.environment or {}).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    calls: Any = pickle.loads(order.call) if isinstance(order.call, bytes) else order.call
    call: Call = calls[rank]
    return call


def call_of(when: Any, act: Call) -> pytest.CallInfo[object]:
    """Run a phase, and return its result, with the skips of unittest as those of pytest.

    Raises:
        SystemExit: if the call ends its process with another code than 0.
    """
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in IGNORED:
            warnings.simplefilter("ignore", category)
        info = pytest.CallInfo.from_call(act, when)
    error = None if info.excinfo is None else info.excinfo.value
    if isinstance(error, SystemExit):
        if error.code not in (None, 0):
            raise error
        info.excinfo = None
    if isinstance(error, unittest.SkipTest) and info.excinfo is not None:
        skip = pytest.skip.Exception(str(error), _use_item_location=True)
        info.excinfo = pytest.ExceptionInfo.from_exception(skip.with_traceback(info.excinfo.tb))
    return info


def report_of(item: pytest.Item, call: pytest.CallInfo[Any]) -> pytest.TestReport:
    """Return the report of a phase; no hook of the suite changes it."""
    report = pytest.TestReport.from_item_and_call(item, call)
    if call.excinfo is not None and isinstance(call.excinfo.value, pytest.xfail.Exception):
        report.outcome, report.wasxfail = "skipped", str(call.excinfo.value.msg)
    return report
