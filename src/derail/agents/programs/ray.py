"""Program of the agent ray_train, like one that a user of Ray Train would write.

``python -m derail.agents.programs.ray DIRECTORY RANKS RESTARTS PROGRAM ARGS...``. It starts a complete Ray on this
machine, with its files in the directory, which ends with the program.
"""

from __future__ import annotations

import sys
from typing import Any


def train(config: dict[str, Any]) -> None:
    """Run the program in a worker."""
    from derail.agents.programs.rank_wrapper import run_program

    run_program(config["program"], config["args"])


def main() -> None:
    """Run a program as the training function of a number of workers, with a number of restarts."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    directory, ranks, restarts, program, *args = sys.argv[1:]
    ray.init(num_cpus=int(ranks), include_dashboard=False, _temp_dir=directory)
    TorchTrainer(
        train,
        train_loop_config={"program": program, "args": args},
        scaling_config=ScalingConfig(num_workers=int(ranks), resources_per_worker={"CPU": 1}),
        run_config=RunConfig(storage_path=directory, failure_config=FailureConfig(max_failures=int(restarts))),
    ).fit()


if __name__ == "__main__":
    main()
