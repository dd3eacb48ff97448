"""``derail launch``: one job on this machine, with or without faults."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from derail.cli.display import display, show, watch_faults
from derail.cli.evidence import check_writable, evidence_directory, output_dir_option, trace_option
from derail.cli.fault_option import EXAMPLE
from derail.cli.usage import usage_errors
from derail.model.exit import signal_name

if TYPE_CHECKING:
    from derail.agents.invocation import Run
    from derail.agents.native_job import NativeJob
    from derail.model.outcome import RunProcsResult
    from derail.model.std import Std


FORWARDED = ("SIGUSR1", "SIGUSR2")
"""Signals that derail forwards to every rank, without ending the job."""
TIMED_OUT = 124
"""Exit code of a job that did not end in time, as that of timeout(1)."""
HANDLED = "TORCHELASTIC_SIGNALS_TO_HANDLE"


class _Streams(click.ParamType[object]):
    """Streams in torchrun's form: ``3``, ``0:3,1:0``, ``0-7:1``."""

    name = "streams"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Read the text."""
        from derail.model.std import Std

        if not isinstance(value, str):
            return value
        try:
            return Std.from_str(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Ranks(click.ParamType[frozenset[int]]):
    """Ranks in torchrun's form: ``0,2``."""

    name = "ranks"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[int]:
        """Read the text."""
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isascii() and word.isdecimal() for word in words):
            self.fail(f"expected a list of ranks such as 0,2, got {value!r}", param, ctx)
        return frozenset(map(int, words))


