"""Strategies draw only documented values, and all kinds of them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from derail.errors.protocol import ErrorRecord, Malformed, decode
from derail.faults.registry import entries
from derail.model.input_error import InputError
from pytest_derail.strategies import (
    LogStream,
    available_faults,
    error_files,
    exit_statuses,
    fault_plans,
    log_streams,
)

FAMILIES = sorted({entry.family for entry in entries().values()})
UNHURRIED = settings(deadline=None, suppress_health_check=list(HealthCheck))
"""How fast the machine is says nothing about what is drawn."""
FIND = settings(UNHURRIED, max_examples=2000, database=None, derandomize=True, phases=[Phase.generate])


def comes(strategy, what):
    """Return whether the strategy draws such a value."""
    try:
        find(strategy, what, settings=FIND)
    except NoSuchExample:
        return False
    return True


@settings(UNHURRIED, max_examples=15)
@given(st.data(), st.sets(st.sampled_from(["process", "signals", "crashes", "logs", "supervisor"]), min_size=1))
def test_plans_have_faults_of_the_families_that_were_asked_for(data, families):
    """``fault_plans(ranks=, families=)`` draws from these families only, for the given number of ranks."""
    plan = data.draw(fault_plans(ranks=3, families=sorted(families)))

    assert {entries()[fault.name].family for fault in plan.faults} <= families
    assert all(fault.target in range(3) for fault in plan.faults if isinstance(fault.target, int))


def test_each_family_but_the_supervisors_comes_unless_families_are_named():
    """The default has all available families, except the one that breaks the launcher's process."""
    drawn = {entries()[name].family for name in available_faults()}
    possible = {entry.family for entry in entries().values() if not entry.requires.unavailable()}

    assert drawn == possible - {"supervisor"}


def test_a_family_that_does_not_exist_is_refused_with_those_that_do():
    """A misspelt family is an error at once."""
    with pytest.raises(InputError) as refused:
        fault_plans(ranks=2, families=["signals", "sygnals"])

    assert str(refused.value) == f"families: unknown: sygnals. Choose from {', '.join(FAMILIES)}"


@settings(UNHURRIED)
@given(error_files(kinds=["valid"]))
def test_valid_error_files_are_understood_by_derail_and_by_torch(data):
    """A valid file gives a record with a message and without remarks."""
    found = decode(data)

    assert isinstance(found, ErrorRecord)
    assert (bool(found.message.strip()), found.torch_can_read, found.remarks) == (True, True, ())


@pytest.mark.parametrize(
    "reason",
    ["truncated JSON", "not JSON", "empty", "top level is", "UTF-16 text", "nested", "NUL bytes"],
)
def test_error_files_are_wrong_in_every_way(reason):
    """Invalid files cover all reasons to reject one."""
    bad = error_files(kinds=["near-valid", "hostile"])

    assert comes(bad, lambda data: isinstance(found := decode(data), Malformed) and reason in found.reason)


@pytest.mark.parametrize("remark", ["invalid UTF-8", "no timestamp"])
def test_some_near_valid_error_files_are_tolerated_with_a_remark(remark):
    """Near-valid files cover all kinds of damage that derail tolerates."""
    near = error_files(kinds=["near-valid"])

    assert comes(near, lambda data: isinstance(found := decode(data), ErrorRecord) and remark in str(found.remarks))


@settings(UNHURRIED)
@given(log_streams())
def test_the_writes_of_a_stream_are_its_data_and_none_is_empty(stream):
    """The joined writes are the data; the lines are the data, split."""
    assert b"".join(stream.writes) == stream.data
    assert all(stream.writes)
    assert b"\n".join(stream.lines) == stream.data.removesuffix(b"\n")
    assert (stream.lines == []) == (stream.data == b"")


def no_utf8(data):
    """Return whether the bytes are invalid UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def torn(stream):
    """Return whether the end of a write splits a multi-byte character."""
    return not no_utf8(stream.data) and any(map(no_utf8, stream.writes))


@pytest.mark.parametrize(
    "has",
    [
        torn,
        lambda stream: no_utf8(stream.data),
        lambda stream: b"\0" in stream.data,
        lambda stream: stream.data.count(b"\r") > 3 and stream.data.endswith(b"\n"),
        lambda stream: stream.data != b"" and not stream.data.endswith(b"\n"),
        lambda stream: any(write.count(b"\n") > 1 for write in stream.writes),
        lambda stream: any(not write.endswith(b"\n") for write in stream.writes[:-1]),
        lambda stream: b"\n\n" in stream.data,
        lambda stream: len("".join(stream.data.decode(errors="replace")).splitlines()) > len(stream.lines) > 1,
        lambda stream: b"[rank1]: " in stream.data,
    ],
    ids=["torn", "bad", "nul", "bar", "no end", "many in one", "cut line", "empty line", "no line ends", "prefix"],
)
def test_streams_have_all_that_is_hard_in_them(has):
    """Split characters, bad bytes, NUL, progress bars, no final newline, split and joined lines, prefixes."""
    assert comes(log_streams(), has)


@settings(UNHURRIED)
@given(st.integers(0, 3).flatmap(lambda size: log_streams(max_size=size)))
def test_a_stream_can_be_kept_short(stream):
    """At most the given number of parts, each of at most 200 bytes."""
    assert isinstance(stream, LogStream)
    assert len(stream.data) <= 3 * 200 + 1


@pytest.mark.parametrize(
    "has",
    [
        lambda status: status.ok,
        lambda status: status.code == 255,
        lambda status: status.signal == 9,
        lambda status: status.core_dumped,
        lambda status: status.signal is not None and status.signal > 32,
        lambda status: status.lost is not None,
    ],
    ids=["ok", "255", "killed", "core", "real-time", "lost"],
)
def test_exit_statuses_are_of_every_kind(has):
    """Codes, signals including real-time ones, core dumps, and lost statuses."""
    assert comes(exit_statuses(), has)


@settings(UNHURRIED)
@given(exit_statuses(lost=False))
def test_lost_statuses_can_be_left_out(status):
    """Without them each status is a code or a signal."""
    assert status.lost is None
