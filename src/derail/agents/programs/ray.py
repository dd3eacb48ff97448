"""What a user of Ray Train would write.

``python -m derail.agents.programs.ray DIRECTORY RANKS RESTARTS PROGRAM ARGS...``. The whole of Ray is started for it,
on this machine, with its files in the directory, and ends with it.
"""

from __future__ import annotations

import sys
from typing import Any


def train(config: dict[str, Any]) -> None:
    """What each worker runs."""
    from derail.agents.programs.rank_wrapper import run_program

    run_program(config["program"], config["args"])


def main() -> None:
    """Run a program as the training function of so many workers, which may be started again."""
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
