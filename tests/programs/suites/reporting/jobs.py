"""Jobs of which the report shows evidence."""

import pytest

from derail import faults, when
from pytest_derail import *

LOOP = ["sh", "-c", "for i in 1 2 3 4 5; do echo step $i; sleep 0.01; done; exec sleep 600"]
KILL = faults.signal("SIGKILL", rank=1, when=when.line("step 3"))


def raises():
    raise ValueError("no such step")


def test_unseen(derail):
    derail.run(LOOP, faults=[KILL])


def test_asserted(derail):
    assert_failed(derail.run(LOOP, faults=[KILL]), 0)


def test_function(derail):
    derail.run(raises, ranks=1)


@pytest.mark.faults(KILL)
def test_marked(derail):
    derail.run(LOOP)


@pytest.mark.faults(KILL)
@pytest.mark.ranks(2)
def test_ranks():
    for i in range(5):
        print("step", i)
    import time

    time.sleep(600)


def test_plain(derail):
    derail.run("true")
    assert 1 == 2
