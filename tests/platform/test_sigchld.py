"""Exit statuses survive an ignored SIGCHLD, and the host's disposition is restored."""

from __future__ import annotations

import signal
import threading

from derail.platform.sigchld import default_sigchld, is_ignored
from program_files import program_text

_STATUS = program_text("platform/default_sigchld")


def _lines(run_python, where):
    return run_python(_STATUS, where).stdout.splitlines()


def test_while_a_job_runs_statuses_are_kept_and_then_ignored_again(run_python):
    """With SIGCHLD ignored, a failure would be read as 0; inside the context it is read; afterwards it is as before."""
    assert _lines(run_python, "main") == ["0 True", "7 False", "0 True SIG_IGN"]


def test_it_works_from_a_thread(run_python):
    """Python's own signal() refuses in a thread; jobs may be started in one."""
    assert _lines(run_python, "thread") == ["0 True", "7 False", "0 True SIG_IGN"]


_NESTED = program_text("platform/nested_sigchld")


def test_the_last_of_several_jobs_puts_it_back(run_python):
    """Jobs overlap in any order."""
    assert run_python(_NESTED).stdout.split() == ["False", "True"]


_TAKEN_OVER = """
import signal
from derail.platform.sigchld import default_sigchld, is_ignored
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with default_sigchld():
    signal.signal(signal.SIGCHLD, lambda *_: None)
print(is_ignored(signal.SIGCHLD), callable(signal.getsignal(signal.SIGCHLD)))
"""


def test_a_handler_that_was_set_during_a_job_stays(run_python):
    """A later change by other code is not undone."""
    assert run_python(_TAKEN_OVER).stdout.split() == ["False", "True"]


def test_a_handler_of_the_host_is_left_alone():
    """A program that catches SIGCHLD still catches it."""
    caught = threading.Event()
    old = signal.signal(signal.SIGCHLD, lambda *_: caught.set())
    try:
        with default_sigchld():
            assert not is_ignored(signal.SIGCHLD)
            signal.raise_signal(signal.SIGCHLD)
            assert caught.is_set()
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_the_default_stays_the_default():
    """Where nothing is ignored, nothing is changed."""
    before = signal.getsignal(signal.SIGCHLD)
    with default_sigchld():
        assert signal.getsignal(signal.SIGCHLD) == before

    assert signal.getsignal(signal.SIGCHLD) == before
