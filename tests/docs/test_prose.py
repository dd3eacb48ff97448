"""Prose of the docs and of docstrings: plain words, as often as other projects of the field use them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DIALECT = (
    "whoever", "somebody", "nobody", "everybody", "anybody", "told", "tells", "hear", "hears", "heard",
    "so many", "so long", "so often", "as it is", "all the same", "comes to", "come to", "goes on", "go on", "went on",
    "meanwhile", "of its own", "of their own", "what there is", "be it", "stands", "stand", "lies", "lie", "of before",
)  # fmt: skip
"""Words that derail's first texts used for everything: for processes that report, files that exist, users."""

CONTROL = 0.23
"""Occurrences of these words per 1,000 words in trio's docs and in its docstrings, the highest of four control texts:
the docs of pytest have 0.10, its docstrings none (counted once, in November 2026)."""

FEW = 2
"""Occurrences that a room may have however small it is."""

_WORDS = re.compile(r"[A-Za-z']+")
_PATTERN = re.compile(
    r"\b(?:" + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in DIALECT) + r")\b", re.IGNORECASE
)


def _prose_of_page(path: Path) -> str:
    """Return a page of Markdown without its code."""
    return re.sub(r"`[^`]*`", "X", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL))


def _prose_of_module(path: Path) -> str:
    """Return the docstrings of a module, and the strings under its constants, without their code."""
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return re.sub(r"``[^`]*``", "X", "\n".join(strings))


def _rooms() -> list[str]:
    packages = [ROOT / "src" / "derail", ROOT / "pytest_plugin" / "pytest_derail"]
    folders = [folder for package in packages for folder in package.iterdir() if any(folder.glob("*.py"))]
    return ["docs", *sorted(str(folder.relative_to(ROOT)) for folder in [*packages, *folders])]


def _files(room: str) -> list[Path]:
    """Return the pages or modules of a room; of a package itself, those that are in no folder below it."""
    folder = ROOT / room
    if room == "docs":
        return sorted(folder.rglob("*.md"))
    return sorted(folder.glob("*.py") if folder.name in ("derail", "pytest_derail") else folder.rglob("*.py"))


@pytest.mark.parametrize("room", _rooms())
def test_a_room_uses_words_of_the_dialect_no_more_than_other_projects(room):
    """The failure lists the words with their files."""
    prose = {path: (_prose_of_page if room == "docs" else _prose_of_module)(path) for path in _files(room)}
    found = [f"{path.relative_to(ROOT)}: {word}" for path, text in prose.items() for word in _PATTERN.findall(text)]
    words = sum(len(_WORDS.findall(text)) for text in prose.values())

    assert len(found) <= max(FEW, CONTROL * words / 1000), found


def test_the_words_are_found_wherever_a_line_is_broken():
    """A phrase may be broken over two lines, in either case of letters."""
    assert _PATTERN.findall("Nobody comes\n    to it, and so\nmany goes on") == [
        "Nobody",
        "comes\n    to",
        "so\nmany",
        "goes on",
    ]
