"""The error file that belongs to a rank, independent of steps of the wall clock."""

import os
from types import SimpleNamespace

import pytest

from derail.errors.protocol import identify
from derail.supervise.result_builder import LONG_BEFORE, _stale

STARTED = 1_700_000_000.0
"""The wall clock when the job began; it has run for ten seconds."""


@pytest.mark.parametrize(
    ("step", "written", "is_old"),
    [
        (0.0, STARTED + 5, False),
        (0.0, STARTED - LONG_BEFORE + 1, False),
        (0.0, STARTED - LONG_BEFORE - 1, True),
        (7200.0, STARTED + 5, False),  # written before the clock was set forwards
        (7200.0, STARTED + 7205, False),
        (-7200.0, STARTED + 5, False),
        (-7200.0, STARTED - 7195, False),  # written after the clock was set back
        (7200.0, STARTED - 7200, True),
    ],
)
def test_a_step_of_the_wall_clock_makes_no_error_file_older_than_the_job(tmp_path, step, written, is_old):
    """It is old if it is older by the clock of the start and by the clock of now."""
    file = tmp_path / "error.json"
    file.write_text("{}")
    os.utime(file, (written, written))
    found = SimpleNamespace(started_at=100.0, started_wall=STARTED, stale={})
    clock = SimpleNamespace(now=lambda: 110.0, wall=lambda: STARTED + 10 + step)

    spec, fate = SimpleNamespace(rank=0, error_file=file), SimpleNamespace(recorded_at=None)
    assert _stale(found, spec, fate, clock) == (identify(file) if is_old else None)
    assert _stale(found, spec, SimpleNamespace(recorded_at=105.0), clock) is None  # the launcher read it during the run


def test_an_error_file_from_before_the_start_is_old_whatever_its_time(tmp_path):
    """A rank without an error file has none."""
    file = tmp_path / "error.json"
    file.write_text("{}")
    before = identify(file)
    found = SimpleNamespace(started_at=0.0, started_wall=0.0, stale={0: before})
    clock = SimpleNamespace(now=lambda: 1.0, wall=lambda: 1.0)

    for fate in (SimpleNamespace(recorded_at=None), SimpleNamespace(recorded_at=0.5)):
        assert _stale(found, SimpleNamespace(rank=0, error_file=file), fate, clock) == before
        assert _stale(found, SimpleNamespace(rank=1, error_file=None), fate, clock) is None
