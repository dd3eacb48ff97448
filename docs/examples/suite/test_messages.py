"""Point to point, and whole Python objects."""

import threading

import pytest
import torch
import torch.distributed as dist


@pytest.mark.ranks(4)
def test_a_token_goes_round_a_ring(rank, world_size, process_group):
    token = torch.zeros(1, dtype=torch.int64)
    if rank == 0:
        dist.send(token + 1, dst=1, group=process_group)
        dist.recv(token, src=world_size - 1, group=process_group)
        assert token.item() == world_size
    else:
        dist.recv(token, src=rank - 1, group=process_group)
        dist.send(token + 1, dst=(rank + 1) % world_size, group=process_group)


@pytest.mark.ranks(2)
def test_messages_with_tags_find_their_receiver(rank, process_group):
    other = 1 - rank
    found = [torch.empty(1) for _ in range(2)]
    works = [dist.isend(torch.tensor([float(tag + 10 * rank)]), other, group=process_group, tag=tag) for tag in (0, 1)]
    works += [dist.irecv(found[tag], other, group=process_group, tag=tag) for tag in (1, 0)]
    for work in works:
        work.wait()
    assert torch.cat(found).tolist() == [10.0 * other, 10.0 * other + 1]


@pytest.mark.ranks(3)
def test_a_message_from_anybody_says_from_whom_it_is(rank, world_size, process_group):
    if rank != 0:
        dist.send(torch.tensor([rank]), dst=0, group=process_group)
        return
    heard = {}
    for _ in range(world_size - 1):
        tensor = torch.empty(1, dtype=torch.int64)
        source = dist.recv(tensor, group=process_group)
        heard[source] = tensor.item()
    assert heard == {1: 1, 2: 2}


@pytest.mark.ranks(2)
def test_neighbours_exchange_in_one_batch(rank, process_group):
    other, found = 1 - rank, torch.empty(3)
    operations = [
        dist.P2POp(dist.isend, torch.full((3,), float(rank)), other, process_group),
        dist.P2POp(dist.irecv, found, other, process_group),
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    assert found.tolist() == [float(other)] * 3


@pytest.mark.ranks(2)
def test_objects_are_gathered_from_all(rank, world_size, process_group):
    found = [None] * world_size
    dist.all_gather_object(found, {"rank": rank, "shape": (rank, rank + 1)}, group=process_group)
    assert found == [{"rank": 0, "shape": (0, 1)}, {"rank": 1, "shape": (1, 2)}]


@pytest.mark.ranks(2)
def test_objects_are_broadcast(rank, process_group):
    configuration = [{"epochs": 3}, "gloo"] if rank == 0 else [None, None]
    dist.broadcast_object_list(configuration, src=0, group=process_group)
    assert configuration == [{"epochs": 3}, "gloo"]


@pytest.mark.ranks(2)
def test_an_object_that_cannot_be_pickled_is_refused_on_every_rank(process_group):
    with pytest.raises(TypeError, match="pickle"):
        dist.all_gather_object([None, None], threading.Lock(), group=process_group)
