"""Fixtures whose values cannot be sent to ranks."""

import os
import threading

import pytest


@pytest.fixture(scope="session")
def lock():
    return threading.Lock()


class Odd:
    def __reduce__(self):
        return odd, (os.getpid(),)


def odd(pid):
    if pid != os.getpid():
        raise ValueError("not here")
    return Odd()


@pytest.fixture(scope="module")
def gives_odd():
    return Odd()


@pytest.fixture(scope="module")
def late():
    return 3


@pytest.mark.ranks(1)
def test_lock(lock):
    pass


@pytest.mark.ranks(1, in_ranks=["lock"])
def test_lock_in_ranks(lock):
    assert lock.acquire()


@pytest.mark.ranks(1)
def test_odd(gives_odd):
    pass


@pytest.mark.ranks(1)
def test_late(request):
    request.getfixturevalue("late")
