"""The root cause among failures, and the text about all of them."""

from __future__ import annotations

import copy
import json
import pickle
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_error_files import GOOD, SECONDS, record
from derail.errors import recorder
from derail.errors.failure import ProcessFailure
from derail.errors.recorder import ErrorHandler
from derail.errors.summary import ChildFailedError

if TYPE_CHECKING:
    from pathlib import Path


def _failure(rank: int = 0, exitcode: int = 1, **known: object) -> ProcessFailure:
    return ProcessFailure(rank, 4000 + rank, exitcode, "", **known)


def _root(failures: dict[int, ProcessFailure]) -> int:
    return ChildFailedError("job", failures).get_first_failure()[0]


def test_the_first_exit_is_the_root_cause() -> None:
    """The order of the exits decides, whatever the times and the files contain."""
    failures = {
        0: _failure(0, seen_at=10.0, order=2),
        1: _failure(1, seen_at=99.0, order=0),
        2: _failure(2, seen_at=5.0, order=1),
    }
    assert _root(failures) == 1


def test_without_an_order_the_earliest_time_decides() -> None:
    """Within one second the finer time decides, else the one that is given first."""
    assert _root({0: _failure(seen_at=7.0), 1: _failure(seen_at=5.9), 2: _failure(seen_at=5.2)}) == 2
    assert _root({0: _failure(seen_at=7.0, order=0), 1: _failure(seen_at=5.0)}) == 1
    assert _root({3: _failure(seen_at=5.0), 1: _failure(seen_at=5.0)}) == 3


@pytest.mark.parametrize("stamp", ["0", "-7", "soon", None, str(SECONDS * 1000), str(10**30)])
def test_a_file_cannot_become_the_root_cause_by_its_time(stamp: object, tmp_path: Path) -> None:
    """An invalid time has no effect: the rank with a real, earlier time is the root cause."""
    path = tmp_path / "error.json"
    path.write_text(json.dumps(record(timestamp=stamp)))
    good = tmp_path / "good.json"
    good.write_bytes(GOOD)
    assert _root({0: ProcessFailure(0, 1, 1, str(path)), 1: ProcessFailure(1, 2, 1, str(good))}) == 1


class Enriching(ErrorHandler):
    """A handler that knows more than the failure tells, or breaks."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    def maybe_enrich_signal_failure_message(self, message: str, error_file: str) -> str:
        """Answer as it was made to."""
        self.asked.append((message, error_file))
        if isinstance(self.answer, Exception):
            raise self.answer
        return message + self.answer if isinstance(self.answer, str) else self.answer  # type: ignore[return-value]


def enriched(monkeypatch: pytest.MonkeyPatch, answer: object, failures: dict[int, ProcessFailure]) -> tuple[str, list]:
    """The text of a failed job with such a handler, and what the handler was asked."""
    handler = Enriching(answer)
    monkeypatch.setattr(recorder, "get_error_handler", lambda: handler)
    return str(ChildFailedError("job", failures)), handler.asked


def test_the_error_handler_may_add_to_a_root_cause_that_a_signal_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from torch 2.14 on: it gets the paragraph and the error file, and the failure itself stays as it is."""
    failures = {0: _failure(0, -6, order=0), 1: _failure(1, -9, order=1)}
    text, asked = enriched(monkeypatch, "\n    [device fault]", failures)

    ((paragraph, error_file),) = asked
    assert "rank      : 0 (local_rank: 0)" in paragraph
    assert "exitcode  : -6" in paragraph
    assert error_file == failures[0].error_file
    assert text.count("[device fault]") == 1
    assert text.index("[device fault]") > text.index("Root Cause")
    assert "[device fault]" not in failures[0].message


def test_the_error_handler_is_not_asked_about_a_root_cause_with_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """That rank could leave an error file."""
    text, asked = enriched(monkeypatch, "more", {0: _failure(0, 1)})
    assert (asked, "more" in text) == ([], False)


