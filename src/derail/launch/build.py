"""Checks and copies the arguments of ``start_processes`` into a job specification, without side effects."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from derail.model.spec import JOB_ENV, Command, Function, JobSpec, RankSpec, Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from derail.logs.specs import LogsDest
    from derail.model.spec import Preload, StartMethod, Teardown
    from derail.platform.topology import NumaOptions

START_METHODS = ("spawn", "fork", "forkserver", "warm")


def validate_full_rank(mapping: Collection[int], nprocs: int, what: str) -> None:
    """Check that a map by local rank has exactly the ranks 0 to ``nprocs - 1``.

    Raises:
        RuntimeError: if it does not.
    """
    missing, unknown = sorted(set(range(nprocs)) - set(mapping)), sorted(set(mapping) - set(range(nprocs)))
    if missing or unknown:
        problems = [f"has no entry for local rank(s) {missing}"] * bool(missing)
        problems += [f"names local rank(s) {unknown}"] * bool(unknown)
        raise RuntimeError(
            f"{what}, local rank mapping mismatch: it {' and '.join(problems)}; {nprocs} rank(s) start at 0"
        )


def validate_start_method(start_method: str) -> StartMethod:
    """Check the name of a start method.

    Raises:
        ValueError: if derail has no such method.
    """
    if start_method not in START_METHODS:
        raise ValueError(f"start_method is {start_method!r}; it must be one of {', '.join(START_METHODS)}")
    return cast("StartMethod", start_method)


def validate_preload(preload: Collection[Preload] | None, start_method: str) -> tuple[Preload, ...] | None:
    """Check which modules and callables are to be preloaded.

    Raises:
        TypeError: if they are no collection of names and callables.
        ValueError: if there are any for a start method that does not use them.
    """
    if preload is None:
        return None
    if isinstance(preload, str) or not all(isinstance(part, str) or callable(part) for part in preload):
        raise TypeError(f"preload is {preload!r}; it must be a list of names of modules")
    if start_method != "warm":
        raise ValueError(f"preload is for start_method='warm'; with {start_method!r} nothing is preloaded")
    return tuple(preload)


def copy_envs(envs: Mapping[int, Mapping[str, str]]) -> dict[int, dict[str, str]]:
    """Copy the ranks' environments into new dicts.

    Raises:
        TypeError: if a name or a value is not a string.
    """
    copied = {rank: dict(env) for rank, env in envs.items()}
    for rank, env in copied.items():
        for name, value in env.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError(f"envs[{rank}][{name!r}] is {value!r}; names and values of variables must be strings")
    return copied


def job_spec(
    name: str,
    entrypoint: Callable[..., Any] | str,
    *,
    job_id: str,
    args: Mapping[int, tuple[Any, ...]],
    envs: Mapping[int, Mapping[str, str]],
    logs: LogsDest,
    start_method: StartMethod,
    preload: tuple[Preload, ...] | None,
    numa_options: NumaOptions | None,
    teardown: Teardown,
    cwd: str | None,
) -> JobSpec:
    """Build the specification of a job; ``envs`` override this process's own environment.

    Raises:
        RuntimeError: if a map does not name every rank, or the machine lacks the topology that ``numa_options`` need.
    """
    nprocs = len(args)
    for what, mapping in (("envs", envs), ("stdouts", logs.stdouts), ("stderrs", logs.stderrs)):
        validate_full_rank(mapping, nprocs, what)
    mark = ":".join(filter(None, (os.environ.get(JOB_ENV), job_id)))
    own = dict(os.environ)  # once: each copy of ``os.environ`` decodes every variable anew
    ranks = []
    for rank in range(nprocs):
        run: Command | Function
        if callable(entrypoint):
            run = Function(entrypoint, tuple(args[rank]), start_method, preload)
        else:
            run = Command((entrypoint, *(str(arg) for arg in args[rank])))
        ranks.append(
            RankSpec(
                rank=rank,
                run=run,
                env={**own, **envs[rank], JOB_ENV: mark},
                streams=Streams(_path(logs.stdouts[rank]), _path(logs.stderrs[rank])),
                error_file=_error_file(logs.error_files.get(rank)),
                cwd=_path(cwd),
                cpus=_cpus(rank, numa_options, ranks=nprocs),
            )
        )
    return JobSpec(name=name, job_id=job_id, ranks=tuple(ranks), teardown=teardown)


def _path(text: str | None) -> Path | None:
    from pathlib import Path  # an import of 4 ms that only jobs need

    return Path(text) if text else None


def _error_file(text: str | None) -> Path | None:
    return None if text == os.devnull else _path(text)


def _cpus(rank: int, numa_options: NumaOptions | None, *, ranks: int) -> frozenset[int] | None:
    if numa_options is None:
        return None
    from derail.platform.topology import cpus_for

    return cpus_for(rank, numa_options, ranks=ranks)
