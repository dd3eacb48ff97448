"""What the plugin can be told and where: marker before command line before environment before ini file; and that
``--help``, ``--markers``, ``--fixtures`` and ``--collect-only`` say all of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from program_files import program_text
from pytest_derail import options as settings
from pytest_derail.protocol import OF_RECORDED_RANKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

SHOW = """
from pytest_derail.ranks.marker import read_mark

def pytest_collection_modifyitems(items):
    for item in items:
        found = read_mark(item, item.get_closest_marker("ranks"))
        print("\\nFOUND", found.timeout, found.grace, found.start_method, found.preload)
"""
SHOW_JOBS = """
from dataclasses import replace

from pytest_derail.jobs import fixture

start_job = fixture.start_job

def shown(job, workdir, **options):
    print("STARTED", job.start_method, job.preload and list(job.preload))
    return start_job(replace(job, start_method="spawn", preload=None), workdir, **options)

fixture.start_job = shown
"""
INI = "derail_timeout = 1\nderail_grace = 1\nderail_start_method = forkserver\nderail_preload = a"
ENV = {"DERAIL_TIMEOUT": "2", "DERAIL_GRACE": "2", "DERAIL_START_METHOD": "fork", "DERAIL_PRELOAD": "b, x"}
OPTIONS = ("--derail-timeout=3", "--derail-grace=3", "--derail-start-method=warm", "--derail-preload=c")
MARKER = "timeout=4, start_method='spawn', preload=['d', 'e']"


def test_marker_command_line_environment_ini_file(run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting with the highest priority counts; without any there is a default."""
    for name in ENV:
        monkeypatch.delenv(name, raising=False)
    given: dict[str, Any] = {"ini": "", "options": (), "marker": ""}

    def found(**more: Any) -> str:
        given.update(more)
        source = f"import pytest\n@pytest.mark.ranks(2, {given['marker']})\ndef test_one(): pass"
        result = run_pytest(source, "--collect-only", "-s", *given["options"], ini=given["ini"], conftest=SHOW)
        return next(line for line in result.outlines if line.startswith("FOUND"))

    told = [found(), found(ini=INI)]
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    told += [found(), found(options=OPTIONS), found(marker=MARKER)]
    assert told == [
        "FOUND 60.0 5.0 warm None",
        "FOUND 1.0 1.0 forkserver ('a',)",
        "FOUND 2.0 2.0 fork ('b', 'x')",
        "FOUND 3.0 3.0 warm ('c',)",
        "FOUND 4.0 3.0 spawn ('d', 'e')",
    ]


