"""Ways in which one rank gets out of step, as functions of a rank, and jobs that hang with no rank to blame."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

RANKS = 4
STEPS = 6


def said(word: str) -> None:
    """Let the test know how far this rank is."""
    print(word, flush=True)


def evaluate(until: Callable[[], object]) -> None:
    """Leave the loop of the other ranks."""
    said("planted")
    until()


def for_ever() -> None:
    """Wait for what never happens."""
    threading.Event().wait()


def missing_call(dist: Any, tensor: Any, group: Any) -> None:
    """Go elsewhere instead of calling what the others call."""
    evaluate(threading.Event().wait)


def swapped_order(dist: Any, tensor: Any, group: Any) -> None:
    """Call two collectives in the other order."""
    said("planted")
    dist.broadcast(tensor, 0)
    dist.all_reduce(tensor)


def wrong_shape(dist: Any, tensor: Any, group: Any) -> None:
    """Reduce a tensor of another shape."""
    said("planted")
    dist.all_reduce(tensor.new_ones(3))


def wrong_group(dist: Any, tensor: Any, group: Any) -> None:
    """Call the right function on another group."""
    said("planted")
    dist.all_reduce(tensor, group=group)


def early_return(dist: Any, tensor: Any, group: Any) -> None:
    """Leave the loop early, and go on with what comes after it."""
    said("planted")
    raise StopIteration


def swallowed_exception(dist: Any, tensor: Any, group: Any) -> None:
    """Fail before the collective; the loop continues."""
    said("planted")
    try:
        raise ValueError("a bad batch")
    except ValueError:
        return


def early_exit(dist: Any, tensor: Any, group: Any) -> None:
    """Exit with code 0, without any clean-up."""
    said("planted")
    os._exit(0)


def returned(dist: Any, tensor: Any, group: Any) -> None:
    """Return from the function of the rank; its process waits for the others then."""
    said("planted")
    raise ReturnedError


class ReturnedError(Exception):
    """Ends the function of a rank."""


def stopped(dist: Any, tensor: Any, group: Any) -> None:
    """Stop by SIGSTOP."""
    said("planted")
    os.kill(os.getpid(), signal.SIGSTOP)


def lock(dist: Any, tensor: Any, group: Any) -> None:
    """Wait for a lock that this thread holds."""
    mine = threading.Lock()
    mine.acquire()
    evaluate(mine.acquire)


def gil(dist: Any, tensor: Any, group: Any) -> None:
    """Wait in C for a mutex of its own, without releasing the GIL; no signal interrupts that."""
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    evaluate(lambda: library.pthread_mutex_lock(mutex))


def data_loader(dist: Any, tensor: Any, group: Any) -> None:
    """Wait for a worker of a data loader."""
    from torch.utils.data import DataLoader

    batches = iter(DataLoader(Slow(), num_workers=1))
    evaluate(lambda: next(batches))


class Slow:
    """Data set whose only item never arrives."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> int:
        for_ever()
        return 0


def store_key(dist: Any, tensor: Any, group: Any) -> None:
    """Wait for a key that no rank sets."""
    said("planted")
    dist.distributed_c10d._get_default_store().wait(["the key"], timedelta(hours=1))


CULPRITS = (
    missing_call, swapped_order, wrong_shape, wrong_group, early_return, swallowed_exception, early_exit, returned,
    stopped, lock, gil, data_loader, store_key,
)  # fmt: skip


def train(kind: str, culprit: int) -> None:
    """Run the loop of a rank; the culprit gets out of step in its middle."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(hours=1))
    group = dist.new_group(list(range(RANKS)), group_desc="other", timeout=timedelta(hours=1))
    tensor = torch.ones(8)
    plant = {each.__name__: each for each in CULPRITS}[kind]
    try:
        for step in range(STEPS):
            if dist.get_rank() == culprit and step == STEPS // 2:
                plant(dist, tensor, group)
            else:
                step_of_all(dist, tensor)
    except StopIteration:
        pass
    except ReturnedError:
        return
    except Exception as error:  # gloo refuses tensors of different sizes in some ranks
        print(type(error).__name__, error, file=sys.stderr, flush=True)
        for_ever()
    dist.barrier()
    said("over")
    for_ever()


def step_of_all(dist: Any, tensor: Any) -> None:
    """Do one step of the loop."""
    dist.all_reduce(tensor)
    dist.broadcast(tensor, 0)


def external_event(port: int) -> None:
    """Wait for a server that never answers, in all ranks."""
    dist, tensor = joined()
    step_of_all(dist, tensor)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        said("planted")
        connection.recv(1)


def slow_but_alive(port: int) -> None:
    """Step slowly, one rank slower than the others, for ever."""
    dist, tensor = joined()
    for number in range(100_000):
        threading.Event().wait(0.5 if dist.get_rank() == number % RANKS else 0.1)
        dist.all_reduce(tensor)
        if number == STEPS:
            said("planted")


def symmetric_deadlock(port: int) -> None:
    """Receive from the next rank before sending to it."""
    dist, tensor = joined()
    step_of_all(dist, tensor)
    said("planted")
    dist.recv(tensor, (dist.get_rank() + 1) % RANKS)


def whole_job_paused(port: int) -> None:
    """Step quickly until all ranks are stopped."""
    dist, tensor = joined()
    for number in range(100_000_000):
        step_of_all(dist, tensor)
        if number == STEPS:
            said("planted")


def joined() -> tuple[Any, Any]:
    """Join the job's default group; return ``torch.distributed`` and a tensor."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(hours=1))
    return dist, torch.ones(8)


CONTROLS = (external_event, slow_but_alive, symmetric_deadlock, whole_job_paused)
