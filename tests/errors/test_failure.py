"""Information about a failed rank: no content of its error file can suppress it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from corpus_error_files import CORPUS, GOOD, SECONDS, documents, record
from derail.errors.failure import ProcessFailure
from derail.errors.protocol import encode, identify
from derail.errors.summary import ChildFailedError
from derail.model.exit import ExitStatus
from pytest_derail.strategies import error_files

if TYPE_CHECKING:
    from pathlib import Path


def _now(failure: ProcessFailure) -> bool:
    return abs(failure.timestamp - time.time()) < 60  # noqa: TID251 (the test's own clock)


@pytest.mark.parametrize("name", CORPUS)
def test_no_error_file_hurts(name: str, tmp_path: Path) -> None:
    """The exit code stays, the file's problem and its text are shown, its time counts only if it is one."""
    case, path = CORPUS[name], tmp_path / "error.json"
    case.write(path)
    failure = ProcessFailure(local_rank=2, pid=4000, exitcode=3, error_file=str(path))
    text = str(ChildFailedError("job", {6: failure}))
    text.encode()
    json.dumps(failure.error_file_data, allow_nan=False).encode()
    facts = {
        "exit code": "exitcode  : 3 (pid: 4000)" in text,
        "rank": "rank      : 6 (local_rank: 2)" in text,
        "shows": case.shows in text,
        "problem": case.problem in failure.error_file_problem and case.problem in text,
        "no problem": bool(failure.error_file_problem) == bool(case.problem),
        "path": failure.error_file_path == str(path) and str(path) in text,
        "file for torch": failure.error_file,
        "time": _now(failure) if case.timestamp is None else failure.timestamp == case.timestamp,
        "unbounded": len(text) > 200_000,
    }
    assert facts == {
        "exit code": True,
        "rank": True,
        "shows": True,
        "problem": True,
        "no problem": True,
        "path": True,
        "file for torch": str(path) if case.torch_survives and not case.problem else "<N/A>",
        "time": True,
        "unbounded": False,
    }


@given(document=documents)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_document_hurts(document: object, tmp_path: Path) -> None:
    """Whatever JSON the file contains, failure and text are made, and UTF-8 can express them."""
    path = tmp_path / "error.json"
    path.write_text(json.dumps(document))
    failure = ProcessFailure(0, 1, -9, str(path))
    str(ChildFailedError("job", {0: failure})).encode()
    json.dumps(failure.error_file_data, allow_nan=False, ensure_ascii=False).encode()
    assert failure.message
    assert failure.exitcode == -9


@given(content=error_files())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_bytes_hurt(content: bytes, tmp_path: Path) -> None:
    """Whatever bytes the file contains, the failure is made and names the signal that killed the rank."""
    path = tmp_path / "error.json"
    path.write_bytes(content)
    text = str(ChildFailedError("job", {0: ProcessFailure(0, 1, -9, str(path))}))
    text.encode()
    assert "SIGKILL" in text


def test_a_good_file_is_taken(tmp_path: Path) -> None:
    """Message object, data, path and time are the file's."""
    path = tmp_path / "error.json"
    path.write_bytes(GOOD)
    failure = ProcessFailure(0, 1, 1, str(path))
    assert (failure.message, failure.error_file_data, failure.error_file, failure.timestamp) == (
        record()["message"],
        record(),
        str(path),
        SECONDS,
    )
    assert (failure.error_file_problem, failure.error_file_remarks) == ("", ())


