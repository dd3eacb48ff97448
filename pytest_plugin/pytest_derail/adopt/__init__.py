"""Plugin that runs tests of other classes on derail's ranks: ``-p pytest_derail.adopt``, or ``derail_adopt = true``.

The classes and functions are torch's ``MultiProcessTestCase`` and ``MultiProcContinuousTest``, DeepSpeed's
``DistributedTest``, and ``torch.multiprocessing.spawn``. Each test runs in the controller as ever. Only where it would
start processes, ranks run their functions instead. Suites stay unchanged.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.adopt import summary
from pytest_derail.options import adopts, start_method
from pytest_derail.protocol import ADOPTED, CURRENT, RANKS, ranks_marker
from pytest_derail.shapes import shape_of, why_not_adopted

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager

    from pytest_derail.adopt.controller import AdoptedTest

ACTIVE: pytest.StashKey[bool] = pytest.StashKey()
"""In the stash of a controller's configuration. Ranks load this plugin as well, and change nothing."""

TEST: pytest.StashKey[Any] = pytest.StashKey()
"""In the stash of the configuration: the test whose processes are replaced."""

FORECAST: pytest.StashKey[list[str]] = pytest.StashKey()
"""In the stash of the configuration: the lines of ``--derail-adopt=report``."""

STARTERS = frozenset({"torch", "accelerate", "deepspeed"})
"""Packages with functions that start processes."""


def pytest_configure(config: pytest.Config) -> None:
    """Check that the main plugin is loaded: it declares the options."""
    if not hasattr(config.option, "derail_adopt"):
        raise pytest.UsageError("-p pytest_derail.adopt: derail's plugin is not loaded; add -p pytest_derail.plugin")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Begin to adopt, in the process that runs pytest; this hook is not called in ranks."""
    config = session.config
    if adopts(config) in ("", "yes"):
        from pytest_derail.adopt.spawn import replace_when_imported

        config.stash[ACTIVE] = True
        replace_when_imported(lambda: config.stash.get(TEST, None))
    elif adopts(config) == "report":
        config.stash[FORECAST] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of classes that are adopted, and those that may start processes: their modules are preloaded."""
    if ACTIVE not in config.stash:
        return
    modules: dict[object, bool] = {}
    for item in items:
        if isinstance(item, pytest.Function):
            shape = shape_of(item.cls)
            if shape is not None and not why_not_adopted(item.cls, shape):
                item.stash[ADOPTED] = item.cls.__qualname__
            elif modules.setdefault(item.module, _may_start_processes(item.module)):
                item.stash[ADOPTED] = ""


def pytest_collection_finish(session: pytest.Session) -> None:
    """With ``--derail-adopt=report``, note what would be adopted."""
    if FORECAST in session.config.stash:
        session.config.stash[FORECAST] = list(summary.forecast(session.items, start_method(session.config)))


def _may_start_processes(module: object) -> bool:
    values = list(vars(module).values())
    names = [getattr(each, "__module__", None) or getattr(each, "__name__", None) for each in values]
    return not STARTERS.isdisjoint(str(name).partition(".")[0] for name in names)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test; ranks take the place of the processes that it starts, if it starts any."""
    config = item.config
    if ACTIVE not in config.stash or not isinstance(item, pytest.Function):
        return (yield)
    if ranks_marker(item) is not None or "derail" in item.fixturenames:
        return (yield)
    from pytest_derail.adopt.controller import AdoptedTest

    test = item.stash[RANKS] = config.stash[TEST] = config.stash[CURRENT] = AdoptedTest(item)
    test.install()
    shape = shape_of(item.cls)
    if shape is not None and (why := why_not_adopted(item.cls, shape)):
        test.reasons.append(f"{item.cls.__qualname__}: {why}")
    try:
        with ExitStack() as stack:
            for context in _places(item, test):
                stack.enter_context(context)
            return (yield)
    finally:
        del config.stash[TEST], config.stash[CURRENT]


def _places(item: pytest.Function, test: AdoptedTest) -> Iterator[AbstractContextManager[None]]:
    """Yield the changes to classes by which ranks take the place of their processes."""
    from pytest_derail.adopt import deepspeed, torch_classes

    shape = shape_of(item.cls) if item.stash.get(ADOPTED, "") else None
    if shape == "MultiProcessTestCase":
        yield torch_classes.process_class(item.cls, test)
    elif shape == "MultiProcContinuousTest":
        yield torch_classes.continuous_class(item.cls, test)
    for cls in deepspeed.classes_of(item):
        yield deepspeed.distributed_class(cls, test)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget an earlier run of the test; plugins that rerun tests set it up again."""
    test = item.config.stash.get(TEST, None)
    if test is not None:
        test.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on the last report of a test whether ranks have taken the place of its processes."""
    report = yield
    test = item.config.stash.get(TEST, None)
    if test is not None and call.when == "teardown":
        summary.note(report, item.stash.get(ADOPTED, ""), test.methods, test.reasons)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write what was adopted, or would be, and what could not be."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    for line in (*terminalreporter.config.stash.get(FORECAST, ()), *summary.lines(reports)):
        terminalreporter.write_line(line)
