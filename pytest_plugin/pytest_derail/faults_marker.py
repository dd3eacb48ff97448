"""``@pytest.mark.faults``: the plan for the ranks of a test, and the command that runs the test again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from derail.faults.model.plan import Fault, Plan
from derail.model.input_error import InputError
from pytest_derail.markers import misfit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_derail.jobs.agent_job import AgentJob
    from pytest_derail.jobs.job import Job

PLAN = "plan.toml"


def marked_plan(item: pytest.Item) -> Plan | None:
    """Return the plan of a test: the one on the command line, for rerunning a failure, else its marker's.

    Raises:
        UsageError: if the plan cannot be read, or is wrong.
    """
    from derail.faults import codec

    given: str | None = item.config.getoption("derail_plan")
    mark = item.get_closest_marker("faults")
    if mark is None:
        return None
    try:
        if given is not None:
            return codec.load(item.config.invocation_params.dir / given)
        faults, seed = _read(item, *mark.args, **mark.kwargs)
    except InputError as error:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.faults: {error}") from None
    except TypeError as error:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.faults: {misfit(error, mark, ['seed'])}") from None
    return Plan(faults, seed)


def once_more(item: pytest.Item, job: Job | AgentJob) -> Iterator[str]:
    """Yield the commands that run a job again, if its plan is written in the test itself."""
    if job.plan.faults:
        yield "to run it again: " + shlex.join(["python", "-m", "pytest", item.nodeid])
        if job.is_program:
            yield "or the job alone: " + shlex.join(["derail", "replay", str(job.journal)])


def again(item: pytest.Item, plan: Plan, folder: Path) -> Iterator[str]:
    """Yield the command that runs a test again under the same plan, after writing the plan to a file."""
    if plan.faults:
        from derail.faults import codec

        path = folder / PLAN
        path.write_text(codec.to_toml(plan), encoding="utf-8")
        yield "to run it again: " + shlex.join(["python", "-m", "pytest", item.nodeid, f"--derail-plan={path}"])


def _read(item: pytest.Item, *parts: object, seed: int | None = None) -> tuple[tuple[Fault, ...], int]:
    """Return the faults that a marker names, in order (files, plans and single faults), and the seed."""
    from derail.faults import codec

    if not parts:
        raise TypeError("the marker has no plan. Give the path of a file, or faults")
    faults: list[Fault] = []
    seeds = []
    for part in parts:
        plan = codec.load(_find(item, part)) if isinstance(part, str | Path) else part
        if isinstance(plan, Plan):
            faults += plan.faults
            seeds.append(plan.seed)
        elif isinstance(plan, Fault):
            faults.append(plan)
        else:
            raise TypeError(f"expected the path of a plan, a plan or a fault, got {part!r}")
    return tuple(faults), seed if seed is not None else next(iter(seeds), 0)


def _find(item: pytest.Item, name: str | Path) -> Path:
    """Return the path of a plan beside the test's module, else below the root directory."""
    beside = item.path.parent / name
    return beside if beside.is_file() else item.config.rootpath / name
