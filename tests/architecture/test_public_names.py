"""The public names: torch's, and ours."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import derail

TORCHS = [  # torch.distributed.elastic.multiprocessing.__all__, as of 2.13
    "DefaultLogsSpecs",
    "LogsDest",
    "LogsSpecs",
    "MultiprocessContext",
    "PContext",
    "ProcessFailure",
    "RunProcsResult",
    "SignalException",
    "Std",
    "SubprocessContext",
    "start_processes",
    "to_map",
]
TORCHS_SUBMODULES = [  # .api, .tail_log, .redirects, .errors, .subprocess_handler, and torch.numa.binding
    "AffinityMode",
    "ChildFailedError",
    "ErrorHandler",
    "NumaOptions",
    "SubprocessHandler",
    "TailLog",
    "get_error_handler",
    "get_std_cm",
    "get_subprocess_handler",
    "record",
    "redirect",
    "redirect_stderr",
    "redirect_stdout",
    "tail_logfile",
]
OURS = [
    "Cause", "ExitStatus", "InputError", "JobOutcome", "RankOutcome", "Teardown", "faults", "record_collective", "when",
]  # fmt: skip


def test_the_public_names_are_torchs_and_a_few_of_ours():
    """Whoever changes a public name changes this list, too."""
    assert sorted(derail.__all__) == sorted(TORCHS + TORCHS_SUBMODULES + OURS)


@pytest.mark.parametrize("name", derail.__all__)
def test_each_public_name_leads_to_something_with_a_docstring(name):
    """Each name can be imported through the door, is listed by ``dir``, and says what it is."""
    value = getattr(derail, name)
    documented = value.func if hasattr(value, "func") else value

    assert inspect.getdoc(documented)
    assert name in dir(derail)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("derail.errors", ["ChildFailedError", "ErrorHandler", "ProcessFailure", "get_error_handler", "record"]),
        ("derail.logs", ["DefaultLogsSpecs", "LogsDest", "LogsSpecs", "TailLog", "redirect", "tail_logfile"]),
        ("derail.spawn", ["SubprocessHandler", "get_subprocess_handler"]),
    ],
)
def test_what_torch_keeps_in_submodules_is_in_ours_too(module, names):
    """The same object is reached through the submodule and through the door."""
    found = importlib.import_module(module)

    assert {name: getattr(found, name) for name in names} == {name: getattr(derail, name) for name in names}


PUBLIC = [
    "derail",
    "derail.agents.agent",
    "derail.agents.custom",
    "derail.agents.registry",
    "derail.conformance",
    "derail.errors",
    "derail.faults",
    "derail.logs",
    "derail.spawn",
    "derail.torch",
    "derail.when",
    "pytest_derail",
    "pytest_derail.faker",
    "pytest_derail.strategies",
]
"""All modules that are public; everything else may change."""


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_its_names(name):
    """``import *`` brings the names of ``__all__``, each of them documented, and no other."""
    module = importlib.import_module(name)
    scope: dict[str, object] = {}
    exec(f"from {name} import *", scope)
    scope.pop("__builtins__")

    assert sorted(scope) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    assert [word for word, value in scope.items() if inspect.isroutine(value) and not inspect.getdoc(value)] == []


def test_the_reference_of_the_api_has_each_public_module_and_no_other():
    """The pages name the modules from whose ``__all__`` they are made."""
    pages = (Path(__file__).parents[2] / "docs" / "reference" / "api").glob("*.md")
    made = [
        name
        for page in pages
        for name in re.findall(r"^<!-- generated: api (\S+) -->$", page.read_text(), re.MULTILINE)
    ]

    assert sorted(made) == sorted(PUBLIC)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    """The door raises what a module raises."""
    with pytest.raises(AttributeError) as raised:
        derail.start_process  # noqa: B018

    assert str(raised.value) == "module 'derail' has no attribute 'start_process'"


def test_windows_is_refused_with_a_way_out(run_python):
    """Where processes are not POSIX ones the import fails, and says where it would work."""
    told = run_python("import sys; sys.platform = 'win32'\nimport derail", check=False)

    assert told.returncode == 1
    assert told.stderr.splitlines()[-1] == (
        "ImportError: derail needs POSIX processes, signals and process groups, which Windows does not have; "
        "run it on Linux or macOS, for instance inside WSL 2"
    )
