"""Deaths of ranks, as plain functions of a suite that runs under torchrun: modules and fixtures read RANK."""

import os
from pathlib import Path

import pytest

from plugin.ranks.deaths import ALL, body

RANK = int(os.environ["RANK"])


@pytest.fixture(scope="session")
def meeting():
    return Path(os.environ["MEETING"])


@pytest.mark.parametrize("death", ALL, ids=lambda death: death.id)
def test_death(death, meeting):
    (meeting / death.id).mkdir(exist_ok=True)
    body(death, RANK, meeting / death.id)


def test_another(meeting):
    assert meeting.is_dir()
