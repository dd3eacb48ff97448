"""``TailLog`` and ``tail_logfile`` on their own."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

from contract.registry import Facts, Fault, case
from contract.stage import took_less_than, until

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


@case({"text": "[t0]:a\n[t0]:b\n", "stopped": [False, True]})
def a_tail_follows_files_that_come_later(api: Api, stage: Stage) -> Facts:
    """Files need not exist at the start; all lines are there after ``stop``."""
    out = io.StringIO()
    tail = api.TailLog("t", {0: str(stage.path("0.log"))}, out, interval_sec=0.01).start()
    with stage.path("0.log").open("w") as file:
        file.write("a\n")
        file.flush()
        until(lambda: "a" in out.getvalue())
        file.write("b\n")
    before = tail.stopped()
    tail.stop()
    return {"text": out.getvalue(), "stopped": [before, tail.stopped()]}


@case({"text": ["<x> a", "[t1]:b"]})
def a_tail_has_prefixes_by_rank(api: Api, stage: Stage) -> Facts:
    """``log_line_prefixes`` replaces the default header of the ranks that it names."""
    out = io.StringIO()
    files = {rank: stage.path(f"{rank}.log") for rank in (0, 1)}
    files[0].write_text("a\n")
    files[1].write_text("b\n")
    paths = {rank: str(path) for rank, path in files.items()}
    tail = api.TailLog("t", paths, out, {0: "<x> "}, 0.01).start()
    tail.stop()
    return {"text": sorted(out.getvalue().splitlines())}


@case({"text": "[t0]:keep me\n"})
def a_tail_can_filter_lines(api: Api, stage: Stage) -> Facts:
    """``log_line_filter`` chooses the lines that are passed on."""
    out = io.StringIO()
    stage.path("0.log").write_text("drop me\nkeep me\n")
    tail = api.TailLog(
        "t", {0: str(stage.path("0.log"))}, out, interval_sec=0.01, log_line_filter=lambda line: "keep" in line
    ).start()
    tail.stop()
    return {"text": out.getvalue()}


@case({"stopped": True})
def a_tail_of_nothing_can_be_started_and_stopped(api: Api, stage: Stage) -> Facts:
    """No files, no work."""
    tail = api.TailLog("t", {}, io.StringIO()).start()
    tail.stop()
    return {"stopped": tail.stopped()}


@case({"stopped": True, "in time": True})
def a_tail_of_a_file_that_never_comes_can_be_stopped(api: Api, stage: Stage) -> Facts:
    """``stop`` does not wait for a file that was never made."""
    tail = api.TailLog("t", {0: str(stage.path("never.log"))}, io.StringIO(), interval_sec=0.01).start()
    in_time = took_less_than(60, tail.stop)
    return {"stopped": tail.stopped(), "in time": in_time}


@case({"stopped": True, "text": "[t1]:good\n"})
def one_unreadable_file_does_not_stop_the_others(api: Api, stage: Stage) -> Facts:
    """A directory in place of a file is logged, not raised."""
    out = io.StringIO()
    stage.path("0.log").mkdir()
    stage.path("1.log").write_text("good\n")
    tail = api.TailLog("t", {r: str(stage.path(f"{r}.log")) for r in (0, 1)}, out, interval_sec=0.01).start()
    tail.stop()
    return {"stopped": tail.stopped(), "text": out.getvalue()}


@case(
    {"text": "[t0]:old\n[t0]:new\n"},
    torch=Fault(
        "seen on 2.13.0: after copytruncate nothing is read until the file is as long as before",
        {"finished": True, "text": "[t0]:old\n"},
    ),
)
def a_truncated_file_is_read_from_its_new_beginning(api: Api, stage: Stage) -> Facts:
    """Log rotation by copying and truncating loses no line that comes after it."""
    out = io.StringIO()
    path = stage.path("0.log")
    path.write_text("old\n")
    tail = api.TailLog("t", {0: str(path)}, out, interval_sec=0.01).start()
    until(lambda: "old" in out.getvalue())
    os.truncate(path, 0)
    threading.Event().wait(0.5)  # nothing tells that the tail has seen the truncation
    with path.open("a") as file:
        file.write("new\n")
    stage.soon(lambda: "new" in out.getvalue())
    tail.stop()
    return {"text": out.getvalue()}


@case(
    {"text": "[t0]:old\n[t0]:new\n"},
    torch=Fault(
        "seen on 2.13.0: after rotation by renaming the new file is never read",
        {"finished": True, "text": "[t0]:old\n"},
    ),
)
def a_replaced_file_is_read(api: Api, stage: Stage) -> Facts:
    """Log rotation by renaming is followed."""
    out = io.StringIO()
    path = stage.path("0.log")
    path.write_text("old\n")
    tail = api.TailLog("t", {0: str(path)}, out, interval_sec=0.01).start()
    until(lambda: "old" in out.getvalue())
    path.rename(stage.path("0.log.1"))
    path.write_text("new\n")
    stage.soon(lambda: "new" in out.getvalue())
    tail.stop()
    return {"text": out.getvalue()}


@case(
    {"stopped": True},
    torch=Fault(
        "seen on 2.13.0: stop() waits for ever for a FIFO that nobody writes to",
        {"finished": False},
        deadline=8,
    ),
)
def a_fifo_does_not_hold_stop(api: Api, stage: Stage) -> Facts:
    """A FIFO in place of a log file does not block."""
    os.mkfifo(stage.path("0.log"))
    tail = api.TailLog("t", {0: str(stage.path("0.log"))}, io.StringIO(), interval_sec=0.01).start()
    tail.stop()
    return {"stopped": tail.stopped()}


@case({"text": "H:a\nH:b\n"})
def one_file_can_be_followed_by_hand(api: Api, stage: Stage) -> Facts:
    """``tail_logfile`` copies one file until its event is set and the file is read to its end."""
    out, finished = io.StringIO(), threading.Event()
    stage.path("log").write_text("a\nb\n")
    finished.set()
    api.tail_logfile("H:", str(stage.path("log")), out, finished, 0.01, lambda _: True)
    return {"text": out.getvalue()}
