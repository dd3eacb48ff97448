"""Launching classes of the shape of DeepSpeed's, with gloo in place of an accelerator."""

import inspect
import multiprocessing as mp
import os
import socket

import pytest
import torch.distributed as dist


def unused_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


class DistributedExec:
    world_size = 2
    backend = "gloo"
    init_distributed = True
    set_dist_env = True
    reuse_dist_env = False
    non_daemonic_procs = False
    exec_timeout = int(os.environ.get("SUITE_TIMEOUT", "100"))
    _pool_cache = {}

    def run(self):
        raise NotImplementedError

    def __call__(self, request):
        self._fixture_kwargs = self._get_fixture_kwargs(request, self.run)
        self._launch_with_file_store(request, self.world_size)

    def _get_fixture_kwargs(self, request, func):
        names = [name for name in inspect.getfullargspec(func).args if name != "self"]
        return {name: request.getfixturevalue(name) for name in names}

    def _launch_with_file_store(self, request, world_size):
        folder = request.getfixturevalue("tmpdir")
        for size in [world_size] if isinstance(world_size, int) else world_size:
            self._launch_procs(size, f"file://{folder.join(f'store-{len(folder.listdir())}')}")

    def _launch_procs(self, num_procs, init_method):
        mp.set_start_method("fork", force=True)
        if self.non_daemonic_procs:
            self._launch_non_daemonic_procs(num_procs, init_method)
        else:
            self._launch_daemonic_procs(num_procs, init_method)

    def _launch_daemonic_procs(self, num_procs, init_method):
        pool = self._pool_cache.get(num_procs) if self.reuse_dist_env else None
        port = None
        if pool is None:
            pool, port = mp.Pool(num_procs), unused_port()
        if self.reuse_dist_env:
            self._pool_cache[num_procs] = pool
        work = pool.starmap_async(
            self._dist_run, [(rank, num_procs, port, init_method) for rank in range(num_procs)], chunksize=1
        )
        try:
            reasons = work.get(self.exec_timeout)
        except mp.TimeoutError:
            pool.terminate()
            pytest.exit("a test hangs", returncode=1)
        if not self.reuse_dist_env:
            pool.starmap(self._dist_destroy, [()] * num_procs, chunksize=1)
            pool.close()
            pool.join()
        if any(reasons):
            pytest.skip(reasons[0])

    def _launch_non_daemonic_procs(self, num_procs, init_method):
        port, reasons = unused_port(), mp.Queue()
        processes = [
            mp.Process(target=self._dist_run, args=(rank, num_procs, port, init_method, reasons))
            for rank in range(num_procs)
        ]
        for process in processes:
            process.start()
        for rank, process in enumerate(processes):
            process.join(self.exec_timeout)
            if process.exitcode != 0:
                pytest.fail(f"worker {rank} ended with {process.exitcode}", pytrace=False)
        if not reasons.empty():
            pytest.skip(reasons.get())

    def _dist_run(self, local_rank, num_procs, master_port, init_method, skip_msg=""):
        if not dist.is_initialized():
            if self.set_dist_env:
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(master_port))
                os.environ.update(RANK=str(local_rank), LOCAL_RANK=str(local_rank))
                os.environ.update(WORLD_SIZE=str(num_procs), LOCAL_SIZE=str(num_procs))
            if self.init_distributed:
                dist.init_process_group(self.backend, init_method=init_method, rank=local_rank, world_size=num_procs)
                dist.barrier()
        try:
            self.run(**self._fixture_kwargs)
        except pytest.skip.Exception as skip:
            if self.non_daemonic_procs:
                skip_msg.put(skip.msg)
            else:
                skip_msg = skip.msg
        return skip_msg

    def _dist_destroy(self):
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()


class DistributedFixture(DistributedExec):
    is_dist_fixture = True


class DistributedTest(DistributedExec):
    is_dist_test = True

    def run(self, **values):
        self._current_test(**values)

    def __call__(self, request):
        self._current_test = getattr(self, request.function.__name__)
        self._fixture_kwargs = self._get_fixture_kwargs(request, self._current_test)
        sizes = [mark.args[0] for mark in request.node.iter_markers("world_size")]
        self._launch_with_file_store(request, sizes[0] if sizes else self.world_size)
