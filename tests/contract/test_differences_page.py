"""docs/explanation/differences.md names tests that exist, and has every deviation that the contract cases know of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from contract.registry import load_cases

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "differences.md"
NODE_ID = re.compile(r"`(tests/[^`]+\.py::[^`]+)`")
CORPUS = "_as_error_file_hurts_nobody"
PRINTED = "_can_be_printed"


def test_every_test_named_on_the_page_exists() -> None:
    """Each row names a test, and pytest collects it under that very node id."""
    text = PAGE.read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith(("| torch |", "|---"))]
    named = [NODE_ID.findall(row) for row in rows]
    assert [row for row, ids in zip(rows, named, strict=True) if len(ids) != 1] == []
    ids = {node_id for row in named for node_id in row}
    files = sorted({node_id.partition("::")[0] for node_id in ids})
    options = ["--collect-only", "-q", "-m", "", "-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider"]
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ids - set(collected.stdout.splitlines()) == set(), collected.stdout[-2000:] + collected.stderr


def test_every_known_fault_of_torch_is_on_the_page() -> None:
    """A case that torch is known to fail is a difference that users are told of; the corpus shares its rows."""
    text = PAGE.read_text()
    faults = [name for name, case in load_cases().items() if case.fault is not None]
    missing = [name for name in faults if f"[derail-{name}]" not in text and not name.endswith((CORPUS, PRINTED))]
    assert missing == []
