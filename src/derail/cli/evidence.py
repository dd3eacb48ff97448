"""Where a command puts logs and journal."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Evidence:
    """A directory for logs and journal; a temporary one is removed unless something says to keep it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keep = False


@contextmanager
def evidence_directory(directory: Path | None) -> Iterator[Evidence]:
    """The directory that was asked for, or a temporary one."""
    if directory is not None:
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
