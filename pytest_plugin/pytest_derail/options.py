"""Options of the plugin: command line before environment before ini file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_derail.markers import near

if TYPE_CHECKING:
    from collections.abc import Sequence


START_METHODS = ("warm", "spawn", "fork", "forkserver")
"""How the processes of ranks are made; the first is the default."""

STRONGER_FIRST = (
    "whose word counts: the test and its marker; these options; DERAIL_... in the environment; derail_... in the ini "
    "file"
)
"""Whose word counts, for the help."""

DEFAULTS = {"timeout": 60.0, "grace": 5.0}
"""Seconds."""


def add_options(parser: pytest.Parser) -> None:
    """Declare what can be set: on the command line, or, less strongly, in the ini file."""
    group = parser.getgroup("derail", f"multi-rank jobs, and faults in them ({STRONGER_FIRST})")
    group.addoption(
        "--derail-timeout",
        type=float,
        metavar="SECONDS",
        help=f"how long a job of the derail fixture may take if the test does not say; default {DEFAULTS['timeout']:g}",
    )
    group.addoption(
        "--derail-grace",
        type=float,
        metavar="SECONDS",
        help=f"how long ranks may take to end between SIGTERM and SIGKILL; default {DEFAULTS['grace']:g}",
    )
    group.addoption(
        "--derail-keep",
        action="store_true",
        default=None,
        help="keep the logs and journals of tests that passed, too; those of failed tests are always kept",
    )
    group.addoption(
        "--derail-output-dir",
        metavar="DIR",
        help="where logs and journals of tests lie, in a folder of each test; default: among pytest's temporary "
        "directories",
    )
    group.addoption(
        "--derail-start-method",
        metavar="METHOD",
        help=f"how the processes of ranks that run functions are made: {', '.join(START_METHODS)}; default "
        f"{START_METHODS[0]}",
    )
    group.addoption(
        "--derail-preload",
        metavar="MODULES",
        help="modules, separated by commas, that warm ranks find imported; default: those that the test's module "
        "imports",
    )
    group.addoption(
        "--derail-plan",
        metavar="FILE",
        help="run tests that have @pytest.mark.faults under this plan and not under their own: a failure once more",
    )
    group.addoption(
        "--scenarios",
        dest="derail_scenarios",
        action="store_true",
        help="collect scenarios (TOML files below the given paths) as tests. Without paths: those of ./scenarios, or "
        "else those that come with derail, and nothing else",
    )
    group.addoption(
        "--derail-agent",
        metavar="NAME",
        help="the agent that scenarios are run on; default native",
    )
    parser.addini("derail_agent", "the same as --derail-agent", default="")
    parser.addini("derail_timeout", "the same as --derail-timeout", default="")
    parser.addini("derail_grace", "the same as --derail-grace", default="")
    parser.addini("derail_keep", "the same as --derail-keep", type="bool", default=False)
    parser.addini("derail_output_dir", "the same as --derail-output-dir", default="")
    parser.addini("derail_start_method", "the same as --derail-start-method", default="")
    parser.addini("derail_preload", "modules that warm ranks find imported", type="args", default=[])
    parser.addini(
        "derail_fixtures_in_ranks",
        "fixtures that each rank sets up although their scope is wider than 'function'",
        type="args",
        default=[],
    )


def seconds(config: pytest.Config, name: str) -> float:
    """A setting: command line, else environment, else ini file, else the default.

    Raises:
        UsageError: if it is not a number of seconds.
    """
    given = config.getoption(f"derail_{name}")
    source, text = f"--derail-{name}", given
    if given is None:
        source, text = f"DERAIL_{name.upper()}", os.environ.get(f"DERAIL_{name.upper()}", "")
    if text == "":
        source, text = f"derail_{name} in the ini file", config.getini(f"derail_{name}")
    if text == "":
        return DEFAULTS[name]
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise pytest.UsageError(f"{source} is {text!r}; it must be a number of seconds, 0 or more")
    return number


def agent_name(config: pytest.Config) -> str:
    """The agent that scenarios are run on."""
    given = config.getoption("derail_agent"), os.environ.get("DERAIL_AGENT"), config.getini("derail_agent")
    return str(next((name for name in given if name), "native"))


def output_dir(config: pytest.Config) -> Path | None:
    """Return where the evidence of tests lies; None for pytest's temporary directories.

    A path of the ini file is relative to the directory of that file.
    """
    given = config.getoption("derail_output_dir") or os.environ.get("DERAIL_OUTPUT_DIR")
    if given:
        return Path(given).absolute()
    told = config.getini("derail_output_dir")
    return config.rootpath / told if told else None


def keep(config: pytest.Config) -> bool:
    """Whether the evidence of tests that passed is kept."""
    given = config.getoption("derail_keep")
    told = os.environ.get("DERAIL_KEEP", "").lower()
    if given is None and told:
        return told not in ("0", "false", "no", "off")
    return bool(config.getini("derail_keep") if given is None else given)


def start_method(config: pytest.Config, wanted: str | None = None, *, source: str = "start_method") -> str:
    """Return how the processes of ranks are made: what the test wants, else command line, environment, ini file.

    Args:
        config: of the session.
        wanted: what the test wants; None if it does not say.
        source: where the test says so.

    Raises:
        UsageError: if it is none of the known ways.
    """
    told = (
        (source, wanted),
        ("--derail-start-method", config.getoption("derail_start_method")),
        ("DERAIL_START_METHOD", os.environ.get("DERAIL_START_METHOD")),
        ("derail_start_method in the ini file", config.getini("derail_start_method")),
    )
    source, name = next(((source, name) for source, name in told if name), ("", START_METHODS[0]))
    if name not in START_METHODS:
        known = ", ".join(START_METHODS)
        raise pytest.UsageError(f"{source} is {name!r}; it must be one of {known}{near(name, START_METHODS)}")
    return name


def preload(config: pytest.Config, wanted: Sequence[str] | None = None) -> tuple[str, ...] | None:
    """Return the modules that warm ranks find imported: those of the marker, else of command line, environment, ini
    file; None if none of them names any."""
    given, told = config.getoption("derail_preload"), os.environ.get("DERAIL_PRELOAD")
    listed = next((text for text in (given, told) if text is not None), None)
    if wanted is None and listed is not None:
        wanted = [name.strip() for name in listed.split(",") if name.strip()]
    if wanted is None:
        wanted = config.getini("derail_preload") or None
    return None if wanted is None else tuple(wanted)
