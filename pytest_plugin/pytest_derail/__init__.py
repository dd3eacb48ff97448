"""The pytest plugin of derail: the ``derail`` fixture, and assertions about what became of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_derail.assertions import (
        assert_collateral,
        assert_error_file,
        assert_exit_code,
        assert_failed,
        assert_injected,
        assert_left,
        assert_log_tail,
        assert_not_injected,
        assert_nothing_left,
        assert_only_failed,
        assert_restarts,
        assert_root_cause,
        assert_signals_seen,
        assert_stopped_within,
        assert_succeeded,
        assert_timed_out,
    )
    from pytest_derail.jobs.fixture import Derail
    from pytest_derail.jobs.job import Job
    from pytest_derail.ranks.controller import RanksFailed

__all__ = [
    "Derail",
    "Job",
    "RanksFailed",
    "assert_collateral",
    "assert_error_file",
    "assert_exit_code",
    "assert_failed",
    "assert_injected",
    "assert_left",
    "assert_log_tail",
    "assert_not_injected",
    "assert_nothing_left",
    "assert_only_failed",
    "assert_restarts",
    "assert_root_cause",
    "assert_signals_seen",
    "assert_stopped_within",
    "assert_succeeded",
    "assert_timed_out",
]


if not TYPE_CHECKING:  # a type checker must not take a misspelt name for a lazy one

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for: pytest imports this package in every suite."""
        if name not in __all__:
            raise AttributeError(f"module 'pytest_derail' has no attribute {name!r}")
        from importlib import import_module

        home = {"Derail": "jobs.fixture", "Job": "jobs.job", "RanksFailed": "ranks.controller"}.get(name, "assertions")
        value: object = getattr(import_module(f"pytest_derail.{home}"), name)
        globals()[name] = value
        return value
