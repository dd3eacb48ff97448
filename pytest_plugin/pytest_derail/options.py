"""Options of the plugin: command line before environment before ini file."""

from __future__ import annotations

import os
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.markers import near

if TYPE_CHECKING:
    from collections.abc import Sequence


START_METHODS = ("warm", "spawn", "fork", "forkserver")
"""Ways to create the processes of ranks; the first is the default."""

STRONGER_FIRST = (
    "highest priority first: the test and its marker; these options; DERAIL_... in the environment; derail_... in the "
    "ini file"
)
"""Order of priority, for the help."""

DEFAULTS = {"timeout": 60.0, "grace": 5.0}
"""Default values in seconds."""


def add_options(parser: pytest.Parser) -> None:
    """Declare the options: on the command line, or, with lower priority, in the ini file."""
    group = parser.getgroup("derail", f"multi-rank jobs, and faults in them ({STRONGER_FIRST})")
    group.addoption(
        "--derail-ranks",
        type=int,
        metavar="N",
        help="run every test on the same N ranks, as torchrun --nproc-per-node N -m pytest would: each rank imports "
        "conftest files and modules, and sets up all fixtures itself. The ranks marker has priority; ranks(0) or "
        "no_ranks keeps a test in this process",
    )
    group.addoption(
        "--derail-launcher",
        metavar="LINE",
        help='command line of the launcher that places the ranks of tests, "mpiexec -n {ranks}" for example: then an '
        "MPI world exists, and ranks may be on other machines",
    )
    group.addoption(
        "--derail-launcher-host",
        metavar="ADDRESS",
        help="address of this machine at which ranks of --derail-launcher reach this process; default 127.0.0.1",
    )
    group.addoption(
        "--derail-timeout",
        type=float,
        metavar="SECONDS",
        help=f"time limit of a job of the derail fixture, unless the test sets one; default {DEFAULTS['timeout']:g}",
    )
    group.addoption(
        "--derail-grace",
        type=float,
        metavar="SECONDS",
        help=f"grace period of ranks between SIGTERM and SIGKILL; default {DEFAULTS['grace']:g}",
    )
    group.addoption(
        "--derail-keep",
        action="store_true",
        default=None,
        help="also keep the logs and journals of tests that passed; those of failed tests are always kept",
    )
    group.addoption(
        "--derail-output-dir",
        metavar="DIR",
        help="directory for logs and journals, with a folder for each test; default: pytest's temporary directories",
    )
    group.addoption(
        "--derail-start-method",
        metavar="METHOD",
        help=f"how processes of ranks that run functions are created: {', '.join(START_METHODS)}; default "
        f"{START_METHODS[0]}",
    )
    group.addoption(
        "--derail-preload",
        metavar="MODULES",
        help="modules, separated by commas, that warm ranks have preloaded; default: imports of the test's module",
    )
    group.addoption(
        "--derail-plan",
        metavar="FILE",
        help="run tests with @pytest.mark.faults under this plan instead of their own, to rerun a failure",
    )
    group.addoption(
        "--derail-debugpy",
        nargs="?",
        const="all",
        metavar="RANK",
        help="the ranks of each test, or only this one, wait until an IDE is attached: each at a port that is shown. "
        "No time limits apply. Needs debugpy (pip install 'derail[debug]')",
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
        help="the agent that runs scenarios; default native",
    )
    parser.addini("derail_ranks", "the same as --derail-ranks", default="")
    group.addoption(
        "--derail-adopt",
        metavar="yes|no|report",
        help="run tests of MultiProcessTestCase, MultiProcContinuousTest and DistributedTest, and functions for "
        "torch.multiprocessing.spawn, on ranks, as -p pytest_derail.adopt does; report: only list what would run so",
    )
    parser.addini("derail_adopt", "the same as --derail-adopt", default="")
    group.addoption(
        "--derail-record",
        choices=("yes", "no"),
        help="whether ranks record their collectives, so that the report of a hang names the rank that the others wait "
        "for; default yes",
    )
    parser.addini("derail_record", "the same as --derail-record", type="bool", default=True)
    parser.addini("derail_launcher", "the same as --derail-launcher", default="")
    parser.addini("derail_launcher_host", "the same as --derail-launcher-host", default="")
    parser.addini("derail_agent", "the same as --derail-agent", default="")
    parser.addini("derail_timeout", "the same as --derail-timeout", default="")
    parser.addini("derail_grace", "the same as --derail-grace", default="")
    parser.addini("derail_keep", "the same as --derail-keep", type="bool", default=False)
    parser.addini("derail_output_dir", "the same as --derail-output-dir", default="")
    parser.addini("derail_start_method", "the same as --derail-start-method", default="")
    parser.addini("derail_preload", "modules that warm ranks have preloaded", type="args", default=[])
    parser.addini(
        "derail_fixtures_in_ranks",
        "fixtures that each rank sets up although their scope is wider than 'function'",
        type="args",
        default=[],
    )


