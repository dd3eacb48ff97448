"""A process that has imported one launcher and measures it on order: JSON lines in, JSON lines out."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import traceback
from pathlib import Path

from benchmarks.launchers import launcher
from benchmarks.measures import MEASURES


def main(name: str) -> None:
    """Answer ``{"measure", "options"}`` until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # stdout is a subject here; ranks may have it too
    os.close(nowhere)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    launch = launcher(name)
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        try:
            with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                answer = MEASURES[order["measure"]](launch, Path(directory), **order["options"])
        except Exception:
            traceback.print_exc()
            answer = {}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
