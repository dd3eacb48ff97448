"""Makes docs/explanation/agents/scorecards.md: ``python tests/agents/scorecards.py [--all] [--runs DIR] [AGENT ...]``.

Runs ``derail verify-agent`` for each agent that can be run here, or for those that are named, and writes their
scorecards on one page. With ``--runs`` the scorecards are kept there as JSON, and those of agents that are not named
are taken from there: so one agent can be run again without the others.

Most of these need seconds to start a job, so that each runs a part of the scenarios: see CHOSEN, and ``--all``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from derail.agents.registry import agent
from derail.report.scorecard_json import decode
from derail.report.scorecard_page import render_scorecards

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "agents" / "scorecards.md"
AGENTS = (
    "native",
    "derail-torchrun",
    "torchrun",
    "torch_elastic",
    "accelerate",
    "ft_launcher",
    "torchrunx",
    "ray_train",
    "mpirun",
)
CHOSEN = {
    "calm": ("all_succeed",),
    "crash": ("at_its_exit", "exits_with_code_7", "killed_at_step_3", "raises_in_its_work"),
    "error_file": ("truncated",),
    "hang": ("deaf_to_sigterm",),
    "node": ("rank_on_the_second_node",),
    "regression": ("options_of_the_program", "third_rank_false_green", "victim_right_behind"),
    "restart": ("gives_up", "resumes_after_a_kill", "training_resumes"),
    "signal": ("paused_and_continued", "sigterm_from_somebody_else"),
    "supervisor": (
        *("asked_to_end", "children_are_reaped_by_the_kernel", "killed"),
        *("passes_the_warning_on", "three_interrupts"),
    ),
    "teardown": ("all_are_deaf", "helpers_in_their_own_session", "leaves_with_0", "orphan_in_the_group"),
}
"""The scenarios that tell agents apart: what fails, is blamed, ended, left, restarted. All of them with ``--all``."""
SLOW = ("torchrunx", "ray_train")
CHOSEN_FOR_SLOW = {
    "calm": ("all_succeed",),
    "crash": ("killed_at_step_3", "raises_in_its_work"),
    "restart": ("resumes_after_a_kill",),
    "supervisor": ("killed",),
    "teardown": ("helpers_in_their_own_session",),
}
"""A few of them for those that need ten to thirty seconds to start a job."""
HEAD = """\
# Scorecards

Made by `python tests/agents/scorecards.py` in an environment with derail, torch 2.13.0 and the packages named below. Do
not edit. What is surprising in it is told in [Agents](index.md).

"""


def chosen(name: str) -> list[str]:
    """The scenarios that an agent runs."""
    table = CHOSEN_FOR_SLOW if name in SLOW else CHOSEN
    return [f"{family}/{story}" for family, stories in table.items() for story in stories]


def run(name: str, runs: Path, scenarios: Sequence[str]) -> None:
    """Verify one agent; its table goes to the terminal."""
    command = [sys.executable, "-c", "import sys; from derail.cli import main; sys.exit(main())", "verify-agent", name]
    for scenario in scenarios:
        command += ["--scenario", scenario]
    made = runs / f"{name}.new"  # it is opened at once, and empty until the end
    ran = subprocess.run([*command, "--jobs=2", f"--json={made}"], check=False)
    if made.stat().st_size == 0:
        sys.exit(f"{name}: no scorecard was made; derail verify-agent exited with {ran.returncode}")
    made.replace(runs / f"{name}.json")


def without_numbers(page: str) -> str:
    """The page without what is of this machine, or of this run only: paths, pids."""
    page = re.sub(r"\b(process|PID) \d+", r"\1 N", page)
    page = re.sub(r"cd \S+ && export [^;(]*", "cd ... && export ... ", page)
    for path, shown in ((f"{sys.prefix}/bin/", ""), (f"{sys.prefix}/", ""), (f"{ROOT}/", "")):
        page = page.replace(path, shown)
    cut = re.escape("/".join(sys.prefix.split("/")[:2]))  # of the same paths, where a command line was cut off
    page = re.sub(rf"(?<= ){cut}/\S*", "...", page)
    return re.sub(re.escape(tempfile.gettempdir()) + r"/[\w.\\-]+", "TMP", page)


def main() -> None:
    """Run who is to be run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--all", action="store_true", help="run all scenarios, which takes ten minutes for an agent")
    parser.add_argument("--only-write", action="store_true", help="run nobody")
    parser.add_argument("agents", nargs="*", choices=[[], *AGENTS])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        runs = options.runs or Path(directory)
        runs.mkdir(parents=True, exist_ok=True)
        for name in [] if options.only_write else options.agents or AGENTS:
            if why := agent(name).unavailable():
                print(f"{name}: {why}")
            else:
                run(name, runs, [] if options.all else chosen(name))
        files = [runs / f"{name}.json" for name in AGENTS]
        cards = [
            decode(file.read_bytes(), source=str(file)) for file in files if file.is_file() and file.stat().st_size
        ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(HEAD + without_numbers(render_scorecards(cards)))


if __name__ == "__main__":
    main()
