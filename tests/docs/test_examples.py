"""What the documentation shows works as it is shown."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


RUN_ELSEWHERE = {"verifying-an-agent.md": "by tests/docs/test_agent_tutorial.py, with arguments"}
"""Pages whose pieces of Python are run by another test, and by which."""


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line number and text of each fenced block of a language."""
    text = page.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


def cases(language: str) -> list[object]:
    """All blocks of a language, as test cases named after page and line."""
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}:{line}")
        for page in PAGES
        if page.name not in RUN_ELSEWHERE
        for line, text in blocks(page, language)
    ]


def shown(example: Path) -> list[str]:
    """What an example says that it prints: the comment after ``# prints:``."""
    _, _, told = example.read_text().partition("\n# prints:\n")
    return [line.removeprefix("#").removeprefix(" ") for line in told.splitlines()]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_each_example_prints_what_it_says(example, tmp_path):
    """An example runs, prints exactly what stands at its end, and complains of nothing."""
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(example)],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert (ran.stdout.splitlines(), ran.stderr, ran.returncode) == (shown(example), "", 0)


@pytest.mark.parametrize("source", cases("python"))
def test_each_piece_of_python_on_a_page_runs(source, tmp_path):
    """Tests are run by pytest, programs by Python."""
    functions = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    if any(name.startswith("test_") for name in functions):
        (tmp_path / "test_page.py").write_text(source)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rs",
            "-p",
            "no:cacheprovider",
            "--basetemp=base",
            "test_page.py",
        ]
    else:
        (tmp_path / "page.py").write_text(source)
        command = [sys.executable, "page.py"]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip

    is_skipped = ran.returncode == pytest.ExitCode.NO_TESTS_COLLECTED and "could not import 'torch" in ran.stdout
    assert ran.returncode == 0 or is_skipped, ran.stdout + ran.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page):
    """Links to files of the repository are not broken."""
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", page.read_text())]
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]

    assert broken == []


def test_readmes_first_command_breaks_a_job_and_tells_what_happened(tmp_path):
    """The main job, as the README shows it: rank 2 is killed, and that is what is said."""
    command = shlex.split(readme_commands()[0].split("&&")[-1])
    derail = Path(sysconfig.get_path("scripts"), Path(command[0]).name)
    ran = subprocess.run(
        [derail, *command[1:]], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr
    missing = [word for word in ("PASS", "rank 2", "SIGKILL", "step 3") if word not in ran.stdout]
    assert missing == [], ran.stdout


def test_ci_runs_readmes_test_command():
    """CI takes the test command from the README, where it has the form that CI looks for."""
    found = re.findall(r"^python3 -m venv .*/bin/python (-m pytest.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert len(found) == 1
    assert found[0] in readme_commands()[1]


def readme_commands() -> list[str]:
    """The two commands of the README: try it, test it."""
    return [text.strip() for _, text in blocks(ROOT / "README.md", "console")[:2]]
