"""Agent declared by the user: a command line with placeholders, and a TOML file with its promises."""

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

from derail.agents.external.agent import ExternalAgent, Job, Said
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
    "ranks": "the number of ranks on all nodes",
    "ranks_per_node": "the number of ranks on each node",
    "nodes": "the number of nodes",
    "node": "the node of this command line, counted from 0",
    "restarts": "the maximum number of restarts of all ranks",
    "grace": "seconds between SIGTERM and SIGKILL",
    "script": "the path of the program of each rank",
    "args": "its arguments; as a separate word, one word for each",
    "command": "the whole command of each rank, as several words: Python, the script, its arguments",
    "python": "the Python that runs derail",
    "workdir": "the directory of the run",
    "log_dir": "a directory for logs",
    "master_port": "a free TCP port of loopback",
}
SEEN: frozenset[Promise] = frozenset(
    {"ends", "succeeded", "stopped", "exits", "log_tail", "teardown_seconds", "resumed_at", "leftovers"}
)
"""Promises that can be observed of any supervisor, without a report by it."""
VERSION_SECONDS = 30.0
"""Timeout of a version command in seconds."""


@dataclass(frozen=True, slots=True)
class Report:
    """Place and format of a supervisor's report about the ranks.

    Attributes:
        file: the file, with placeholders; empty for its output.
        root_cause: pattern for the root cause that it reports, as group ``rank``; the last match counts.
        failure: pattern for a rank that it reports as failed, as group ``rank``, with optional groups ``code``,
            ``signal`` (a name or a number) and ``message``; every match counts.
    """

    file: str = ""
    root_cause: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """Declaration of a supervisor.

    Attributes:
        name: its name in reports.
        command: its command line, with placeholders.
        version: a command that prints the version in its first line; empty if there is none.
        promises: its promises; None for those that can be observed of any, and those that ``report`` and ``command``
            imply.
        logs: where it keeps the ranks' streams, with ``{rank}`` and ``{stream}`` besides the placeholders; empty if
            derail keeps them.
        report: its report about the ranks.
        variables: its own variables, by the name that ranks read for the same value (RANK, WORLD_SIZE ...).
    """

    name: str = ""
    command: str = ""
    version: str = ""
    promises: frozenset[Promise] | None = None
    logs: str = ""
    report: Report = field(default_factory=Report)
    variables: Mapping[str, str] = field(default_factory=dict)


FORMER_WORDS = {"outcome": "succeeded", "failed_ranks": "failures", "within": "teardown_seconds"}
"""Promises by the words of declarations that are older than the present names of expectations."""