class _Signals(click.ParamType[tuple[str, ...]]):
    """Names of signals that a process can handle: ``SIGTERM,SIGUSR1``."""

    name = "signals"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Read the text."""
        from derail.faults.catalogue.params import read_signal

        names = []
        for word in filter(None, (word.strip() for word in str(value).split(","))):
            try:
                names.append(read_signal(word))
            except ValueError as error:
                self.fail(str(error), param, ctx)
            if names[-1] in ("SIGKILL", "SIGSTOP"):
                self.fail(f"{names[-1]} cannot be handled by a process", param, ctx)
        return tuple(names)


@click.command(
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
    short_help="Run a program once per rank, on this machine, as one job.",
)
@click.option(
    "-n", "--ranks", "--nproc-per-node", "--nproc_per_node", "ranks",
    type=click.IntRange(min=1), default=1, show_default=True, help="Number of ranks.",
)  # fmt: skip
@click.option("-m", "--module", is_flag=True, help="PROGRAM is the name of a Python module, as for python -m.")
@output_dir_option(
    "Directory for logs and journal: each run gets its own folder (DIR/RUN/attempt_0/RANK/, DIR/RUN/journal.jsonl); "
    "DIR/journal.jsonl is a link to the newest. By default a temporary directory, which is kept if the job fails."
)
@click.option(
    "-t", "--tee", type=_Streams(), metavar="STREAMS",
    help="Streams that are shown as well as written to files, even if --redirects names them: 0 none, 1 stdout, "
    "2 stderr, 3 both, or by rank as 0:3,4-7:1. Streams that --redirects does not name are always shown.",
)  # fmt: skip
@click.option("-r", "--redirects", type=_Streams(), metavar="STREAMS", help="Streams that are only written to files.")
@click.option(
    "--local-ranks-filter", "--local_ranks_filter", type=_Ranks(), metavar="RANKS",
    help="Show only the streams of these ranks, such as 0,2; all streams are written to files.",
)  # fmt: skip
@click.option(
    "--log-line-prefix-template", "--log_line_prefix_template", metavar="TEMPLATE",
    envvar="TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE", show_envvar=True,
    help="Prefix of shown lines; ${role_name}, ${rank}, ${local_rank} and ${hostname} are filled in. Default "
    "[rank${rank}]:",
)  # fmt: skip
@click.option(
    "--max-restarts", "--max_restarts", type=click.IntRange(min=0), default=0, show_default=True,
    help="Maximum number of restarts of all ranks after a failure.",
)  # fmt: skip
@click.option(
    "--signals-to-handle", "--signals_to_handle", type=_Signals(), metavar="SIGNALS",
    help="Signals to derail that end the job and are passed to each rank. Default "
    "SIGTERM,SIGINT,SIGHUP,SIGQUIT.",
)  # fmt: skip
@click.option(
    "--virtual-local-rank", "--virtual_local_rank", is_flag=True,
    help="Set LOCAL_RANK to 0 in each rank, and CUDA_VISIBLE_DEVICES to the one device of that rank.",
)  # fmt: skip
@click.option(
    "--grace", type=click.FloatRange(min=0), metavar="SECONDS",
    help="Grace period from SIGTERM to SIGKILL when the job is ended. Default 30, or TORCH_ELASTIC_SHUTDOWN_TIMEOUT.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="End a job that is not over after this time, and show which rank the others wait for. Implies --record.",
)  # fmt: skip
@click.option(
    "--record", is_flag=True,
    help="Record the last collectives of each rank (torch.distributed, mpi4py, derail.record_collective), for "
    "'derail where'.",
)  # fmt: skip
@trace_option
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help=f'Fault: "{EXAMPLE}". Repeatable.')
@click.option("--plan", type=click.Path(path_type=Path), help="Faults from a TOML or JSON file.")
@click.option("--seed", type=int, help="Seed for decisions that the faults leave open.")
@click.option("--master-addr", "--master_addr", default="127.0.0.1", show_default=True, help="Value of MASTER_ADDR.")
@click.option(
    "--master-port", "--master_port", type=click.IntRange(0, 65535),
    help="Value of MASTER_PORT. By default a free port.",
)  # fmt: skip
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def launch(  # noqa: PLR0913 - an option each
    *,
    ranks: int,
    module: bool,
    output_dir: Path | None,
    trace: Path | None,
    tee: Std | dict[int, Std] | None,
    redirects: Std | dict[int, Std] | None,
    local_ranks_filter: frozenset[int] | None,
    log_line_prefix_template: str | None,
    max_restarts: int,
    signals_to_handle: tuple[str, ...] | None,
    virtual_local_rank: bool,
    grace: float | None,
    timeout: float | None,
    record: bool,
    faults: tuple[str, ...],
    plan: Path | None,
    seed: int | None,
    master_addr: str,
    master_port: int | None,
    program: str,
    args: tuple[str, ...],
) -> NoReturn:
    """Run PROGRAM once per rank, on this machine, as one job.

    A .py file is run by this Python, with -u as torchrun does; anything else is a program. Ranks get RANK, LOCAL_RANK,
    WORLD_SIZE, MASTER_ADDR, MASTER_PORT and the other variables of torchrun. When a rank fails, the others are ended.

    The error file of the rank that failed first is copied to TORCHELASTIC_ERROR_FILE, if that is set.

    Exits with 0 if all ranks did, else with the code of the rank that failed first, or 128 + n if signal n ended it;
    with 124 after --timeout.
    SIGTERM, SIGINT, SIGHUP and SIGQUIT end the job (a second one at once); SIGUSR1 and SIGUSR2 go to every rank,
    unless --signals-to-handle names them.
    """
    from derail.agents.invocation import LocalJob
    from derail.agents.native_job import default_teardown, start_job
    from derail.cli.fault_option import read_plan
    from derail.launch import orphans
    from derail.launch.signals import SignalException

    orphans.owns_process = True
    run: Run = [sys.executable, "-u", "-m", program] if module else program
    with usage_errors(), evidence_directory(output_dir) as evidence:
        check_writable(trace)
        chosen = read_plan(faults, file=plan, seed=seed, ranks=ranks)
        shown = _shown_streams(tee, redirects, ranks)
        _check_ranks(local_ranks_filter, ranks)
        _check_port(master_addr, master_port)
        if signals_to_handle is not None:
            os.environ[HANDLED] = ",".join(signals_to_handle)  # ranks inherit it, as under torchrun
        with display(ranks, chosen, live=not any(shown.values())) as progress:
            job: NativeJob | None = None
            try:
                job = start_job(
                    LocalJob(
                        run,
                        ranks=ranks,
                        args=args,
                        plan=chosen,
                        teardown=default_teardown(grace),
                        tee=shown,
                        name=program,
                        master_addr=master_addr,
                        master_port=master_port or None,
                        restarts=max_restarts,
                        virtual_local_rank=virtual_local_rank,
                        shown_ranks=local_ranks_filter or (),
                        prefixes=_prefixes(log_line_prefix_template, ranks),
                        record=record or timeout is not None,
                    ),
                    workdir=evidence.path,
                    logs=output_dir,
                    observers=[progress],
                    forward_signals=[name for name in FORWARDED if name not in (signals_to_handle or ())],
                    handle_signals=True,
                )
                watch_faults(progress, job)
                job.wait(timeout)
                signalled = 0
            except SignalException as asked:
                signalled = int(asked.sigval)
                if job is not None:
                    job.close(asked.sigval)
        if trace is not None:
            _write_trace(trace, job)
        code = _report(job, signalled)
        evidence.keep = code not in (0, 128 + signalled)
        if evidence.keep:
            show(f"logs and journal: {evidence.path if job is None else job.journal.parent}", err=True)
    sys.exit(code)


def _shown_streams(
    tee: Std | dict[int, Std] | None, redirects: Std | dict[int, Std] | None, ranks: int
) -> dict[int, Std]:
    """Return the shown streams of each rank: all except those that --redirects names and --tee does not.

    Raises:
        ValueError: if an option names a rank that the job does not have.
    """
    from derail.model.std import Std, to_map

    hidden, teed = (to_map(Std.NONE if streams is None else streams, ranks) for streams in (redirects, tee))
    return {rank: Std.ALL & ~(hidden[rank] & ~teed[rank]) for rank in range(ranks)}


def _check_ranks(chosen: frozenset[int] | None, ranks: int) -> None:
    """Refuse a filter that names a rank that the job does not have.

    Raises:
        ValueError: if it names one.
    """
    for rank in sorted(chosen or ()):
        if rank >= ranks:
            raise ValueError(f"--local-ranks-filter: there is no rank {rank}; the job has ranks 0 to {ranks - 1}")


def _check_port(address: str, port: int | None) -> None:
    """Refuse a port that is taken, before any rank is started, as torchrun does, with the fields of torch's message.

    Exits with 1: this is not an input error.
    """
    from derail.platform.ports import LOOPBACKS, why_not_free

    if port and address in LOOPBACKS and (error := why_not_free(port)) is not None:
        code, message = error.errno or 0, (error.strerror or str(error)).lower()
        click.echo(
            f"derail: --master-port: rank 0 could not listen there. port: {port}, code: {-code}, "
            f"name: {errno.errorcode.get(code, '?')}, message: {message}",
            err=True,
        )
        sys.exit(1)


def _prefixes(template: str | None, ranks: int) -> dict[int, str] | None:
    """Return the prefix of shown lines for each rank; None for the default prefix."""
    import socket
    from string import Template

    if not template:
        return None
    about = {"role_name": "default", "hostname": socket.gethostname()}
    return {rank: Template(template).safe_substitute(about, rank=rank, local_rank=rank) for rank in range(ranks)}


def _write_trace(path: Path, job: NativeJob | None) -> None:
    """Write the timeline of a job's journal as a trace; an empty trace if no rank was started."""
    from derail.faults.engine import journal
    from derail.report.timeline import timeline
    from derail.report.trace import render_trace

    runs = [] if job is None else [(job.name, timeline(journal.read(job.journal), outcome=job.result))]
    path.write_bytes(render_trace(runs))


