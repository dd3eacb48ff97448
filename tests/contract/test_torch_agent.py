"""Torch's own elastic agent on derail's launcher: who supervises the ranks is replaced, and the agent goes on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from conftest import RunPython

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
]

TESTS = str(Path(__file__).resolve().parents[1])

AGENT = program_text("contract/torch_agent")


@pytest.fixture
def agent(run_python: RunPython, tmp_path: Path) -> Any:
    """Runs two ranks under torch's agent, and returns what came of them."""

    def run(entrypoint: str, *args: object, max_restarts: int = 0) -> dict[str, Any]:
        order = json.dumps([entrypoint, args, str(tmp_path / "logs"), max_restarts])
        script = tmp_path / "agent.py"
        script.write_text(AGENT)
        run_it = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
        done = run_python(run_it, order, env={"PYTHONPATH": TESTS}, deadline=200)
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return facts

    return run


def test_the_agent_runs_programs_to_their_end(agent: Any, tmp_path: Path) -> None:
    """Both ranks run with their environment, write to their logs, and the agent returns no values for programs."""
    facts = agent("/bin/sh", "-c", "echo rank $RANK of $WORLD_SIZE")
    logs = sorted(path.read_text() for path in tmp_path.glob("logs/run_*/attempt_0/*/stdout.log"))
    assert (facts, logs) == (
        {"values": {"0": None, "1": None}, "jobs": ["derail"]},
        ["rank 0 of 2\n", "rank 1 of 2\n"],
    )


def test_the_agent_gets_the_values_of_functions(agent: Any) -> None:
    """Functions return their values through derail to the caller of ``elastic_launch``."""
    assert agent("add", 2, 3) == {"values": {"0": 5, "1": 5}, "jobs": ["derail"]}


def test_the_agent_names_the_rank_that_failed(agent: Any) -> None:
    """ChildFailedError has the one rank that failed by itself, with its exit code, and not the one that was stopped."""
    facts = agent("/bin/sh", "-c", "[ $RANK = 0 ] && exec sleep 600; echo the reason >&2; exit 7")
    text = facts.pop("text")
    assert facts == {"root cause": 1, "exit code": 7, "failures": [1], "jobs": ["derail"]}
    assert "the reason" in text


def test_the_agent_restarts_a_failed_job(agent: Any, tmp_path: Path) -> None:
    """With one restart allowed, a job that fails once is started again, and the logs of both attempts are kept."""
    facts = agent(
        "/bin/sh",
        "-c",
        "echo attempt $TORCHELASTIC_RESTART_COUNT; [ $RANK$TORCHELASTIC_RESTART_COUNT != 10 ]",
        max_restarts=1,
    )
    logs = {
        f"{path.parts[-3]}/{path.parts[-2]}": path.read_text() for path in tmp_path.glob("logs/run_*/*/*/stdout.log")
    }
    assert facts == {"values": {"0": None, "1": None}, "jobs": ["derail", "derail"]}
    assert {name: text for name, text in logs.items() if name != "attempt_0/0"} == {
        "attempt_0/1": "attempt 0\n",
        "attempt_1/0": "attempt 1\n",
        "attempt_1/1": "attempt 1\n",
    }


def test_a_function_that_fails_is_blamed_through_the_agent(agent: Any) -> None:
    """The exception of a function is in the text of the agent's error."""
    facts = agent("add", 2, "three")
    assert (facts["root cause"] in (0, 1), facts["exit code"]) == (True, 1)
    assert "TypeError: unsupported operand" in facts["text"]
