"""A conftest with an option, a setting and a fixture."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--own", default="unset")
    parser.addini("own_ini", "of the suite")


def pytest_configure(config):
    config.stash_of_conftest = config.getoption("--own") + config.getini("own_ini")


@pytest.fixture
def from_conftest():
    return 1
