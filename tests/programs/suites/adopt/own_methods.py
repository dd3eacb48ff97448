"""Classes of torch's shape that do the work of their ranks themselves."""

import os
import sys
import warnings

from torch.testing._internal.common_distributed import MultiProcContinuousTest, MultiProcessTestCase


class TestOwnRun(MultiProcessTestCase):
    world_size = 1

    def setUp(self):
        super().setUp()
        self._spawn_processes()

    @classmethod
    def _run(cls, rank, test_name, file_name, pipe, **_):
        sys.exit(0 if "DERAIL_JOB" not in os.environ else 3)

    def test_it(self):
        raise AssertionError


class TestOwnLoop(MultiProcContinuousTest):
    world_size = 1

    @classmethod
    def device_type(cls):
        return "cpu"

    @classmethod
    def _worker_loop(cls, rank, world_size, rdvz_file, task_queue, completion_queue):
        while (test := task_queue.get()) is not None:
            completion_queue.put(test)

    def test_it(self):
        raise AssertionError


class TestOnRanks(MultiProcessTestCase):
    world_size = 1

    def setUp(self):
        super().setUp()
        self._spawn_processes()

    def test_it(self):
        warnings.warn("from a rank", stacklevel=1)
        self.assertEqual(self.rank, 0)
