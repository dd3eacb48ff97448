"""``derail launch``: one job on this machine, with or without faults."""

from __future__ import annotations

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


class _Streams(click.ParamType[object]):
    """Streams as torchrun takes them: ``3``, ``0:3,1:0``, ``0-7:1``."""

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


@click.command(
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
    short_help="Run a program once per rank, on this machine, as one job.",
)
@click.option(
    "-n", "--ranks", "--nproc-per-node", "--nproc_per_node", "ranks",
    type=click.IntRange(min=1), default=1, show_default=True, help="How many ranks.",
)  # fmt: skip
@click.option("-m", "--module", is_flag=True, help="PROGRAM is the name of a Python module, as for python -m.")
@output_dir_option(
    "Where logs and journal go: each run has a directory of its own (DIR/RUN/attempt_0/RANK/, DIR/RUN/journal.jsonl); "
    "DIR/journal.jsonl is a link to the newest. By default a temporary directory, which is kept if the job fails."
)
@click.option(
    "-t", "--tee", type=_Streams(), metavar="STREAMS",
    help="Streams that are shown as well as written to files: 0 none, 1 stdout, 2 stderr, 3 both, or by rank as "
    "0:3,4-7:1. Default 3, less what --redirects names.",
)  # fmt: skip
@click.option("-r", "--redirects", type=_Streams(), metavar="STREAMS", help="Streams that are only written to files.")
@click.option(
    "--grace", type=click.FloatRange(min=0), metavar="SECONDS",
    help="From SIGTERM to SIGKILL when the job is ended. Default 30, or TORCH_ELASTIC_SHUTDOWN_TIMEOUT.",
)  # fmt: skip
@trace_option
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help=f'Break something: "{EXAMPLE}". Repeatable.')
@click.option("--plan", type=click.Path(path_type=Path), help="Faults from a TOML or JSON file.")
@click.option("--seed", type=int, help="Seed of the decisions that the faults leave open.")
@click.option("--master-addr", "--master_addr", default="127.0.0.1", show_default=True, help="What MASTER_ADDR says.")
@click.option(
    "--master-port", "--master_port", type=click.IntRange(0, 65535),
    help="What MASTER_PORT says. By default a port that is free.",
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
    grace: float | None,
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
    WORLD_SIZE, MASTER_ADDR, MASTER_PORT and what else torchrun sets. When a rank fails, the others are ended.

    The error file of the rank that failed first is copied to TORCHELASTIC_ERROR_FILE, if that is set.

    Exits with 0 if all ranks did, else with the code of the rank that failed first, or 128 + n if signal n ended it.
    SIGTERM, SIGINT, SIGHUP and SIGQUIT end the job (a second one at once); SIGUSR1 and SIGUSR2 go to every rank.
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
                    ),
                    workdir=evidence.path,
                    logs=output_dir,
                    observers=[progress],
                    forward_signals=("SIGUSR1", "SIGUSR2"),
                    handle_signals=True,
                )
                watch_faults(progress, job)
                job.wait()
                signalled = 0
            except SignalException as asked:
                signalled = int(asked.sigval)
                if job is not None:
                    job.close(asked.sigval)
        if trace is not None:
            _write_trace(trace, job)
        code = _tell(job, signalled)
        evidence.keep = code not in (0, 128 + signalled)
        if evidence.keep:
            show(f"logs and journal: {evidence.path if job is None else job.journal.parent}", err=True)
    sys.exit(code)


def _shown_streams(
    tee: Std | dict[int, Std] | None, redirects: Std | dict[int, Std] | None, ranks: int
) -> dict[int, Std]:
    """Which streams of each rank are shown: those that --tee names, else all that --redirects does not.

    Raises:
        ValueError: if a rank is named that the job does not have.
    """
    from derail.model.std import Std, to_map

    hidden = to_map(Std.NONE if redirects is None else redirects, ranks)
    return {rank: Std.ALL & ~std for rank, std in hidden.items()} if tee is None else to_map(tee, ranks)


def _write_trace(path: Path, job: NativeJob | None) -> None:
    """Write what the journal of a job says happened; an empty trace if no rank was started."""
    from derail.faults.engine import journal
    from derail.report.timeline import timeline
    from derail.report.trace import render_trace

    runs = [] if job is None else [(job.name, timeline(journal.read(job.journal), outcome=job.result))]
    path.write_bytes(render_trace(runs))


def _tell(job: NativeJob | None, signalled: int) -> int:
    """Say on stderr how a job failed, and return what to exit with."""
    result = None if job is None else job.result
    if job is None or result is None:  # the signal came while ranks were being started
        show(f"derail: ended by {signal_name(signalled)}", err=True)
        return 128 + signalled
    if result.failures:
        from derail.errors.recorder import pass_on
        from derail.errors.summary import ChildFailedError

        failed = ChildFailedError(job.name, result.failures)
        pass_on(failed)
        show(str(failed), err=True)
        _tell_last_lines(result)
    for told in job.fault_results():
        show(f"fault {told.fault}: {told.result}", err=True)
    if signalled and not result.failures:
        show(f"derail: ended by {signal_name(signalled)}", err=True)
        return 0 if result.succeeded else 128 + signalled
    return result.exit_code


def _tell_last_lines(result: RunProcsResult) -> None:
    """Show the end of what the root cause wrote to stdout; that of its stderr stands in the failure's own text."""
    from derail.report.text import TAIL_LINES, printable
    from derail.scenario.observe import tail

    rank = result.root_cause
    path = "" if rank is None else result.stdouts.get(rank, "")
    lines = tail(Path(path), lines=TAIL_LINES) if path else ()
    if lines:
        show(f"last lines of stdout of rank {rank}:", err=True)
        for line in lines:
            show(f"  | {printable(line)}", err=True)
