"""``derail replay``: equal and different reruns, by output and exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Derail

PROGRAM = """
import json
for n in range(1, 6):
    print(json.dumps(n), flush=True)
"""


def test_a_journal_is_run_again_and_said_to_be_the_same(derail_command: Derail, tmp_path: Path) -> None:
    """The third call of a function that knows nothing of us, from the command line alone.

    A second replay into the same directory has no evidence of the first, and none is replayed into itself.
    """
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    first = derail_command(
        "launch", "--ranks", 1, "--output-dir", tmp_path / "logs", "--fault", "exit=7 call=json:dumps hit=3", script
    )
    assert (first.returncode, first.stdout) == (7, "[rank0]:1\n[rank0]:2\n")

    done = derail_command("replay", tmp_path / "logs" / "journal.jsonl", "--output-dir", tmp_path / "again")
    fault, *rest = done.stdout.splitlines()

    assert (done.returncode, rest) == (0, ["no differences"]), done.stdout + done.stderr
    assert fault.endswith(" on rank 0: injected")
    assert [path.read_text() for path in (tmp_path / "again").rglob("0/stdout.log")] == ["1\n2\n"]

    derail_command("replay", tmp_path / "logs", "--output-dir", tmp_path / "again")
    assert [path.read_text() for path in (tmp_path / "again").rglob("0/stdout.log")] == ["1\n2\n"]
    journal = tmp_path / "again" / "journal.jsonl"
    before = journal.read_bytes()
    assert before.count(b'"event": "plan"') == 1

    into_itself = derail_command("replay", tmp_path / "again", "--output-dir", tmp_path / "again")
    assert (into_itself.returncode, journal.read_bytes()) == (2, before)
    assert "contains the journal to replay" in into_itself.stderr


def test_a_program_that_has_changed_is_told(derail_command: Derail, tmp_path: Path) -> None:
    """A fault that does not happen in the rerun gives INCONCLUSIVE."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    derail_command("launch", "--output-dir", tmp_path / "logs", "--fault", "signal=KILL call=json:dumps hit=3", script)
    script.write_text("print('nothing')\n")
    done = derail_command("replay", tmp_path / "logs")  # the directory will do

    assert done.returncode == 3
    assert "injected then, not_reached now" in done.stdout
    assert "the root cause was rank 0 then, none now" in done.stdout


def test_what_cannot_be_replayed_exits_with_2(derail_command: Derail, tmp_path: Path) -> None:
    """There is a message."""
    done = derail_command("replay", tmp_path / "none.jsonl")

    assert (done.returncode, "cannot be read" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_a_damaged_journal_is_one_line_with_its_place(derail_command: Derail, tmp_path: Path) -> None:
    """The exit code is 2."""
    script, ran = tmp_path / "script.py", tmp_path / "ran"
    script.write_text(f"open({str(ran)!r}, 'a').write('x')")
    derail_command("launch", "--output-dir", tmp_path / "logs", "--fault", "exit=7 call=json:dumps hit=3", script)
    journal = tmp_path / "logs" / "journal.jsonl"
    first, second, *others = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([first, second[:20] + "\n", *others]))
    done = derail_command("replay", journal)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"derail: {journal}:2, column ")
    assert ran.read_text() == "x"
