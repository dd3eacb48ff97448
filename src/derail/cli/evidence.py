"""Directories for a command's logs and journal."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from derail.faults.engine.journal import JOURNAL
from derail.platform.private_files import is_of_another_user, make_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

F = TypeVar("F", bound="Callable[..., Any]")


def output_dir_option(purpose: str) -> Callable[[F], F]:
    """Return the option ``--output-dir``, under which a command keeps its evidence."""
    return click.option(
        "--output-dir", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help=purpose,
    )  # fmt: skip


def trace_option(command: F) -> F:
    """Add ``--trace``, with which a command writes its timeline as a trace for Perfetto."""
    return click.option(
        "--trace", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
        help="Write the timeline as a JSON trace for ui.perfetto.dev: a track for the launcher and one for each rank.",
    )(command)  # fmt: skip


def check_writable(path: Path | None) -> None:
    """Create the file of a report if it does not exist, before anything runs.

    Raises:
        OSError: if it cannot be written.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


class Evidence:
    """Directory for logs and journal; a temporary one is removed unless ``keep`` is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keep = False


MARKER = ".derail"
"""Name of the file that marks a directory with nothing but derail's evidence."""


def clear(directory: Path) -> None:
    """Empty a directory with the evidence of an earlier run: its files do not belong to this one.

    Raises:
        ValueError: if there is a journal, and the directory may also contain other files; or if another user could
            replace what is removed.
    """
    import shutil

    if (directory / MARKER).is_file():
        if is_of_another_user(directory):
            raise ValueError(f"{directory}: not safe to clear: another user could replace its files. Give your own one")
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    elif (directory / JOURNAL).exists():
        raise ValueError(f"{directory}: has the journal of an earlier run and other files. Give an empty directory")
    elif directory.is_dir() and any(directory.iterdir()):
        return
    make_private(directory)
    (directory / MARKER).touch()


@contextmanager
def evidence_directory(directory: Path | None, *, of_one_run: bool = False) -> Iterator[Evidence]:
    """Yield the given directory, or a temporary one.

    Args:
        directory: the given directory; None if there is none.
        of_one_run: whether it is for one run, which must not be mixed with the evidence of an earlier one.

    Raises:
        ValueError: if it has the evidence of an earlier run that cannot be cleared.
    """
    if directory is not None:
        if of_one_run:
            clear(directory)
        yield Evidence(directory)
        return
    import shutil
    import tempfile

    evidence = Evidence(Path(tempfile.mkdtemp(prefix="derail-")))
    try:
        yield evidence
    finally:
        if not evidence.keep:
            shutil.rmtree(evidence.path, ignore_errors=True)