@pytest.mark.parametrize("answer", [None, 7, ValueError("no log")])
def test_an_error_handler_that_breaks_hides_no_failure(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    """What is known without it is there; an exception is named."""
    text, _ = enriched(monkeypatch, answer, {0: _failure(0, -9)})

    assert "exitcode  : -9" in text
    assert ("its error handler failed: ValueError('no log')" in text) is isinstance(answer, Exception)


def test_control_characters_that_an_error_handler_adds_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it took from a log reaches no terminal as it is."""
    text, _ = enriched(monkeypatch, "\x1b[31mred\x07", {0: _failure(0, -9)})
    assert "\x1b" not in text
    assert "red" in text


def test_by_default_nothing_is_added() -> None:
    """The base class returns the message."""
    assert ErrorHandler().maybe_enrich_signal_failure_message("as it is", "<N/A>") == "as it is"


class Foreign:
    """A failure of torch with an odd file: only torch's names, with any values."""

    def __init__(self, message: object = "m", timestamp: object = SECONDS) -> None:
        self.local_rank, self.pid, self.exitcode, self.error_file = 0, 1, 1, "/e.json"
        self.error_file_data, self.message, self.timestamp = {}, message, timestamp

    def signal_name(self) -> str:
        """No signal."""
        return "<N/A>"

    def timestamp_isoformat(self) -> str:
        """Raise for an invalid time."""
        return time.strftime("%Y-%m-%d_%H:%M:%S", time.localtime(self.timestamp))


@pytest.mark.parametrize("stamp", [0, -5, SECONDS * 1000, 10**18, float("nan"), None, "soon"])
def test_failures_of_torch_are_described(stamp: object) -> None:
    """Torch's failures are described with whatever time they have, and an invalid time never wins."""
    failures = {0: Foreign(timestamp=stamp), 1: Foreign("the cause")}
    error = ChildFailedError("job", failures)
    assert (error.get_first_failure()[0], "the cause" in str(error)) == (1, True)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ({"message": "m", "extraInfo": {"py_callstack": ["a\n", "b"]}}, "a\n    b"),
        ({"message": "m", "extraInfo": {"py_callstack": None}}, ": m"),
        ({"message": "m", "extraInfo": None}, ": m"),
        ({"message": None}, ": <N/A>"),
        ({}, ": <N/A>"),
        (None, ": <N/A>"),
        (5, ": 5"),
    ],
)
def test_messages_of_torch_are_shown(message: object, shown: str) -> None:
    """Torch's failures have the file's message unchanged; none of them breaks the text."""
    assert f"traceback :{shown.removeprefix(':')}" in str(ChildFailedError("job", {0: Foreign(message)})).replace(
        ":\n    a", ":a"
    )


def test_the_text_contains_all_information() -> None:
    """Each failure has its time, host, ranks, exit, pid, signal, file, reason, text, stderr and stack."""
    failures = {
        4: _failure(0, -15, seen_at=SECONDS, order=1, reason="it was last", stack='File "x.py", line 3\n'),
        9: _failure(1, -9, seen_at=SECONDS, order=0, stderr_tail="one\ntwo"),
    }
    text = str(ChildFailedError("train.py", failures))
    others, _, root = text.partition("Root Cause (first observed failure):")
    assert "\ntrain.py FAILED\n" in others
    time_shown = time.strftime("%Y-%m-%d_%H:%M:%S", time.localtime(SECONDS))
    for part in (
        f"time      : {time_shown}",
        "host      : ",
        "rank      : 9 (local_rank: 1)",
        "exitcode  : -9 (pid: 4001) (SIGKILL)",
        "error_file: <N/A>",
        "Signal 9 (SIGKILL) received by PID 4001",
        "one\n      two",
    ):
        assert part in root, part
    for part in (
        "rank      : 4 (local_rank: 0)",
        "(SIGTERM)",
        "reason    : it was last",
        'stack     : File "x.py", line 3',
    ):
        assert part in others, part


