"""Faker provider for the output of training jobs.

It has messages of NCCL, gloo, CUDA, checkpoints and data loaders, tracebacks, step lines, progress bars, host names,
and error files. The forms are those of real libraries, because logs are searched for those; names and numbers are
made up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from faker import Faker
from faker.providers import BaseProvider

from derail.errors.protocol import encode
from derail.faults.model.plan import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from derail.faults.model.plan import Plan

__all__ = ["Fake", "TrainingProvider", "faker"]

_COLLECTIVES = (
    "ALLREDUCE",
    "ALLGATHER",
    "_ALLGATHER_BASE",
    "REDUCE_SCATTER",
    "_REDUCE_SCATTER_BASE",
    "BROADCAST",
    "BARRIER",
)
_GPUS = (
    "NVIDIA H100 80GB HBM3",
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA L40S",
    "NVIDIA GeForce RTX 4090",
    "Tesla V100-SXM2-32GB",
)
_CLUSTERS = ("node", "gpu", "worker", "dgx", "compute", "ip-10-0")
_WHERE = (
    ("train.py", "main", "trainer.fit(model, loader)"),
    ("train.py", "train_one_epoch", "loss.backward()"),
    ("trainer/loop.py", "fit", "self._step(batch)"),
    ("trainer/loop.py", "_step", "out = self.model(batch['input_ids'])"),
    ("model/block.py", "forward", "x = x + self.attention(self.norm(x))"),
    ("data/stream.py", "__next__", "return self.collate(next(self._shards))"),
    ("checkpoint.py", "save", "torch.save(state, path)"),
    ("checkpoint.py", "load", "state = torch.load(path, map_location='cpu')"),
)


class Fake(NamedTuple):
    """Exception as it appears in a log: the name of its type, and its message."""

    type: str
    message: str

    def __str__(self) -> str:
        """Return the last line of a traceback."""
        return f"{self.type}: {self.message}"


class TrainingProvider(BaseProvider):
    """Provider for the output of training jobs. Add it to a Faker of your own, or take one from ``faker(plan)``."""

    # ---- places

    def host_name(self) -> str:
        """Return the name of a node of a cluster."""
        cluster = self.random_element(_CLUSTERS)
        number = (
            f"{self.random_int(0, 63)}-{self.random_int(1, 254)}"
            if cluster == "ip-10-0"
            else f"{self._number(0, 511):03d}"
        )
        return f"{cluster}-{number}{self.random_element(('', '', '.cluster.local', f'-gpu{self._number(0, 7)}'))}"

    def gpu_name(self) -> str:
        """Return the name of an accelerator as its driver reports it."""
        return str(self.random_element(_GPUS))

    def peer_address(self) -> str:
        """Return an address and a port inside a cluster, in the form of gloo."""
        return f"[10.{self._number(0, 255)}.{self._number(0, 255)}.{self._number(1, 254)}]:{self._number(1024, 60999)}"

    # ---- errors

    def nccl_timeout(self, rank: int = 0) -> Fake:
        """Return a collective that did not end in time, as the watchdog of torch reports it."""
        work, patience, elements = (
            self._number(1, 99_999),
            self.random_element((600_000, 1_800_000)),
            self._number(1, 1 << 29),
        )
        details = (
            f"SeqNum={work}, OpType={self.random_element(_COLLECTIVES)}, NumelIn={elements}, NumelOut={elements}, "
            f"Timeout(ms)={patience}"
        )
        late = patience + self._number(1, 200)
        return Fake(
            "torch.distributed.DistBackendError",
            f"[Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL({details}) "
            f"ran for {late} milliseconds before timing out.",
        )

    def nccl_error(self) -> Fake:
        """Return a lost connection or device of NCCL."""
        kind = self.random_element(
            (
                (
                    "ncclRemoteError",
                    "A call failed possibly due to a network error or a remote process exiting prematurely.",
                ),
                ("ncclUnhandledCudaError", "Call to CUDA function failed."),
                (
                    "ncclSystemError",
                    "System call (e.g. socket, malloc) or external library call failed or device error.",
                ),
                ("ncclInternalError", "Internal check failed."),
            )
        )
        version = f"2.{self._number(18, 27)}.{self._number(1, 8)}"
        peer = f"{self.host_name()}<{self._number(1024, 60999)}>"
        return Fake(
            "torch.distributed.DistBackendError",
            f"NCCL error in: ProcessGroupNCCL.cpp:{self._number(300, 3900)}, remote process exited or there was a "
            f"network error, NCCL version {version}\n{kind[0]}: {kind[1]}\n"
            f"Last error:\nsocketProgress: Connection closed by remote peer {peer}",
        )

    def nccl_line(self, rank: int = 0) -> str:
        """Return a line of the log that NCCL writes with NCCL_DEBUG=INFO."""
        channels = self.random_element((2, 4, 8, 16, 24))
        channel = f"{self._number(0, channels - 1):02d}/{channels:02d}"
        text = self.random_element(
            (
                f"Channel {channel} : {rank}[{rank}] -> {rank + 1}[{rank + 1}] via P2P/IPC",
                f"Connected all rings, use ring PXN 0 GDR {self._number(0, 1)}",
                f"Using network {self.random_element(('Socket', 'IB', 'AWS Libfabric'))}",
                f"{channels} coll channels, 0 collnet channels, 0 nvls channels, {channels} p2p channels",
            )
        )
        return f"{self.host_name()}:{self._number(2, 99_999)}:{self._number(2, 99_999)} [{rank}] NCCL INFO {text}"

    def gloo_error(self) -> Fake:
        """Return a connection that gloo has lost, or its timeout while waiting for a peer."""
        place = f"[../third_party/gloo/gloo/transport/tcp/{{}}:{self._number(80, 800)}]"
        pair, buffer = place.format("pair.cc"), place.format("unbound_buffer.cc")
        patience = self.random_element((30_000, 1_800_000))
        text = self.random_element(
            (
                f"{pair} Connection closed by peer {self.peer_address()}",
                f"{pair} Read error {self.peer_address()}: Connection reset by peer",
                f"{buffer} Timed out waiting {patience}ms for recv operation to complete",
            )
        )
        return Fake("RuntimeError", str(text))

    def cuda_oom(self, device: int = 0) -> Fake:
        """Return an out-of-memory error of a GPU, with consistent numbers."""
        total = self.random_element((15.77, 23.65, 44.39, 79.11, 139.81))
        free = self._fraction(1, 19)
        used = total - 0.4 - free / 1024
        reserved = used * self._fraction(0.01, 0.1)
        allocated = used - reserved - 0.5
        wanted = self.random_element(("20.00 MiB", "512.00 MiB", "2.00 GiB", "7.83 GiB"))
        return Fake(
            "torch.OutOfMemoryError",
            f"CUDA out of memory. Tried to allocate {wanted}. GPU {device} has a total capacity of {total:.2f} GiB of "
            f"which {free:.2f} MiB is free. Including non-PyTorch memory, this process has {used:.2f} GiB memory in "
            f"use. Of the allocated memory {allocated:.2f} GiB is allocated by PyTorch, and {reserved:.2f} GiB is "
            "reserved by PyTorch but unallocated.",
        )

    def checkpoint_path(self) -> str:
        """Return the path of a checkpoint."""
        run = f"{self.random_element(('gpt', 'vit', 'llama', 'whisper'))}-{self.random_element(('small', '7b', 'xl'))}"
        return f"/checkpoints/{run}/step-{self._number(1, 500) * 100}/model-{self._number(0, 7):05d}-of-00008.pt"

    def checkpoint_error(self) -> Fake:
        """Return an error about a checkpoint: truncated, missing, of another model, or too large for the disk."""
        path, width = self.checkpoint_path(), self.random_element((768, 1024, 4096))
        errors = (
            Fake("RuntimeError", "PytorchStreamReader failed reading zip archive: failed finding central directory"),
            Fake("FileNotFoundError", f"[Errno 2] No such file or directory: '{path}'"),
            Fake("OSError", f"[Errno 28] No space left on device: '{path}'"),
            Fake("_pickle.UnpicklingError", "pickle data was truncated"),
            Fake(
                "RuntimeError",
                "Error(s) in loading state_dict for Model:\n\tsize mismatch for head.weight: copying a param with "
                f"shape torch.Size([{width}, {width}]) from checkpoint, the shape in current model is "
                f"torch.Size([{2 * width}, {width}]).",
            ),
        )
        return errors[self._number(0, len(errors) - 1)]

    def data_loader_error(self) -> Fake:
        """Return an error of a data loader: a worker that died or was too slow, or a bad sample."""
        worker = self._number(2, 99_999)
        errors = (
            Fake("RuntimeError", f"DataLoader worker (pid {worker}) is killed by signal: Killed. "),
            Fake("RuntimeError", f"DataLoader worker (pid(s) {worker}, {worker + 1}) exited unexpectedly"),
            Fake(
                "RuntimeError",
                f"DataLoader worker (pid {worker}) is killed by signal: Bus error. It is possible that dataloader's "
                "workers are out of shared memory. Please try to raise your shared memory limit.",
            ),
            Fake("RuntimeError", f"DataLoader timed out after {self._number(5, 600)} seconds"),
            Fake("IndexError", f"index {worker} is out of bounds for dimension 0 with size {worker}"),
        )
        return errors[self._number(0, len(errors) - 1)]

    def training_error(self, rank: int = 0) -> Fake:
        """Return any of these errors."""
        kinds = (
            lambda: self.nccl_timeout(rank),
            self.nccl_error,
            self.gloo_error,
            lambda: self.cuda_oom(rank),
            self.checkpoint_error,
            self.data_loader_error,
        )
        return kinds[self._number(0, len(kinds) - 1)]()

    # ---- output

    def training_traceback(self, error: Fake | None = None, *, depth: int = 3) -> str:
        """Return a Python traceback of up to eight frames that ends in ``error``, or in any error."""
        chosen = self.random_elements(range(len(_WHERE)), length=min(depth, len(_WHERE)), unique=True)
        frames = [
            f'  File "/workspace/{file}", line {self._number(10, 900)}, in {function}\n    {code}\n'
            for file, function, code in (_WHERE[number] for number in sorted(chosen))
        ]
        return "Traceback (most recent call last):\n" + "".join(frames) + f"{error or self.training_error()}\n"

    def step_line(self, step: int, *, steps: int = 1000, rank: int | None = None) -> str:
        """Return a trainer's line about a step; the loss falls with the steps, and never repeats."""
        loss = 2.0 + 8.0 * math.exp(-3 * step / steps) + self._fraction(-0.05, 0.05)
        prefix = "" if rank is None else f"[rank{rank}]: "
        return (
            f"{prefix}step {step}/{steps} | loss {loss:.4f} | lr {3e-4 * (1 - step / (steps + 1)):.2e} | "
            f"grad norm {self._fraction(0.1, 2):.3f} | {self._fraction(1500, 4000):.0f} tok/s"
        )

    def step_lines(self, first: int, last: int, *, rank: int | None = None) -> list[str]:
        """Return the lines of several steps."""
        return [self.step_line(step, steps=last, rank=rank) for step in range(first, last + 1)]

    def progress_bar(self, *, total: int = 50, until: int | None = None) -> str:
        r"""Return a bar redrawn by ``\r`` up to step ``until`` (by default to its end), without a line end."""
        drawn = []
        for step in range((total if until is None else until) + 1):
            blocks, part = divmod(step * 80 // total, 8)
            bar = ("█" * blocks + " ▏▎▍▌▋▊▉"[part] * (part > 0)).ljust(10)
            drawn.append(f"\rEpoch 1: {100 * step // total:3d}%|{bar}| {step}/{total} [{self._fraction(1, 9):.2f}it/s]")
        return "".join(drawn)

    def error_file(self, error: Fake | None = None) -> bytes:
        """Return an error file in the form of derail and torch, about ``error`` or any error."""
        chosen = error or self.training_error()
        return encode(
            str(chosen),
            self.training_traceback(chosen),
            wall=1_700_000_000 + self._fraction(0, 1e8),
            monotonic=self._fraction(0, 1e6),
        )

    def rank_stderr(self, *, rank: int = 0, error: Fake | None = None) -> str:
        """Return possible stderr of a failing rank: lines of NCCL, an interrupted bar, a traceback."""
        broken_off = self.progress_bar(until=self._number(1, 49))
        lines = [self.nccl_line(rank) for _ in range(self._number(1, 4))]
        return "\n".join([*lines, broken_off, self.training_traceback(error or self.training_error(rank))])

    # ---- draws

    def _number(self, low: int, high: int) -> int:
        return int(self.generator.random.randint(low, high))

    def _fraction(self, low: float, high: float) -> float:
        return float(self.generator.random.uniform(low, high))


def faker(plan: Plan, *, rank: int | None = None, locale: str | Sequence[str] | None = None) -> Faker:
    """Return a Faker with ``TrainingProvider``, seeded from the plan: same plan, same texts, different in each rank.

    Args:
        plan: only its seed counts, so that adding a fault changes no text.
        rank: the rank that writes the texts; None for texts of no rank.
        locale: for Faker.
    """
    fake = Faker(locale)
    fake.seed_instance(decide(plan.seed, "fakes", "all" if rank is None else rank))
    fake.add_provider(TrainingProvider)
    return fake
