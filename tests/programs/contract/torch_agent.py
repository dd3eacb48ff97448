"""Torch's elastic agent on derail's launcher: ``[ENTRYPOINT, ARGS, LOGS, RESTARTS]`` as JSON; prints the facts."""

import json
import sys

import torch.distributed.elastic.agent.server.local_elastic_agent as local_elastic_agent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import derail

entrypoint, args, logs, restarts = json.loads(sys.argv[1])
jobs = []


def start_processes(*args, **options):
    jobs.append(derail.start_processes(*args, **options))
    return jobs[-1]


local_elastic_agent.start_processes = start_processes
if entrypoint == "add":
    from contract.ranks import add as entrypoint

config = LaunchConfig(
    min_nodes=1,
    max_nodes=1,
    nproc_per_node=2,
    run_id="run",
    rdzv_backend="c10d",
    rdzv_endpoint="localhost:0",
    max_restarts=restarts,
    monitor_interval=0.1,
    logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=Std.ALL),
)


def main():
    try:
        facts = {"values": elastic_launch(config, entrypoint)(*args)}
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        facts = {
            "root cause": rank,
            "exit code": failure.exitcode,
            "failures": sorted(error.failures),
            "text": str(error),
        }
    facts["jobs"] = [type(job).__module__.partition(".")[0] for job in jobs]
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
