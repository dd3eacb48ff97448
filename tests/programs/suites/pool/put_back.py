"""Tests that change what reused ranks put back."""

import os
import random
import sys

import pytest
from notes import note

first = {}


@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_it(rank, seen, number, tmp_path_factory):
    note(seen, rank, number)
    mask = os.umask(0o077)
    found = {
        "environment": {n: v for n, v in os.environ.items() if n != "PYTEST_CURRENT_TEST"},
        "directory": os.getcwd(),
        "path": list(sys.path),
        "arguments": list(sys.argv),
        "umask": mask,
        "stdout": id(sys.stdout),
        "random": random.random(),
    }
    first.setdefault("found", found)
    assert found == first["found"]
    os.environ["NEW"] = "1"
    del os.environ["SEEN"]
    os.chdir(tmp_path_factory.getbasetemp())
    sys.path.append("/nowhere")
    sys.argv.append("more")
    sys.stdout = sys.stderr
    random.seed(number)
