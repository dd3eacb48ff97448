"""Program of the agent torchrunx, like one that a user of torchrunx would write.

``python -m derail.agents.programs.torchrunx RANKS PROGRAM ARGS...``.
"""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Run a program on a number of workers of this machine, each in its worker's process."""
    import torchrunx

    from derail.agents.programs.rank_wrapper import run_program

    logging.basicConfig(level=logging.INFO, format="%(message)s")  # otherwise the ranks' output is not shown
    ranks, program, *args = sys.argv[1:]
    launcher = torchrunx.Launcher(hostnames=["localhost"], workers_per_host=int(ranks), backend=None)
    launcher.run(run_program, program, args)


if __name__ == "__main__":
    main()
