"""What a type checker says of the public names: this file is checked by mypy, never run."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager  # noqa: TC003
from typing import Any, assert_type

import derail
from derail import faults, when
from derail.errors import ChildFailedError, record


def train(steps: int, name: str) -> float:
    """A rank."""
    return steps / len(name)


def start() -> derail.PContext:
    """Torch's call, and derail's additions."""
    context = derail.start_processes(
        "train",
        train,
        {0: (1, "x"), 1: (2, "y")},
        {0: {}, 1: {"OMP_NUM_THREADS": "1"}},
        derail.DefaultLogsSpecs(redirects=derail.Std.ALL, tee={0: derail.Std.OUT}),
        start_method="spawn",
        teardown=derail.Teardown(grace=2.0, sweep="all"),
    )
    return assert_type(context, derail.PContext)


def judge(context: derail.PContext) -> int:
    """What a result holds."""
    assert_type(context.pids(), dict[int, int])
    result = context.wait(timeout=10, period=0.1)
    assert_type(result, derail.RunProcsResult | None)
    if result is None:
        context.close(signal.SIGTERM, 5)
        return 1
    assert_type(result.return_values, dict[int, Any])
    assert_type(result.failures, dict[int, derail.ProcessFailure])
    assert_type(result.stopped, tuple[int, ...])
    assert_type(result.root_cause, int | None)
    assert_type(result.is_failed(), bool)
    assert_type(result.ranks[0].status, derail.ExitStatus | None)
    assert_type(result.ranks[0].cause, derail.Cause)
    return assert_type(result.exit_code, int)


def blame(error: ChildFailedError) -> derail.ProcessFailure:
    """The first failure, with its rank."""
    rank, failure = error.get_first_failure()
    assert_type(rank, int)
    assert_type(failure.signal_name(), str)
    assert_type(error.format_msg(), str)
    return assert_type(failure, derail.ProcessFailure)


def choose(text: str) -> dict[int, derail.Std]:
    """Streams by rank."""
    return assert_type(derail.to_map(derail.Std.from_str(text), 4), dict[int, derail.Std])


def redirected() -> AbstractContextManager[None]:
    """A stream of this process, to a file."""
    return derail.redirect_stdout("out.log")


@record
def main(argument: str) -> int:
    """``record`` keeps the signature."""
    return len(argument)


recorded: int | None = main("x")
fault = faults.signal("SIGKILL", rank=2, when=when.line("step 3"))
assert_type(faults.plan([fault], seed=7), faults.Plan)

# What a type checker must refuse:
main(3)  # type: ignore[arg-type]
derail.Teardown(sweep="some")  # type: ignore[arg-type]
derail.start_process  # type: ignore[attr-defined]  # noqa: B018
