"""Preparation of a job for its faults before it starts, as a function from spec to spec. Other ranks do not change."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from derail.faults import inrank
from derail.faults.catalogue.injector_api import control_signal
from derail.faults.engine.rank_plan import tasks, watches
from derail.faults.engine.trigger_matcher import Inside
from derail.faults.inrank.function_wrapper import EntryPoint
from derail.faults.inrank.rank_plan import RECORDER, VARIABLE
from derail.faults.mechanisms.exec_shims import seccomp as seccomp_shim
from derail.faults.model.targets import AGENT_RANK, resolve, spared
from derail.faults.model.triggers import Barrier, ExitOf, Line, walk
from derail.faults.registry import entry
from derail.model.input_error import InputError
from derail.model.spec import Command, Function

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from derail.faults.engine.sync_points import SyncPoints
    from derail.faults.model.plan import Fault, Plan
    from derail.faults.model.triggers import Data, Trigger
    from derail.model.spec import JobSpec, RankSpec
    from derail.platform.handshake import PrivateDirectory


SITE = Path(inrank.__file__).parent / "site"
LONGEST = 100_000
"""Maximum bytes in one environment variable; Linux accepts 128 KiB."""


def check(plan: Plan, ranks: Sequence[int]) -> None:
    """Refuse a plan that does not fit these ranks.

    Raises:
        InputError: with one line for each fault that does not fit.
    """
    problems = []
    try:
        spared(plan, ranks)
    except ValueError as error:
        raise InputError(f"keep_alive: {error}") from None
    for index, fault in enumerate(plan.faults):
        try:
            aimed = resolve(plan, fault, ranks)
        except ValueError as error:
            problems.append(f"faults[{index}].rank: {error} ({fault.id})")
            aimed = ()
        if AGENT_RANK in aimed:
            problems += [f"faults[{index}].{wrong} ({fault.id})" for wrong in _unfit_for_agent(fault)]
        problems += [
            f"faults[{index}].when.{word}: there is no rank {rank} ({fault.id})"
            for word, rank in _named(fault.when)
            if rank not in ranks
        ]
    if problems:
        raise InputError(*problems)


def _unfit_for_agent(fault: Fault) -> Iterator[str]:
    """Yield the problems of a fault that targets the agent: a program without derail's in-rank runtime."""
    if entry(fault.name).side != "outside":
        yield f"fault: {fault.name!r} acts inside ranks. Only faults that act from outside can target the agent"
    for part in walk(fault.when):
        if isinstance(part, Inside):
            yield "when: the agent has no in-rank runtime to report this trigger. Use exit_of, or line with a rank"
        elif isinstance(part, Line) and part.rank is None:
            yield "when.rank: missing: derail does not read the agent's own output. Name the rank of the line"


def _named(trigger: Trigger) -> Iterator[tuple[str, int]]:
    """Yield the ranks that a trigger names, each with the name of the field."""
    for part in walk(trigger):
        match part:
            case ExitOf(rank=rank):
                yield "exit_of", rank
            case Line(rank=int(rank)):
                yield "rank", rank
            case Barrier(ranks=tuple(ranks)):
                yield from (("ranks", rank) for rank in ranks)
            case _:
                pass


def prepare(
    plan: Plan,
    spec: JobSpec,
    *,
    journal: Path,
    sync_points: SyncPoints | None = None,
    sockets: PrivateDirectory | None = None,
    first: bool = True,
) -> JobSpec:
    """Return the job with all that its in-rank faults need: two environment variables, and a wrapper around functions.

    The ranks write to the journal as well, so it must exist when they start. The ranks' shims connect to a socket in
    ``sockets``. A fault that changes ranks before their start does so in the ``first`` attempt only: it acts once.

    Raises:
        InputError: if a fault targets a rank that the job does not have, or the plan is too long for an environment
            variable.
    """
    ranks = tuple(rank.rank for rank in spec.ranks)
    check(plan, ranks)
    if sync_points is not None:
        sync_points.aim(ranks)
    told = [_prepare_rank(rank, plan, ranks, spec.job_id, journal, sync_points) for rank in spec.ranks]
    if not first:
        return replace(spec, ranks=tuple(told))
    return replace(spec, ranks=tuple(change_before_start(plan, ranks, rank, sockets) for rank in told))


def record_ranks(spec: JobSpec, rings: Path) -> JobSpec:
    """Return the job with ranks that record their collectives, in ring files in a directory that exists."""

    def recorded(rank: RankSpec) -> RankSpec:
        variables, run = record_environment(rings, rank.env), rank.run
        if isinstance(run, Command):
            return replace(rank, env={**rank.env, **variables})
        env = {**rank.env, RECORDER: variables[RECORDER]}  # the function itself starts the recorder
        starts_runtime = isinstance(run.target, EntryPoint)
        return replace(rank, env=env, run=run if starts_runtime else replace(run, target=EntryPoint(run.target)))

    return replace(spec, ranks=tuple(recorded(rank) for rank in spec.ranks))


