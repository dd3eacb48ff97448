"""A fixture of a module that changes an imported module."""

import os

import pytest
from marks import mark

mark("module")
import helper


@pytest.fixture(scope="module")
def change():
    path = os.path.join(os.path.dirname(__file__), "helper.py")
    with open(path, "w") as file:
        file.write("value = 'another'\n")


@pytest.mark.ranks(1)
def test_before():
    assert helper.value == "one"


@pytest.mark.ranks(1)
def test_then(change):
    assert helper.value == "another"
