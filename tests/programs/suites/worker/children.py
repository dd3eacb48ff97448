"""How a forked child can leave a test."""

import os
import sys
import unittest

import pytest


def exit_status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def exit_1():
    sys.exit(1)


def exit_300():
    sys.exit(300)


def exit_none():
    sys.exit()


def exit_text():
    sys.exit("a text")


def fail():
    assert 1 == 2


def fail_pytest():
    pytest.fail("on purpose")


def interrupt():
    raise KeyboardInterrupt


def leave_pytest():
    pytest.exit("enough", returncode=9)


def nothing():
    pass


def skip():
    pytest.skip("not here")


def expect():
    pytest.xfail("known")


CASES = [
    (exit_1, 1),
    (exit_300, 44),
    (exit_none, 0),
    (exit_text, 1),
    (fail, 1),
    (fail_pytest, 1),
    (interrupt, 1),
    (leave_pytest, 9),
    (nothing, 0),
    (skip, 0),
    (expect, 0),
]


@pytest.fixture
def torn_down(tmp_path):
    yield
    with open(tmp_path / "torn down", "a") as file:
        file.write(f"{os.getpid()} ")
    print("torn down by", open(tmp_path / "torn down").read())
