"""A resident process per implementation, outside of what the leak guard watches from test to test."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.registry import Case, KnownTorchFault

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parents[1]


class Resident:
    """Runs cases against one implementation, each in a process of its own."""

    def __init__(self, implementation: str) -> None:
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONUNBUFFERED", "TORCHELASTIC_ERROR_FILE")}
        path = os.pathsep.join([str(TESTS), *filter(None, [env.get("PYTHONPATH")])])
        self.implementation = implementation
        self._process = subprocess.Popen(
            [sys.executable, "-m", "contract.resident", implementation],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env | {"PYTHONPATH": path},
            start_new_session=True,
        )

    def run(self, case: Case, directory: Path, *, deadline: float) -> dict[str, Any]:
        """Facts of ``case``, and what it wrote to its console."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"case": case.name, "dir": str(directory), "deadline": deadline}) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], deadline + 90)
        assert ready, "the resident process of the contract tests does not answer"
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the resident process."""
        self._process.communicate(timeout=60)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect torch's known faults: strictly unless it is chance that shows them, and by no other exception than the one
    that stands for them."""
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        case = parameters.get("case")
        if isinstance(case, Case) and case.fault is not None and parameters.get("resident") == "torch":
            why = "; ".join(filter(None, (case.fault.why, case.fault.chance)))
            item.add_marker(pytest.mark.xfail(strict=not case.fault.chance, raises=KnownTorchFault, reason=why))


@pytest.fixture(scope="session")
def resident(request: pytest.FixtureRequest) -> Iterator[Resident]:
    """The resident process of the implementation that the test is parametrized with."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    running = Resident(request.param)
    yield running
    running.close()
