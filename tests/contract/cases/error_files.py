"""Error files as ranks leave them, good and bad, and what the supervisor makes of them."""

# ruff: noqa: TID251 - error files carry the wall clock; waits are stolen and clocks are stepped on purpose

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from contract.registry import Facts, Fault, add, case
from contract.stage import is_alive

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage

GOOD = {"message": {"message": "ValueError: x", "extraInfo": {"py_callstack": "stack of x", "timestamp": "1700000000"}}}

BAD: dict[str, bytes] = {
    "an_empty_file": b"",
    "a_truncated_file": json.dumps(GOOD).encode()[:40],
    "a_plain_traceback": b"Traceback (most recent call last):\nValueError: x\n",
    "a_list": b"[1, 2]",
    "null": b"null",
    "a_byte_order_mark": b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    "utf_16": json.dumps(GOOD).encode("utf-16"),
    "invalid_utf_8": b'{"message": "\xff\xfe\xfd"}',
    "nul_bytes": json.dumps(GOOD).encode() + b"\0" * 512,
    "two_documents": json.dumps(GOOD).encode() * 2,
    "no_message": b'{"error": 5}',
    "a_null_message": b'{"message": null}',
    "a_message_that_is_a_number": b'{"message": 5}',
    "a_message_without_extra_info": b'{"message": {"message": "x"}}',
    "a_timestamp_in_words": b'{"message": {"message": "x", "extraInfo": {"py_callstack": "s", "timestamp": "soon"}}}',
    "an_infinite_timestamp": b'{"message": "x", "timestamp": Infinity}',
    "deep_nesting": b'{"message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
"""Contents that must not hurt the supervisor. Torch raises out of ``wait`` on each."""


def _bad(name: str, content: bytes) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        stage.path("bad").write_bytes(content)
        context = stage.programs(["exec sleep 600", f"cp {stage.dir}/bad $TORCHELASTIC_ERROR_FILE; exit 3"])
        peer = context.pids()[0]
        try:
            result = context.wait()
        except Exception as error:  # whatever it is, it is the fault that is shown here
            return {"raised": True, "type": type(error).__name__, "peer": "running" if is_alive(peer) else "ended"}
        text = str(api.ChildFailedError("job", result.failures))
        return {
            "raised": False,
            "exit code": result.failures[1].exitcode,
            "peer": "running" if is_alive(peer) else "ended",
            "text has the code": "exitcode  : 3" in text,
        }

    add(
        f"{name}_as_error_file_hurts_nobody",
        run,
        expect={"raised": False, "exit code": 3, "peer": "ended", "text has the code": True},
        torch=Fault(
            "pytorch#56739, seen on 2.13.0: the decoder raises out of wait(); the failure is lost, the peer runs on",
            {"raised": True, "peer": "running"},
        ),
        doc="A bad error file costs neither the exit code nor the job's end.",
    )


for _name, _content in BAD.items():
    _bad(_name, _content)


def _unprintable(name: str, data: object, why: str) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        stage.path("error.json").write_text(json.dumps(data))
        failure = api.ProcessFailure(0, 4000, 3, str(stage.path("error.json")))
        try:
            text = str(api.ChildFailedError("job", {0: failure}))
        except Exception as error:  # as above
            return {"raised": type(error).__name__}
        return {"raised": None, "text has the message": "ValueError: x" in text}

    add(
        f"{name}_can_be_printed",
        run,
        expect={"raised": None, "text has the message": True},
        torch=Fault(f"seen on 2.13.0: ChildFailedError cannot be made, {why}", {"raised": why.split()[-1]}),
        doc="The text of an error about a strange file is made all the same.",
    )


def _with(**extra: object) -> object:
    return {"message": {"message": "ValueError: x", "extraInfo": {"py_callstack": "ValueError: x"} | extra}}


_unprintable("a_timestamp_in_milliseconds", _with(timestamp="1700000000000"), "the year is out of range: ValueError")
_unprintable("an_absurd_timestamp", _with(timestamp=str(10**18)), "the platform has no such time: OSError")
_unprintable("a_null_callstack", _with(timestamp="1700000000", py_callstack=None), "None has no text: AttributeError")
_unprintable(
    "a_callstack_in_a_list",
    _with(timestamp="1700000000", py_callstack=["ValueError: x"]),
    "a list has no text: AttributeError",
)


@case({"message": "ValueError: x", "timestamp": 1700000000, "data": True, "in the text": True})
def a_good_file_is_read(api: Api, stage: Stage) -> Facts:
    """Message, timestamp and the whole data come from the file; the traceback is in the text."""
    stage.path("error.json").write_text(json.dumps(GOOD))
    failure = api.ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(stage.path("error.json")))
    return {
        "message": failure.message["message"],
        "timestamp": failure.timestamp,
        "data": failure.error_file_data == GOOD,
        "in the text": "traceback : stack of x" in str(api.ChildFailedError("job", {0: failure})),
    }