def test_the_fixture_chooses_a_start_method_as_the_marker_does(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is argument, command line, environment, ini file; a function's rank is warm by default."""
    for name in ENV:
        monkeypatch.delenv(name, raising=False)
    given: dict[str, Any] = {"ini": "", "options": (), "argument": ""}

    def found(**more: Any) -> str:
        given.update(more)
        source = f"def run(): pass\ndef test_one(derail): derail.run(run, ranks=1, {given['argument']})"
        result = run_pytest(source, "-s", *given["options"], ini=given["ini"], conftest=SHOW_JOBS)
        return next(line for line in result.outlines if "STARTED" in line).partition("STARTED ")[2]

    told = [found(), found(ini=INI)]
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    told += [found(), found(options=OPTIONS), found(argument="start_method='spawn'")]
    own = ["pytest_derail.jobs.importable", *OF_RECORDED_RANKS]
    assert told == [f"warm {own}", "forkserver None", "fork None", f"warm {[*own, 'c']}", "spawn None"]


@pytest.mark.parametrize(
    ("wanted", "source"),
    [
        ("@pytest.mark.ranks(2, start_method='thread')\ndef test_one(): pass", "@pytest.mark.ranks(start_method=)"),
        ("def test_one(derail): derail.run(print, start_method='thread')", "derail.start(start_method=)"),
    ],
)
def test_a_start_method_that_a_test_misspells_is_an_error_that_says_where(
    run_pytest: RunPytest, wanted: str, source: str
) -> None:
    """Marker and fixture have the same methods."""
    told = run_pytest(f"import pytest\n{wanted}").stdout.str()
    assert f"{source}: expected one of warm, spawn, fork, forkserver, got 'thread'" in told


@pytest.mark.parametrize(
    ("ini", "env", "option", "kept"),
    [
        ("false", "", False, False),
        ("true", "", False, True),
        ("true", "0", False, False),
        ("false", "1", False, True),
        ("false", "no", True, True),
    ],
)
def test_evidence_is_kept_by_priority_of_settings(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ini: str, env: str, option: bool, kept: bool
) -> None:
    """The setting with the highest priority counts for tests that passed."""
    monkeypatch.setenv("DERAIL_KEEP", env)
    pytester.makeini(f"[pytest]\nderail_keep = {ini}")
    assert settings.keep(pytester.parseconfig(*["--derail-keep"] * option)) is kept


@pytest.mark.parametrize(
    ("ini", "env", "option", "where"),
    [
        ("", "", "", None),
        ("of_ini", "", "", "of_ini"),
        ("of_ini", "of_env", "", "of_env"),
        ("of_ini", "of_env", "of_option", "of_option"),
    ],
)
def test_evidence_is_placed_by_priority_of_settings(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ini: str, env: str, option: str, where: str | None
) -> None:
    """Without a setting it is in pytest's temporary directories."""
    monkeypatch.setenv("DERAIL_OUTPUT_DIR", env)
    pytester.makeini(f"[pytest]\n{ini and 'derail_output_dir = ' + ini}")
    config = pytester.parseconfig(*[f"--derail-output-dir={option}"] * bool(option))
    assert settings.output_dir(config) == (None if where is None else pytester.path / where)


@pytest.mark.parametrize(
    ("ask", "options", "env", "ini", "says"),
    [
        (
            "seconds",
            ["--derail-timeout=-1"],
            {},
            "",
            "--derail-timeout: expected a number of seconds, 0 or more, got -1.0",
        ),
        (
            "seconds",
            [],
            {"DERAIL_TIMEOUT": "soon"},
            "",
            "DERAIL_TIMEOUT: expected a number of seconds, 0 or more, got 'soon'",
        ),
        ("seconds", [], {}, "timeout = inf", "derail_timeout in the ini file: expected a number of seconds"),
        (
            "start_method",
            ["--derail-start-method=thread"],
            {},
            "",
            "--derail-start-method: expected one of warm, spawn",
        ),
        ("start_method", [], {"DERAIL_START_METHOD": "x"}, "", "DERAIL_START_METHOD: expected one of warm, spawn, "),
        ("start_method", [], {}, "start_method = y", "derail_start_method in the ini file: expected one of warm"),
    ],
)
def test_an_invalid_setting_is_an_error_with_its_source(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    ask: str,
    options: list[str],
    env: dict[str, str],
    ini: str,
    says: str,
) -> None:
    """The ini file is far from the test that fails."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    pytester.makeini(f"[pytest]\n{ini and 'derail_' + ini}")
    config = pytester.parseconfig(*options)
    asked: Callable[..., object] = getattr(settings, ask)
    with pytest.raises(pytest.UsageError, match=re.escape(says)):
        asked(config, *(["timeout"] if ask == "seconds" else []))


def test_help_lists_all_settings_and_their_priority(run_pytest: RunPytest) -> None:
    """All options have one prefix; every option and ini key has a description."""
    told = run_pytest("", "--help").stdout.str()
    ours = told[told.index("multi-rank jobs, and faults in them (") :]
    options = ours[: re.search(r"\n\n?\S", ours).start()]  # type: ignore[union-attr]
    assert re.sub(r"\s+", " ", options).startswith(
        "multi-rank jobs, and faults in them (highest priority first: the test and its marker; these options; "
        "DERAIL_... in the environment; derail_... in the ini file):"
    )
    named = re.findall(r"^  (--[\w-]+)", options, re.MULTILINE)
    assert [name for name in named if not name.startswith("--derail-")] in ([], ["--scenarios"])
    assert {
        "--derail-timeout",
        "--derail-grace",
        "--derail-keep",
        "--derail-output-dir",
        "--derail-start-method",
        "--derail-plan",
    } <= set(named)
    keys = re.findall(r"^  (derail_\w+) \(\w+\):\n? +(\S.*)$", told, re.MULTILINE)
    assert {"derail_timeout", "derail_grace", "derail_keep", "derail_start_method"} <= {key for key, _ in keys}


def test_markers_are_described_with_their_arguments(run_pytest: RunPytest) -> None:
    """All their arguments are described."""
    told = run_pytest("", "--markers").stdout.str()
    for marker in ("ranks", "faults"):
        found = re.search(rf"^@pytest\.mark\.{marker}\(([^)]*(?:\(\)[^)]*)?)\): (.*)$", told, re.MULTILINE)
        assert found is not None
        for word in re.findall(r"(\w+)=", found[1]):
            assert word in found[2] or word == "seed"


def test_fixtures_are_described(run_pytest: RunPytest) -> None:
    """Each public fixture has a sentence, and there is no hidden one."""
    told = run_pytest("", "--fixtures").stdout.str()
    ours = re.findall(r"^(\w+) -- \S*pytest_derail/plugin\.py:\d+\n    (\S.*)$", told, re.MULTILINE)
    of_ranks = {"rank", "local_rank", "world_size", "process_group", "comm", "jax_distributed"}
    assert dict(ours).keys() == {"derail", *of_ranks}
    assert dict(ours)["derail"].startswith("Start multi-rank jobs, break them, and leave nothing behind")
    derail = told[told.index("derail -- ") :].partition("\n\n\n")[0]
    for word in ("start, run:", "agent:", "plan:", "hold, release, barrier:", "workdir, free_port, allow_left"):
        assert word in derail


def test_collected_tests_are_listed_by_number_of_ranks(run_pytest: RunPytest) -> None:
    """There is one line for each number of ranks, and nothing is started."""
    source = program_text("suites/never_run")
    result = run_pytest(source, "--collect-only")
    assert [line.strip() for line in result.outlines if "<Function" in line] == [
        "<Function test_many[ranks=1-half]>",
        "<Function test_many[ranks=4-half]>",
        "<Function test_two>",
        "<Function test_job>",
    ]
    assert result.ret == 0
