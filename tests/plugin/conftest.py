"""What tests of the plugin share: a real pytest in a process of its own."""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from typing import TYPE_CHECKING

import psutil
import pytest

from derail.faults.registry import entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plugin.inner_pytest import RunPytest

DEADLINE = 200.0
LAZY = (
    *("diagnose.examine", "errors.protocol", "faults.engine.driver", "faults.engine.prepare", "launch.orphans"),
    *("launch.restarts", "launch.signals", "launch.start", "logs.specs", "scenario.observe", "supervise.log_readers"),
)
"""Modules that ``start_job`` imports at its first call."""

# The fixture ``pytester`` removes modules that were imported during its test. Those of derail must stay: of a module
# that is imported twice there are two of each class.
entries()
for _name in LAZY:
    import_module(f"derail.{_name}")

MARK = "DERAIL_TEST_OF_NEIGHBOURS"


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunPytest:
    """Runs tests in a pytest of its own, with derail's plugin and those that are named."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # a module is rewritten once, and not in each rank

    def run(
        source: str, /, *options: str, ini: str = "", conftest: str = "", plugins: tuple[str, ...] = ()
    ) -> pytest.RunResult:
        pytester.makeini(f"[pytest]\n{ini}")
        if conftest:
            pytester.makeconftest(conftest)
        pytester.makepyfile(test_it=source)
        loaded = [part for plugin in ("pytest_derail.plugin", *plugins) for part in ("-p", plugin)]
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *loaded, *options, timeout=DEADLINE)

    return run


@pytest.fixture
def base() -> Iterator[str]:
    """A short path for what a session keeps, as a session that is killed keeps it."""
    with tempfile.TemporaryDirectory(prefix="n-") as path:
        yield f"{path}/b"


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Says which processes and temporary files are left of what the test has started."""
    mark = os.urandom(8).hex()
    monkeypatch.setenv(MARK, mark)
    before = set(os.listdir(tempfile.gettempdir()))

    def find() -> list[str]:
        files = [name for name in os.listdir(tempfile.gettempdir()) if name not in before and not name.startswith("n-")]
        return [*files, *(f"{process.pid} {process.cmdline()}" for process in _marked(mark))]

    return find


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue
