"""The record of one rank: a file that grows entry by entry while the test runs, and what the controller reads from it.

Each entry is written at once, so that a rank that dies or hangs has its earlier entries kept: reports of pytest, log
records, properties, sections.
"""

from __future__ import annotations

import io
import itertools
import os
import pickle
import reprlib
import struct
import threading
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from derail.errors.text import neutral
from pytest_derail.protocol import report_path
from pytest_derail.ranks.worker.held_os import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

When: TypeAlias = Literal["collect", "setup", "call", "teardown", "done"]
Result: TypeAlias = Literal["passed", "failed", "skipped", "xfailed", "xpassed"]
Kind: TypeAlias = Literal[
    "phase", "report", "log", "section", "property", "suite property", "attribute", "example", "warning"
]
Named: TypeAlias = tuple[str, Any]
Warned: TypeAlias = tuple[str, str, int, tuple[tuple[str, str], ...]]
"""Text, file and line of a warning, and module and name of its category and of each base of that."""

LENGTH = struct.Struct("!Q")
"""What stands before each entry: its bytes."""

EXACT = (type(None), bool, int, float, complex, str, bytes)
"""Types that are recorded as they are; of others, but for containers, their text is."""

MOST_DEEP = 50  # levels of containers that are recorded as such
MOST_PARTS = 200_000  # values in a property that is recorded as such


@dataclass(slots=True)
class ReportTold:
    """A report that pytest has logged in a rank.

    Attributes:
        when: the phase that it is about.
        result: what the rank's hooks have decided.
        at: monotonic seconds when it was logged.
        reason: of a skip, an xfail or an xpass.
        text: the failure as text; of a report that did not pass.
        report: pytest's own report, as ``pytest_report_to_serializable`` gives it.
        exception: what was raised, pickled; empty if it cannot be.
        is_extra: whether it is not the report of the phase itself, but that of a subtest or of another plugin.
        is_strict: of an xpass, whether that is a failure.
    """

    when: When
    result: Result
    at: float
    reason: str = ""
    text: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    exception: bytes = b""
    is_extra: bool = False
    is_strict: bool = False

    def load(self, config: pytest.Config) -> pytest.TestReport | None:
        """The report, made again by the plugin whose it is; None if there is none, or that plugin is not here."""
        if not self.report:
            return None
        try:
            # It is taken to pieces, so that each call gets its own copy.
            data = pickle.loads(pickle.dumps(self.report))
            found = config.hook.pytest_report_from_serializable(config=config, data=data)
        except Exception:  # hooks are code of others; the text is there
            return None
        return cast("pytest.TestReport | None", found)


@dataclass(slots=True)
class RankTold:
    """All that a rank has recorded.

    Attributes:
        phase: what it is in, or was in when it died; "done" if the test is over in it.
        reports: those that were logged, in order.
        open_sections: sections, with what was logged in the phase, that came after the last report of a phase.
        open_properties: properties that did.
        suite_properties: those of ``record_testsuite_property``.
        attributes: those of ``record_xml_attribute``.
        examples: what Hypothesis saved in its database, or deleted from it: "save" or "delete", key, value.
        warned: warnings.
    """

    phase: When = "collect"
    reports: list[ReportTold] = field(default_factory=list)
    open_sections: list[tuple[str, str]] = field(default_factory=list)
    open_properties: list[Named] = field(default_factory=list)
    suite_properties: list[Named] = field(default_factory=list)
    attributes: list[Named] = field(default_factory=list)
    examples: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    warned: list[Warned] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the test is over in this rank."""
        return self.phase == "done"

    @property
    def phases(self) -> list[ReportTold]:
        """The reports of the phases themselves."""
        return [report for report in self.reports if not report.is_extra]

    @property
    def extras(self) -> list[ReportTold]:
        """The reports of subtests, and of other plugins."""
        return [report for report in self.reports if report.is_extra]

    @property
    def sections(self) -> list[tuple[str, str]]:
        """All sections: those of the reports, each once, and those that no report has any more."""
        reported = (each for phase in self.phases for each in pairs(phase.report.get("sections")))
        return list(dict.fromkeys([*((str(name), str(text)) for name, text in reported), *self.open_sections]))

    @property
    def properties(self) -> list[Named]:
        """All properties: the reports of later phases have those of earlier ones again."""
        found: list[Named] = []
        for phase in self.phases:
            named = [(str(name), value) for name, value in pairs(phase.report.get("user_properties"))]
            found = [*[each for each in found if each not in named], *named]
        return [*found, *self.open_properties]

    def first(self, result: Result) -> ReportTold | None:
        """The first report of a phase with this result."""
        return next((report for report in self.phases if report.result == result), None)

    def _add(self, kind: Kind, values: tuple[Any, ...]) -> None:
        match kind:
            case "phase":
                self.phase = values[0]
            case "report":
                report = _harmless(ReportTold(*values))
                self.reports.append(report)
                if not report.is_extra:
                    self.open_sections, self.open_properties = [], []
            case "log":
                self._add_log(f"Captured log {values[0]}", values[1])
            case "section":
                when, key, text = values
                name = f"Captured {key} {when}"
                # At the end of a phase pytest makes a section of all that was logged in it.
                self.open_sections = [each for each in self.open_sections if key != "log" or each[0] != name]
                self.open_sections.append((name, text))
            case "property":
                self.open_properties.append((neutral(str(values[0])), values[1]))
            case "suite property":
                self.suite_properties.append((neutral(str(values[0])), values[1]))
            case "attribute":
                self.attributes.append((neutral(str(values[0])), values[1]))
            case "example":
                self.examples.append((values[0], values[1], values[2]))
            case "warning":
                text, file, line, names = values
                self.warned.append(
                    (neutral(str(text)), str(file), int(line), tuple((str(of), str(name)) for of, name in names))
                )

    def _add_log(self, name: str, text: str) -> None:
        for index, (each, before) in enumerate(self.open_sections):
            if each == name:
                self.open_sections[index] = (name, before + text)
                return
        self.open_sections.append((name, text))


SHOWN = ("longrepr", "wasxfail", "_subtest.context")
"""Parts of pytest's report with texts that are shown."""


