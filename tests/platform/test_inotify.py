"""The inotify descriptor and its end."""

from __future__ import annotations

import os
import sys

import pytest

from derail.platform.inotify import Notifier

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.mark.parametrize("wait", [True, False])
def test_the_number_of_a_closed_descriptor_is_free_at_once(tmp_path, wait):
    """Though the kernel needs milliseconds to let go of the watches."""
    for _ in range(20):
        notifier = Notifier.open()
        assert notifier.watch_directory(str(tmp_path)) is not None
        fd = notifier.fd
        notifier.close(wait=wait)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_fork_waits_for_the_threads_that_close(start_python, tmp_path):
    """Python warns of each fork while there is a second thread, from 3.12 on."""
    program = """
import os, sys
seen = []
os.register_at_fork(before=lambda: seen.append(len(inotify._closing)))  # the first one registered is the last one run
from derail.platform import inotify
for _ in range(20):
    notifier = inotify.Notifier.open()
    notifier.watch_directory(sys.argv[1])
    notifier.close(wait=False)
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
print(len(seen), sum(seen))
"""
    assert start_python(program, str(tmp_path)).read_line() == "20 0"


def test_forks_in_several_threads_wait_for_the_same_thread(start_python, tmp_path):
    """Each of them goes on."""
    program = """
import os, sys, threading
from derail.platform import inotify

def fork():
    together.wait()
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)

for _ in range(20):
    notifier = inotify.Notifier.open()
    notifier.watch_directory(sys.argv[1])
    together = threading.Barrier(4)
    threads = [threading.Thread(target=fork) for _ in range(3)]
    for thread in threads:
        thread.start()
    notifier.close(wait=False)
    together.wait()
    for thread in threads:
        thread.join()
print("done")
"""
    assert start_python(program, str(tmp_path)).read_line() == "done"


def test_a_forked_child_waits_for_no_thread_of_its_parent(start_python):
    """One may have begun to close between the waiting and the fork."""
    program = """
import _thread, os, signal
held = _thread.allocate_lock()
held.acquire()
os.register_at_fork(before=lambda: inotify._closing.add(held))  # run after the one that waits
from derail.platform import inotify
pid = os.fork()
if not pid:
    signal.alarm(30)
    inner = os.fork()
    if not inner:
        os._exit(0)
    os.waitpid(inner, 0)
    os._exit(0)
print(os.waitpid(pid, 0)[1])
"""
    assert start_python(program).read_line() == "0"
