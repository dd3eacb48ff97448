"""Tests that spoil stdout, stderr or their descriptors."""

import os
import sys

import pytest

pytestmark = pytest.mark.ranks(2)


class Broken:
    def write(self, text):
        raise ValueError("broken")

    flush = write


def test_none():
    sys.stdout = sys.stderr = None


def test_deleted():
    del sys.stdout


def test_broken():
    sys.stdout = Broken()


def test_descriptors():
    os.closerange(0, 3)


def test_closed():
    sys.stdout.close()


def test_detached():
    sys.stderr.detach()


def test_after():
    print("printed after")
