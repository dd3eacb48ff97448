"""``derail survive``: break a command at each point where it writes, start it again, and compare the ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from derail.cli.budget_option import duration
from derail.cli.evidence import check_writable, evidence_directory, output_dir_option
from derail.cli.usage import usage_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.recovery.campaign import Progress
    from derail.recovery.report import Report
    from derail.recovery.settings import Settings

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "survive",
    short_help="Break a training program at each point where it writes, and check that it resumes.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option(
    "--watch", multiple=True, required=True, metavar="PATTERN",
    help="Files that the program persists, relative to the working directory: 'ckpt/**'. Repeatable.",
)  # fmt: skip
@click.option(
    "--equal", multiple=True, metavar="REGEX",
    help="A value in the output, such as 'final loss (\\S+)', that must be the same in the end. Repeatable.",
)  # fmt: skip
@click.option("--close", type=click.FloatRange(min=0), metavar="TOLERANCE", help="Compare numbers with this tolerance.")
@click.option(
    "--same", multiple=True, metavar="PATTERN",
    help="Files that must be the same in the end; .pt, .safetensors and .npz by their tensors. Repeatable.",
)  # fmt: skip
@click.option("--step", metavar="REGEX", default="", help="Lines that report a step: 'step (\\d+)'.")
@click.option(
    "--break", "breaks", multiple=True, metavar="KIND",
    help="kill[=all|ranks|rank|launcher], power[=lost|names|torn], preempt=PROFILE, disk-full, io-error, "
    "slow[=SECONDS]. Repeatable. Default kill and preempt=terminate.",
)  # fmt: skip
@click.option("--allow", multiple=True, metavar="PATTERN", help="Files that a broken run may leave. Repeatable.")
@click.option(
    "--copy",
    multiple=True,
    metavar="PATTERN",
    help="Further files that each run gets a copy of, however large. Repeatable.",
)
@click.option(
    "--max-restarts", type=click.IntRange(min=1), default=3, show_default=True,
    help="How often a broken run is started again.",
)  # fmt: skip
@click.option("--points", type=click.IntRange(min=1), help="Break at most this often: each kind of point first.")
@click.option("--budget", metavar="TIME", callback=duration, help="Break as often as this time allows, like 20m.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice of points, and of torn data.")
@click.option(
    "--scale", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
    help="Factor of the times of profiles and slow calls.",
)  # fmt: skip
@click.option("--max-lost-steps", type=click.IntRange(min=0), metavar="N", help="Losing more steps is a finding.")
@click.option(
    "--max-recovery", metavar="TIME", callback=duration, help="A later first step after a start is a finding."
)
@click.option(
    "--timeout", metavar="TIME", callback=duration, default="10m", show_default=True,
    help="Time limit of the quiet run; each start after it gets 30 s and five times its duration.",
)  # fmt: skip
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at the same time.")
@click.option("--resume", is_flag=True, help="Continue the interrupted campaign in --output-dir.")
@output_dir_option("Keep all runs, and the scenario files of findings, in this directory. Default: survive.")
@click.option("--json", "json_file", type=_FILE, metavar="FILE", help="Write the report as JSON.")
@click.option("--junit", "junit_file", type=_FILE, metavar="FILE", help="Write it as JUnit XML.")
@click.option("--html", "html_file", type=_FILE, metavar="FILE", help="Write it as one HTML page.")
def survive(
    *,
    command: tuple[str, ...],
    watch: tuple[str, ...],
    jobs: int,
    resume: bool,
    output_dir: Path | None,
    json_file: Path | None,
    junit_file: Path | None,
    html_file: Path | None,
    **options: Any,
) -> NoReturn:
    """Break COMMAND at each point where it writes, start it again, and compare the end with that of a quiet run.

    COMMAND runs twice without a break, and then once for each point, each time in a separate directory: links to the
    files of the working directory, and a copy of what --watch names.

    Exits with 0 if all runs resume and end equal, 1 if one does not, 2 for wrong arguments or a command that cannot be
    judged, 3 if a point could not be judged, and 128 + n if signal n ended it.
    """
    from derail.launch.signals import SignalException
    from derail.recovery import campaign
    from derail.recovery.report import quiet_line, render_text

    with usage_errors():
        settings = _settings(command, watch, options)
        writers = _writers(json_file, junit_file, html_file)
        show = _Display(lambda quiet: quiet_line(quiet, watch))
        directory = output_dir or Path("survive")
        with evidence_directory(directory) as evidence:
            try:
                report = campaign.survive(
                    settings, evidence.path, jobs=jobs, resume=resume, handle_signals=True, on_progress=show
                )
            except SignalException as asked:
                show.end()
                click.echo(f"derail: ended by {asked.sigval.name}; continue with --resume", err=True)
                sys.exit(128 + asked.sigval)
        show.end()
        click.echo(render_text(report), nl=False)
        for path, render in writers:
            path.write_bytes(render(report))
    sys.exit(report.exit_code)


def is_survive_file(path: Path) -> bool:
    """Return whether a file is a scenario that ``derail survive`` has written."""
    import tomllib

    try:
        return "survive" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False


def repeat_break(path: Path, *, output_dir: Path | None, as_json: bool) -> NoReturn:
    """Repeat the break of a scenario file, and print what came of it."""
    from derail.launch.signals import SignalException
    from derail.recovery import campaign
    from derail.recovery.report import render_json, render_text, timeline

    with usage_errors(), evidence_directory(output_dir) as evidence:
        try:
            report = campaign.repeat(path, evidence.path / "repeat", handle_signals=True)
        except SignalException as asked:
            click.echo(f"derail: ended by {asked.sigval.name}", err=True)
            sys.exit(128 + asked.sigval)
        if as_json:
            click.echo(render_json(report), nl=False)
        else:
            click.echo("\n".join(timeline(trial) for trial in report.trials))
            click.echo(render_text(report), nl=False)
    sys.exit(report.exit_code)


def _settings(command: tuple[str, ...], watch: tuple[str, ...], asked: dict[str, Any]) -> Settings:
    """Return the campaign of the options.

    Raises:
        InputError: with all errors in one of them.
    """
    from derail.recovery.attempt import Program, check_patterns
    from derail.recovery.breaks import DEFAULT, read_breaks
    from derail.recovery.settings import Settings
    from derail.recovery.trial import Demands

    step: str = asked["step"]
    values = (*asked["equal"], *([step] if step else []))
    check_patterns(watch, asked["same"], asked["allow"], asked["copy"], values=values, step=step)
    demands = (asked[name] for name in ("equal", "close", "same", "allow", "max_restarts", "timeout"))
    others = ("points", "budget", "seed", "scale", "max_lost_steps", "max_recovery")
    return Settings(
        Program(command, os.getcwd(), watch, step, asked["copy"]),
        Demands(*demands),
        read_breaks(asked["breaks"] or DEFAULT, scale=asked["scale"]),
        **{name: asked[name] for name in others},
    )


class _Display:
    """Progress on stderr: one line that is drawn again on a terminal, else a line for each finding."""

    def __init__(self, quiet_text: Callable[..., str]) -> None:
        self._quiet_text = quiet_text
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown_quiet = False

    def __call__(self, progress: Progress) -> None:
        from derail.report.text import printable

        if progress.quiet is not None and not self._shown_quiet:
            self._shown_quiet = True
            click.echo(self._quiet_text(progress.quiet), err=True)
        trial = progress.trial
        if self._live and progress.total:
            filled = 20 * progress.done // progress.total
            bar = "#" * filled + "-" * (20 - filled)
            click.echo(
                f"\r[{bar}] {progress.done}/{progress.total}  {progress.found} do not resume equal ", nl=False, err=True
            )
        elif trial is not None and trial.findings:
            click.echo(printable(f"{trial.name}: {trial.point}: {trial.findings[0].text}"), err=True)

    def end(self) -> None:
        """End the line that is drawn again."""
        if self._live:
            click.echo("", err=True)


def _writers(
    json_file: Path | None, junit_file: Path | None, html_file: Path | None
) -> list[tuple[Path, Callable[[Report], bytes]]]:
    from derail.recovery.report import render_html, render_json, render_junit

    wanted: list[tuple[Path | None, Callable[[Report], bytes]]] = [
        (json_file, render_json),
        (junit_file, render_junit),
        (html_file, lambda report: render_html(report).encode()),
    ]
    writers = [(path, render) for path, render in wanted if path is not None]
    for path, _ in writers:
        check_writable(path)
    return writers
