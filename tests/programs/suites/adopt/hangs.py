"""A hang in each of torch's two kinds of classes, and what an expected failure covers."""

import os
import signal
import threading
import unittest

import pytest
from torch.testing._internal.common_distributed import MultiProcContinuousTest, MultiProcessTestCase


class TestProcesses(MultiProcessTestCase):
    world_size = 2

    def setUp(self):
        super().setUp()
        self._spawn_processes()

    @pytest.mark.ranks(2, timeout=2)
    def test_hangs(self):
        if self.rank == 1:
            threading.Event().wait()

    @pytest.mark.ranks(3)
    def test_of_another_size(self):
        pass

    @unittest.expectedFailure
    def test_expected_death(self):
        if self.rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    @pytest.mark.xfail
    def test_death_with_marker(self):
        if self.rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    @unittest.expectedFailure
    def test_expected_error(self):
        if self.rank == 1:
            raise ValueError("only here")

    @pytest.mark.xfail
    def test_error_with_marker(self):
        raise ValueError("everywhere")


class TestContinuous(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    @classmethod
    def device_type(cls):
        return "cpu"

    @pytest.mark.ranks(2, timeout=2)
    def test_a_hangs(self):
        if self.rank == 1:
            threading.Event().wait()

    def test_b_is_skipped(self):
        pass
