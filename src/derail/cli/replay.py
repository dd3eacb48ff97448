"""``derail replay``: rerun of a job from its journal."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import click

from derail.cli.display import display, watch_faults
from derail.cli.evidence import MARKER, evidence_directory, output_dir_option
from derail.cli.usage import usage_errors


@click.command(short_help="Run a job again from its journal, with the same faults.")
@click.argument("journal", type=click.Path(path_type=Path))
@output_dir_option(
    "Keep logs and journal of the new run in this directory. Those of an earlier replay there are removed."
)
def replay(*, journal: Path, output_dir: Path | None) -> NoReturn:
    """Run the job of a JOURNAL, or of the directory that contains it, again with the same faults; show the differences.

    Program, arguments, directory and ranks are those of the journal; the environment is the current one, plus the
    variables in the journal. What the plan determines must be the same: the result of each fault, and the occurrences
    at which it acted.

    Exits with 0 if the run was the same, 1 if something differed, 2 if the job cannot be run again, 3 if a fault does
    not verifiably happen that did before, 4 if one is unavailable on this machine.
    """
    from derail.campaign import replay as replaying
    from derail.errors.text import neutral
    from derail.faults.engine.journal import JOURNAL
    from derail.launch.signals import SignalException

    with usage_errors(), ExitStack() as stack:
        file = journal / JOURNAL if (journal / JOURNAL).is_file() else journal
        before = replaying.read(file)
        kept = output_dir is not None and (output_dir / MARKER).is_file()
        if output_dir is not None and kept and output_dir.resolve() in file.resolve().parents:
            raise ValueError(
                f"--output-dir: {output_dir} contains the journal to replay, {journal}. Give another directory"
            )
        evidence = stack.enter_context(evidence_directory(output_dir, of_one_run=True))
        with display(before.how["ranks"], before.plan, live=True) as progress:
            job = replaying.start(before, workdir=evidence.path, observers=[progress])
            try:
                watch_faults(progress, job)
                job.wait(before.stopped_after)
            except SignalException as asked:
                job.close(asked.sigval)
                click.echo(f"derail: ended by {asked.sigval.name}", err=True)
                sys.exit(128 + asked.sigval)
            finally:
                job.close()
        now = replaying.read(job.journal)
        for (fault, rank), result in now.results.items():
            click.echo(neutral(f"{fault} on rank {rank}: {result}"))
        different = replaying.differences(before, now)
        for difference in different:
            click.echo(neutral(f"{'differs' if difference.matters else 'also'}: {difference.text}"))
        if not different:
            click.echo("no differences")
    sys.exit(replaying.exit_code(before, now))
