"""The loop alone, in the thread of the test."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from derail.model.clock import SYSTEM_CLOCK, FakeClock
from derail.supervise.loop import Loop


@pytest.fixture
def loop():
    """An open loop on the machine's clock."""
    made = Loop(SYSTEM_CLOCK)
    made.open()
    yield made
    made.close()


def test_an_action_posted_before_the_loop_is_open_is_run(loop):
    """An early request is not lost."""
    early = Loop(SYSTEM_CLOCK)
    done = []
    assert early.post(lambda: done.append("early"))
    early.open()
    early.run_once(0)
    early.close()
    assert done == ["early"]


def test_posting_to_a_closed_loop_does_nothing():
    """It returns False; no descriptor that may have been reused is written to."""
    closed = Loop(SYSTEM_CLOCK)
    closed.open()
    closed.close()
    closed.close()
    assert closed.post(lambda: None) is False


def test_a_post_from_another_thread_wakes_the_loop(loop):
    """A turn without a time limit ends when something is posted."""
    done = []
    poster = threading.Thread(target=lambda: loop.post(lambda: done.append(threading.current_thread())))
    poster.start()
    while not done:
        loop.run_once(None)
    poster.join()
    assert done == [threading.current_thread()]


def test_a_signal_handler_may_post_while_its_thread_is_posting(loop):
    """The handler takes the lock of the mailbox again: no deadlock."""
    done = []
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.post(lambda: done.append("handler")))
    try:
        with loop._mailbox_lock:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    loop.run_once(0)
    assert done == ["handler"]


def test_thousands_of_posts_do_not_fill_the_wake_up_pipe(loop):
    """More posts than fit into a pipe block no caller, and all are run."""
    done = []
    for number in range(70_000):
        loop.post(lambda number=number: done.append(number))
    loop.run_once(0)
    assert done == list(range(70_000))


def test_timers_run_when_due_in_their_order_unless_cancelled():
    """Time is the loop's clock and nothing else."""
    clock, done = FakeClock(), []
    timed = Loop(clock)
    timed.open()
    timed.call_at(2.0, lambda: done.append("second"))
    timed.call_at(1.0, lambda: done.append("first"))
    timed.call_at(1.5, lambda: done.append("never")).cancel()
    timed.run_once(0)
    assert done == []
    clock.advance(2.0)
    timed.run_once(0)
    timed.close()
    assert done == ["first", "second"]


def test_a_descriptor_that_an_earlier_action_took_out_is_not_served(loop):
    """Two descriptors are ready in one turn; the first action removes the other one."""
    pipes = [os.pipe(), os.pipe()]
    done = []

    def serve(mine, other):
        done.append(mine)
        loop.remove_reader(other)

    first, second = pipes[0][0], pipes[1][0]
    loop.add_reader(first, lambda: serve(first, second))
    loop.add_reader(second, lambda: serve(second, first))
    for _, write in pipes:
        os.write(write, b"x")
    loop.run_once(0)
    assert len(done) == 1
    loop.remove_reader(first)
    loop.remove_reader(second)
    for fds in pipes:
        for fd in fds:
            os.close(fd)
