"""What a test, or a program, does with multiprocessing, loky and torch so that helpers are started: used by name."""

# ruff: noqa: D103 - their names say what they do

from __future__ import annotations

import concurrent.futures
import multiprocessing
import sys

CONTEXTS = ("fork", "spawn", "forkserver")


def square(number: int) -> int:
    return number * number


def executor(context: str) -> None:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(context)) as pool:
        assert list(pool.map(square, range(4))) == [0, 1, 4, 9]


def pool(context: str) -> None:
    with multiprocessing.get_context(context).Pool(2) as workers:
        assert workers.map(square, range(4)) == [0, 1, 4, 9]


def manager(context: str) -> None:
    with multiprocessing.get_context(context).Manager() as server:
        assert dict(server.dict({1: 2})) == {1: 2}


def shared_memory(_: str) -> None:
    from multiprocessing.shared_memory import SharedMemory

    segment = SharedMemory(create=True, size=100)
    segment.close()
    segment.unlink()


def joblib(_: str) -> None:
    import joblib

    assert joblib.Parallel(n_jobs=2)(joblib.delayed(square)(i) for i in range(4)) == [0, 1, 4, 9]


def loader(context: str) -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    if context == "file_system":
        torch.multiprocessing.set_sharing_strategy(context)
    how = "fork" if context == "file_system" else context
    batches = DataLoader(TensorDataset(torch.arange(8)), batch_size=4, num_workers=1, multiprocessing_context=how)
    assert sum(int(batch[0].sum()) for batch in batches) == 28


USES = (
    *(f"{name} {context}" for name in ("executor", "pool", "manager") for context in CONTEXTS),
    "shared_memory ",
    "joblib ",
)


def use(what: str) -> None:
    name, _, context = what.partition(" ")
    globals()[name](context)


if __name__ == "__main__":
    use(sys.argv[1])
