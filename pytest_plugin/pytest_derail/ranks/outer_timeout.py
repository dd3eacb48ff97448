"""Timer of pytest-timeout while a test runs on ranks.

pytest-timeout interrupts the controller, by an exception or by ending the process. Neither leaves time to ask the ranks
for their stacks. So the controller enforces that limit itself while ranks run, counted from the moment when all of them
have begun. The timer stays armed with a much longer limit, in case the controller itself hangs.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_SECONDS = 1.0  # minimum seconds left for the tear-down


class OuterTimeout:
    """Timer of one test.

    Attributes:
        left: seconds left for the test; infinite without such a timer.
    """

    def __init__(self) -> None:
        self.left = float("inf")
        self._settings: Any = None
        self._set_at = 0.0
        self._is_ours = False

    def note(self, settings: Any) -> None:
        """Record the settings when pytest-timeout sets its timer."""
        if not self._is_ours and hasattr(settings, "_replace"):
            self._settings, self._set_at = settings, SYSTEM_CLOCK.now()

    @property
    def limit(self) -> str:
        """Description of the limit for reports, in the words of pytest-timeout; empty without a timer."""
        return "" if self._settings is None else f"Failed: Timeout (>{self._settings.timeout}s) from pytest-timeout"

    def suspend(self, item: pytest.Item, spare: float) -> None:
        """Take over the limit before ranks start: from now on the controller watches the time.

        Args:
            item: the test.
            spare: seconds beyond the limit after which the controller itself must have hung.
        """
        if self._settings is not None:
            self.left = max(0.0, self._settings.timeout - (SYSTEM_CLOCK.now() - self._set_at))
            self._set(item, self.left + spare)

    def resume(self, item: pytest.Item, used: float) -> None:
        """Give the limit back after the job, less the seconds that the test has used.

        A test that has used up its limit gets it once more: an alarm while its report is made would end the session.
        """
        if self._settings is not None:
            rest = self.left - used
            self._set(item, max(LEAST_SECONDS, rest if rest > 0 else self._settings.timeout))

    def _set(self, item: pytest.Item, seconds: float) -> None:
        hook = item.config.hook
        hook.pytest_timeout_cancel_timer(item=item)
        self._is_ours = True
        try:
            hook.pytest_timeout_set_timer(item=item, settings=self._settings._replace(timeout=seconds))
        finally:
            self._is_ours = False


def is_of_timeout(error: BaseException | None) -> bool:
    """Return whether pytest-timeout raised this exception."""
    return isinstance(error, pytest.fail.Exception) and str(error).startswith("Timeout (>")


def report_before_exit(item: pytest.Item, report: Callable[[Any], None]) -> None:
    """Call ``report`` with the terminal before ``timeout_method = thread`` ends the process without any report.

    Args:
        item: the test; its timer has just been set.
        report: prints the state of the ranks.
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
