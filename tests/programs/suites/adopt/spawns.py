"""Functions that tests run with torch.multiprocessing."""

import os
import signal
import sys
import tempfile
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

NAMES = ("RANK", "WORLD_SIZE", "MASTER_PORT")


def reduces(rank, size, path):
    assert not any(name in os.environ for name in NAMES)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=size)
    tensor = torch.tensor(float(rank))
    dist.all_reduce(tensor)
    assert tensor == size * (size - 1) / 2
    dist.destroy_process_group()


def writes(rank, folder):
    open(os.path.join(folder, str(rank)), "w").close()


def raises(rank):
    if rank == 1:
        raise ValueError("legitimate exception from process 1")
    print("from rank", rank)


def exits(rank, code):
    if rank == 1:
        sys.exit(code)


def dies(rank):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def hangs(rank):
    if rank == 1:
        signal.pause()


def test_reduces(tmp_path):
    mp.spawn(reduces, args=(2, tmp_path / "store"), nprocs=2)


def test_from_a_fixture(folder):
    assert sorted(os.listdir(folder)) == ["0", "1", "2"]


@pytest.fixture
def folder(tmp_path):
    mp.spawn(writes, args=(tmp_path,), nprocs=3)
    return tmp_path


def test_several_times(tmp_path):
    for number in range(3):
        mp.start_processes(writes, args=(tmp_path,), nprocs=number + 1)
    assert len(os.listdir(tmp_path)) == 3


def test_exit_zero():
    mp.spawn(exits, args=(0,), nprocs=2)


def test_expected_exception():
    with pytest.raises(
        mp.ProcessRaisedException, match=r"\nValueError: legitimate exception from process 1$"
    ) as raised:
        mp.spawn(raises, nprocs=2)
    assert raised.value.error_index == 1
    assert "in raises\n" in str(raised.value)


def test_expected_exit():
    with pytest.raises(mp.ProcessExitedException, match="process 1 terminated with exit code 12") as raised:
        mp.spawn(exits, args=(12,), nprocs=2)
    assert (raised.value.error_index, raised.value.exit_code) == (1, 12)


def test_expected_signal():
    with pytest.raises(mp.ProcessExitedException, match="process 1 terminated with signal SIGKILL") as raised:
        mp.spawn(dies, nprocs=2)
    assert (raised.value.exit_code, raised.value.signal_name) == (-9, "SIGKILL")


def test_fails():
    mp.spawn(raises, nprocs=2)


def test_dies():
    mp.spawn(dies, nprocs=2)


def test_returns_a_context():
    context = mp.spawn(raises, nprocs=1, join=False)
    assert context.join()


def launch_for_debugging(function, args=(), num_processes=2):
    """Launches after the manner of accelerate: closures work, and ranks get variables by the environment."""
    with tempfile.NamedTemporaryFile() as file:
        with mock.patch.dict(os.environ, WORLD_SIZE=str(num_processes), RENDEZVOUS=file.name):
            mp.start_processes(function, args=args, nprocs=num_processes, start_method="fork")


def test_closure(tmp_path):
    def train(rank, words):
        assert os.environ["WORLD_SIZE"] == "2"
        assert os.path.exists(os.environ["RENDEZVOUS"])
        (tmp_path / str(rank)).write_text(words)

    launch_for_debugging(train, ("done",))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["done", "done"]


def test_closure_that_fails():
    def train(rank):
        raise RuntimeError(f"of rank {rank}")

    launch_for_debugging(train)


def test_hangs():
    mp.spawn(hangs, nprocs=2)
