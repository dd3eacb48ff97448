"""Tests after the shape of torch's own, over its four classes for tests in several processes."""

import os
import signal
import sys
import time
import unittest

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_distributed import (
    TEST_SKIPS,
    DistributedTestBase,
    MultiProcContinuousTest,
    MultiProcessTestCase,
    MultiThreadedTestCase,
    requires_gloo,
    skip_if_lt_x_gpu,
    skip_if_odd_worldsize,
    skip_if_small_worldsize,
)
from torch.testing._internal.common_utils import instantiate_parametrized_tests, parametrize
from torch.testing._internal.distributed._tensor.common_dtensor import DTensorTestBase, with_comms

LOG = os.environ.get("SUITE_LOG", os.devnull)


def log(words):
    with open(LOG, "a") as file:
        file.write(f"{words}\n")


class Gloo(MultiProcessTestCase):
    """What the classes of this file have in common."""

    @property
    def world_size(self):
        return 2

    def setUp(self):
        super().setUp()
        log(f"setUp {self.rank}")
        os.environ["SUITE_SEEN"] = self.id()
        self._spawn_processes()

    def tearDown(self):
        super().tearDown()
        log(f"tearDown {self.rank}")
        os.environ.pop("SUITE_SEEN", None)

    def join_group(self):
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)


class TestCollectives(Gloo):
    def test_all_reduce(self):
        self.join_group()
        tensor = torch.tensor(float(self.rank + 1))
        dist.all_reduce(tensor)
        self.assertEqual(tensor.item(), 3.0)

    def test_broadcast(self):
        self.join_group()
        tensor = torch.full((3,), float(self.rank))
        dist.broadcast(tensor, src=1)
        self.assertEqual(tensor, torch.ones(3))

    def test_all_gather(self):
        self.join_group()
        parts = [torch.zeros(2) for _ in range(self.world_size)]
        dist.all_gather(parts, torch.full((2,), float(self.rank)))
        self.assertEqual([part[0].item() for part in parts], [0.0, 1.0])

    def test_send_and_receive(self):
        self.join_group()
        tensor = torch.zeros(1)
        if self.rank == 0:
            dist.send(torch.ones(1), dst=1)
        else:
            dist.recv(tensor, src=0)
            self.assertEqual(tensor.item(), 1.0)

    @requires_gloo()
    def test_barrier(self):
        self.join_group()
        dist.barrier()

    def test_new_group(self):
        self.join_group()
        group = dist.new_group([0, 1])
        tensor = torch.ones(1)
        dist.all_reduce(tensor, group=group)
        self.assertEqual(tensor.item(), 2.0)

    def test_wrong_sum_fails_in_one_rank(self):
        self.join_group()
        tensor = torch.ones(1)
        dist.all_reduce(tensor)
        self.assertEqual(tensor.item(), 2.0 if self.rank == 0 else 3.0)

    def test_error_in_all_ranks(self):
        raise ValueError("in every rank")

    def test_error_in_the_first_rank(self):
        if self.rank == 0:
            raise ValueError("in one rank")

    def test_is_a_process_of_its_own(self):
        self.assertNotIn("RANK", os.environ)
        self.assertNotIn("MASTER_PORT", os.environ)
        self.assertEqual(os.environ["SUITE_SEEN"], self.id())

    def test_has_no_set_up_of_its_own(self):
        self.assertFalse(hasattr(self, "special_return_code_checks"))
        self.assertTrue(os.path.exists(self.file_name))


