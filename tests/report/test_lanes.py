"""Timelines of external agents have a lane for each launcher."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from derail.agents.custom import CommandAgent
from derail.report.timeline import observed
from derail.scenario.model import Scenario

if TYPE_CHECKING:
    from pathlib import Path

LAUNCHER = """
import os, subprocess, sys
env = {**os.environ, "RANK": sys.argv[1], "WORLD_SIZE": "2"}
sys.exit(subprocess.call([sys.executable, sys.argv[2]], env=env))
"""


def test_the_launcher_of_each_node_has_a_lane(tmp_path: Path) -> None:
    """It has the launcher's start and end."""
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    worker = tmp_path / "worker.py"
    worker.write_text("print('done')")
    line = f"{shlex.quote(sys.executable)} {tmp_path / 'launcher.py'} {{node}} {{script}}"
    seen = CommandAgent(line).run(Scenario("two nodes", 2, worker, nodes=2, timeout=60.0), tmp_path / "run")
    lanes = {lane.name: [mark.kind for mark in lane.marks] for lane in observed(seen).lanes}
    assert lanes == {name: ["start", "exit"] for name in ("agent", "agent 1", "rank 0", "rank 1")}
