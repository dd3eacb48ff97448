"""A forked child of a rank logs."""

import logging
import os

import pytest


@pytest.mark.ranks(2)
def test_it(rank):
    child = os.fork()
    if child == 0:
        logging.getLogger().warning("by a %s", "child")
        os._exit(0)
    os.waitpid(child, 0)
    assert rank == 0
