"""The record file of a rank, as the controller reads it after any end of its writer."""

from __future__ import annotations

import os
import resource
import threading

import pytest

from pytest_derail.ranks.phase_reports import RecordedReport, RecordFile, add_report, plain, read


def test_what_was_written_before_the_end_of_a_rank_is_read(tmp_path) -> None:
    """An incomplete entry is ignored, wherever it is cut."""
    path = tmp_path / "record"
    file = RecordFile(path)
    file.add("phase", "call")
    file.add("log", "call", "first\n")
    file.add("log", "call", "second\n")
    whole = path.read_bytes()
    file.add("property", "loss", 0.5)
    data = path.read_bytes()
    assert (read(path).phase, read(path).properties) == ("call", [("loss", 0.5)])
    for cut in range(len(whole), len(data)):
        path.write_bytes(data[:cut])
        told = read(path)
        assert (told.sections, told.properties) == ([("Captured log call", "first\nsecond\n")], [])


def test_a_file_that_is_missing_or_damaged_is_a_rank_that_has_recorded_nothing_more(tmp_path) -> None:
    """Reading it imports nothing."""
    path = tmp_path / "record"
    assert read(path).phase == "collect"
    file = RecordFile(path)
    file.add("phase", "setup")
    for rubbish in (b"\x00\x00\x00\x05hello", b"\xff" * 20, b"\x00\x00\x00\x14cposix\nsystem\n(S'x'\ntR.", b"\x00" * 8):
        whole = path.read_bytes()
        path.write_bytes(whole + rubbish)
        assert read(path).phase == "setup"
        path.write_bytes(whole)


def test_what_cannot_be_written_is_written_with_the_next_entry(tmp_path) -> None:
    """A test may use up all descriptors; if that persists to the end it is an error."""
    path = tmp_path / "record"
    file = RecordFile(path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        file.add("phase", "call")
        with pytest.raises(OSError, match="Too many open files"):
            file.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not path.exists()
    file.add("property", "loss", 1)
    assert (read(path).phase, read(path).properties) == ("call", [("loss", 1)])


def test_a_forked_child_writes_nothing(tmp_path) -> None:
    """Only the rank itself writes."""
    path = tmp_path / "record"
    file = RecordFile(path)
    file.add("phase", "call")
    child = os.fork()
    if child == 0:
        file.add("phase", "done")
        file.finish()
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED)
    assert read(path).phase == "call"


def test_entries_of_several_threads_are_whole(tmp_path) -> None:
    """None is incomplete or lost."""
    path = tmp_path / "record"
    file = RecordFile(path)

    def write(name: str) -> None:
        for number in range(200):
            file.add("property", name, number)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(path).properties
    written = list(range(200))
    assert all([value for each, value in found if each == name] == written for name in "abcd")
    assert len(found) == 4 * len(written)


def test_a_report_of_a_phase_takes_the_place_of_what_was_recorded_in_it(tmp_path) -> None:
    """A report of a subtest does not."""
    path = tmp_path / "record"
    file = RecordFile(path)
    file.add("section", "call", "metrics", "0.5")
    file.add("property", "loss", 0.5)
    add_report(file, RecordedReport("call", "failed", 1.0, is_extra=True))
    assert (read(path).sections, read(path).properties) == ([("Captured metrics call", "0.5")], [("loss", 0.5)])
    data = {"sections": [("Captured metrics call", "0.5")], "user_properties": [("loss", 0.5)]}
    add_report(file, RecordedReport("call", "passed", 2.0, report=data))
    file.add("property", "late", 1)
    told = read(path)
    assert (told.sections, told.properties) == ([("Captured metrics call", "0.5")], [("loss", 0.5), ("late", 1)])
    assert ([each.at for each in told.phases], [each.at for each in told.extras]) == ([2.0], [1.0])


class Odd(float):
    """Number that other processes cannot read unchanged."""

    def __str__(self) -> str:
        return "odd"


def test_values_become_plain(tmp_path) -> None:
    """Python's own containers stay; other objects become text, also those of subclasses of containers."""
    assert plain({("a", 1): [Odd(2), {b"x"}, None, 1.5, tmp_path]}) == {
        ("a", 1): ["odd", {b"x"}, None, 1.5, str(tmp_path)]
    }


def test_a_container_that_contains_itself_is_recorded_as_its_text() -> None:
    """Values beside it are recorded unchanged."""
    itself: list[object] = [1]
    itself.append(itself)
    assert plain(("a", {"b": [itself, 2]})) == ("a", {"b": ["[1, [...]]", 2]})


def test_a_report_of_any_length_is_recorded(tmp_path) -> None:
    """Only properties have a limit of parts: a report without its failure would look like a pass."""
    report = RecordedReport("call", "failed", 1.0, report={"lines": ["x"] * 500_000})
    add_report(RecordFile(tmp_path / "record"), report)
    assert read(tmp_path / "record").first("failed") == report
    assert isinstance(plain([0] * 300, most=200), str)