class TestEnds(Gloo):
    def setUp(self):
        super().setUp()
        test = getattr(self, self._testMethodName).__wrapped__
        code = {"test_expected_signal": -signal.SIGABRT}.get(self._testMethodName, 5)
        if "expected" in self._testMethodName:
            self.special_return_code_checks = {test: code}
        if "any_code" in self._testMethodName:
            self.skip_return_code_checks = [test]

    def test_expected_signal(self):
        os.kill(os.getpid(), signal.SIGABRT)

    def test_expected_code(self):
        sys.exit(5)

    def test_expected_code_is_missing(self):
        pass

    def test_expected_code_of_the_first_rank(self):
        if self.rank == 0:
            os._exit(5)

    def test_any_code(self):
        os._exit(3 + self.rank)

    def test_any_code_while_another_rank_goes_on(self):
        path = self.file_name + ".gone"
        if self.rank == 0:
            with open(path, "w"):
                os._exit(3)
        while not os.path.exists(path):
            time.sleep(0.01)
        os.unlink(path)
        time.sleep(0.5)
        raise ValueError("it was not stopped")

    def test_any_code_but_an_error(self):
        if self.rank == 1:
            raise ValueError("an exception counts")
        os._exit(3)

    def test_exit_zero(self):
        sys.exit(0)

    def test_exit_three(self):
        sys.exit(3)

    def test_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)


class TestSkips(Gloo):
    def test_by_exit_code(self):
        sys.exit(TEST_SKIPS["multi-gpu-4"].exit_code)

    def test_by_exception(self):
        raise unittest.SkipTest("not here")

    def test_by_method(self):
        self.skipTest("not here either")

    @unittest.skip("never")
    def test_by_decorator(self):
        raise AssertionError

    @skip_if_lt_x_gpu(8)
    def test_without_enough_gpus(self):
        raise AssertionError

    @skip_if_small_worldsize
    def test_small_world(self):
        raise AssertionError

    @skip_if_odd_worldsize
    def test_even_world(self):
        self.assertEqual(os.environ["WORLD_SIZE"], "2")

    def setUp(self):
        os.environ["BACKEND"], os.environ["WORLD_SIZE"] = "gloo", "2"
        super().setUp()

    def tearDown(self):
        super().tearDown()
        del os.environ["BACKEND"], os.environ["WORLD_SIZE"]

    @unittest.expectedFailure
    def test_expected_failure(self):
        self.assertEqual(self.rank, -5)

    @unittest.expectedFailure
    def test_unexpected_success(self):
        pass


class TestSkipsInSetUp(MultiProcessTestCase):
    def setUp(self):
        super().setUp()
        self.skipTest("the whole class")
        self._spawn_processes()

    def test_anything(self):
        raise AssertionError


class TestSizes(MultiProcessTestCase):
    world_size = -2

    def setUp(self):
        super().setUp()
        self.world_size = 3 if self._testMethodName == "test_three" else 1
        self._spawn_processes()

    def test_three(self):
        self.assertLess(self.rank, 3)

    def test_one(self):
        self.assertEqual(self.rank, 0)


class TestKeepsItsGroup(Gloo):
    world_size = 2

    @property
    def destroy_pg_upon_exit(self):
        return False

    def test_group_stays(self):
        self.join_group()
        self.assertTrue(dist.is_initialized())
        dist.barrier()  # a rank that exits removes the file that the other one may still need


@instantiate_parametrized_tests
class TestParameters(Gloo):
    @parametrize("size", [1, 3])
    @parametrize("kind", ["sum", "max"])
    def test_reduce(self, size, kind):
        self.join_group()
        tensor = torch.full((size,), float(self.rank + 1))
        dist.all_reduce(tensor, op=getattr(dist.ReduceOp, kind.upper()))
        self.assertEqual(tensor, torch.full((size,), {"sum": 3.0, "max": 2.0}[kind]))


class TestBase(DistributedTestBase):
    @property
    def world_size(self):
        return 2

    def join_group(self, device):
        store = dist.FileStore(self.file_name, self.world_size)
        dist.init_process_group(self.backend(device), world_size=self.world_size, rank=self.rank, store=store)

    def test_sum_on_device(self, device):
        self.join_group(device)
        tensor = torch.ones(1, device=device)
        dist.all_reduce(tensor)
        self.assertEqual(tensor.item(), 2.0)

    def test_world_size_is_in_the_environment(self, device):
        self.assertEqual(os.environ["WORLD_SIZE"], "2")

    def test_fails_on_device(self, device):
        self.assertEqual(device, "no such device")


