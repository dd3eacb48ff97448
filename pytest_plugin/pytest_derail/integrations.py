"""Settings of other plugins in the controller that ranks need: coverage, seeds, output."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from _pytest.logging import catching_logs

from derail.model.std import Std
from pytest_derail.options import ranks_of_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def environment(config: pytest.Config) -> dict[str, str]:
    """Return variables that make coverage measure ranks as well, if pytest-cov is active; it combines files later."""
    coverage: Any = getattr(getattr(config.pluginmanager.get_plugin("_cov"), "cov_controller", None), "cov", None)
    serialize = getattr(getattr(coverage, "config", None), "serialize", None)  # since coverage 7.10
    return {} if serialize is None else {"COVERAGE_PROCESS_CONFIG": serialize()}


def console(config: pytest.Config) -> Std:
    """Return which streams of ranks are shown live: with ``-s`` both, each line after its rank's number."""
    return Std.ALL if config.getoption("capture", "fd") == "no" else Std.NONE


def arguments(config: pytest.Config) -> tuple[str, ...]:
    """Return the command line of this session."""
    return tuple(map(os.fspath, config.invocation_params.args))


def options(config: pytest.Config) -> tuple[str, ...]:
    """Return the additional options for the command line of a rank.

    The rank's own session captures nothing, as its streams are files already. It does not report on coverage, and
    appends to the log file of this session, and starts no ranks. Options of plugins that are off do not exist.
    """
    exists = {
        "--capture=no": hasattr(config.option, "capture"),
        "--no-cov": config.pluginmanager.hasplugin("_cov"),
        "--log-file-mode=a": _log_file(config),
        "--derail-ranks=0": bool(ranks_of_suite(config)),
    }
    return tuple(option for option, is_known in exists.items() if is_known)


def append_to_log_file(config: pytest.Config) -> None:
    """Make pytest append to its log file, as ranks do; otherwise it would overwrite their records."""
    logging: Any = config.pluginmanager.get_plugin("logging-plugin")
    stream = getattr(getattr(logging, "log_file_handler", None), "stream", None)
    if stream is not None and _log_file(config):
        flags = fcntl.fcntl(stream, fcntl.F_GETFL)
        fcntl.fcntl(stream, fcntl.F_SETFL, flags | os.O_APPEND)


@contextmanager
def log_to_file(config: pytest.Config) -> Iterator[None]:
    """In a rank: log to the file of ``--log-file``, as pytest does in its loop over tests."""
    logging: Any = config.pluginmanager.get_plugin("logging-plugin")
    handler = getattr(logging, "log_file_handler", None)
    if handler is None or not _log_file(config):
        yield
        return
    with catching_logs(handler, level=logging.log_file_level):
        yield


def _log_file(config: pytest.Config) -> bool:
    if not config.pluginmanager.hasplugin("logging-plugin"):
        return False  # -p no:logging: the option does not exist
    return bool(config.getoption("log_file", None) or config.getini("log_file"))


def worker_input(config: pytest.Config) -> dict[str, Any]:
    """Return ``config.workerinput`` for a rank: xdist's, if the controller is an xdist worker; else the plugins' own.

    The latter is what plugins would have sent to a worker: pytest-randomly its seed, pytest-rerunfailures the address
    of its counter.
    """
    given = {"workerid": "master", "workercount": 1, "testrunuid": "", **getattr(config, "workerinput", {})}
    failures = getattr(config, "failures_db", None)
    added = {
        "randomly_seed": getattr(config.option, "randomly_seed", None),
        "sock_port": getattr(failures, "sock_port", None),
        "statusdb_token": getattr(failures, "token", None),
    }
    return {**{name: value for name, value in added.items() if value is not None}, **given}


def start_coverage() -> None:
    """In a rank: start coverage if it is requested and did not start with the interpreter, as in a fork."""
    import os

    if os.environ.get("COVERAGE_PROCESS_CONFIG"):
        import coverage

        coverage.process_startup()
