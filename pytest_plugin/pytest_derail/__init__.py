"""pytest plugin of derail: the ``derail`` fixture, and assertions about the result of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derail.scenario.model import JobResult
    from pytest_derail.assertions import (
        assert_error_file,
        assert_exit_code,
        assert_exits,
        assert_failed,
        assert_failures,
        assert_injected,
        assert_leftovers,
        assert_log_tail,
        assert_message,
        assert_no_leftovers,
        assert_not_injected,
        assert_only_failed,
        assert_restarts,
        assert_resumed_at,
        assert_root_cause,
        assert_signals_sent,
        assert_stopped,
        assert_succeeded,
        assert_teardown_seconds,
        assert_timed_out,
    )
    from pytest_derail.jobs.fixture import Derail
    from pytest_derail.jobs.job import Job
    from pytest_derail.jobs.pool import Pool
    from pytest_derail.ranks.result import RanksFailed

__all__ = [
    "Derail",
    "Job",
    "JobResult",
    "Pool",
    "RanksFailed",
    "assert_error_file",
    "assert_exit_code",
    "assert_exits",
    "assert_failed",
    "assert_failures",
    "assert_injected",
    "assert_leftovers",
    "assert_log_tail",
    "assert_message",
    "assert_no_leftovers",
    "assert_not_injected",
    "assert_only_failed",
    "assert_restarts",
    "assert_resumed_at",
    "assert_root_cause",
    "assert_signals_sent",
    "assert_stopped",
    "assert_succeeded",
    "assert_teardown_seconds",
    "assert_timed_out",
]

_HOME = {
    "Derail": "pytest_derail.jobs.fixture",
    "Job": "pytest_derail.jobs.job",
    "JobResult": "derail.scenario.model",
    "Pool": "pytest_derail.jobs.pool",
    "RanksFailed": "pytest_derail.ranks.result",
}


if not TYPE_CHECKING:  # otherwise a type checker would accept a misspelt name as a lazy one

    def __getattr__(name: str) -> object:
        """Import a public name at its first use: pytest imports this package in every suite."""
        if name not in __all__:
            raise AttributeError(f"module 'pytest_derail' has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(_HOME.get(name, "pytest_derail.assertions")), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Return the public names, whether they were used or not."""
        return list(__all__)
