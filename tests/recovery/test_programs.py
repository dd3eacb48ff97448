"""The planted checkpoint writers, broken by hand: each bug is real, and the correct counterpart does not have it.

Nothing of derail breaks or compares here; ``derail launch`` starts the ranks in one test.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from recovery.planted import CORRECT, CORRECT_WITH_TORCH, EQUAL, PLANTED, PROGRAMS, Planted, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE_S = 120.0
GRACE_S = 1.0
OPERATIONS = 60
"""More operations than any of the programs makes in one run."""

BROKEN_AT_OPERATIONS = [each for each in PLANTED if each.breaks[0] in ("kill", "power")]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="uses pidfds and abstract names of sockets")


@dataclass(frozen=True)
class Run:
    """End of a run: the first exit code that is not 0, and the output of all ranks."""

    code: int
    output: str

    @property
    def loss(self) -> str | None:
        """The final loss; None if the program has not ended well."""
        match = re.search(EQUAL, self.output)
        return match[1] if match and not self.code else None

    @property
    def begin(self) -> int:
        """The step at which it resumed; 0 if it did not."""
        match = re.search(r"resumed at step (\d+)", self.output)
        return int(match[1]) if match else 0


def run(name: str, ranks: int, directory: Path, *, kind: str = "", broken: int = 0, number: int = 0) -> Run:
    """Run a program; as soon as one rank fails, all are killed.

    With a kind of break, the rank ``broken`` is broken before the operation of that number.
    """
    directory.mkdir(exist_ok=True)
    port = uuid.uuid4().hex
    with ExitStack() as exits:
        running: dict[int, subprocess.Popen[bytes]] = {}
        for rank in range(ranks):
            at = number if rank == broken else 0
            before = (str(PROGRAMS / "break_at.py"), f"{at}", kind) if kind else ()
            log = exits.enter_context(open(directory / f"log-{rank}", "wb"))
            process = subprocess.Popen(
                [sys.executable, *before, str(PROGRAMS / f"{name}.py"), "--out", "ckpt"],
                cwd=directory,
                stdout=log,
                stderr=log,
                env={**os.environ, "RANK": f"{rank}", "WORLD_SIZE": f"{ranks}", "MASTER_ADDR": "", "MASTER_PORT": port},
            )
            exits.callback(process.wait)
            exits.callback(process.kill)
            pidfd = os.pidfd_open(process.pid)
            exits.callback(os.close, pidfd)
            running[pidfd] = process
        code = 0
        while running and not code:
            ended, _, _ = select.select(list(running), [], [], DEADLINE_S)
            assert ended, "the program hangs"
            code = next((code for code in [running.pop(each).wait() for each in ended] if code), 0)
    return Run(code, "".join((directory / f"log-{rank}").read_text() for rank in range(ranks)))


def ends(name: str, ranks: int, kind: str, directory: Path) -> Iterator[tuple[int, Run, Run]]:
    """Break a program at each of its operations, and resume it: yield the number, the broken and the new run."""
    for rank in range(ranks):
        for number in range(1, OPERATIONS):
            place = directory / f"{name}-{rank}-{number}"
            first = run(name, ranks, place, kind=kind, broken=rank, number=number)
            if not first.code:
                break  # all of its operations were tried
            yield number, first, run(name, ranks, place)
        else:
            pytest.fail("a program makes more operations than expected")


def is_bug(planted: Planted, resumed: Run, loss: str | None, best: int) -> bool:
    """Return whether a resumed run shows the symptom of the planted bug; ``best`` is where the earlier run resumed."""
    shown = {"resume fails": resumed.code != 0 and "Error" in resumed.output,
             "another result": resumed.loss not in (loss, None),
             "loses steps": resumed.begin < best}  # fmt: skip
    return any(shown.get(symptom, False) for symptom in planted.symptoms)


def test_the_table_has_ten_bugs_and_their_programs() -> None:
    """Each of them exists, and so does each correct program; each bug has a counterpart."""
    named = {each.name for each in PLANTED} | {name for name, _ in (*CORRECT, *CORRECT_WITH_TORCH)}

    assert len(PLANTED) == 10
    assert len(named) == 10 + len(CORRECT) + len(CORRECT_WITH_TORCH)
    assert named <= {path.stem for path in PROGRAMS.glob("*.py")}
    assert {each.counterpart for each in PLANTED} == {name for name, _ in CORRECT}


@pytest.mark.parametrize("planted", PLANTED, ids=lambda each: each.name)
def test_a_bug_does_not_show_in_a_quiet_run(planted: Planted, tmp_path: Path) -> None:
    """Two runs, and one of the correct counterpart, end with exit 0 and the same loss."""
    runs = [
        run(name, planted.ranks, tmp_path / f"{number}")
        for number, name in enumerate((planted.name, planted.name, planted.counterpart))
    ]

    assert [each.code for each in runs] == [0, 0, 0]
    assert runs[0].loss is not None
    assert {each.loss for each in runs} == {runs[0].loss}


@pytest.mark.slow
@pytest.mark.parametrize("planted", BROKEN_AT_OPERATIONS, ids=lambda each: each.name)
def test_a_bug_shows_after_a_break(planted: Planted, tmp_path: Path) -> None:
    """Killed before one of its operations, the program does not resume, ends otherwise, or has lost its checkpoint."""
    loss = run(planted.name, planted.ranks, tmp_path / "quiet").loss
    best, found = 0, False
    for _, _, resumed in ends(planted.name, planted.ranks, planted.breaks[0], tmp_path):
        found = is_bug(planted, resumed, loss, best)
        best = max(best, resumed.begin)
        if found:
            break

    assert found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ranks"), CORRECT)
@pytest.mark.parametrize("kind", ["kill", "power"])
def test_a_correct_program_survives_each_break(name: str, ranks: int, kind: str, tmp_path: Path) -> None:
    """It resumes with the same result, and never before the save from which an earlier break resumed."""
    loss = run(name, ranks, tmp_path / "quiet").loss
    best = count = 0
    for number, first, resumed in ends(name, ranks, kind, tmp_path):
        best = 0 if number == 1 else best  # the next rank is broken
        assert first.code == -signal.SIGKILL
        assert (resumed.loss, resumed.begin >= best) == (loss, True), f"broken at operation {number}"
        best, count = max(best, resumed.begin), count + 1

    assert best >= 9
    assert count >= 8


def grace_of(name: str, directory: Path) -> tuple[int, Run]:
    """Send SIGTERM in the first of steps that take half of the grace period, and SIGKILL after it."""
    directory.mkdir()
    argv = command(name, 1, "--step-seconds", f"{GRACE_S / 2}")
    with subprocess.Popen(argv, cwd=directory, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"step 1\n"
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode, run(name, 1, directory)


def test_a_flag_that_is_read_once_per_epoch_is_read_too_late(tmp_path: Path) -> None:
    """The program is killed before it has saved, and begins again with step 1."""
    code, resumed = grace_of("sigterm_once_per_epoch", tmp_path / "run")

    assert (code, resumed.begin, resumed.code) == (-signal.SIGKILL, 0, 0)


def test_a_flag_that_is_read_in_each_step_is_read_in_time(tmp_path: Path) -> None:
    """The program saves and ends by itself."""
    code, resumed = grace_of("correct", tmp_path / "run")

    assert (code, resumed.begin >= 1, resumed.code) == (128 + signal.SIGTERM, True, 0)


@pytest.mark.parametrize("name", ["correct_two_ranks", "renamed_while_written", "saves_by_itself"])
def test_programs_with_two_ranks_run_under_derail_launch(name: str, tmp_path: Path) -> None:
    """The command in the table ends as by hand."""
    done = subprocess.run(
        command(name, 2), cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=True
    )

    assert Run(0, done.stdout).loss == run(name, 2, tmp_path / "by-hand").loss


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(("name", "ranks"), CORRECT_WITH_TORCH)
def test_a_correct_program_with_torch_resumes_equal(name: str, ranks: int, tmp_path: Path) -> None:
    """Whether it is killed at an operation early or late in a save, it ends with the loss of the quiet run."""
    pytest.importorskip("torch")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
    program = (str(PROGRAMS / f"{name}.py"), "--out", "ckpt")

    def start(place: Path, *before: str) -> Run:
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            [*launcher, *before, *program], cwd=place, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
            env={**os.environ, "TMPDIR": str(place)},  # torchrun leaves its directory of logs
        )  # fmt: skip
        return Run(done.returncode, done.stdout)

    quiet = start(tmp_path / "quiet")
    assert quiet.loss is not None
    for number in (4, 7):
        broken = start(tmp_path / f"{number}", str(PROGRAMS / "break_at.py"), f"{number}", "kill")
        assert broken.code
        assert start(tmp_path / f"{number}").loss == quiet.loss
