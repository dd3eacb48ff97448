"""Two Python functions, each in a process of its own; their values come back by rank."""

import os
import tempfile

from derail import DefaultLogsSpecs, start_processes


def work(factor: int) -> int:
    """What a rank does. Its environment was there before it was imported."""
    return factor * int(os.environ["RANK"])


def main() -> None:
    """Start them, and collect what they return."""
    with tempfile.TemporaryDirectory() as log_dir:
        job = start_processes(
            name="demo",
            entrypoint=work,
            args={0: (10,), 1: (10,)},
            envs={0: {"RANK": "0"}, 1: {"RANK": "1"}},
            logs_specs=DefaultLogsSpecs(log_dir=log_dir),
        )
        result = job.wait(timeout=60)

    assert result is not None
    print(result.return_values)


if __name__ == "__main__":
    main()

# prints:
# {0: 0, 1: 10}