def record_environment(rings: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which the Python programs of ranks record their collectives, to add to ``environ``."""
    return {RECORDER: str(rings.resolve()), "PYTHONPATH": _site_first(environ)}


def environment(
    plan: Plan, ranks: Sequence[int], *, journal: Path, job: str, environ: Mapping[str, str], meet: str = ""
) -> dict[str, str]:
    """Return the variables that carry in-rank faults through an external agent, to processes with a ``RANK``.

    Args:
        plan: the faults.
        ranks: all ranks of the job.
        journal: where the ranks write; it must exist when they start.
        job: the id of the job.
        environ: the present environment.
        meet: the endpoint of the handshake of each rank (``derail.platform.handshake``); empty for none.

    Returns:
        The variables to add to ``environ``; empty if no fault acts in a rank and there is no handshake.

    Raises:
        InputError: as ``prepare`` does.
    """
    check(plan, (*ranks, AGENT_RANK))
    inside: list[Data] = [told for told, _ in _tasks(plan, ranks)]
    places: list[Data] = [
        {**told, "ranks": list(whose)}  # type: ignore[dict-item]
        for fault in plan.faults
        for told, whose in watches(plan, fault, resolve(plan, fault, (*ranks, AGENT_RANK)), ranks)
    ]
    part: dict[str, Data] = {"job": job, "rank": None, "function": False, "faults": inside, "watches": places}
    return _variables({**part, "meet": meet}, journal, environ) if inside or places or meet else {}


def _tasks(plan: Plan, ranks: Sequence[int]) -> list[tuple[Data, tuple[int, ...]]]:
    """Return the faults that act in ranks, in the form that the runtime reads, each with its ranks."""
    found = []
    for fault in plan.faults:
        if entry(fault.name).side == "in rank" and not entry(fault.name).requires.unavailable():
            found += tasks(plan, fault, resolve(plan, fault, (*ranks, AGENT_RANK)))
    return found


def _prepare_rank(
    rank: RankSpec, plan: Plan, ranks: tuple[int, ...], job: str, journal: Path, sync_points: SyncPoints | None
) -> RankSpec:
    mine = [told for told, whose in _tasks(plan, ranks) if rank.rank in whose]
    places: list[Data] = [] if sync_points is None else sync_points.watches(rank.rank)
    for fault in plan.faults:
        looks = watches(plan, fault, resolve(plan, fault, ranks), ranks)
        places += [told for told, whose in looks if rank.rank in whose]
    if not (mine or places):
        return rank
    function = isinstance(rank.run, Function)
    part: dict[str, Data] = {"job": job, "rank": rank.rank, "function": function, "faults": mine, "watches": places}
    run = replace(rank.run, target=EntryPoint(rank.run.target)) if isinstance(rank.run, Function) else rank.run
    return replace(rank, env={**rank.env, **_variables(part, journal, rank.env)}, run=run)


def change_before_start(
    plan: Plan, ranks: tuple[int, ...], rank: RankSpec, sockets: PrivateDirectory | None = None
) -> RankSpec:
    """Return the rank with the start-up changes of its faults, except those that this machine cannot inject."""
    for fault in plan.faults:
        known = entry(fault.name)
        if rank.rank in resolve(plan, fault, ranks) and not known.requires.unavailable():
            rank = known.setup.prepare(rank, fault)
    filtered = isinstance(rank.run, Command) and seccomp_shim.__file__ in rank.run.argv
    if sockets is not None and filtered and seccomp_shim.VARIABLE not in rank.env:
        return replace(rank, env={**rank.env, seccomp_shim.VARIABLE: str(sockets.endpoint())})
    return rank


def _variables(part: dict[str, Data], journal: Path, environ: Mapping[str, str]) -> dict[str, str]:
    told = {**part, "journal": str(journal.absolute()), "signal": control_signal()}
    text = json.dumps(told, separators=(",", ":"))
    if len(text) > LONGEST:
        raise InputError(f"faults: expected in-rank faults of at most {LONGEST} bytes in total, got {len(text)}")
    return {VARIABLE: text, "PYTHONPATH": _site_first(environ)}


def _site_first(environ: Mapping[str, str]) -> str:
    """Return PYTHONPATH with the directory of derail's sitecustomize in its first place."""
    before = environ.get("PYTHONPATH", "")
    if before.partition(os.pathsep)[0] == str(SITE):
        return before
    return f"{SITE}{os.pathsep}{before}" if before else str(SITE)
