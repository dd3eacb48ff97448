"""Runs ``rank.py WHAT`` on two workers of Ray Train, each as the training function of its worker."""

import os
import runpy
import sys
from pathlib import Path


def rank(config: dict[str, str]) -> None:
    """What each worker runs."""
    sys.argv = ["rank.py", config["what"]]
    runpy.run_path(config["script"], run_name="__main__")


if __name__ == "__main__":
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=os.environ["TMPDIR"], _node_ip_address="127.0.0.1")
    trainer = TorchTrainer(
        rank,
        train_loop_config={"what": sys.argv[1], "script": str(Path(__file__).with_name("rank.py"))},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=os.environ["TMPDIR"], failure_config=FailureConfig(max_failures=0)),
    )
    trainer.fit()
