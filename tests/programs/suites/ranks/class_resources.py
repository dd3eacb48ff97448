"""A fixture of a class that rank 1 cannot tear down."""

import os

import pytest


@pytest.fixture(scope="class")
def class_resource():
    yield
    assert os.environ["RANK"] != "1", "class's not released"


mark = pytest.mark.ranks(2, reuse="session", in_ranks=["class_resource", "module_resource"])


class TestIt:
    @mark
    def test_in_class(self, class_resource):
        pass


@mark
def test_next():
    pass
