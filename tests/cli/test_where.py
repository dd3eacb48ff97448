"""``derail where``, and ``derail launch --timeout``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail

pytestmark = pytest.mark.usefixtures("unmeasured")
LOOK = "   <- look here"
VERDICT = [
    "hang: ranks 0, 2 wait in exchange #6 called at train.py:19",
    f"      rank 1 never called it: after exchange #5 it went to evaluate() at train.py:10 (waits on a lock){LOOK}",
]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program whose rank 1 goes elsewhere."""
    path = tmp_path / "train.py"
    path.write_text(program_text("diagnose/one_goes_elsewhere"))
    return path


def test_a_job_that_is_not_over_in_time_is_ended_with_a_verdict(
    derail_command: Derail, script: Path, tmp_path: Path
) -> None:
    """The exit code is that of timeout(1); ``where`` shows the same later, in lines or as JSON."""
    out = tmp_path / "out"
    ran = derail_command("launch", "-n", 3, "--timeout", 5, "--grace", 1, "--output-dir", out, script)
    shown = derail_command("where", out)
    data = json.loads(derail_command("where", out / "journal.jsonl", "--json").stdout)

    assert ran.returncode == 124
    assert ran.stderr.splitlines()[-4:-1] == ["derail: not over after 5 s", *VERDICT]
    assert shown.stdout.splitlines()[:3] == ["the job is over; before its end:", *VERDICT]
    assert data["over"]
    assert data["lines"] == VERDICT
    assert [(each["rank"], each["reason"]) for each in data["culprits"]] == [(1, "missing call")]


def test_a_job_that_is_over_in_time_exits_as_without_a_limit(derail_command: Derail, tmp_path: Path) -> None:
    """Recording changes nothing, and ``where`` says that nothing was recorded without it."""
    script = tmp_path / "ends.py"
    script.write_text("import sys; sys.exit(3)")
    out = tmp_path / "out"
    ran = derail_command("launch", "--timeout", 100, "--output-dir", tmp_path / "timed", script)
    derail_command("launch", "--output-dir", out, script)
    asked = derail_command("where", out)

    assert ran.returncode == 3
    assert asked.returncode == 2
    assert "its ranks recorded no collectives. Start the job with derail launch --record" in asked.stderr


@pytest.mark.parametrize("agent", ["native", pytest.param("torchrun", marks=pytest.mark.torch)])
def test_a_scenario_that_times_out_has_a_verdict_on_request(
    derail_command: Derail, script: Path, tmp_path: Path, agent: str
) -> None:
    """On derail's launcher, and under an external one, whose ranks record in the same way."""
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(
        f'title = "one goes elsewhere"\nworker = "{script.name}"\nranks = 3\ntimeout = 12\ngrace = 1\n'
        "[expect]\nsucceeded = false\n"
    )
    ran = derail_command("run", scenario, "--record", "--agent", agent, "--json")
    hang = json.loads(ran.stdout)["hang"]

    assert hang["lines"] == VERDICT
    assert [(each["rank"], each["reason"]) for each in hang["culprits"]] == [(1, "missing call")]
    assert json.loads(derail_command("run", "hang/deadlock", "--json").stdout)["hang"] is None