instantiate_device_type_tests(TestBase, globals(), only_for=["cpu"])


class TestTensors(DTensorTestBase):
    @property
    def world_size(self):
        return 2

    @with_comms
    def test_shard(self):
        mesh = init_device_mesh("cpu", (2,))
        tensor = distribute_tensor(torch.arange(4.0), mesh, [Shard(0)])
        self.assertEqual(tensor.to_local(), torch.arange(4.0)[self.rank * 2 : self.rank * 2 + 2])

    @with_comms
    def test_replicate(self):
        mesh = init_device_mesh("cpu", (2,))
        tensor = distribute_tensor(torch.arange(4.0), mesh, [Replicate()])
        self.assertEqual(tensor.to_local(), torch.arange(4.0))

    @with_comms
    def test_redistribute(self):
        mesh = init_device_mesh("cpu", (2,))
        tensor = distribute_tensor(torch.arange(4.0), mesh, [Shard(0)]).redistribute(mesh, [Replicate()])
        self.assertEqual(tensor.to_local().sum(), 6.0)

    @with_comms
    def test_wrong_placement_fails(self):
        mesh = init_device_mesh("cpu", (2,))
        self.assertEqual(distribute_tensor(torch.arange(4.0), mesh, [Shard(0)]).to_local().numel(), 4)


class TestContinuous(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "gloo"

    @classmethod
    def device_type(cls):
        return "cpu"

    @classmethod
    def _init_pg(cls, rank, world_size, rdvz_file):
        log(f"init {rank}")
        super()._init_pg(rank, world_size, rdvz_file)

    def test_a_sum(self):
        tensor = torch.ones(1)
        dist.all_reduce(tensor)
        self.assertEqual(tensor.item(), 2.0)

    def test_b_gather(self):
        parts = [torch.zeros(1) for _ in range(self.world_size)]
        dist.all_gather(parts, torch.full((1,), float(self.rank)))
        self.assertEqual([part.item() for part in parts], [0.0, 1.0])

    def test_c_group_stays(self):
        type(self).group = dist.new_group([0, 1])

    def test_d_uses_the_group_of_another_test(self):
        tensor = torch.ones(1)
        dist.all_reduce(tensor, group=type(self).group)
        self.assertEqual(tensor.item(), 2.0)

    def test_e_skips_by_code(self):
        sys.exit(TEST_SKIPS["no_cuda"].exit_code)

    @skip_if_lt_x_gpu(4)
    def test_f_skips_without_gpus(self):
        raise AssertionError

    def test_g_after_skips(self):
        tensor = torch.ones(1)
        dist.all_reduce(tensor)
        self.assertEqual(tensor.item(), 2.0)

    @unittest.skip("never")
    def test_h_skips_by_decorator(self):
        raise AssertionError

    def test_x_fails(self):
        self.assertEqual(self.rank, -1)

    def test_y_after_a_failure(self):
        pass


class TestSkipByException(MultiProcContinuousTest):
    """Its own runner takes such a skip for an error."""

    world_size = 1

    @classmethod
    def backend_str(cls):
        return "gloo"

    @classmethod
    def device_type(cls):
        return "cpu"

    def test_skips(self):
        self.skipTest("by an exception")


class TestOneDevice(MultiProcContinuousTest):
    """Its number of ranks is that of the devices."""

    @classmethod
    def backend_str(cls):
        return "gloo"

    @classmethod
    def device_type(cls):
        return "cpu"

    def test_has_one_rank(self):
        self.assertEqual(self.world_size, torch.cpu.device_count())


class TestThreads(MultiThreadedTestCase):
    world_size = 2

    def setUp(self):
        super().setUp()
        self._spawn_threads()

    def test_sum_of_threads(self):
        tensor = torch.ones(1)
        dist.all_reduce(tensor)
        self.assertEqual(tensor.item(), 2.0)
