"""Wrapper that runs a program as the rank of a launcher of functions: the launcher's worker calls it.

Such launchers give a worker its rank long after the start of its interpreter, when the in-rank runtime has found none.
So this module starts the runtime again, once, before the first line of the program. The worker may continue after the
end of the program, or end in another way, so the exit code of the program is recorded in a file.
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
"""Environment variable with the file that gets a line of JSON at the end of each program."""


def run_program(program: str, args: Sequence[str]) -> None:
    """Run a Python program in this process as if it had been called with its path and these arguments.

    All its exceptions propagate to the worker.
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


def code_of(argument: object) -> int:
    """Return the code that Python exits with after ``sys.exit(argument)``."""
    if argument is None:
        return 0
    return argument & 0xFF if isinstance(argument, int) else 1


def _write_fate(code: int) -> None:
    path = os.environ.get(FATES)
    if not path:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # All processes of a machine share the monotonic clock, so the tracker of the ranks can use this time.
    fate = {"pid": os.getpid(), "code": code, "at": SYSTEM_CLOCK.now()}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(fate) + "\n")
