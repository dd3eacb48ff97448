"""``derail list`` and ``derail explain``: scenarios, faults and agents on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

import pytest

from derail.agents import registry
from derail.agents.availability import Availability, available_agents, render_agents
from derail.agents.availability import as_data as agent_data
from derail.faults.catalogue.entry import Requires
from derail.faults.registry import entries
from derail.report.catalogue import as_data, render_entry, render_list
from derail.scenario.load import load, shipped

if TYPE_CHECKING:
    from cli.conftest import Derail

ABSENT = replace(entries()["signal"], requires=Requires("", lambda: "this machine has no signals"))


def test_every_fault_is_listed_under_its_family(derail_command: Derail) -> None:
    """In catalogue order, with the side of each; the last line counts those available here."""
    done = derail_command("list", "faults")
    lines = done.stdout.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]
    families = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]

    assert (done.returncode, done.stderr, names) == (0, "", list(entries()))
    assert families == list(dict.fromkeys(entry.family for entry in entries().values()))
    available = sum(not entry.requires.unavailable() for entry in entries().values())
    assert lines[-1] == f"{available} of {len(names)} faults are available on this machine"


def test_the_catalogue_is_there_as_json(derail_command: Derail) -> None:
    """It has all parameters, triggers and the availability of each fault."""
    done = derail_command("list", "faults", "--json")

    assert (done.returncode, json.loads(done.stdout)) == (0, [as_data(entry) for entry in entries().values()])


def test_the_shipped_scenarios_are_listed_with_their_titles(derail_command: Derail) -> None:
    """By family and by the name that ``derail run`` takes; long titles are wrapped."""
    told = derail_command("list", "scenarios").stdout
    lines = told.splitlines()
    families = dict.fromkeys(name.partition("/")[0] for name in shipped())
    assert [line.removesuffix(":") for line in lines if line.endswith(":")] == list(families)
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == list(shipped())
    assert [load(path).title for path in shipped().values() if load(path).title not in " ".join(told.split())] == []
    assert max(map(len, lines)) <= 120


def test_the_scenarios_of_a_family_are_listed(derail_command: Derail) -> None:
    """No others are, in the text and in JSON."""
    told = derail_command("list", "scenarios", "calm").stdout.splitlines()
    data = json.loads(derail_command("list", "scenarios", "calm", "--json").stdout)

    assert [line.split()[0] for line in told if line.startswith("  calm/")] == [
        name for name in shipped() if name.startswith("calm/")
    ]
    assert [line for line in told if line.endswith(":")] == ["calm:"]
    assert [scenario["name"] for scenario in data] == [name for name in shipped() if name.startswith("calm/")]
    assert all(
        (scenario["title"], scenario["family"]) == (load(shipped()[scenario["name"]]).title, "calm")
        for scenario in data
    )


def test_agents_are_listed_with_their_versions_and_what_is_missing(derail_command: Derail) -> None:
    """In the text and in JSON; derail's own agent has derail's version."""
    told, data = derail_command("list", "agents"), json.loads(derail_command("list", "agents", "--json").stdout)
    known = available_agents()

    assert told.stdout == render_agents(known)
    assert data == [agent_data(agent) for agent in known]
    assert data[0]["name"] == "native"
    assert (data[0]["version"], data[0]["missing"], data[0]["available"]) == (version("derail"), "", True)


def test_an_agent_that_cannot_be_run_here_says_what_is_missing() -> None:
    """The reason stands in place of the version and is wrapped if long; the last line counts the agents."""
    reason = "its package is not installed here " * 6
    told = render_agents([Availability("one", "1.0", "", ()), Availability("other", "2.0", reason, ())])
    lines = told.splitlines()

    assert lines[0] == "one    1.0"
    assert lines[1].startswith("other  not here: its package is not installed here")
    assert lines[-1].startswith("1 of 2 agents can be run on this machine")
    assert max(map(len, lines)) <= 120


def test_an_agent_whose_package_is_broken_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exception is the reason."""

    def broken() -> NoReturn:
        raise OSError("no such library")

    known = dict(registry.agents())
    monkeypatch.setattr(registry, "agents", lambda: {"broken": broken, "native": known["native"]})

    assert [(agent.name, agent.missing) for agent in available_agents()] == [
        ("broken", "OSError: no such library"),
        ("native", ""),
    ]


@pytest.mark.parametrize("name", ["signal", "proxy", "loopback_down"])
def test_one_fault_is_explained(derail_command: Derail, name: str) -> None:
    """Effect, parameters, requirements, evidence, undo and an example."""
    known = entries()[name]
    done = derail_command("explain", name)
    told = " ".join(done.stdout.split())

    said = [known.summary, known.requires.needs, known.verified, known.healed, known.example]
    said += [part for param in known.params for part in (param.name, param.type, param.meaning)]
    assert (done.returncode, [text for text in said if " ".join(text.split()) not in told]) == (0, [])
    *lines, example = done.stdout.splitlines()
    assert example.strip() == known.example
    assert max(map(len, lines)) <= 100


def test_a_misspelt_fault_is_refused_with_the_nearest_name(derail_command: Derail) -> None:
    """As in a plan."""
    done = derail_command("explain", "prxy")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "derail: unknown fault 'prxy'; did you mean 'proxy'?\n"


def test_the_faults_of_families_are_listed(derail_command: Derail) -> None:
    """No others are, in the text and in JSON."""
    told, data = (
        derail_command("list", "faults", "clock", "process"),
        derail_command("list", "faults", "clock", "--json"),
    )

    families = [line.removesuffix(":") for line in told.stdout.splitlines() if line and not line.startswith(" ")]
    assert families[:-1] == ["process", "clock"]
    assert {fault["family"] for fault in json.loads(data.stdout)} == {"clock"}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("list", "faults", "clok"), "unknown family 'clok'; did you mean 'clock'?"),
        (("list", "faults", "exit"), "exit is a fault of the family process: see 'derail explain exit'"),
        (("list", "scenarios", "carsh"), "unknown family 'carsh'; did you mean 'crash'?"),
        (("explain", "zzzz"), f"unknown fault 'zzzz'; 'derail list faults' names all {len(entries())}"),
        (("verify-agent", "torchrn"), "unknown agent 'torchrn'; did you mean 'torchrun'?"),
        (
            ("doctor", "--require", "pidfd_opne"),
            "--require: unknown mechanism or fault 'pidfd_opne'; did you mean 'pidfd_open'?",
        ),
    ],
)
def test_a_name_that_is_none_is_told_with_the_nearest_one(
    derail_command: Derail, words: tuple[str, ...], problem: str
) -> None:
    """In every command that takes a name."""
    done = derail_command(*words)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"derail: {problem}\n")


def test_what_cannot_be_done_here_says_why() -> None:
    """In the list, in the explanation and in JSON."""
    assert "not here: this machine has no signals" in render_list([ABSENT])
    assert "0 of 1 faults are available on this machine" in render_list([ABSENT])
    assert "On this machine: this machine has no signals\n" in render_entry(ABSENT).replace(":  ", ": ")
    assert (as_data(ABSENT)["available"], as_data(ABSENT)["unavailable"]) == (False, "this machine has no signals")
