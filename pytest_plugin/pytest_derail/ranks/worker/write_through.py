"""In a rank: immediate recording of log records, properties and sections; the report of a phase may never be made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex

import pytest
from _pytest.junitxml import xml_key

from pytest_derail.ranks.phase_reports import MOST_PARTS, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_derail.ranks.phase_reports import Kind

FIRST_PROPERTIES: pytest.StashKey[list[tuple[str, object]]] = pytest.StashKey()
"""Key in the stash of a test: its properties at collection."""


class Note(Protocol):
    """Function that records an entry."""

    def __call__(self, kind: Kind, /, *values: object) -> None:
        """Write an entry of this kind."""
        ...


class NotedList(list[Any]):
    """List that reports each value added to it."""

    def __init__(self, values: Iterable[Any], note: Callable[[Any], None]) -> None:
        super().__init__(values)
        self._note = note

    def append(self, value: Any) -> None:
        """Add a value."""
        super().append(value)
        self._note(value)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """Insert a value at an index."""
        super().insert(index, value)
        self._note(value)

    def extend(self, values: Iterable[Any]) -> None:
        """Add several values."""
        for value in values:
            self.append(value)

    def __iadd__(self, values: Iterable[Any]) -> Any:  # type: ignore[misc] # it is used for its effect
        """Add several values."""
        self.extend(values)
        return self


def note_additions(item: pytest.Function, note: Note) -> None:
    """Record the properties and sections of a test from now on; those of an earlier run are removed."""
    test: Any = item
    first = item.stash.setdefault(FIRST_PROPERTIES, list(item.user_properties))
    test.user_properties = NotedList(first, lambda named: _note(note, "property", named, 2))
    test._report_sections = NotedList((), lambda section: _note(note, "section", section, 3))  # noqa: SLF001 - of nodes


def _note(note: Note, kind: Kind, values: object, count: int) -> None:
    """Record an added value if it has the form that pytest itself uses."""
    if isinstance(values, list | tuple) and len(values) == count:
        note(kind, *(plain(value, MOST_PARTS) for value in values))


def note_log_records(config: pytest.Config, note: Note) -> None:
    """Record each log record with the text of the "Captured log" section of its phase."""
    handler: Any = getattr(config.pluginmanager.get_plugin("logging-plugin"), "report_handler", None)
    if handler is None:
        return
    emit = handler.emit

    def emit_and_note(record: object) -> None:
        start = handler.stream.tell()
        emit(record)
        handler.stream.seek(start)
        text = handler.stream.read()
        if text:
            note("log", text)

    handler.emit = emit_and_note


class SuiteProperties:
    """Substitute for pytest's writer of JUnit XML in a rank: the controller has the real one."""

    family = "xunit1"

    def __init__(self, note: Note) -> None:
        self._note = note

    def add_global_property(self, name: str, value: object) -> None:
        """Record a property of the whole suite."""
        self._note("suite property", str(name), plain(value, MOST_PARTS))

    def node_reporter(self, _report: object) -> SuiteProperties:
        """Return the object that ``record_xml_attribute`` writes to."""
        return self

    def add_attribute(self, name: str, value: object) -> None:
        """Record an attribute of the test."""
        self._note("attribute", str(name), plain(value, MOST_PARTS))


def note_suite_properties(config: pytest.Config, note: Note) -> None:
    """Record the calls of ``record_testsuite_property`` and ``record_xml_attribute``."""
    if xml_key not in config.stash:
        xml: Any = SuiteProperties(note)
        config.stash[xml_key] = xml
        config.pluginmanager.register(xml)  # pytest unregisters it at the end


TORCH_SKIPS = "torch.testing._internal.common_distributed"
"""Module of torch with ``TEST_SKIPS``: the exit codes by which a test's process reports a skip."""


def convert_exit_of_torch(item: pytest.Function, call: pytest.CallInfo[None]) -> None:
    """Convert ``sys.exit(TEST_SKIPS[...].exit_code)`` into a skip: torch's own tests skip that way in processes."""
    raised = [call.excinfo, *(getattr(item, "_excinfo", None) or ())]  # the latter come from unittest classes
    if not any(each is not None and isinstance(each.value, SystemExit) for each in raised):
        return
    skips = getattr(sys.modules.get(TORCH_SKIPS), "TEST_SKIPS", {})
    reasons = {skip.exit_code: skip.message for skip in skips.values()}

    def converted(excinfo: Any) -> Any:
        if excinfo is None or not isinstance(excinfo.value, SystemExit) or excinfo.value.code not in reasons:
            return excinfo
        skip = pytest.skip.Exception(reasons[excinfo.value.code], _use_item_location=True)
        return pytest.ExceptionInfo.from_exception(skip.with_traceback(excinfo.tb))

    call.excinfo = converted(call.excinfo)
    if getattr(item, "_excinfo", None):
        test: Any = item
        test._excinfo = [converted(each) for each in test._excinfo]  # noqa: SLF001 - there is no other way
