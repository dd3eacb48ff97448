"""Record of one rank: a file that grows entry by entry during the test, and the controller's reader for it.

Each entry is written at once, so that the earlier entries of a rank that dies or hangs are kept. Entries are reports of
pytest, log records, properties and sections.
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
"""Text, file and line of a warning; then module and name of its category and of each base class of that."""

LENGTH = struct.Struct("!Q")
"""Prefix of each entry: its size in bytes."""

EXACT = (type(None), bool, int, float, complex, str, bytes)
"""Types recorded unchanged; of other types, except containers, the text is recorded."""

MOST_DEEP = 50  # levels of nested containers that are recorded as containers
MOST_PARTS = 200_000  # values in a property that is recorded as a container


@dataclass(slots=True)
class RecordedReport:
    """Report that pytest has logged in a rank.

    Attributes:
        when: the phase of the report.
        result: the result that the rank's hooks decided.
        at: monotonic seconds when it was logged.
        reason: the reason of a skip, an xfail or an xpass.
        text: the failure as text, of a report that did not pass.
        report: pytest's own report, in the form that ``pytest_report_to_serializable`` returns.
        exception: the pickled exception; empty if it cannot be pickled.
        is_extra: whether it is a report of a subtest or another plugin, not of the phase itself.
        is_strict: of an xpass, whether it counts as a failure.
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
        """Return the report, restored by its plugin; None without a report, or if that plugin is not loaded here."""
        if not self.report:
            return None
        try:
            # Copied, because the hook takes its argument apart: each call needs its own copy.
            data = pickle.loads(pickle.dumps(self.report))
            restored = config.hook.pytest_report_from_serializable(config=config, data=data)
        except Exception:  # hooks are third-party code; the text remains
            return None
        return cast("pytest.TestReport | None", restored)


@dataclass(slots=True)
class RankRecord:
    """All entries of one rank's record.

    Attributes:
        phase: the current phase, or the phase in which the rank died; "done" if the test is over in it.
        reports: the reports, in the order in which they were logged.
        open_sections: sections, and log records of the phase, that came after the last report of a phase.
        open_properties: properties that came after the last report of a phase.
        suite_properties: those of ``record_testsuite_property``.
        attributes: those of ``record_xml_attribute``.
        examples: changes of Hypothesis to its database: "save" or "delete", key, value.
        warned: warnings.
    """

    phase: When = "collect"
    reports: list[RecordedReport] = field(default_factory=list)
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
    def phases(self) -> list[RecordedReport]:
        """Reports of the phases themselves."""
        return [report for report in self.reports if not report.is_extra]

    @property
    def extras(self) -> list[RecordedReport]:
        """Reports of subtests and of other plugins."""
        return [report for report in self.reports if report.is_extra]

    @property
    def sections(self) -> list[tuple[str, str]]:
        """All sections: those of the reports, each once, and those that came after the last report."""
        reported = (each for phase in self.phases for each in pairs(phase.report.get("sections")))
        return list(dict.fromkeys([*((str(name), str(text)) for name, text in reported), *self.open_sections]))

    @property
    def properties(self) -> list[Named]:
        """All properties, each once: the report of a later phase repeats those of earlier phases."""
        merged: list[Named] = []
        for phase in self.phases:
            named = [(str(name), value) for name, value in pairs(phase.report.get("user_properties"))]
            merged = [*[each for each in merged if each not in named], *named]
        return [*merged, *self.open_properties]

    def first(self, result: Result) -> RecordedReport | None:
        """Return the first report of a phase with this result."""
        return next((report for report in self.phases if report.result == result), None)

    def _add(self, kind: Kind, values: tuple[Any, ...]) -> None:
        match kind:
            case "phase":
                self.phase = values[0]
            case "report":
                report = _harmless(RecordedReport(*values))
                self.reports.append(report)
                if not report.is_extra:
                    self.open_sections, self.open_properties = [], []
            case "log":
                self._add_log(f"Captured log {values[0]}", values[1])
            case "section":
                when, key, text = values
                name = f"Captured {key} {when}"
                # At the end of a phase pytest makes one section of all log records of the phase.
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
"""Parts of pytest's report with displayed text."""


def _harmless(recorded: RecordedReport) -> RecordedReport:
    """Return the report with every terminal control character escaped. Ranks add no colours to it.

    Names of properties are escaped as well: pytest writes them unescaped into JUnit XML.
    """
    report = {name: _neutral(value) if name in SHOWN else value for name, value in recorded.report.items()}
    if "user_properties" in report:
        report["user_properties"] = [(neutral(str(name)), value) for name, value in pairs(report["user_properties"])]
    return replace(recorded, reason=neutral(recorded.reason), text=neutral(recorded.text), report=report)


