"""Deaths of ranks in the middle of a test."""

import pytest

from plugin.ranks.deaths import ALL, RANKS, body

# Only those that hang take their whole time; the others of such a test must be through with it by then.
TIMES = {"hang_in_c": 4}
DEATHS = [
    pytest.param(death, id=death.id, marks=pytest.mark.ranks(RANKS, timeout=TIMES.get(death.die, 100))) for death in ALL
]


@pytest.mark.parametrize("death", DEATHS)
def test_death(death, rank, tmp_path):
    body(death, rank, tmp_path)


def test_another():
    pass
