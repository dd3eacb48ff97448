"""Campaigns against real programs: what a correct one may do, and which flaws are found."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from derail.faults.mechanisms import persistence
from derail.model.input_error import InputError
from derail.recovery.attempt import SMALL_BYTES, Program, check_patterns, last_words, make_directory
from derail.recovery.breaks import read_breaks
from derail.recovery.campaign import repeat, survive
from derail.recovery.report import quiet_line, render_html, render_json, render_junit, render_text
from derail.recovery.settings import Settings
from derail.recovery.trial import BrokenRun, Demands, run_quietly

if TYPE_CHECKING:
    from derail.recovery.report import Report

pytestmark = pytest.mark.skipif(bool(persistence.why_not()), reason=persistence.why_not() or "-")
TRAINER = Path(__file__).with_name("programs") / "trainer.py"
EQUAL, STEP = r"final loss (\S+)", r"step (\d+)\n?"


def make_project(parent: Path) -> Path:
    """Return a user's directory with the training program."""
    folder = parent / "project"
    folder.mkdir()
    (folder / "trainer.py").write_text(TRAINER.read_text())
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a user's directory with the training program."""
    return make_project(tmp_path)


@pytest.fixture(scope="module")
def written_in_place(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return the report of a program that writes its checkpoints in place: it has findings of one kind."""
    folder = tmp_path_factory.mktemp("in-place")
    asked = settings(make_project(folder), "kill", "--flaw", "in place", points=12)
    return survive(asked, folder / "runs", jobs=2)


def settings(place: Path, breaks: str, *words: str, **others: object) -> Settings:
    """Return the settings of a campaign against the training program, with times of profiles scaled down."""
    program = Program((sys.executable, "trainer.py", "--out", "ckpt", *words), str(place), ("ckpt/**",), r"^step (\d+)")
    demands = Demands(equal=(EQUAL,), limit=100.0)
    scale = 0.05 if "deaf" not in words else 0.3  # a save that was begun before SIGTERM ends within the grace period
    return Settings(program, demands, read_breaks([breaks], scale=scale), scale=scale, **others)  # type: ignore[arg-type] # options of one test


def symptoms(report: Report) -> set[str]:
    """Return the symptoms that a campaign has found."""
    return {cause.symptom for cause in report.causes}


@pytest.mark.parametrize(
    ("breaks", "points"),
    [
        ("power,slow", 6),
        pytest.param("kill,power,preempt=terminate,disk-full,io-error,slow,kill=rank", 24, marks=pytest.mark.slow),
    ],
)
def test_a_correct_program_survives_each_kind_of_break(place: Path, tmp_path: Path, breaks: str, points: int) -> None:
    """At points of each kind."""
    report = survive(settings(place, breaks, points=points), tmp_path / "runs", jobs=2)

    assert [trial for trial in report.trials if trial.status != "equal"] == []
    assert (len(report.trials), report.exit_code) == (points, 0)
    assert report.left_out > 0
    assert {trial.break_.name for trial in report.trials} == {name.partition("=")[0] for name in breaks.split(",")}
    assert not (place / "ckpt").exists()
    assert any(trial.saved for trial in report.trials) == ("preempt" in breaks)


def test_writing_in_place_is_found(written_in_place: Report, tmp_path: Path) -> None:
    """By its symptom, and the scenario file repeats it. At another rank, the point is not reached: never green."""
    assert (symptoms(written_in_place), written_in_place.exit_code) == ({"resume fails"}, 1)
    [cause] = written_in_place.causes
    assert "JSONDecodeError" in cause.text
    file = Path(cause.file)
    assert tomllib.loads(file.read_text())["survive"]["watch"] == ["ckpt/**"]
    again = repeat(file, tmp_path / "again")
    assert (symptoms(again), again.exit_code) == ({"resume fails"}, 1)

    elsewhere = file.with_name("elsewhere.toml")
    elsewhere.write_text(file.read_text().replace('actor = "launcher"', 'actor = "rank 7"'))
    again = repeat(elsewhere, tmp_path / "elsewhere")
    assert ([trial.status for trial in again.trials], again.exit_code) == (["not reached"], 3)


@pytest.mark.parametrize(
    ("flaw", "breaks", "symptom", "words"),
    [
        pytest.param("no fsync", "power=names", "resume fails", "JSONDecodeError", marks=pytest.mark.slow),
        pytest.param("no rng", "kill", "another result", "the quiet run with", marks=pytest.mark.slow),
        pytest.param("no resume", "kill", "never resumes", "no run resumes", marks=pytest.mark.slow),
        pytest.param("keeps temp", "kill", "leaves files", ".part", marks=pytest.mark.slow),
        pytest.param("skips", "kill", "skips steps", "resumes at step", marks=pytest.mark.slow),
        pytest.param("deaf", "preempt=terminate", "no save before SIGKILL", "until SIGKILL", marks=pytest.mark.slow),
    ],
)
def test_a_flaw_is_found(place: Path, tmp_path: Path, flaw: str, breaks: str, symptom: str, words: str) -> None:
    """By its symptom, and the scenario file repeats it."""
    points = None if flaw in ("skips", "deaf") else 12  # they depend on the step
    report = survive(settings(place, breaks, "--flaw", flaw, points=points), tmp_path / "runs", jobs=2)

    assert symptom in symptoms(report), render_text(report)
    [cause, *_] = [cause for cause in report.causes if cause.symptom == symptom]
    assert words in cause.text
    assert report.exit_code == 1
    again = repeat(Path(cause.file), tmp_path / "again")
    assert symptoms(again) == {"loses steps" if symptom == "never resumes" else symptom}


def test_a_resume_that_hangs_is_found(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit of a start."""
    monkeypatch.setattr("derail.recovery.campaign.LEAST_LIMIT_S", 5.0)
    report = survive(settings(place, "kill", "--flaw", "resume hangs", points=1), tmp_path / "runs", jobs=2)

    assert "resume hangs" in symptoms(report)


def test_values_that_differ_between_quiet_runs_are_reported_and_not_compared(place: Path, tmp_path: Path) -> None:
    """They are no failure."""
    asked = settings(place, "kill", "--flaw", "prints time", points=2)
    asked = replace(asked, demands=replace(asked.demands, equal=(EQUAL, r"seconds (\S+)")))
    report = survive(asked, tmp_path / "runs")

    assert report.exit_code == 0
    assert [text.partition(":")[0] for text in report.unequal] == [repr(r"seconds (\S+)")]
    assert "not compared, because the quiet runs differ" in render_text(report)


def test_an_interrupted_campaign_is_resumed(place: Path, tmp_path: Path) -> None:
    """No run is lost, none is made twice, and nothing is left of the first part."""
    runs = tmp_path / "runs"
    words = ["--watch", "ckpt/**", "--equal", EQUAL, "--step", r"^step (\d+)", "--break", "kill", "--points", "8"]
    words += ["--output-dir", str(runs), "--", sys.executable, "trainer.py", "--out", "ckpt"]
    start = "import sys; from derail.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", start, "survive", *words], cwd=place, stderr=subprocess.PIPE, text=True
    ) as process:
        folder = runs / "runs"
        while process.poll() is None and not list(folder.glob("*/result.json")):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT
        assert process.stderr is not None
        assert "continue with --resume" in process.stderr.read()
    done = {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
    assert 0 < len(done) < 8
    resumed = subprocess.run(
        [sys.executable, "-c", start, "survive", "--resume", "--json", "report.json", *words],
        cwd=place, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert "8 breaks: 8 resume and end equal" in resumed.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    names = [trial["name"] for trial in json.loads((place / "report.json").read_text())["trials"]]
    assert len(names) == len(set(names)) == 8


def test_what_the_user_has_is_not_written_to(place: Path, tmp_path: Path) -> None:
    """Each run has a copy, also of what is not watched. Links stay links; what is large, or no file, becomes one."""
    (place / "logs").mkdir()
    (place / "logs" / "old").write_text("old\n")
    (place / "ckpt").mkdir()
    (place / "ckpt" / "note").write_text("mine\n")
    (tmp_path / "elsewhere").mkdir()
    (place / "data").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(place / "pipe")
    before = {path: path.is_file() and path.read_bytes() for path in sorted(place.rglob("*"))}
    asked = settings(place, "kill", points=1)
    script = f"echo new >> logs/old && exec {shlex.join(asked.program.argv)}"
    report = survive(replace(asked, program=replace(asked.program, argv=("sh", "-c", script))), tmp_path / "runs")

    assert report.exit_code == 0, render_text(report)
    assert {path: path.is_file() and path.read_bytes() for path in sorted(place.rglob("*"))} == before


def test_large_entries_are_links_unless_they_are_watched(place: Path, tmp_path: Path) -> None:
    """They take no space in each run."""
    for name in ("data", "ckpt", "own"):
        (place / name).mkdir()
        (place / name / "part").touch()
        os.truncate(place / name / "part", SMALL_BYTES + 1)
    make_directory(Program(("true",), str(place), ("ckpt/**",), copy=("own/*",)), tmp_path / "run")

    assert {path.name: path.is_symlink() for path in (tmp_path / "run").iterdir()} == {
        "data": True, "ckpt": False, "own": False, "trainer.py": False,
    }  # fmt: skip


def test_a_directory_with_other_files_is_refused(place: Path, tmp_path: Path) -> None:
    """They may be of use."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match="do not come from 'derail survive'"):
        survive(settings(place, "kill"), tmp_path / "runs")
    with pytest.raises(InputError, match="has no campaign to resume"):
        survive(settings(place, "kill"), tmp_path / "runs", resume=True)
    assert (tmp_path / "runs" / "thesis.txt").exists()


def test_a_campaign_with_other_settings_is_not_resumed(place: Path, tmp_path: Path) -> None:
    """Its results would be mixed with theirs."""
    survive(settings(place, "kill", points=1), tmp_path / "runs")
    with pytest.raises(InputError, match="other settings"):
        survive(settings(place, "kill", points=2), tmp_path / "runs", resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"watch": ("other/**",)}, r"changed no file like other/\*\*; it has created ckpt"),
        ({"argv": (sys.executable, "-c", "raise SystemExit('no data')")}, "ended with exit 1: no data"),
        ({"argv": ("/no/such/program",)}, "ended with exit 127"),
        ({"step": "epoch (.)"}, "no match of the step pattern"),
    ],
)
def test_a_command_that_cannot_be_judged_is_refused(
    place: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """With the reason."""
    asked = settings(place, "kill")
    with pytest.raises(InputError, match=message):
        survive(replace(asked, program=replace(asked.program, **change)), tmp_path / "runs")  # type: ignore[arg-type] # fields of one case


def test_absolute_patterns_are_refused() -> None:
    """Each run has its own directory; all errors are listed."""
    with pytest.raises(InputError) as refused:
        check_patterns(["/data/**", "../x"], values=["(", "step"], step="step")
    assert len(str(refused.value).splitlines()) == 4


def test_losing_too_many_steps_is_a_finding_if_asked(place: Path, tmp_path: Path) -> None:
    """A correct program loses what was not saved."""
    asked = settings(place, "kill", points=4, max_lost_steps=0)
    report = survive(asked, tmp_path / "runs", jobs=2)

    assert symptoms(report) == {"beyond budget"}
    assert "--max-lost-steps 0" in report.causes[0].text


def test_the_launcher_restarts_the_ranks(place: Path, tmp_path: Path) -> None:
    """``derail launch`` with restarts: ranks are known by their environment, and only the rank is killed."""
    launch = (sys.executable, "-c", "import sys; from derail.cli import main; sys.exit(main())", "launch", "-n", "1")
    asked = settings(place, "kill=rank", points=3)
    trainer = (
        *launch,
        "--max-restarts",
        "2",
        "--output-dir",
        "logs",
        "--tee",
        "3",
        "--",
        "trainer.py",
        "--out",
        "ckpt",
    )
    asked = replace(asked, program=replace(asked.program, argv=trainer))
    report = survive(asked, tmp_path / "runs", jobs=2)

    assert {trial.status for trial in report.trials} == {"equal"}, render_text(report)
    assert {trial.point.actor for trial in report.trials} == {"rank 0"}
    assert {trial.restarts for trial in report.trials} == {0}


def test_reports_show_hostile_text_as_text(written_in_place: Report) -> None:
    """Lines of a program may contain markup, control characters and quotes."""
    [bad, *_] = [trial for trial in written_in_place.trials if trial.status == "finding"]
    hostile = replace(bad.findings[0], text="\x1b[31m<script>alert(1)</script>\x00'\"")
    trials = tuple(replace(trial, findings=(hostile,)) if trial == bad else trial for trial in written_in_place.trials)
    report = replace(written_in_place, trials=trials)

    assert "<script>" not in render_html(report)
    assert b"\x1b" not in render_junit(report)
    causes = tuple(replace(cause, text=f"killed: {hostile.text}") for cause in report.causes)
    assert "\x1b" not in render_text(replace(report, causes=causes))
    assert len(json.loads(render_json(report))["trials"]) == len(report.trials)


def test_the_tutorial_finds_what_it_says(tmp_path: Path) -> None:
    """The first program on its page has the two errors that are shown."""
    page = (Path(__file__).parents[2] / "docs" / "tutorial" / "does-my-training-survive.md").read_text()
    (tmp_path / "train.py").write_text(page.split("```py\n")[1].split("```")[0])
    program = Program((sys.executable, "train.py"), str(tmp_path), ("ckpt/**",), STEP)
    asked = Settings(program, Demands(equal=(EQUAL,), limit=100.0), read_breaks(["kill"]))
    report = survive(asked, tmp_path / "survive", jobs=2)

    assert [cause.symptom for cause in report.causes] == ["another result", "resume fails"]
    assert "9 operations under ckpt/** (1 mkdir, 1 create, 4 write, 3 truncate)" in quiet_line(
        report.quiet, program.watch
    )
    assert all(cause.text.split(":")[0] in page for cause in report.causes)


@pytest.mark.parametrize(("codes", "status"), [("[143]", "equal"), ("[75]", "finding")])
def test_a_scheduler_starts_a_job_again_after_some_exit_codes(
    place: Path, tmp_path: Path, codes: str, status: str
) -> None:
    """The program ends with 143 when it is asked to."""
    profile = tmp_path / "ours.toml"
    actions = '[[actions]]\nafter = 0\nsignal = "SIGTERM"\n[[actions]]\nafter = 200\nsignal = "SIGKILL"\n'
    profile.write_text(f'title = "ours"\nsource = "a test"\nrequeue = true\nrestart_on = {codes}\n{actions}')
    report = survive(settings(place, f"preempt={profile}", points=2), tmp_path / "runs")

    assert {trial.status for trial in report.trials} == {status}, render_text(report)
    assert symptoms(report) <= {"not started again"}


def train() -> None:
    """Train for two steps, and save after each."""
    print("step 1", flush=True)
    Path("ckpt").mkdir(exist_ok=True)
    Path("ckpt/state").write_text("1")
    print("step 2\nfinal loss 0.5", flush=True)


def test_a_function_in_a_test(derail, tmp_path: Path) -> None:
    """The report is asserted; a function inside of another one is refused."""
    report = derail.survive(train, watch="ckpt/**", equal=EQUAL, step=STEP, cwd=tmp_path, points=3)
    report.assert_survived()
    assert len(report.trials) == 3
    with pytest.raises(ValueError, match="top level"):
        derail.survive(lambda: None, watch="ckpt/**")


def test_a_program_that_does_not_survive_fails_its_test(derail, place: Path) -> None:
    """With the findings in the message."""
    argv = [sys.executable, "trainer.py", "--out", "ckpt", "--flaw", "in place"]
    report = derail.survive(argv, watch="ckpt/**", step=r"^step (\d+)", cwd=place, points=8, jobs=2)
    with pytest.raises(AssertionError, match="JSONDecodeError"):
        report.assert_survived()


@pytest.mark.parametrize(
    ("stderr", "stdout", "expected"),
    [
        ("", "step 1\n", "step 1"),
        ("", "", "no output"),
        ("Traceback:\n  x\nValueError: bad\nlogs and journal: /somewhere\n", "step 1", "ValueError: bad"),
        ("KeyError: 'w'\nx.ChildFailedError: \n  rank 0\n", "", "KeyError: 'w'"),
        ("warning\n", "[rank0]: OSError: full\n", "[rank0]: OSError: full"),
    ],
)
def test_the_line_of_a_failure_is_the_exception_of_the_program(stderr: str, stdout: str, expected: str) -> None:
    """And not what a launcher prints behind it."""
    assert last_words(stderr, stdout) == expected


def test_a_run_whose_watch_breaks_is_an_error_and_no_finding(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """System calls of the program fail then: it is not accused of that."""
    asked = settings(place, "kill")
    quiet_directory = tmp_path / "quiet"
    quiet = run_quietly(asked.program, asked.demands, quiet_directory, tmp_path / "logs", [])
    monkeypatch.setattr(BrokenRun, "_follow", lambda *_: 1 / 0)
    (tmp_path / "evidence").mkdir()
    run = BrokenRun(
        asked.program, asked.demands, quiet.history.points[-1], asked.breaks[0], quiet=quiet,
        quiet_directory=quiet_directory, directory=tmp_path / "broken", evidence=tmp_path / "evidence",
    )  # fmt: skip
    trial = run.run("last", "")

    assert trial.status == "error"
    assert "ZeroDivisionError" in trial.findings[0].text
