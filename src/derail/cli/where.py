"""``derail where``: where the ranks of a job are, and the rank that the others wait for."""

from __future__ import annotations

from pathlib import Path

import click

from derail.cli.display import show
from derail.cli.usage import usage_errors


@click.command(short_help="Show where the ranks of a job are, and which rank the others wait for.")
@click.argument("job", metavar="PID|JOURNAL")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def where(*, job: str, as_json: bool) -> None:
    """Show where the ranks of a job are, and which rank the others wait for.

    The job is named by the pid of its launcher or of a rank, or by its journal or the directory of that. Its ranks must
    record their collectives: derail launch --record does that, and tests on ranks do. A job that runs is not changed,
    except that its ranks write their stacks to stderr. For a job that is over, the verdict is from its journal, or from
    what its ranks had recorded.
    """
    import json

    from derail.diagnose.stacks import equal_stacks
    from derail.diagnose.where import of_journal, of_process
    from derail.faults.engine.journal import JOURNAL

    with usage_errors():
        path = Path(job)
        if job.isdecimal() and not path.exists():
            place = of_process(int(job))
        else:
            place = of_journal(path / JOURNAL if path.is_dir() else path)
    verdict = place.verdict
    if as_json:
        data = {"over": place.is_over, **verdict.data(), "stacks": place.stacks}
        click.echo(json.dumps({**data, "journal": str(place.journal)}, indent=2))
        return
    if place.is_over:
        show("the job is over; before its end:")
    show(str(verdict))
    for ranks, stack in equal_stacks(place.stacks):
        show(f"\nrank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}:\n{stack.rstrip()}")
    show(f"journal: {place.journal}")
