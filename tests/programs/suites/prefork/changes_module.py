"""A test that changes a module which was preloaded."""

import pathlib

import pytest


@pytest.mark.ranks(1)
def test_before():
    import own_module

    assert own_module.value == 1


def test_changes():
    path = pathlib.Path(__file__).parent / "own_module.py"
    path.write_text("value = 'another'")


@pytest.mark.ranks(1)
def test_after():
    import own_module

    assert own_module.value == "another"
