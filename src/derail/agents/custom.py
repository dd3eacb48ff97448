"""An agent of your own: a command line with placeholders, and a few lines of TOML about what it promises."""

from __future__ import annotations

import os
import re
import shlex
import string
import sys
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, get_args

from derail.agents.external.agent import ForeignAgent, Job, Said
from derail.agents.external.messages import Invocation
from derail.agents.external.variables import MAPPED
from derail.agents.invocation import LOGS
from derail.faults.serialization.table_reader import Fields
from derail.faults.serialization.table_schema import TableSchema
from derail.faults.serialization.toml_files import read_toml
from derail.model.events import Stream
from derail.model.exit import ExitStatus, signal_number
from derail.model.input_error import InputError, not_known
from derail.platform.bounded import run_bounded
from derail.scenario.load import MOST_RANKS
from derail.scenario.model import FailureSeen, Promise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from derail.agents.external.messages import Seen
    from derail.faults.serialization.table_schema import Schema
    from derail.scenario.model import Scenario

__all__ = ["CommandAgent", "Declaration", "Report", "read_declaration"]

PLACEHOLDERS = {
    "ranks": "how many ranks there are, on all nodes together",
    "ranks_per_node": "how many ranks each node has",
    "nodes": "how many nodes there are",
    "node": "which node this command line is for, from 0",
    "restarts": "how often all ranks may be started again",
    "grace": "seconds between SIGTERM and SIGKILL",
    "script": "the path of the program that each rank runs",
    "args": "its arguments; as a word of its own, one word for each",
    "command": "all that each rank runs, as several words: Python, the script, its arguments",
    "python": "the Python that runs derail",
    "workdir": "the directory of the run",
    "log_dir": "a directory for logs",
    "master_port": "a TCP port of loopback that nobody has bound",
}
SEEN: frozenset[Promise] = frozenset(
    {"ends", "succeeded", "stopped", "exits", "log_tail", "teardown_seconds", "resumed_at", "leftovers"}
)
"""What can be seen of any supervisor without its saying anything."""
VERSION_SECONDS = 30.0
"""Seconds that a version command has."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where a supervisor says what became of the ranks, and how.

    Attributes:
        file: where, with placeholders; empty for what it prints.
        root_cause: finds the rank that it blames, as group ``rank``; the last match counts.
        failure: finds a rank that it calls failed, as group ``rank``, with groups ``code``, ``signal`` (a name or a
            number) and ``message`` where there are such; every match counts.
    """

    file: str = ""
    root_cause: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is said of a supervisor.

    Attributes:
        name: what it is called in reports.
        command: how it is started; a line with placeholders.
        version: a command whose first line is its version; empty if there is none.
        promises: what it promises; None for what can be seen of any, and what ``report`` and ``command`` speak of.
        logs: where it keeps the ranks' streams, with ``{rank}`` and ``{stream}`` besides the placeholders; empty if
            derail is to keep them.
        report: where it says what became of the ranks.
        variables: by the name that workers read (RANK, WORLD_SIZE ...), the variable by which it gives ranks the same.
    """

    name: str = ""
    command: str = ""
    version: str = ""
    promises: frozenset[Promise] | None = None
    logs: str = ""
    report: Report = field(default_factory=Report)
    variables: Mapping[str, str] = field(default_factory=dict)


class CommandAgent(ForeignAgent):
    """A supervisor that is started by a command line.

    Args:
        command: the line, with placeholders; that of the declaration if it is empty.
        declaration: what is said of it.

    Raises:
        InputError: if there is no command, or one of its placeholders is not known.
    """

    def __init__(self, command: str = "", declaration: Declaration | None = None) -> None:
        self.declaration = declaration or Declaration()
        self.command = command or self.declaration.command
        try:
            self._words = shlex.split(self.command)
        except ValueError as error:
            raise InputError(f"{self.command!r} is no command line: {error}") from None
        used = placeholders(self.command)
        problems = [not_known(name, PLACEHOLDERS, "placeholder") for name in used if name not in PLACEHOLDERS]
        if not self._words:
            problems.append("there is no command line: give --agent-cmd, or `command` in the declaration")
        elif not used & {"script", "command"}:
            problems.append(f"{self.command!r} runs no worker: it needs {{script}} or {{command}}")
        if problems:
            raise InputError(*problems)
        self.name = self.declaration.name or os.path.basename(self._words[0])
        self.nodes = "node" in used
        self.restarts = "restarts" in used
        self.keeps_logs = bool(self.declaration.logs)
        self.variables = self.declaration.variables
        self.must_relay = not self.keeps_logs and "log_tail" in (self.declaration.promises or ())
        self._takes_args = bool(used & {"args", "command"})
        self.promises = promises_of(self.declaration, restarts=self.restarts)

    def version(self) -> str:
        """The first line that its version command prints; empty if that fails."""
        if not self.declaration.version:
            return ""
        try:
            ran = run_bounded(shlex.split(self.declaration.version), VERSION_SECONDS)
        except (OSError, ValueError, TimeoutExpired):
            return ""
        said = (ran.stdout or ran.stderr).decode(errors="replace").strip().splitlines()
        return said[0] if said else ""

    def unavailable(self) -> str:
        """Its program must be there."""
        from shutil import which

        program = self._words[0]
        if placeholders(program) or which(program):
            return ""
        return f"program not found: {program!r}"

    def unsupported(self, scenario: Scenario) -> str:
        """As for every foreign agent; and its command line must have a place for what the scenario wants."""
        if scenario.args and not self._takes_args:
            return "the worker has arguments, and its command line has neither {args} nor {command}"
        if scenario.nodes > 1 and not self.nodes:
            return f"the command line has no {{node}}, and the scenario wants {scenario.nodes} nodes"
        if scenario.restarts and not self.restarts:
            return f"the command line has no {{restarts}}, and the scenario allows {scenario.restarts} restart(s)"
        if "master_port" in placeholders(self.command) and any(f.name == "port_kept" for f in scenario.faults.faults):
            return "the command line fixes the port ({master_port}), and the scenario needs another one after a restart"
        return super().unsupported(scenario)

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """The command line, once for each node."""
        return tuple(
            Invocation(tuple(word for template in self._words for word in self._fill(template, job, node)))
            for node in range(job.scenario.nodes)
        )

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """What its report says, in its own output or in a file."""
        from derail.agents.external.agent import read_end

        del seen
        report = self.declaration.report
        text = read_end(Path(*self._fill(report.file, job, 0))) if report.file else "\n".join(outputs)
        doubts: list[str] = []
        failures = {
            rank: FailureSeen(rank, match.groupdict().get("message") or "", status=_status(match.groupdict()))
            for match in _matches("failure", report.failure, text, doubts)
            for rank in ranks_in(match["rank"])
        }
        blamed = next(iter(failures), None)
        if report.root_cause:
            named = [ranks_in(match["rank"]) for match in _matches("root_cause", report.root_cause, text, doubts)]
            blamed = named[-1][0] if named else None
        first = {blamed: failures[blamed]} if blamed in failures and blamed is not None else {}
        return Said(blamed, {**first, **failures}, tuple(doubts))

    def log_files(self, job: Job) -> dict[tuple[int, Stream], Path]:
        """Where it keeps them, if that is declared."""
        if not self.declaration.logs:
            return {}
        found: dict[tuple[int, Stream], Path] = {}
        for rank in range(job.scenario.ranks):
            for stream in get_args(Stream):
                template = self.declaration.logs.replace("{rank}", str(rank)).replace("{stream}", stream)
                found[rank, stream] = Path(*self._fill(template, job, 0))
        return found

    def _fill(self, template: str, job: Job, node: int) -> list[str]:
        """A word of the command line with its placeholders filled in; several where it stands for several."""
        scenario = job.scenario
        if template in ("{args}", "{command}"):
            return list(scenario.args if template == "{args}" else job.rank_argv)
        values = {
            "ranks": scenario.ranks,
            "ranks_per_node": job.ranks_per_node,
            "nodes": scenario.nodes,
            "node": node,
            "restarts": scenario.restarts,
            "grace": f"{scenario.grace:g}",
            "script": job.script,
            "args": shlex.join(scenario.args),
            "command": shlex.join(job.rank_argv),
            "python": sys.executable,
            "workdir": job.workdir.absolute(),
            "log_dir": job.directory(LOGS).absolute() if "{log_dir}" in template else "",
            "master_port": job.port,
        }
        return [template.format(**values)]


def read_declaration(path: Path) -> Declaration:
    """Read what is said of a supervisor from a TOML file, strictly.

    Raises:
        InputError: if the file cannot be read, or anything in it is wrong.
    """
    problems: list[str] = []
    declaration = _read(Fields(read_toml(path), "", problems))
    if problems:
        raise InputError(*problems, source=str(path))
    return declaration


def schema() -> Schema:
    """Return the JSON Schema of declarations."""
    table = TableSchema()
    _read(table)
    return table.schema()


def _read(fields: Fields) -> Declaration:
    promised = fields.words("promises", get_args(Promise), what="promise") if fields.has("promises") else None
    report, variables = fields.table_at("report"), fields.table_at("variables")
    declaration = Declaration(
        name=fields.text("name", ""),
        command=_template(fields, "command"),
        version=fields.text("version", ""),
        promises=None if promised is None else frozenset(promised),  # type: ignore[arg-type]
        logs=_template(fields, "logs", "rank", "stream"),
        report=Report(_template(report, "file"), _regex(report, "root_cause"), _regex(report, "failure")),
        variables={name: variables.text(name, "") for name in sorted(MAPPED) if variables.has(name)},
    )
    report.finish()
    variables.finish()
    fields.finish()
    return declaration


def promises_of(declaration: Declaration, *, restarts: bool) -> frozenset[Promise]:
    """What a declared supervisor promises."""
    if declaration.promises is not None:
        return declaration.promises | {"ends"}
    told: set[Promise] = set(SEEN)
    report = declaration.report
    if restarts:
        told.add("restarts")
    if report.root_cause or report.failure:
        told.add("root_cause")
    if report.failure:
        told.add("failures")
    if "(?P<message>" in report.failure:
        told.add("message")
    return frozenset(told)


def placeholders(template: str) -> set[str]:
    """The names between braces.

    Raises:
        InputError: if a brace is not closed.
    """
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise InputError(f"{template!r}: {error}; write {{{{ and }}}} for braces") from None


def _template(fields: Fields, key: str, *more: str) -> str:
    text = fields.text(key, "")
    try:
        wrong = [name for name in placeholders(text) if name not in (*PLACEHOLDERS, *more)]
    except InputError as error:
        fields.note(key, error.problems[0])
        return ""
    for name in wrong:
        fields.note(key, not_known(name, [*PLACEHOLDERS, *more], "placeholder"))
    return text


def _regex(fields: Fields, key: str) -> str:
    text = fields.text(key, "")
    try:
        if text and "rank" not in re.compile(text).groupindex:
            fields.note(key, f"{text!r} names no rank: it needs a group (?P<rank>\\d+)")
    except re.error as error:
        fields.note(key, f"{text!r} is no regular expression: {error}")
    return text


def ranks_in(text: str | None) -> tuple[int, ...]:
    """Return the ranks that a report names: ``3``, or a list as Slurm and Open MPI write it: ``0,2-3``."""
    ranks: list[int] = []
    for part in (text or "").split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first.isdigit() or (dash and not last.isdigit()):
            return ()
        ranks += range(int(first), min(int(last or first), int(first) + MOST_RANKS) + 1)
    return tuple(ranks)


def _matches(key: str, pattern: str, text: str, doubts: list[str]) -> list[re.Match[str]]:
    """The matches of a pattern that name ranks. Of the first that does not, the doubts have a sentence."""
    found = list(re.finditer(pattern, text, re.MULTILINE)) if pattern else []
    named = [match for match in found if ranks_in(match["rank"])]
    unnamed = next((match for match in found if match not in named), None)
    if unnamed is not None:
        group = "took no part in" if unnamed["rank"] is None else f"is {unnamed['rank']!r}, no rank, in"
        line = unnamed[0].strip().partition("\n")[0][:200]
        doubts.append(f"report.{key} of the declaration: the group 'rank' {group} the match {line!r}")
    return named


def _status(told: dict[str, str]) -> ExitStatus | None:
    """How a rank is said to have ended; None if that is not said, or makes no sense."""
    try:
        if told.get("signal"):
            return ExitStatus(signal=signal_number(told["signal"]))
        return ExitStatus.from_returncode(int(told["code"])) if told.get("code") else None
    except ValueError:
        return None
