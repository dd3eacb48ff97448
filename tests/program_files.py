"""Programs that tests run in processes of their own, and modules for a pytest of its own: files in tests/programs."""

from __future__ import annotations

import re
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


def program_text(name: str, **constants: object) -> str:
    """Return the source of a program, named by its path below tests/programs without ``.py``.

    Constants of the program get the values given here. The source of a module beside it replaces the import of that
    module: the text needs no other file.
    """
    path = PROGRAMS / f"{name}.py"

    def inlined(found: re.Match[str]) -> str:
        module = path.with_name(f"{found['module']}.py")
        return program_text(str(module.relative_to(PROGRAMS).with_suffix(""))) if module.is_file() else found[0]

    text = re.sub(r"^from (?P<module>\w+) import (\([^)]*\)|.*)$", inlined, path.read_text(), flags=re.MULTILINE)
    for constant, value in constants.items():
        text, number = re.subn(rf"^{constant} = .*$", lambda _: f"{constant} = {value!r}", text, flags=re.MULTILINE)  # noqa: B023
        assert number == 1, f"{path} has {number} assignments to {constant}"
    return text


UNTIL = program_text("faults/waiting")
"""Begin of a rank's source: ``until`` a text is in the journal, ``until_told`` a number of lines was read."""
