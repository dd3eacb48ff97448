"""Ranks that have no use for torch: files, sockets, signals, the environment."""

import fcntl
import json
import os
import signal
import socket

import pytest


@pytest.fixture(scope="module")
def table():
    """Read once, handed to the ranks."""
    return json.loads('{"a": [1, 2, 3], "b": [4, 5, 6]}')


@pytest.mark.ranks(3)
def test_ranks_have_what_torchrun_would_set(rank, world_size):
    found = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    assert found == {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
    }


@pytest.mark.ranks(3)
@pytest.mark.parametrize("key", ["a", "b"])
def test_each_rank_takes_its_part_of_a_table(rank, world_size, table, tmp_path, key):
    mine = table[key][rank::world_size]
    (tmp_path / f"{rank}.json").write_text(json.dumps(mine))
    assert mine == [table[key][rank]]


@pytest.mark.ranks(4)
def test_one_rank_is_elected(rank, world_size, tmp_path):
    try:
        (tmp_path / "leader").open("x").close()
        elected = True
    except FileExistsError:
        elected = False
    with (tmp_path / "votes").open("a+") as votes:
        fcntl.flock(votes, fcntl.LOCK_EX)
        votes.write(f"{rank} {elected}\n")
        votes.seek(0)
        told = votes.read().split()
    if len(told) == 2 * world_size:  # whoever comes last sees all
        assert sorted(told[1::2]) == ["False"] * (world_size - 1) + ["True"]


@pytest.mark.ranks(3)
def test_rank_0_serves_the_others(rank, world_size, tmp_path):
    if rank == 0:
        with socket.create_server(("127.0.0.1", 0)) as server:
            (tmp_path / "port.new").write_text(str(server.getsockname()[1]))
            (tmp_path / "port.new").rename(tmp_path / "port")
            heard = set()
            for _ in range(world_size - 1):
                with server.accept()[0] as peer:
                    heard.add(peer.recv(10))
        assert heard == {b"1", b"2"}
        return
    while not (tmp_path / "port").exists():
        os.sched_yield()
    with socket.create_connection(("127.0.0.1", int((tmp_path / "port").read_text()))) as peer:
        peer.sendall(str(rank).encode())


@pytest.mark.ranks(2)
def test_a_rank_that_is_preempted_saves_first(rank):
    saved = []
    before = signal.signal(signal.SIGUSR1, lambda *_: saved.append(rank))
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert saved == [rank]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.ranks(2)
def test_the_environment_of_a_rank_is_its_own(rank, monkeypatch):
    monkeypatch.setenv("SHARD", f"of {rank}")
    assert os.environ["SHARD"] == f"of {rank}"