@pytest.mark.parametrize("nowhere", ["", "<N/A>", os.devnull, "/nowhere/error.json"])
def test_a_rank_without_an_error_file_is_described_by_its_exit(nowhere: str) -> None:
    """No file is ``<N/A>``; the text has the exit code and the way to get a traceback, and shows the end of stderr."""
    failure = ProcessFailure(1, 4000, 3, nowhere, stderr_tail="warning\nCUDA error: boom\n")
    assert (failure.error_file, failure.error_file_path, failure.error_file_problem) == ("<N/A>", "", "")
    assert isinstance(failure.message, str)
    first, hint, *tail = failure.message.split("\n")
    assert first == "PID 4000 exited with code 3"
    assert "@record" in hint
    assert tail == ["Last lines of its stderr:", "  warning", "  CUDA error: boom"]
    assert failure.error_file_data == {
        "message": "<NONE>",
        "errorTraits": {"category": "system_terminated_error", "retryability": "False"},
    }


def test_a_killed_rank_is_described_by_its_signal() -> None:
    """The text is torch's, followed by the core dump and the end of stderr; there are no error traits."""
    plain = ProcessFailure(1, 4000, -9, "<N/A>")
    assert (plain.message, plain.signal_name()) == ("Signal 9 (SIGKILL) received by PID 4000", "SIGKILL")
    assert plain.error_file_data == {"message": "<NONE>"}
    dumped = ProcessFailure(
        1, 4000, -11, "", status=ExitStatus(signal=11, core_dumped=True), stderr_tail="Fatal Python error\n"
    )
    assert dumped.message == (
        "Signal 11 (SIGSEGV) received by PID 4000 (core dumped)\nLast lines of its stderr:\n  Fatal Python error"
    )


@pytest.mark.parametrize(
    ("exitcode", "name"),
    [(-int(signal.SIGRTMIN) - 3, "SIGRTMIN+3"), (-200, "signal 200"), (0, "<N/A>"), (137, "<N/A>"), (-9, "SIGKILL")],
)
def test_every_signal_has_a_name(exitcode: int, name: str) -> None:
    """Real-time signals and numbers that are no signal have one as well; exit codes have none."""
    failure = ProcessFailure(0, 1, exitcode, "")
    assert failure.signal_name() == name
    assert (name in str(failure.message)) == (exitcode < 0)


def test_information_of_the_supervisor_takes_precedence() -> None:
    """Status and reason are shown, and the time of the failure is that of the exit, not that in the file."""
    lost = ProcessFailure(0, 5, 255, "", status=ExitStatus(lost="SIGCHLD is ignored"), reason="exit status lost")
    left = ProcessFailure(0, 5, 0, "", status=ExitStatus(code=0), reason="left without returning")
    abandoned = ProcessFailure(0, 5, 255, "", reason="abandoned: still in state D")
    assert [lost.message, left.message, abandoned.message] == [
        "PID 5 has ended, exit status unknown: exit status lost: SIGCHLD is ignored",
        "PID 5 exited with code 0\nleft without returning",
        "PID 5: abandoned: still in state D",
    ]


def test_the_time_of_the_file_is_shown_and_that_of_the_exit_only_without_one(tmp_path: Path) -> None:
    """As torch documents: the timestamp is the error file's, if the file has a valid one."""
    path = tmp_path / "error.json"
    path.write_bytes(GOOD)
    failure = ProcessFailure(0, 1, 1, str(path), seen_at=SECONDS + 100.7)
    assert (failure.timestamp, failure.file_timestamp) == (SECONDS, SECONDS)
    assert ProcessFailure(0, 1, 1, "", seen_at=SECONDS + 100.7).timestamp == SECONDS + 100
    path.write_text('{"message": "no time"}')
    assert ProcessFailure(0, 1, 1, str(path), seen_at=SECONDS + 100.7).timestamp == SECONDS + 100


