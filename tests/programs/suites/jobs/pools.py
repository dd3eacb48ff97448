"""Functions on the ranks of a pool."""

import os
import signal
import sys
import threading
from functools import partial

import pytest

from pytest_derail import RanksFailed


class Odd(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, left, right):
        super().__init__(left)


class Pair:
    """A class of the test module."""

    def __init__(self, left, right):
        self.left, self.right = left, right

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __hash__(self):
        return hash((self.left, self.right))


def where(item):
    return item, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.getpid()


def add(left, right):
    return left + right


def pair(left, right):
    return Pair(left.right, right)


def lengths(text):
    return text * 2


def fails(item):
    if item in (1, 2):
        raise ValueError(f"bad {item}")
    return item


def fails_alone(item):
    if item == 1:
        raise ValueError("bad 1")
    threading.Event().wait()


def odd(item):
    raise Odd(item, item)


def skips(item):
    pytest.skip("not here")


def unpicklable(item):
    return lambda: item


def dies(item):
    print("about to die", item)
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def exits(item):
    if item == 0:
        sys.exit(0)


def hangs(item):
    if item == 1:
        threading.Event().wait()


def pid(_):
    return os.getpid()


def dies_at_exit(_):
    import atexit

    atexit.register(os._exit, 5)


def join(rank):
    import torch.distributed as dist

    dist.init_process_group("gloo")
    return dist.get_rank()


def total(value):
    import torch
    import torch.distributed as dist

    tensor = torch.tensor([value])
    dist.all_reduce(tensor)
    return tensor


@pytest.mark.parametrize("method", ["warm", "spawn", "fork"])
def test_items_are_in_order_on_their_ranks(derail, method):
    with derail.pool(2, start_method=method) as pool:
        called = pool.map(where, range(5))
        assert [each[:3] for each in called] == [(0, 0, 2), (1, 1, 2), (2, 0, 2), (3, 1, 2), (4, 0, 2)]
        assert pool.starmap(add, [(1, 2), ("a", "b"), ([], [3])]) == [3, "ab", [3]]
        assert pool.map(partial(add, 10), iter([1])) == [11]
        assert pool.map(where, []) == []
        assert {each[3] for each in pool.map(where, range(2))} == {each[3] for each in called}


def test_values_of_any_size_and_class(derail):
    with derail.pool(2) as pool:
        assert pool.starmap(pair, [(Pair(1, 2), 3), (Pair(4, 5), 6)]) == [Pair(2, 3), Pair(5, 6)]
        assert list(map(len, pool.map(lengths, ["x" * 10_000_000, "y"]))) == [20_000_000, 2]


def test_an_exception_is_raised_with_its_rank(derail):
    with derail.pool(3) as pool:
        pids = pool.map(pid, range(3))
        with pytest.raises(ValueError, match="bad") as caught:
            pool.map(fails, range(5))
        first = str(caught.value).split()[1]
        other = {"1": "2", "2": "1"}[first]
        assert caught.value.__notes__ == [
            f"raised on rank {first}, item {first} of pool.map(fails)",
            f"rank {other} also raised: ValueError: bad {other}",
        ]
        text = str(caught.value.__cause__)
        assert f"rank {first}, item {first} of pool.map(fails):" in text
        assert 'raise ValueError(f"bad {item}")' in text
        assert "pool_rank" not in text
        assert pool.map(pid, range(3)) == pids


def test_ranks_that_wait_for_the_failed_one_are_replaced(derail):
    with derail.pool(2) as pool:
        pids = pool.map(pid, range(2))
        with pytest.raises(ValueError, match="bad 1"):
            pool.map(fails_alone, range(2))
        assert not set(pids) & set(pool.map(pid, range(2)))


def test_other_exceptions(derail):
    with derail.pool(1) as pool:
        with pytest.raises(RanksFailed, match=r"^rank 0, item 0 of pool.map\(odd\): \S*Odd: 7$"):
            pool.map(odd, [7])
        with pytest.raises(pytest.skip.Exception, match="not here"):
            pool.map(skips, [0])
        with pytest.raises(TypeError, match="a function was returned, which cannot be pickled"):
            pool.map(unpicklable, [0])
        with pytest.raises(TypeError, match="item 1 cannot be pickled for a rank"):
            pool.map(pid, [0, lambda: 0])
        with pytest.raises(TypeError, match="define it at the top level"):
            pool.map(lambda item: item, [0])


def test_a_death_fails_the_call_only(derail):
    with derail.pool(2) as pool:
        pids = pool.map(pid, range(2))
        with pytest.raises(RanksFailed) as caught:
            pool.map(dies, range(2))
        assert str(caught.value) == "pool.map(dies): rank 1: SIGKILL (9), by itself (was running item 1)"
        with pytest.raises(RanksFailed, match=r"rank 0, item 0 of pool.map\(exits\): SystemExit: 0"):
            pool.map(exits, range(2))
        assert not set(pids) & set(pool.map(pid, range(2)))


def test_a_hang_fails_the_call_only(derail):
    with derail.pool(2, grace=0.5) as pool:
        pool.map(pid, range(2))
        with pytest.raises(RanksFailed) as caught:
            pool.map(hangs, range(2), timeout=1)
        assert str(caught.value) == "pool.map(hangs): not over after 1 s: rank 1 was running item 1"
        assert pool.map(fails, [0, 0]) == [0, 0]


def test_faults_break_the_first_ranks(derail):
    kill = derail.faults.signal("SIGKILL", rank=1, when=derail.when.call(f"{__name__}:pid"))
    with derail.pool(2, faults=[kill], start_method="spawn") as pool:
        with pytest.raises(RanksFailed, match="rank 1: SIGKILL"):
            pool.map(pid, range(2))
        assert len(pool.map(pid, range(2))) == 2


def test_without_a_with_block(derail):
    assert derail.pool(2).map(fails, [3, 4]) == [3, 4]


def test_bad_death(derail):
    with derail.pool(2) as pool:
        pool.map(dies, range(2))


def test_bad_hang(derail):
    with derail.pool(2) as pool:
        pool.map(hangs, range(2), timeout=2)


def test_bad_exception(derail):
    with derail.pool(2) as pool:
        pool.map(fails, range(2))


def test_bad_exit(derail):
    with derail.pool(2) as pool:
        pool.map(dies_at_exit, range(1))


def test_torch(derail):
    with derail.pool(2) as pool:
        assert pool.map(join, range(2)) == [0, 1]
        assert [float(each) for each in pool.map(total, [1.0, 2.0])] == [3.0, 3.0]
        assert [float(each) for each in pool.map(total, [5.0, 2.0])] == [7.0, 7.0]