def _neutral(value: Any) -> Any:
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, dict):
        return {name: _neutral(each) for name, each in value.items()}
    return type(value)(map(_neutral, value)) if isinstance(value, list | tuple) else value


class RecordFile:
    """Writer of a rank's record, in the rank. Forked children of the test write nothing to it.

    Args:
        path: the file.
        carry: takes the entries instead, if the file is out of reach.
    """

    def __init__(self, path: Path, carry: Callable[[bytes], None] | None = None) -> None:
        self._path = os.fspath(path)
        self._carry = carry
        self._pid = Held.getpid()
        self._lock = threading.RLock()
        self._pending = bytearray()
        self._is_writing = False

    def add(self, kind: Kind, *values: object) -> None:
        """Write an entry; if that is not possible now (no descriptor is free), write it with the next one."""
        if Held.getpid() != self._pid:
            return
        try:
            data = Held.dumps((kind, plain(values)))
        except (RecursionError, MemoryError):
            return  # the test has used up its stack, and raises this itself: its report follows
        with self._lock:
            self._pending += LENGTH.pack(len(data)) + data
            if self._is_writing:
                return  # called by a signal handler during the write below
            self._is_writing = True
            try:
                self._write()
            except OSError:
                pass  # ``finish`` raises if the error persists
            finally:
                self._is_writing = False

    def _write(self) -> None:
        if self._carry is not None:
            data = bytes(self._pending)
            self._carry(data)
            del self._pending[: len(data)]
            return
        fd = Held.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            while self._pending:
                del self._pending[: Held.write(fd, self._pending)]
        finally:
            Held.close(fd)

    def finish(self) -> None:
        """Write the entries that could not be written before.

        Raises:
            OSError: if writing still fails.
        """
        with self._lock:
            if self._pending and Held.getpid() == self._pid:
                self._write()


def add_report(file: RecordFile, report: RecordedReport) -> None:
    """In the rank: record a report."""
    file.add("report", *(getattr(report, each.name) for each in fields(report)))


def read(path: Path) -> RankRecord:
    """In the controller: return the entries that a rank has recorded so far, up to the last complete one."""
    record = RankRecord()
    try:
        data = path.read_bytes()
    except OSError:
        return record
    for kind, values in _entries(data):
        try:
            record._add(kind, values)  # noqa: SLF001 - of this module
        except (TypeError, ValueError, IndexError):
            break  # a rank has damaged the file
    return record


def read_all(folder: Path, ranks: int) -> dict[int, RankRecord]:
    """In the controller: return the record of each rank of a test so far."""
    return {rank: read(report_path(folder, rank)) for rank in range(ranks)}


def plain(value: object, most: float = float("inf")) -> Any:
    """Return a value in a form that every process can read: containers of numbers and texts.

    Any other object becomes its text, as does a container that contains itself. A container of more than ``most`` parts
    becomes a shortened text.
    """
    try:
        return _plain(value, set(), itertools.count(), most)
    except _TooLargeError:
        return text_of(value, shortened=reprlib.Repr().repr)


def text_of(value: object, shortened: Callable[[object], str] = str) -> str:
    """Return the text of a value; third-party ``__str__`` methods may raise."""
    try:
        return str.join("", [shortened(value)])  # converts a subclass of str to its characters
    except BaseException as error:
        return f"<{type.__repr__(type(value))}, whose text raises {type.__repr__(type(error))}>"


class _ItselfError(Exception):
    """Error for a container that contains itself; its argument is the container's id."""


class _TooLargeError(Exception):
    """Error for a container with too many parts."""


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
    """Yield the pairs among these values: tests may append anything to pytest's lists."""
    for each in values if isinstance(values, list | tuple) else ():
        if isinstance(each, list | tuple) and len(each) == 2:
            yield each[0], each[1]


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler that reads plain values only, and imports nothing."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"expected a plain value, got {module_name}.{global_name}")


def _entries(data: bytes) -> Iterator[tuple[Kind, tuple[Any, ...]]]:
    at = 0
    while at + LENGTH.size <= len(data):
        (size,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if at + size > len(data):
            return  # the rank died while writing it
        try:
            kind, values = _PlainUnpickler(io.BytesIO(data[at : at + size])).load()
        except Exception:  # a damaged pickle raises nearly anything
            return
        yield kind, values
        at += size