def seconds(config: pytest.Config, name: str) -> float:
    """Return a setting: command line, else environment, else ini file, else the default.

    Raises:
        UsageError: if it is not a number of seconds.
    """
    given = _given(config, f"derail_{name}")
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
        raise pytest.UsageError(f"{source}: expected a number of seconds, 0 or more, got {text!r}")
    return number


def _given(config: pytest.Config, name: str) -> Any:
    """Return an option of the command line, also while the first conftest files are loaded; None if it is not given."""
    given = config.getoption(name, None)
    return getattr(config.known_args_namespace, name, None) if given is None else given


def ranks_of_suite(config: pytest.Config) -> int:
    """Return the number of ranks on which all tests run; 0 if only marked tests run on ranks.

    It can be asked while the first conftest files are loaded.

    Raises:
        UsageError: if it is not a number of ranks.
    """
    choices = (
        ("--derail-ranks", _given(config, "derail_ranks")),
        ("DERAIL_RANKS", os.environ.get("DERAIL_RANKS")),
        ("derail_ranks in the ini file", config.getini("derail_ranks")),
    )
    source, text = next(((source, text) for source, text in choices if text not in (None, "")), ("", 0))
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise pytest.UsageError(f"{source}: expected a number of ranks, 0 or more, got {text!r}")
    return number


def is_set(config: pytest.Config, name: str) -> bool:
    """Return whether a setting is given on the command line, in the environment or in the ini file."""
    given = config.getoption(f"derail_{name}")
    return bool(given is not None or os.environ.get(f"DERAIL_{name.upper()}") or config.getini(f"derail_{name}"))


def adopts(config: pytest.Config) -> str:
    """Return whether tests of other classes run on ranks: "yes", "no", or "report"; empty if no setting says.

    Raises:
        UsageError: if the setting has another value.
    """
    choices = (
        ("--derail-adopt", config.getoption("derail_adopt")),
        ("DERAIL_ADOPT", os.environ.get("DERAIL_ADOPT")),
        ("derail_adopt in the ini file", config.getini("derail_adopt")),
    )
    source, given = next(((source, given) for source, given in choices if given), ("", ""))
    words = {"": "", "report": "report"} | dict.fromkeys(("yes", "true", "on", "1"), "yes")
    words |= dict.fromkeys(("no", "false", "off", "0"), "no")
    if given.lower() not in words:
        raise pytest.UsageError(f"{source}: expected yes, no or report, got {given!r}")
    return words[given.lower()]


def debugpy_ranks(config: pytest.Config) -> int | str | None:
    """Return the rank that waits for an IDE, or "all"; None without ``--derail-debugpy``.

    Raises:
        UsageError: if it is not a rank, if debugpy is not installed, or if tests run in workers without a terminal.
    """
    given: str | None = config.getoption("derail_debugpy")
    if given is None:
        return None
    if given != "all" and not given.isdigit():
        raise pytest.UsageError(
            f"--derail-debugpy: expected the number of a rank, got {given!r}. Write --derail-debugpy=RANK; for all "
            "ranks write --derail-debugpy=all, or put --derail-debugpy behind the paths"
        )
    if find_spec("debugpy") is None:
        raise pytest.UsageError("--derail-debugpy: debugpy is not installed. Run: pip install 'derail[debug]'")
    if config.getoption("dist", "no") != "no" or hasattr(config, "workerinput"):
        raise pytest.UsageError("--derail-debugpy: not in workers of pytest-xdist, which show no ports. Run without -n")
    return given if given == "all" else int(given)


