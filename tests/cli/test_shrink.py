"""``derail shrink``: a failing scenario with real processes, reduced and written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from derail.scenario.load import load

if TYPE_CHECKING:
    from cli.conftest import Derail

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "shrink-a-failing-run.md").read_text()


def write_scenario(folder: Path, *signals: str) -> Path:
    """Write the scenario of the page, with only these faults: its rank 1 fails if it got SIGUSR1 and SIGUSR2."""
    (folder / "worker.py").write_text(PAGE.split("```py\n")[1].split("```")[0])
    lines = PAGE.split("```toml\n")[1].split("```")[0].splitlines()
    kept = [line for line in lines if not line.startswith("  { id =") or not signals or line.split('"')[1] in signals]
    path = folder / "signals.toml"
    path.write_text("\n".join(kept))
    return path


def test_seven_faults_of_which_two_matter(derail_command: Derail, tmp_path: Path):
    """The two that fail the job together remain, in fewer than 25 runs, in a scenario that can be read."""
    output = tmp_path / "out" / "small.toml"
    output.parent.mkdir()
    done = derail_command("shrink", write_scenario(tmp_path), "-o", output, "--max-runs", "24")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [fault.id for fault in load(output).faults.faults] == ["SIGUSR1", "SIGUSR2"]
    assert load(output).worker == (tmp_path / "worker.py").resolve()
    assert done.stdout.splitlines()[:-1] == PAGE.split("-o small.toml\n")[1].split("\nwritten to")[0].splitlines()
    assert derail_command("run", output).returncode == 1


def test_a_scenario_that_passes_is_not_reduced(derail_command: Derail, tmp_path: Path):
    """A scenario that passes is an error in words, and nothing is written."""
    output = tmp_path / "small.toml"
    done = derail_command("shrink", write_scenario(tmp_path, "SIGUSR1"), "-o", output)
    assert done.returncode == 2
    assert "nothing to reduce: it is PASS" in done.stderr
    assert not output.exists()


def test_the_scenario_itself_is_not_overwritten(derail_command: Derail, tmp_path: Path):
    """The file to reduce cannot be the output."""
    scenario = write_scenario(tmp_path, "SIGUSR1", "SIGUSR2")
    text = scenario.read_text()
    done = derail_command("shrink", scenario, "-o", scenario)
    assert done.returncode == 2
    assert "is the scenario to reduce" in done.stderr
    assert scenario.read_text() == text


def test_a_journal_is_refused_as_such(derail_command: Derail, tmp_path: Path):
    """It is no damaged scenario."""
    journal = tmp_path / "journal.jsonl"
    journal.write_text("{}\n")
    done = derail_command("shrink", journal, "-o", tmp_path / "small.toml")
    assert done.returncode == 2
    assert "expected a scenario, got a journal" in done.stderr
