"""Runs ``rank.py WHAT`` on two workers of torchrunx, which starts functions: each runs the program in its process."""

import os
import runpy
import sys
from pathlib import Path


def rank(what: str) -> None:
    """What each worker runs."""
    sys.argv = ["rank.py", what]
    runpy.run_path(str(Path(__file__).with_name("rank.py")), run_name="__main__")


if __name__ == "__main__":
    import torchrunx

    os.environ["TORCHRUNX_LOG_DIR"] = os.environ["TMPDIR"]
    launcher = torchrunx.Launcher(
        hostnames=["localhost"],
        workers_per_host=2,
        backend=None,
        copy_env_vars=(*torchrunx.launcher.DEFAULT_ENV_VARS_FOR_COPY, "SAYS", "TMPDIR"),
    )
    launcher.run(rank, sys.argv[1])
