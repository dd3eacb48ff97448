"""Classes of unittest that fail when they are torn down."""

import os
import unittest

import pytest

pytestmark = pytest.mark.ranks(2)


def first():
    return os.environ["RANK"] == "0"


class TestTearDownClass(unittest.TestCase):
    @classmethod
    def tearDownClass(cls):
        assert first(), "tear-down of the class"

    def test_it(self):
        pass


class TestCleanUpClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(cls.fail, cls, "clean-up of the class")

    def test_it(self):
        pass
