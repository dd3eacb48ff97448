"""Ranks that hang, after an import that takes a while."""

import os
import threading

import pytest

if "RANK" in os.environ:
    threading.Event().wait(0.7)


@pytest.mark.ranks(2)
def test_option(rank):
    threading.Event().wait()


@pytest.mark.ranks(2, timeout=0.4)
def test_marker(rank):
    threading.Event().wait()
