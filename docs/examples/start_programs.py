"""Three programs; one of them fails. Who is to blame, and what became of the others?"""

import sys
import tempfile

from derail import DefaultLogsSpecs, Std, Teardown, start_processes

PROGRAM = "import os, time; time.sleep(60 if os.environ['RANK'] != '1' else 0); raise SystemExit(3)"


def main() -> None:
    """Start them, wait, and look at the result."""
    with tempfile.TemporaryDirectory() as log_dir:
        job = start_processes(
            name="demo",
            entrypoint=sys.executable,
            args=dict.fromkeys(range(3), ("-c", PROGRAM)),
            envs={rank: {"RANK": str(rank)} for rank in range(3)},
            logs_specs=DefaultLogsSpecs(log_dir=log_dir, redirects=Std.ALL),
            teardown=Teardown(grace=5),
        )
        result = job.wait()

    assert result is not None
    print("root cause:", result.root_cause)
    print("failed:", {rank: failure.exitcode for rank, failure in result.failures.items()})
    for rank in result.stopped:
        print(result.ranks[rank])


if __name__ == "__main__":
    main()

# prints:
# root cause: 1
# failed: {1: 3}
# rank 0: SIGTERM (15), stopped by us
# rank 2: SIGTERM (15), stopped by us
