"""``start_processes``: torch's entry point of the launcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from derail.launch.context import MultiprocessContext, PContext, SubprocessContext

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from derail.launch.context import Additions
    from derail.logs.specs import LogsSpecs
    from derail.model.events import Observer
    from derail.model.spec import JobSpec, Preload, Teardown
    from derail.platform.topology import NumaOptions


def start_processes(  # noqa: PLR0913, PLR0917 - torch's signature
    name: str,
    entrypoint: Callable[..., Any] | str,
    args: dict[int, tuple[Any, ...]],
    envs: dict[int, dict[str, str]],
    logs_specs: LogsSpecs,
    log_line_prefixes: dict[int, str] | None = None,
    start_method: str = "spawn",
    numa_options: NumaOptions | None = None,
    duplicate_stdout_filters: list[str] | None = None,
    duplicate_stderr_filters: list[str] | None = None,
    *,
    teardown: Teardown | None = None,
    observers: Sequence[Observer] = (),
    prepare: Callable[[JobSpec], JobSpec] | None = None,
    cwd: str | None = None,
    forward_signals: Sequence[str] = (),
    handle_signals: bool = True,
    preload: Collection[Preload] | None = None,
) -> PContext:
    """Start one process per local rank, and return the context that watches them.

    The signature is that of ``torch.distributed.elastic.multiprocessing.start_processes``; the parameters after the
    star are derail's own. None of the given dicts is changed.

    Args:
        name: short name of the job; tee'd lines begin with ``[{name}{local_rank}]:``.
        entrypoint: a program (searched on PATH), or a Python function.
        args: arguments by local rank, for the ranks 0 to n - 1; a program gets them as strings.
        envs: environment variables by local rank; they override this process's own and are set at process start.
        logs_specs: destinations of stdout, stderr and error files.
        log_line_prefixes: alternative prefixes of tee'd lines, by local rank.
        start_method: "spawn", "fork", "forkserver" or "warm"; only for functions.
        numa_options: the CPUs that a rank is bound to; torch's own object is accepted.
        duplicate_stdout_filters: tee'd lines that contain any of these go to ``filtered_stdout.log`` as well.
        duplicate_stderr_filters: the same for stderr.
        teardown: how the job is ended when a rank fails.
        observers: receivers of the job's events, see ``derail.model.events``.
        prepare: function that gets the job specification and returns the one to start.
        cwd: working directory of the ranks.
        forward_signals: names of signals to the launcher that are passed on to every rank and end nothing.
        handle_signals: whether SIGTERM, SIGINT, SIGHUP and SIGQUIT (or those in TORCHELASTIC_SIGNALS_TO_HANDLE) raise
            ``SignalException`` in the main thread while the job runs.
        preload: for "warm": modules that are imported once, for all ranks of this job and later ones; by default the
            installed ones that the function's module imports. A function among them is called after the modules before
            it were imported; it must be picklable, and equal to itself.

    Raises:
        RuntimeError: if ``args`` and ``envs`` do not name the same ranks, or a rank cannot be bound to its CPUs.
        OSError: if a rank cannot be started. The ranks before it have been ended; nothing is left.
        SignalException: if a signal asked the launcher to end during the start; nothing is left.
    """
    of_torch = (logs_specs, log_line_prefixes, numa_options, duplicate_stdout_filters, duplicate_stderr_filters)
    additions: Additions = {
        "teardown": teardown,
        "observers": observers,
        "prepare": prepare,
        "cwd": cwd,
        "forward_signals": forward_signals,
        "handle_signals": handle_signals,
        "preload": preload,
    }
    context: PContext
    if callable(entrypoint):
        context = MultiprocessContext(name, entrypoint, args, envs, start_method, *of_torch, **additions)
    else:
        context = SubprocessContext(name, entrypoint, args, envs, *of_torch, **additions)
    context.start()
    return context
