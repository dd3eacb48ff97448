"""Tests of unittest of every outcome."""

import os
import sys
import unittest

import pytest

pytestmark = pytest.mark.ranks(2)


def first():
    return os.environ["RANK"] == "0"


class TestIt(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = os.environ["WORLD_SIZE"]

    def setUp(self):
        self.addCleanup(print, "cleaned up")
        self.is_set_up = True

    def tearDown(self):
        print("torn down")

    def test_passes(self):
        self.assertEqual((self.made, self.is_set_up), ("2", True))

    def test_fails(self):
        self.assertTrue(first(), "not the first")

    def test_raises(self):
        if not first():
            raise KeyError("broken")

    def test_skips(self):
        self.skipTest("not now")

    def test_raises_skip(self):
        raise unittest.SkipTest("not here")

    @unittest.skip("never")
    def test_is_skipped(self):
        os._exit(1)

    @unittest.expectedFailure
    def test_fails_as_expected(self):
        self.fail("known")

    @unittest.expectedFailure
    def test_passes_unexpectedly(self):
        pass


class TestSetUp(unittest.TestCase):
    def setUp(self):
        assert first(), "set-up"

    def test_it(self):
        pass


class TestTearDown(unittest.TestCase):
    def tearDown(self):
        assert first(), "tear-down"

    def test_it(self):
        pass


class TestCleanUp(unittest.TestCase):
    def test_it(self):
        self.addCleanup(self.assertTrue, first(), "clean-up")


class TestSetUpClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert first(), "set-up of the class"

    def test_it(self):
        pass


class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.made = os.environ["WORLD_SIZE"]

    async def test_passes(self):
        self.assertEqual(self.made, "2")

    async def test_fails(self):
        self.assertTrue(first(), "async")