def _report(job: NativeJob | None, signalled: int) -> int:
    """Report on stderr how a job failed, and return the exit code."""
    result = None if job is None else job.result
    if job is None or result is None:  # the signal arrived while ranks were being started
        show(f"derail: ended by {signal_name(signalled)}", err=True)
        return 128 + signalled
    if result.failures:
        from derail.errors.recorder import pass_on
        from derail.errors.summary import ChildFailedError

        failed = ChildFailedError(job.name, result.failures)
        pass_on(failed)
        show(str(failed), err=True)
        _show_last_lines(result)
    for fault in job.fault_results():
        show(f"fault {fault.fault}: {fault.result}", err=True)
    if result.timed_out:
        show(f"derail: {result.stop_reason}", err=True)
        show(str(job.wait().hang), err=True)
        return TIMED_OUT
    if signalled and not result.failures:
        show(f"derail: ended by {signal_name(signalled)}", err=True)
        return 0 if result.succeeded else 128 + signalled
    return result.exit_code


def _show_last_lines(result: RunProcsResult) -> None:
    """Show the last lines of the root cause's stdout; those of its stderr are in the text of the failure."""
    from derail.report.text import TAIL_LINES, printable
    from derail.scenario.observe import tail

    rank = result.root_cause
    path = "" if rank is None else result.stdouts.get(rank, "")
    lines = tail(Path(path), lines=TAIL_LINES) if path else ()
    if lines:
        show(f"last lines of stdout of rank {rank}:", err=True)
        for line in lines:
            show(f"  | {printable(line)}", err=True)
