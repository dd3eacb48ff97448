"""Classes of the shape of torch's, without torch: processes start in the set-up of the class (EAGER, before torch 2.13)
or of its first test, and the tear-down has a deadline (torch 2.14)."""

import multiprocessing
import os
import tempfile
import types
import unittest
from collections import namedtuple
from functools import wraps

EAGER = False

TestSkip = namedtuple("TestSkip", "exit_code message")
TEST_SKIPS = {"generic": TestSkip(86, "skipped in a process"), "no_cuda": TestSkip(74, "CUDA is not available.")}


def get_timeout(test_id):
    return 60


class MultiProcessTestCase(unittest.TestCase):
    MAIN_PROCESS_RANK = -1
    TEST_ERROR_EXIT_CODE = 10

    def join_or_run(self, fn):
        raise NotImplementedError

    def _check_return_codes(self, fn, elapsed_time):
        raise NotImplementedError


class MultiProcContinuousTest(unittest.TestCase):
    MAIN_PROCESS_RANK = -1
    world_size = -2
    rank = -2
    poison_pill = False
    _spawned = False

    def __init__(self, name="runTest"):
        super().__init__(name)
        function = getattr(self, name, None)
        if function is not None:
            setattr(self, name, self._worker_run_main_wait(function))

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if EAGER:
            cls._ensure_spawned()

    @classmethod
    def _ensure_spawned(cls):
        if not cls._spawned:
            cls._spawn_processes(cls.world_size)
            cls._spawned = True

    @classmethod
    def _spawn_processes(cls, world_size):
        handle, cls.rdvz_file = tempfile.mkstemp()
        os.close(handle)
        context = multiprocessing.get_context("fork")
        cls.task_queues = [context.Queue() for _ in range(world_size)]
        cls.completion_queues = [context.Queue() for _ in range(world_size)]
        cls.processes = [
            context.Process(target=cls._worker_loop, args=(rank, world_size, cls.rdvz_file, *queues), daemon=True)
            for rank, queues in enumerate(zip(cls.task_queues, cls.completion_queues, strict=True))
        ]
        for process in cls.processes:
            process.start()

    @classmethod
    def _worker_loop(cls, rank, world_size, rdvz_file, tasks, completions):
        cls.rank, cls.world_size = rank, world_size
        cls._init_pg(rank, world_size, rdvz_file)
        while (test_id := tasks.get()) is not None:
            try:
                cls._run_test_given_id(test_id)
                completions.put(test_id)
            except SystemExit as end:
                found = [skip for skip in TEST_SKIPS.values() if skip.exit_code == end.code]
                completions.put(unittest.SkipTest(found[0].message) if found else RuntimeError(str(end)))
            except BaseException as error:
                completions.put(RuntimeError(str(error)))

    @classmethod
    def _run_test_given_id(cls, test_id):
        name = test_id.rpartition(".")[2]
        test = cls(name)
        test.rank = cls.rank
        getattr(test, name)()

    def setUp(self):
        super().setUp()
        self._ensure_spawned()
        self.rank = self.MAIN_PROCESS_RANK
        if type(self).poison_pill:
            raise unittest.SkipTest(f"Previous test failed, skipping {self.id()}")
        for queue in self.task_queues:
            queue.put(self.id())

    def _worker_run_main_wait(self, fn):
        @wraps(fn)
        def wrapper(self):
            if self.rank != self.MAIN_PROCESS_RANK:
                fn()
                return
            results = [queue.get(timeout=60) for queue in self.completion_queues]
            errors = [each for each in results if isinstance(each, BaseException)]
            failures = [each for each in errors if not isinstance(each, unittest.SkipTest)]
            if failures:
                type(self).poison_pill = True
                raise failures[0]
            if errors:
                raise errors[0]
            assert results == [self.id()] * len(results)

        return types.MethodType(wrapper, self)

    @classmethod
    def tearDownClass(cls):
        if cls._spawned:
            for queue in cls.task_queues:
                queue.put(None)
            for process in cls.processes:
                process.join(timeout=60)
            hung = [rank for rank, process in enumerate(cls.processes) if process.is_alive()]
            for rank in hung:
                cls.processes[rank].kill()
            if os.path.exists(cls.rdvz_file):
                os.unlink(cls.rdvz_file)
            if hung:
                raise RuntimeError(f"ranks {hung} did not exit")
        super().tearDownClass()
