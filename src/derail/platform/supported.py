"""Where derail runs at all: the one place that turns a platform away."""

from __future__ import annotations

import sys


def refuse_unsupported() -> None:
    """Raise where processes, signals and groups are not POSIX ones.

    Raises:
        ImportError: on Windows; it says what to do instead.
    """
    if sys.platform == "win32":
        raise ImportError(
            "derail needs POSIX processes, signals and process groups, which Windows does not have; "
            "run it on Linux or macOS, for instance inside WSL 2"
        )


def why_not_to_fork() -> str:
    """Why a process that has loaded the system's libraries must not be forked here, in words; empty if it may be."""
    if sys.platform == "darwin":
        return "on macOS the system's libraries do not survive a fork"
    return ""
