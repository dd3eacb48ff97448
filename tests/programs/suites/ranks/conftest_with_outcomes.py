"""A hook that changes the outcome of a report in the ranks."""

import os

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.failed and "RANK" in os.environ:
        outcome = item.callspec.params["outcome"]
        report.outcome = "passed" if outcome == "passed" else "skipped"
        report.longrepr = ("here.py", 3, "Skipped: known") if outcome == "skipped" else None
        if outcome == "xfailed":
            report.wasxfail = "known"
    return report
