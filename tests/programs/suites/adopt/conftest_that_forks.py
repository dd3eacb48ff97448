"""Has torch's classes fork their processes instead of spawning them: only their start differs."""

import multiprocessing

from torch.testing._internal.common_distributed import MultiProcessTestCase


def fork(self):
    self._start_processes(multiprocessing.get_context("fork").Process)


multiprocessing.set_start_method("fork", force=True)
MultiProcessTestCase._spawn_processes = fork
