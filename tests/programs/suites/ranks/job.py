"""What ranks know of their job."""

import os
import socket

import pytest


@pytest.mark.ranks(3)
def test_job(rank, local_rank, world_size, tmp_path):
    assert (rank, local_rank, world_size) == (int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"]), 3)
    assert os.environ["WORLD_SIZE"] == "3"
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank == 0:
        with socket.create_server(address) as server:
            (tmp_path / "listens").touch()
            seen = set()
            for _ in range(2):
                peer, _ = server.accept()
                with peer:
                    seen.add(peer.recv(100))
        assert seen == {b"rank 1", b"rank 2"}
    else:
        while not (tmp_path / "listens").exists():
            os.sched_yield()
        with socket.create_connection(address) as peer:
            peer.sendall(f"rank {rank}".encode())


pids = []


@pytest.mark.ranks([1, 2])
def test_list(world_size, request):
    assert request.node.name == f"test_list[ranks={world_size}]"
    pids.append(os.getpid())
    assert pids == [os.getpid()]


def test_not_on_ranks():
    assert pids == []