def test_a_record_by_a_child_of_a_killed_rank_is_shown_but_is_not_its_failure(tmp_path: Path) -> None:
    """The pid in the file is not the rank's: a kill stays a kill, and for an exit code it may well be the reason."""
    path = tmp_path / "error.json"
    path.write_bytes(encode("ValueError: of a child", wall=SECONDS, monotonic=1.0, pid=7))
    killed = ProcessFailure(0, 8, -9, str(path), seen_at=SECONDS + 100)
    assert (killed.error_file, killed.recorded_by, killed.timestamp) == ("<N/A>", 7, SECONDS + 100)
    assert killed.message.startswith("Signal 9 (SIGKILL) received by PID 8")
    assert "recorded by process 7, not by the rank itself: ValueError: of a child" in killed.message
    exited = ProcessFailure(0, 8, 1, str(path))
    assert (exited.recorded_by, exited.message["message"]) == (None, "ValueError: of a child")
    assert exited.error_file_remarks == ("recorded by process 7, not by the rank itself",)
    own = ProcessFailure(0, 7, -9, str(path))
    assert (own.recorded_by, own.message["message"]) == (None, "ValueError: of a child")


def test_an_invalid_time_is_shown_as_a_number() -> None:
    """``timestamp_isoformat`` has torch's form, and returns the number where there is no such year."""
    failure = ProcessFailure(0, 1, 1, "", seen_at=SECONDS)
    shown = failure.timestamp_isoformat()
    assert time.mktime(time.strptime(shown, "%Y-%m-%d_%H:%M:%S")) == SECONDS
    failure.timestamp = SECONDS * 1000
    assert failure.timestamp_isoformat() == str(SECONDS * 1000)


def test_a_stale_file_is_no_evidence(tmp_path: Path) -> None:
    """A file from before the start gives neither message nor time."""
    path = tmp_path / "error.json"
    path.write_bytes(GOOD)
    failure = ProcessFailure(0, 1, -9, str(path), stale=identify(path))
    assert _now(failure)
    assert failure.error_file_problem == "left by an earlier attempt"
    assert "boom" not in str(failure.message)


def test_failures_share_no_data() -> None:
    """An addition to one failure's data does not appear in another's."""
    killed, exited = ProcessFailure(0, 1, -9, ""), ProcessFailure(1, 2, 3, "")
    exited.error_file_data["message"] = "changed"
    assert killed.error_file_data == {"message": "<NONE>"}
    assert ProcessFailure(1, 2, 3, "").error_file_data["message"] == "<NONE>"


def test_a_failure_can_be_pickled_and_copied(tmp_path: Path) -> None:
    """Pickled or copied, it is the same, also after the file is gone."""
    path = tmp_path / "error.json"
    path.write_bytes(GOOD)
    failure = ProcessFailure(
        0,
        1,
        -9,
        str(path),
        status=ExitStatus(signal=9),
        seen_at=5.0,
        order=1,
        stderr_tail="x",
        stale=identify(__file__),
    )
    path.unlink()
    assert pickle.loads(pickle.dumps(failure)) == failure
    assert copy.deepcopy(failure) == failure


@pytest.mark.parametrize("path", ["\0", "x" * 5000, "\ud800", b"/nowhere", None, 5])
def test_an_invalid_path_is_no_exception(path: object) -> None:
    """Whatever is passed as path, there is a failure with its exit code."""
    failure = ProcessFailure(0, 1, 3, path)
    assert (failure.error_file, failure.exitcode) == ("<N/A>", 3)
    str(ChildFailedError("job", {0: failure})).encode()


@pytest.mark.torch
@pytest.mark.parametrize("name", CORPUS)
def test_torchs_agent_survives_our_failures(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's ChildFailedError shows our failure, and its ``record`` passes it on, whatever the file contains."""
    from torch.distributed.elastic.multiprocessing import errors as torch_errors

    case, path = CORPUS[name], tmp_path / "error.json"
    case.write(path)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "parent.json"))
    failure = ProcessFailure(0, 4000, 3, str(path))

    @torch_errors.record
    def agent() -> None:
        raise torch_errors.ChildFailedError("job", {0: failure})

    with pytest.raises(torch_errors.ChildFailedError, match="4000"):
        agent()
    assert (tmp_path / "parent.json").exists() == (case.torch_survives and not case.problem)
