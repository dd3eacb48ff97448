"""What other plugins in the controller want their ranks to know: coverage to measure, seeds to use, where to print."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from derail.model.std import Std

if TYPE_CHECKING:
    import pytest


def environment(config: pytest.Config) -> dict[str, str]:
    """Variables by which coverage measures ranks as well, if pytest-cov is active: its files are combined later."""
    coverage: Any = getattr(getattr(config.pluginmanager.get_plugin("_cov"), "cov_controller", None), "cov", None)
    serialize = getattr(getattr(coverage, "config", None), "serialize", None)  # since coverage 7.10
    return {} if serialize is None else {"COVERAGE_PROCESS_CONFIG": serialize()}


def console(config: pytest.Config) -> Std:
    """Which streams of ranks are shown as they come: with ``-s`` both, each line behind its rank's number."""
    return Std.ALL if config.getoption("capture", "fd") == "no" else Std.NONE


def arguments(config: pytest.Config) -> tuple[str, ...]:
    """The command line of this session."""
    return tuple(map(os.fspath, config.invocation_params.args))


def options(config: pytest.Config) -> tuple[str, ...]:
    """What the command line of a rank has besides: its own session does not report on coverage."""
    return ("--no-cov",) if config.pluginmanager.hasplugin("_cov") else ()


def worker_input(config: pytest.Config) -> dict[str, Any]:
    """What plugins find in ``config.workerinput`` of a rank: what xdist told the controller, if it is one of its
    workers; else what they would have told a worker: pytest-randomly its seed, pytest-rerunfailures where to count."""
    found = {"workerid": "master", "workercount": 1, "testrunuid": "", **getattr(config, "workerinput", {})}
    failures = getattr(config, "failures_db", None)
    told = {
        "randomly_seed": getattr(config.option, "randomly_seed", None),
        "sock_port": getattr(failures, "sock_port", None),
        "statusdb_token": getattr(failures, "token", None),
    }
    return {**{name: value for name, value in told.items() if value is not None}, **found}


def start_coverage() -> None:
    """In a rank: measure it, if that is wanted and has not begun when its interpreter started."""
    import os

    if os.environ.get("COVERAGE_PROCESS_CONFIG"):
        import coverage

        coverage.process_startup()
