"""The timer of pytest-timeout around a test on ranks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import pytest

from pytest_derail.ranks.outer_timeout import LEAST_SECONDS, OuterTimeout


class Settings(NamedTuple):
    """The one setting of pytest-timeout that counts."""

    timeout: float


@pytest.mark.parametrize(
    ("used", "least", "most"), [(0.0, 50.0, 60.0), (59.99, LEAST_SECONDS, LEAST_SECONDS), (60.0, 60.0, 60.0)]
)
def test_what_is_left_for_report_and_tear_down(used: float, least: float, most: float) -> None:
    """The rest of the limit; the whole limit once more if it is used up: an alarm in a report would end the session."""
    armed: list[float] = []
    hook = SimpleNamespace(
        pytest_timeout_cancel_timer=lambda **_: None,
        pytest_timeout_set_timer=lambda settings, **_: armed.append(settings.timeout),
    )
    item: pytest.Item = SimpleNamespace(config=SimpleNamespace(hook=hook))  # type: ignore[assignment] # all that it uses
    outer = OuterTimeout()
    outer.note(Settings(60.0))
    outer.suspend(item, 100.0)
    outer.resume(item, used)

    assert least <= armed[-1] <= most
    assert armed[0] > 100.0
