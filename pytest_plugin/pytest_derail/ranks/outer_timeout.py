"""The timer of pytest-timeout while a test runs on ranks.

Its methods break off the controller: by an exception out of whatever it waits in, or by ending the process. Neither
leaves time to ask the ranks where they are. So the controller keeps to that limit itself while ranks run, counted from
the moment when all of them have begun. The timer stays armed for much longer, in case the controller itself hangs.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_SECONDS = 1.0  # seconds that the tear-down has at least


class OuterTimeout:
    """The timer of one test.

    Attributes:
        left: seconds that the test may still take; infinite if it has no such timer.
    """

    def __init__(self) -> None:
        self.left = float("inf")
        self._settings: Any = None
        self._set_at = 0.0
        self._is_ours = False

    def note(self, settings: Any) -> None:
        """pytest-timeout sets its timer."""
        if not self._is_ours and hasattr(settings, "_replace"):
            self._settings, self._set_at = settings, SYSTEM_CLOCK.now()

    @property
    def limit(self) -> str:
        """What a report says of it, in the words of pytest-timeout; empty if there is none."""
        return "" if self._settings is None else f"Failed: Timeout (>{self._settings.timeout}s) from pytest-timeout"

    def suspend(self, item: pytest.Item, spare: float) -> None:
        """Ranks are about to start: from now on the controller watches the time.

        Args:
            item: the test.
            spare: seconds after which the controller itself must hang.
        """
        if self._settings is not None:
            self.left = max(0.0, self._settings.timeout - (SYSTEM_CLOCK.now() - self._set_at))
            self._set(item, self.left + spare)

    def resume(self, item: pytest.Item, used: float) -> None:
        """The job is over: the timer has what it had before, less the seconds that the test has used."""
        if self._settings is not None:
            self._set(item, max(LEAST_SECONDS, self.left - used))

    def _set(self, item: pytest.Item, seconds: float) -> None:
        hook = item.config.hook
        hook.pytest_timeout_cancel_timer(item=item)
        self._is_ours = True
        try:
            hook.pytest_timeout_set_timer(item=item, settings=self._settings._replace(timeout=seconds))
        finally:
            self._is_ours = False


def is_of_timeout(error: BaseException | None) -> bool:
    """Whether pytest-timeout has broken off the test by this exception."""
    return isinstance(error, pytest.fail.Exception) and str(error).startswith("Timeout (>")


def report_before_exit(item: pytest.Item, report: Callable[[Any], None]) -> None:
    """Have ``report`` called with the terminal before ``timeout_method = thread`` ends the process, which makes no
    reports then.

    Args:
        item: the test, whose timer has just been set.
        report: prints what is known.
    """
    for timer in threading.enumerate():
        if isinstance(timer, threading.Timer) and item in tuple(timer.args):
            exits = timer.function

            def expire(*args: Any, exits: Callable[..., object] = exits) -> None:
                try:
                    capture: Any = item.config.pluginmanager.get_plugin("capturemanager")
                    if capture is not None:
                        capture.suspend_global_capture(in_=True)
                    report(item.config.get_terminal_writer())
                finally:
                    exits(*args)

            timer.function = expire