def launcher(config: pytest.Config, ranks: int) -> tuple[str, ...]:
    """Return the command line of the launcher that places the ranks of tests; empty if derail does it itself.

    Raises:
        UsageError: if it is no command line, or does not say where the number of ranks goes.
    """
    choices = (
        ("--derail-launcher", config.getoption("derail_launcher")),
        ("DERAIL_LAUNCHER", os.environ.get("DERAIL_LAUNCHER")),
        ("derail_launcher in the ini file", config.getini("derail_launcher")),
    )
    source, line = next(((source, line) for source, line in choices if line), ("", ""))
    if not line:
        return ()
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise pytest.UsageError(f"{source}: {error}: {line!r}") from None
    if not any("{ranks}" in word for word in words):
        raise pytest.UsageError(f"{source}: expected {{ranks}} where the number of ranks goes, got {line!r}")
    return tuple(word.replace("{ranks}", str(ranks)) for word in words)


def launcher_host(config: pytest.Config) -> str:
    """Return the address at which ranks of another launcher reach this process."""
    given = (
        config.getoption("derail_launcher_host"),
        os.environ.get("DERAIL_LAUNCHER_HOST"),
        config.getini("derail_launcher_host"),
    )
    return str(next((host for host in given if host), "127.0.0.1"))


def agent_name(config: pytest.Config) -> str:
    """Return the name of the agent that runs scenarios."""
    given = config.getoption("derail_agent"), os.environ.get("DERAIL_AGENT"), config.getini("derail_agent")
    return str(next((name for name in given if name), "native"))


def output_dir(config: pytest.Config) -> Path | None:
    """Return the directory for the evidence of tests; None for pytest's temporary directories.

    A path in the ini file is relative to the directory of that file.
    """
    given = config.getoption("derail_output_dir") or os.environ.get("DERAIL_OUTPUT_DIR")
    if given:
        return Path(given).absolute()
    in_ini = config.getini("derail_output_dir")
    return config.rootpath / in_ini if in_ini else None


def keep(config: pytest.Config) -> bool:
    """Return whether the evidence of tests that passed is kept."""
    given = config.getoption("derail_keep")
    variable = os.environ.get("DERAIL_KEEP", "").lower()
    if given is None and variable:
        return variable not in ("0", "false", "no", "off")
    return bool(config.getini("derail_keep") if given is None else given)


def records(config: pytest.Config) -> bool:
    """Return whether ranks record their collectives, for a verdict on a hang."""
    given = config.getoption("derail_record") or os.environ.get("DERAIL_RECORD", "").lower()
    return given not in ("0", "false", "no", "off") if given else bool(config.getini("derail_record"))


def start_method(config: pytest.Config, wanted: str | None = None, *, source: str = "start_method") -> str:
    """Return how to create the processes of ranks: as in the test, else command line, environment, ini file.

    Args:
        config: the configuration of the session.
        wanted: the choice of the test; None if it has none.
        source: where the test makes its choice.

    Raises:
        UsageError: if the start method does not exist.
    """
    choices = (
        (source, wanted),
        ("--derail-start-method", config.getoption("derail_start_method")),
        ("DERAIL_START_METHOD", os.environ.get("DERAIL_START_METHOD")),
        ("derail_start_method in the ini file", config.getini("derail_start_method")),
    )
    source, name = next(((source, name) for source, name in choices if name), ("", START_METHODS[0]))
    if name not in START_METHODS:
        methods = ", ".join(START_METHODS)
        raise pytest.UsageError(f"{source}: expected one of {methods}, got {name!r}{near(name, START_METHODS)}")
    return name


def preload(config: pytest.Config, wanted: Sequence[str] | None = None) -> tuple[str, ...] | None:
    """Return the modules to preload: the marker's, else command line, environment, ini file; None if none names any."""
    option, variable = config.getoption("derail_preload"), os.environ.get("DERAIL_PRELOAD")
    listed = next((text for text in (option, variable) if text is not None), None)
    if wanted is None and listed is not None:
        wanted = [name.strip() for name in listed.split(",") if name.strip()]
    if wanted is None:
        wanted = config.getini("derail_preload") or None
    return None if wanted is None else tuple(wanted)
