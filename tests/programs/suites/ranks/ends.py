"""Ranks that die, and ranks that hang."""

import os
import signal
import threading

import pytest

from pytest_derail import RanksFailed


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    threading.Event().wait()