def test_the_end_of_stderr_is_shown_once(tmp_path: Path) -> None:
    """A traceback that is in the error file is not repeated from stderr; other lines are shown."""
    path = tmp_path / "error.json"
    path.write_text(json.dumps(record(py_callstack="Traceback:\n  File x\nValueError: boom\n")))
    same = ProcessFailure(0, 1, 1, str(path), stderr_tail="warning\nTraceback:\n  File x\nValueError: boom\n")
    other = ProcessFailure(0, 1, 1, str(path), stderr_tail="ValueError: boom\nterminate called\n")
    assert str(ChildFailedError("job", {0: same})).count("ValueError: boom") == 1
    assert "stderr    :\n    ValueError: boom\n    terminate called" in str(ChildFailedError("job", {0: other}))


@given(
    name=st.text(st.characters(codec=None, exclude_categories=())),
    tail=st.text(st.characters(codec=None, exclude_categories=())),
)
def test_any_text_can_be_shown(name: str, tail: str) -> None:
    """Whatever a name or stderr contains, the text can be written, and has no control characters."""
    text = str(ChildFailedError(name, {0: _failure(stderr_tail=tail, reason=tail, stack=tail)}))
    text.encode()
    assert not [sign for sign in text if sign not in {"\n", "\t"} and (ord(sign) < 32 or 127 <= ord(sign) < 160)]


def test_the_text_is_bounded() -> None:
    """A thousand ranks with a megabyte each make a readable text: most of them get one line."""
    failures = {
        rank: _failure(rank, 1, stderr_tail="x" * (1 << 20), stack="y" * (1 << 20), order=rank) for rank in range(100)
    }
    failures |= {rank: _failure(rank, -15, order=rank) for rank in range(100, 1000)}
    text = str(ChildFailedError("n" * (1 << 20), failures))
    assert len(text) < 2_000_000
    assert "rank 999, exitcode -15 (pid: 4999) (SIGTERM)" in text
    assert "characters left out" in text


def test_the_frame_characters_are_the_callers() -> None:
    """``format_msg`` accepts other characters for its lines."""
    text = ChildFailedError("job", {0: _failure()}).format_msg(boarder_delim="#", section_delim="~")
    assert (text.count("#" * 60), text.count("~" * 60)) == (2, 2)


def test_an_error_about_nothing_is_refused() -> None:
    """A call without failures is a mistake of the caller."""
    with pytest.raises(AssertionError, match="job"):
        ChildFailedError("job", {})


class Special(ChildFailedError):
    """A subclass with another constructor."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("special", {0: _failure(exitcode=exit_code)})
        self.exit_code = exit_code


@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.deepcopy, copy.copy])
def test_the_error_can_be_pickled_and_copied(travel: object) -> None:
    """Pickled or copied it keeps text, name, failures and notes, also as a subclass."""
    error = Special(7)
    error.add_note("seen twice")
    same = travel(error)
    facts = [(type(one), str(one), one.name, one.failures, one.exit_code, one.__notes__) for one in (error, same)]
    assert facts[0] == facts[1]


@pytest.mark.torch
def test_real_failures_of_torch_are_described(tmp_path: Path) -> None:
    """Real failures of torch contain the same facts, and the earliest of them is the root cause."""
    from torch.distributed.elastic.multiprocessing import errors as torch_errors

    path = tmp_path / "error.json"
    path.write_bytes(GOOD)
    failures = {
        0: torch_errors.ProcessFailure(0, 1, -9, "/nowhere"),
        1: torch_errors.ProcessFailure(1, 2, 1, str(path)),
    }
    error = ChildFailedError("job", failures)
    assert error.get_first_failure() == (1, failures[1])
    assert "traceback : stack: boom" in str(error)
    assert "Signal 9 (SIGKILL) received by PID 1" in str(error)
