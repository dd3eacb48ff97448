"""Runs ``deaths`` in torch's MultiProcessTestCase, and prints what it says of each, as JSON.

The ranks are forked, and not spawned: their start takes no time then, and the class judges both alike.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import sys
import unittest
from pathlib import Path
from typing import Any

from torch.testing._internal.common_distributed import MultiProcessTestCase

from plugin.ranks.deaths import ALL, RANKS, Death, body


class Deaths(MultiProcessTestCase):
    """A test for each."""

    @property
    def world_size(self) -> int:
        return RANKS

    def setUp(self) -> None:
        super().setUp()
        Path(self.file_name + ".d").mkdir()
        self._start_processes(multiprocessing.get_context("fork").Process)


def _test(death: Death) -> Any:
    def test(self: Deaths) -> None:
        body(death, self.rank, Path(self.file_name + ".d"))

    return test


for _death in ALL:
    setattr(Deaths, _death.id, _test(_death))


def main() -> None:
    """Report by report: empty if the test was green."""
    said = {}
    for death in ALL:
        test, result = Deaths(death.id), unittest.TestResult()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            test.run(result)
        said[death.id] = "\n".join(text for _, text in (*result.errors, *result.failures))
        if said[death.id]:
            said[death.id] += printed.getvalue()
    print("\n" + json.dumps(said), file=sys.stderr)


if __name__ == "__main__":
    main()
