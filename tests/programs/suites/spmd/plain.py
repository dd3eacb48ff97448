"""Tests of all shapes, none of which knows of derail."""

import os
import unittest

import pytest

RANK = int(os.environ["RANK"])
ORDER = []


@pytest.mark.parametrize("number", [1, 2])
def test_function(number, group, of_module):
    assert group == (RANK, 3)
    assert of_module == RANK == int(os.environ["RANK"])
    ORDER.append(number)


def test_state_of_the_module_stays():
    assert ORDER == [1, 2]


def test_each_rank_has_its_own_directory(tmp_path):
    assert list(tmp_path.iterdir()) == []
    (tmp_path / str(RANK)).touch()


class TestInAClass:
    def test_method(self, group):
        assert group[0] == RANK


class TestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rank = int(os.environ["RANK"])

    def test_case(self):
        self.assertEqual(self.rank, RANK)


@pytest.mark.skipif(RANK == 1, reason="not on this rank")
def test_skipped_on_one_rank():
    pass
