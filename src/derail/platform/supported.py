"""Supported platforms: the only place that refuses one."""

from __future__ import annotations

import sys


def refuse_unsupported() -> None:
    """Raise on a platform without POSIX processes, signals and groups.

    Raises:
        ImportError: on Windows, with an alternative.
    """
    if sys.platform == "win32":
        raise ImportError(
            "derail needs POSIX processes, signals and process groups, which Windows does not have; "
            "run it on Linux or macOS, for instance inside WSL 2"
        )


def why_not_to_fork() -> str:
    """Return why a process that has loaded the system's libraries must not be forked here; empty if it may be."""
    if sys.platform == "darwin":
        return "on macOS the system's libraries do not survive a fork"
    return ""
