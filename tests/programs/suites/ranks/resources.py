"""Fixtures that rank 1 cannot tear down."""

import os
import signal
import subprocess
import threading

import pytest


@pytest.fixture(scope="module")
def module_resource():
    yield
    assert os.environ["RANK"] != "1", "module's not released"


@pytest.fixture(scope="session")
def session_resource():
    yield
    assert os.environ["RANK"] != "1", "session's not released"


def ranks(reuse="module", timeout=100):
    return pytest.mark.ranks(2, reuse=reuse, timeout=timeout, in_ranks=["module_resource", "session_resource"])
