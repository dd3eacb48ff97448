"""Exit codes by which torch's own tests skip."""

import sys
import types
import unittest
from collections import namedtuple

import pytest

pytestmark = pytest.mark.ranks(2)
Skip = namedtuple("Skip", "exit_code message")
table = types.ModuleType("torch.testing._internal.common_distributed")
table.TEST_SKIPS = {"multi-gpu-2": Skip(77, "Need at least 2 CUDA devices")}


@pytest.fixture(autouse=True)
def imported(monkeypatch):
    monkeypatch.setitem(sys.modules, table.__name__, table)


def test_function():
    sys.exit(table.TEST_SKIPS["multi-gpu-2"].exit_code)


def test_fails():
    sys.exit(3)


class TestIt(unittest.TestCase):
    def test_method(self):
        sys.exit(table.TEST_SKIPS["multi-gpu-2"].exit_code)
