"""Forked children in subtests and in unittest's tests."""

import os
import unittest

import pytest
from children import exit_status


@pytest.mark.ranks(1)
def test_subtests(rank, subtests):
    pid = os.fork()
    with subtests.test("of the child"):
        assert pid, "of the child"
    if pid:
        assert exit_status(pid) == 1


class TestIt(unittest.TestCase):
    @pytest.mark.ranks(1)
    def test_method(self):
        pid = os.fork()
        if pid == 0:
            self.assertEqual(1, 2)
        self.assertEqual(exit_status(pid), 1)
