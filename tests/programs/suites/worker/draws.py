"""Notes of what Hypothesis drew."""

import os
import unittest

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st


@pytest.fixture(scope="session")
def out(pytestconfig):
    return str(pytestconfig.rootpath)


def note(out, name, *values):
    with open(f"{out}/{name}-{os.environ['RANK']}", "a") as file:
        file.write(f"{values!r}\n")
