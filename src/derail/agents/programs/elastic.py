"""Program of the agent torch_elastic: it makes an elastic agent of torch, runs it, and reports its result.

``python -m derail.agents.programs.elastic ORDER``, where ORDER is JSON. It writes the agent's result as JSON to the
file named in ORDER: the failed ranks, root cause first as chosen by torch, each with exit code, message and error file.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


def main() -> int:
    """Carry out the order, and return 1 if ranks failed, otherwise 0."""
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    order = json.loads(sys.argv[1])
    module, _, attribute = order["agent"].partition(":")
    rendezvous = get_rendezvous_handler(
        RendezvousParameters(
            backend="c10d",
            endpoint=f"{LOOPBACK}:{order['port']}",
            run_id=f"derail-{order['port']}",
            min_nodes=order["nodes"],
            max_nodes=order["nodes"],
            local_addr=LOOPBACK,
            is_host=str(order["node"] == 0),
        )
    )
    spec = WorkerSpec(
        role="default",
        local_world_size=order["ranks"],
        entrypoint=order["argv"][0],
        args=tuple(order["argv"][1:]),
        rdzv_handler=rendezvous,
        max_restarts=order["restarts"],
        monitor_interval=0.1,
        local_addr=LOOPBACK,
    )
    make = getattr(import_module(module), attribute)
    redirects = Std.NONE if order["shown"] else Std.ALL
    agent = make(spec=spec, logs_specs=DefaultLogsSpecs(log_dir=order["logs"], redirects=redirects))
    try:
        result = agent.run()
    finally:
        rendezvous.shutdown()
    Path(order["report"]).write_text(json.dumps({"failures": failures(result)}))
    return 1 if result.is_failed() else 0


def failures(result: Any) -> list[dict[str, object]]:
    """Return the failed ranks in an agent's result, starting with torch's first failure."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not result.failures:
        return []
    first, _ = ChildFailedError("", result.failures).get_first_failure()
    ranks = sorted(result.failures, key=lambda rank: (rank != first, rank))
    return [{"rank": rank, **_failure(result.failures[rank])} for rank in ranks]


def _failure(failure: Any) -> dict[str, object]:
    message = failure.message
    if isinstance(message, dict):
        message = message.get("message", message)
    return {"code": failure.exitcode, "message": str(message), "error_file": failure.error_file}


if __name__ == "__main__":
    sys.exit(main())
