"""Threads that outlive the test in a rank."""

import threading

import pytest


def waits_for_ever():
    threading.Event().wait()


@pytest.mark.ranks(2, timeout=4)
def test_own_ranks(rank):
    if rank == 1:
        threading.Thread(target=waits_for_ever).start()


@pytest.mark.ranks(2)
def test_ends_in_time(rank):
    threading.Timer(1.0, print).start()


@pytest.mark.ranks(2)
def test_daemon(rank):
    threading.Thread(target=waits_for_ever, daemon=True).start()


@pytest.mark.ranks(2, timeout=4, reuse="module")
def test_reused_ranks(rank):
    if rank == 1:
        threading.Thread(target=waits_for_ever).start()