def _harmless(told: ReportTold) -> ReportTold:
    """The report with every character named that a terminal obeys. Ranks write no colours of their own into it.

    Names of properties as well: pytest writes them into JUnit's XML unescaped.
    """
    report = {name: _neutral(value) if name in SHOWN else value for name, value in told.report.items()}
    if "user_properties" in report:
        report["user_properties"] = [(neutral(str(name)), value) for name, value in pairs(report["user_properties"])]
    return replace(told, reason=neutral(told.reason), text=neutral(told.text), report=report)


def _neutral(value: Any) -> Any:
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, dict):
        return {name: _neutral(each) for name, each in value.items()}
    return type(value)(map(_neutral, value)) if isinstance(value, list | tuple) else value


class RecordFile:
    """In the rank: the end at which the file grows. Children that the test forks write nothing into it."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self._pid = Held.getpid()
        self._lock = threading.RLock()
        self._pending = bytearray()
        self._is_writing = False

    def add(self, kind: Kind, *values: object) -> None:
        """Write an entry. Where that is not possible now (no descriptor is free), it is written with the next one."""
        if Held.getpid() != self._pid:
            return
        try:
            data = Held.dumps((kind, plain(values)))
        except (RecursionError, MemoryError):
            return  # the test has used up its stack, and raises this itself: what it reports comes later
        with self._lock:
            self._pending += LENGTH.pack(len(data)) + data
            if self._is_writing:
                return  # the handler of a signal, in the middle of the loop below
            self._is_writing = True
            try:
                self._write()
            except OSError:
                pass  # ``finish`` raises if the error persists
            finally:
                self._is_writing = False

    def _write(self) -> None:
        fd = Held.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            while self._pending:
                del self._pending[: Held.write(fd, self._pending)]
        finally:
            Held.close(fd)

    def finish(self) -> None:
        """Write what could not be written before.

        Raises:
            OSError: if that is still not possible.
        """
        with self._lock:
            if self._pending and Held.getpid() == self._pid:
                self._write()


def add_report(file: RecordFile, report: ReportTold) -> None:
    """In the rank: record a report."""
    file.add("report", *(getattr(report, each.name) for each in fields(report)))


def read(path: Path) -> RankTold:
    """In the controller: what a rank has recorded so far, up to the last whole entry."""
    told = RankTold()
    try:
        data = path.read_bytes()
    except OSError:
        return told
    for kind, values in _entries(data):
        try:
            told._add(kind, values)  # noqa: SLF001 - of this module
        except (TypeError, ValueError, IndexError):
            break  # a rank has damaged the file
    return told


def read_all(folder: Path, ranks: int) -> dict[int, RankTold]:
    """In the controller: what each of the ranks of a test has recorded in a folder so far."""
    return {rank: read(report_path(folder, rank)) for rank in range(ranks)}


def plain(value: object, most: float = float("inf")) -> Any:
    """A value as every process can read it: containers of numbers and texts; of anything else its text. That is so of a
    container that contains itself, and a text in short of one that has more than ``most`` parts."""
    try:
        return _plain(value, set(), itertools.count(), most)
    except _TooLargeError:
        return text_of(value, shortened=reprlib.Repr().repr)


def text_of(value: object, shortened: Callable[[object], str] = str) -> str:
    """The text of a value, which may be code of others that raises."""
    try:
        return str.join("", [shortened(value)])  # of a subclass of str its characters
    except BaseException as error:
        return f"<{type.__repr__(type(value))}, whose text raises {type.__repr__(type(error))}>"


class _ItselfError(Exception):
    """A container contains itself: its id is the argument."""


class _TooLargeError(Exception):
    """A container has too many parts."""


def _plain(value: object, above: set[int], parts: Iterator[int], most: float) -> Any:
    kind = type(value)
    if next(parts) > most:
        raise _TooLargeError
    if kind in EXACT:
        return value
    if kind not in (tuple, list, set, frozenset, dict):
        return text_of(value)
    if id(value) in above:
        raise _ItselfError(id(value))
    if len(above) > MOST_DEEP:
        return "..."
    above.add(id(value))
    try:
        if kind is dict:
            items = list(cast("dict[Any, Any]", value).items())
            return {_plain(key, above, parts, most): _plain(each, above, parts, most) for key, each in items}
        return kind([_plain(each, above, parts, most) for each in list(cast("Any", value))])
    except _ItselfError as itself:
        if itself.args != (id(value),):
            raise
        return text_of(value)
    finally:
        above.discard(id(value))


def pairs(values: object) -> Iterator[Named]:
    """The pairs among these: tests write into the lists of pytest as they like."""
    for each in values if isinstance(values, list | tuple) else ():
        if isinstance(each, list | tuple) and len(each) == 2:
            yield each[0], each[1]


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values, and nothing that would have to be imported."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is no plain value")


def _entries(data: bytes) -> Iterator[tuple[Kind, tuple[Any, ...]]]:
    at = 0
    while at + LENGTH.size <= len(data):
        (size,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if at + size > len(data):
            return  # the rank died in the middle of it
        try:
            kind, values = _PlainUnpickler(io.BytesIO(data[at : at + size])).load()
        except Exception:  # a damaged pickle raises nearly anything
            return
        yield kind, values
        at += size
