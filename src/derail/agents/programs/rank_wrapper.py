"""A program as the rank of a launcher that starts functions: its worker runs this, and this runs the program.

Such launchers tell a worker its rank when its interpreter has long been started, so that the in-rank runtime found none
then; it is asked again here, once, before the first line of the program. And the worker may live on when the program
has ended, or end in another way: what became of the program is written down.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

FATES = "DERAIL_FATES"
"""The environment variable that names the file in which the end of each program is a line of JSON."""


def run_program(program: str, args: Sequence[str]) -> None:
    """Run a Python program in this process as if it had been called with its path and these arguments.

    Whatever it raises goes on to the worker.
    """
    runtime = sys.modules.get("_derail_inrank.bootstrap")
    if runtime is not None:
        runtime.enter()
    sys.argv = [program, *args]
    sys.path.insert(0, os.path.dirname(program))
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as error:
        _write_fate(code_of(error.code))
        raise
    except BaseException:
        _write_fate(1)
        raise
    _write_fate(0)


def code_of(told: object) -> int:
    """The code that Python would end with after ``sys.exit(told)``."""
    if told is None:
        return 0
    return told & 0xFF if isinstance(told, int) else 1


def _write_fate(code: int) -> None:
    path = os.environ.get(FATES)
    if not path:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Monotonic seconds are the same for all processes of a machine; whoever watches the ranks counts in them.
    fate = {"pid": os.getpid(), "code": code, "at": SYSTEM_CLOCK.now()}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(fate) + "\n")
