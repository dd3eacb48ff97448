"""What the pages about CI show can be pasted: it is YAML, and each command in it is one that there is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from derail.cli import main
from derail.scenario.load import shipped

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"
TEXT = "\n".join((HOW_TO / page).read_text() for page in ("ci.md", "xdist-and-ci.md"))
BLOCKS = re.findall(r"^```(yaml|console)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
PIPELINES = [yaml.safe_load(block) for language, block in BLOCKS if language == "yaml"]


def scripts(value: object) -> list[str]:
    """The shell scripts in a pipeline."""
    if isinstance(value, dict):
        found = [value[key] for key in ("run", "script") if key in value]
        flat = [line for item in found for line in ([item] if isinstance(item, str) else item)]
        return flat + [line for key, item in value.items() if key not in ("run", "script") for line in scripts(item)]
    return [line for item in value for line in scripts(item)] if isinstance(value, list) else []


def commands(script: str) -> list[list[str]]:
    """The words of each call of derail in a shell script."""
    joined = re.sub(r"\\\n\s*", " ", script).replace("${{ matrix.agent }}", "native")
    words = (shlex.split(line.partition("||")[0]) for line in joined.splitlines())
    return [line for line in words if line[:1] in (["derail"], ["pytest"])]


CALLS = [
    call
    for script in [*scripts(PIPELINES), *(block for language, block in BLOCKS if language == "console")]
    for call in commands(script)
]


def test_the_pipelines_are_those_of_github_and_gitlab() -> None:
    """Both keep JUnit and HTML, and say what the machine must be able to do; GitLab's has a job for each family."""
    github, gitlab, _ = PIPELINES
    assert gitlab["verify-agent"]["parallel"]["matrix"] == [
        {"FAMILY": sorted({name.partition("/")[0] for name in shipped()})}
    ]
    steps = github["jobs"]["verify"]["steps"]
    assert [step["uses"].partition("@")[0] for step in steps if "uses" in step] == [
        "actions/checkout",
        "actions/setup-python",
        "actions/upload-artifact",
    ]
    assert gitlab["verify-agent"]["artifacts"]["reports"] == {"junit": "report/junit.xml"}
    for pipeline in (github, gitlab):
        called = [call for script in scripts(pipeline) for call in commands(script)]
        assert [call[1] for call in called][:2] == ["doctor", "verify-agent"]
        assert "--require" in called[0]
        assert {"--junit", "--html", "--json"} <= set(called[1])


DERAIL, PYTEST = ([call for call in CALLS if call[0] == program] for program in ("derail", "pytest"))


@pytest.mark.parametrize("call", DERAIL, ids=lambda call: " ".join(call[1:4]))
def test_each_command_is_one_that_there_is(call: list[str]) -> None:
    """With options that it takes."""
    command = main.commands[call[1]]
    with click.Context(command) as context:
        command.make_parser(context).parse_args(call[2:])


def test_each_option_of_pytest_is_one_that_there_is() -> None:
    """With the plugin and xdist."""
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", told.stdout))
    assert len(PYTEST) == 5
    assert {word.partition("=")[0] for call in PYTEST for word in call if word.startswith("-")} <= known
