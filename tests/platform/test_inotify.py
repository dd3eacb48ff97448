"""The inotify descriptor and its end."""

from __future__ import annotations

import os
import sys

import pytest

from derail.platform.inotify import Notifier
from program_files import program_text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.mark.parametrize("wait", [True, False])
def test_the_number_of_a_closed_descriptor_is_free_at_once(tmp_path, wait):
    """Even though the kernel needs milliseconds to release the watches."""
    for _ in range(20):
        notifier = Notifier.open()
        assert notifier.watch_directory(str(tmp_path)) is not None
        fd = notifier.fd
        notifier.close(wait=wait)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_fork_waits_for_the_threads_that_close(start_python, tmp_path):
    """Python warns of each fork while there is a second thread, from 3.12 on."""
    program = program_text("platform/counted_forks")
    assert start_python(program, str(tmp_path)).read_line() == "20 0"


def test_forks_in_several_threads_wait_for_the_same_thread(start_python, tmp_path):
    """Each of them continues."""
    program = program_text("platform/forking_threads")
    assert start_python(program, str(tmp_path)).read_line() == "done"


def test_a_forked_child_waits_for_no_thread_of_its_parent(start_python):
    """One may have begun to close a descriptor between the wait and the fork."""
    program = program_text("platform/fork_at_close")
    assert start_python(program).read_line() == "0"