@case({"message": "just words", "timestamp": 1700000001, "in the text": True})
def a_message_may_be_a_string(api: Api, stage: Stage) -> Facts:
    """The newer format has text as message and the timestamp beside it."""
    stage.path("error.json").write_text(json.dumps({"message": "just words", "timestamp": 1700000001}))
    failure = api.ProcessFailure(0, 1, 1, str(stage.path("error.json")))
    return {
        "message": failure.message,
        "timestamp": failure.timestamp,
        "in the text": "traceback : just words" in str(api.ChildFailedError("job", {0: failure})),
    }


@case({"in the text": True})
def without_a_callstack_the_message_is_shown(api: Api, stage: Stage) -> Facts:
    """A record without ``py_callstack`` shows its message."""
    data = {"message": {"message": "only this", "extraInfo": {"timestamp": 1700000000}}}
    stage.path("error.json").write_text(json.dumps(data))
    failure = api.ProcessFailure(0, 1, 1, str(stage.path("error.json")))
    return {"in the text": "traceback : only this" in str(api.ChildFailedError("job", {0: failure}))}


def _no_file(name: str, make: str) -> None:
    def run(api: Api, stage: Stage) -> Facts:
        path = stage.path("error.json")
        if make == "directory":
            path.mkdir()
        elif make == "link":
            path.symlink_to(stage.path("nowhere"))
        elif make == "fifo":
            os.mkfifo(path)
        failure = api.ProcessFailure(0, 1, 7, str(path))
        now = abs(failure.timestamp - time.time()) < 60
        text = str(api.ChildFailedError("job", {0: failure}))
        return {"exit code": failure.exitcode, "now": now, "text has the code": "exitcode  : 7" in text}

    doc = "What is no regular file is no error file, and hurts nobody."
    add(name, run, expect={"exit code": 7, "now": True, "text has the code": True}, doc=doc)


_no_file("a_missing_error_file_is_no_error", "nothing")
_no_file("a_directory_as_error_file_hurts_nobody", "directory")
_no_file("a_dangling_link_as_error_file_hurts_nobody", "link")
_no_file("a_fifo_as_error_file_hurts_nobody", "fifo")


@case({"exit code": 3, "stale text": "absent"})
def a_file_of_an_earlier_attempt_is_not_read(api: Api, stage: Stage) -> Facts:
    """Each attempt has its own error files."""
    specs = api.DefaultLogsSpecs(log_dir=stage.logs)
    write = """printf '{"message": "stale", "timestamp": 1}' > $TORCHELASTIC_ERROR_FILE; exit 1"""
    stage.programs([write], logs_specs=specs, envs={0: {"TORCHELASTIC_RESTART_COUNT": "0"}}).wait()
    result = stage.programs(["exit 3"], logs_specs=specs, envs={0: {"TORCHELASTIC_RESTART_COUNT": "1"}}).wait()
    text = str(api.ChildFailedError("job", result.failures))
    return {"exit code": result.failures[0].exitcode, "stale text": "present" if "stale" in text else "absent"}


@case({"failures": [], "failed": False})
def a_rank_that_exits_with_zero_succeeded_whatever_it_wrote(api: Api, stage: Stage) -> Facts:
    """An error file of a rank that then exits with 0 makes no failure."""
    write = """printf '{"message": "never mind", "timestamp": 1}' > $TORCHELASTIC_ERROR_FILE"""
    result = stage.programs([write]).wait()
    return {"failures": sorted(result.failures), "failed": result.is_failed()}