class CommandAgent(ExternalAgent):
    """Supervisor that is started by a command line.

    Args:
        command: the command line, with placeholders; if empty, that of the declaration.
        declaration: its declaration.

    Raises:
        InputError: if there is no command, or one of its placeholders is unknown.
    """

    def __init__(self, command: str = "", declaration: Declaration | None = None) -> None:
        self.declaration = declaration or Declaration()
        self.command = command or self.declaration.command
        try:
            self._words = shlex.split(self.command)
        except ValueError as error:
            raise InputError(f"{self.command!r} is not a command line: {error}") from None
        used = placeholders(self.command)
        problems = [not_known(name, PLACEHOLDERS, "placeholder") for name in used if name not in PLACEHOLDERS]
        if not self._words:
            problems.append("missing command line. Give --agent-cmd, or `command` in the declaration")
        elif not used & {"script", "command"}:
            problems.append(f"{self.command!r} does not run the ranks' program: it needs {{script}} or {{command}}")
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
        """Return the first line of output of the version command; empty if the command fails."""
        if not self.declaration.version:
            return ""
        try:
            ran = run_bounded(shlex.split(self.declaration.version), VERSION_SECONDS)
        except (OSError, ValueError, TimeoutExpired):
            return ""
        lines = (ran.stdout or ran.stderr).decode(errors="replace").strip().splitlines()
        return lines[0] if lines else ""

    def unavailable(self) -> str:
        """Return why its program is missing; empty if it exists."""
        from shutil import which

        program = self._words[0]
        if placeholders(program) or which(program):
            return ""
        return f"program not found: {program!r}"

    def unsupported(self, scenario: Scenario) -> str:
        """Return why it cannot run the scenario: as any external agent, or for lack of a placeholder."""
        if scenario.args and not self._takes_args:
            return "the ranks' program has arguments, and the command line has neither {args} nor {command}"
        if scenario.nodes > 1 and not self.nodes:
            return f"the command line has no {{node}}, and the scenario needs {scenario.nodes} nodes"
        if scenario.restarts and not self.restarts:
            return f"the command line has no {{restarts}}, and the scenario allows {scenario.restarts} restart(s)"
        if "master_port" in placeholders(self.command) and any(f.name == "port_kept" for f in scenario.faults.faults):
            return "the command line fixes the port ({master_port}), and the scenario needs another one after a restart"
        return super().unsupported(scenario)

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return the command line, once for each node."""
        return tuple(
            Invocation(tuple(word for template in self._words for word in self._fill(template, job, node)))
            for node in range(job.scenario.nodes)
        )

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Return the content of its report, in its own output or in a file."""
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
        """Return its declared log files."""
        if not self.declaration.logs:
            return {}
        found: dict[tuple[int, Stream], Path] = {}
        for rank in range(job.scenario.ranks):
            for stream in get_args(Stream):
                template = self.declaration.logs.replace("{rank}", str(rank)).replace("{stream}", stream)
                found[rank, stream] = Path(*self._fill(template, job, 0))
        return found

    def _fill(self, template: str, job: Job, node: int) -> list[str]:
        """Return a word of the command line with its placeholders filled in; some words become several."""
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
    """Read the declaration of a supervisor from a TOML file, strictly.

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
    promised: set[str] | None = None
    if fields.has("promises"):
        words = fields.words("promises", (*get_args(Promise), *FORMER_WORDS), what="promise")
        promised = {FORMER_WORDS.get(word, word) for word in words}
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
    """Return the promises of a declared supervisor."""
    if declaration.promises is not None:
        return declaration.promises | {"ends"}
    promises: set[Promise] = set(SEEN)
    report = declaration.report
    if restarts:
        promises.add("restarts")
    if report.root_cause or report.failure:
        promises.add("root_cause")
    if report.failure:
        promises.add("failures")
    if "(?P<message>" in report.failure:
        promises.add("message")
    return frozenset(promises)


def placeholders(template: str) -> set[str]:
    """Return the names between braces.

    Raises:
        InputError: if a brace is not closed.
    """
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise InputError(f"{template!r}: {error}. Write {{{{ and }}}} for braces") from None


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
            fields.note(key, f"{text!r} has no rank: it needs a group (?P<rank>\\d+)")
    except re.error as error:
        fields.note(key, f"{text!r} is not a regular expression: {error}")
    return text


def ranks_in(text: str | None) -> tuple[int, ...]:
    """Return the ranks in a report: ``3``, or a list as written by Slurm and Open MPI: ``0,2-3``."""
    ranks: list[int] = []
    for part in (text or "").split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first.isdigit() or (dash and not last.isdigit()):
            return ()
        ranks += range(int(first), min(int(last or first), int(first) + MOST_RANKS) + 1)
    return tuple(ranks)


def _matches(key: str, pattern: str, text: str, doubts: list[str]) -> list[re.Match[str]]:
    """Return the matches of a pattern that name ranks, and add a doubt about the first match that does not."""
    found = list(re.finditer(pattern, text, re.MULTILINE)) if pattern else []
    named = [match for match in found if ranks_in(match["rank"])]
    unnamed = next((match for match in found if match not in named), None)
    if unnamed is not None:
        group = "is not part of" if unnamed["rank"] is None else f"is {unnamed['rank']!r}, not a rank, in"
        line = unnamed[0].strip().partition("\n")[0][:200]
        doubts.append(f"report.{key} of the declaration: the group 'rank' {group} the match {line!r}")
    return named


def _status(groups: dict[str, str]) -> ExitStatus | None:
    """Return the exit status in a report; None if it is absent or invalid."""
    try:
        if groups.get("signal"):
            return ExitStatus(signal=signal_number(groups["signal"]))
        return ExitStatus.from_returncode(int(groups["code"])) if groups.get("code") else None
    except ValueError:
        return None
