"""What ranks write, and where it goes: odd bytes, too many of them, streams that take none, files that move away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Requires
from derail.faults.catalogue.injector_api import AtExit, Soon
from derail.faults.catalogue.params import choice_param, count_param, flag_param, seconds_param, size_param, text_param
from derail.faults.injectors._log_probes import Search, access_mode, descriptor, identity_of, last, recorded
from derail.faults.injectors._log_rotation import move_log
from derail.faults.inrank.actions.logs import FULL, payload
from derail.faults.inrank.stream_copies import NUMBERS
from derail.faults.model.results import Errored, Injected, NotReached
from derail.platform.capabilities import why_no_full_device, why_no_proc
from derail.platform.proc_status import read_process_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.entry import Param
    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.injectors._log_probes import Stream
    from derail.faults.model.plan import Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus

IN_RANK = "Python in the rank, started without -S, -I and -E; /proc"
WRITTEN_WITHIN = 60.0
"""Seconds until what a rank writes must be in its file; a hundred mebibytes take a while on a slow disk."""


def written(aim: Aim) -> Step:
    """The rank has said that it writes: find the bytes in its log file."""
    stream = recorded(aim)
    if stream is None:
        return Errored("the rank did not say what its stream is")
    stream = stream.copied()
    search = Search(stream, payload(aim.fault.name, aim.fault.values))

    def check() -> Result | None:
        if stream.file and search.look():
            return Injected(f"{search.found} bytes at {search.first} of {stream}; written in {aim.where}")
        return _refused(aim)

    def at_exit(status: ExitStatus) -> Result:
        told = last(aim, "wrote")
        if not stream.file:
            took = f"it took {told['bytes']} bytes, the rank says" if told else f"the rank ended with {status}"
            what = f"the rank's {aim.text('stream')} is no file, what is written there cannot be read again; {took}"
            return Errored(what)
        if not search.look(whole=True):
            return Errored(f"{search.found} bytes of it are in {stream}, not all; the rank ended with {status}")
        return Injected(f"{search.found} bytes at {search.first} of {stream}; the rank ended with {status}")

    def after_exit(status: ExitStatus) -> Result:
        result = _refused(aim) or at_exit(status)
        if not isinstance(result, Injected) or (status.code == 1 and search.is_last):
            return result
        return Errored(f"{result.evidence}, but that is not how it was to end")

    if aim.fault.name == "partial_line" and aim.text("then") == "exit":
        return AtExit(after_exit, "the end of the rank behind its half line")
    return Soon(check, f"what the rank wrote, in {stream}", within=WRITTEN_WITHIN, at_exit=at_exit)


def _refused(aim: Aim) -> Result | None:
    told = last(aim, "wrote")
    if told is None or not told["errno"]:
        return None
    return Errored(f"the rank's {aim.text('stream')} took {told['bytes']} bytes and then none: {told['errno']}")


def died_in_the_midst(aim: Aim) -> Step:
    """The rank has said that it dies with text behind which no line ends: it must, and the file must show it."""
    stream, buffered = recorded(aim), aim.flag("buffered")
    stream = None if stream is None else stream.copied()
    if stream is None or not stream.file:
        return Errored("the rank's stream is no file, in which it could be seen")

    def check(status: ExitStatus) -> Result:
        if status.signal != 9 or 9 in aim.sent_by_supervisor:
            return NotReached(f"it was to be killed by its own SIGKILL, but the rank ended with {status}")
        search = Search(stream, payload(aim.fault.name, aim.fault.values))
        there = search.look(whole=True)
        if buffered == there or (there and not search.is_last):
            return Errored(f"{search.found} bytes of its text are in {stream}, {search.end} of it are read")
        what = "none of its text" if buffered else f"{search.found} bytes without a line end are the last"
        return Injected(f"the rank ended with {status} in {aim.where}; {what} in {stream}")

    return AtExit(check, "the rank's SIGKILL to itself")


def changed(aim: Aim) -> Step:
    """The rank has said that a stream of its own takes nothing any more: look at the descriptor from outside."""
    stream, how = recorded(aim), aim.fault.name
    if stream is None:
        return Errored("the rank did not say what its stream is")
    look, said = _LOOKS[how]

    def check() -> Result | None:
        seen = look(stream)
        return Injected(f"{seen}; it was {stream}; done in {aim.where}") if seen else None

    def at_exit(status: ExitStatus) -> Result:
        told = last(aim, "changed")
        if told is None or told["errno"] != said:
            return Errored(f"the rank ended with {status} before its {aim.text('stream')} was seen to be so")
        return Injected(f"a write to its {aim.text('stream')} was {said} in {aim.where}; the rank ended with {status}")

    return Soon(check, f"{how} in /proc/{stream.pid}/fd/{stream.fd}", at_exit=at_exit)


def _look_closed(stream: Stream) -> str:
    seen = descriptor(stream.pid, stream.fd)
    where = f"/proc/{stream.pid}/fd/{stream.fd}"
    if seen == "":
        return f"{where} is not there"
    other = identity_of(stream.pid, stream.fd)
    return f"{where} is {seen} by now" if seen and other not in (None, stream.identity) else ""


def _look_read_only(stream: Stream) -> str:
    mode = access_mode(stream.pid, stream.fd)
    same = identity_of(stream.pid, stream.fd) == stream.identity
    return f"/proc/{stream.pid}/fdinfo/{stream.fd} says O_RDONLY" if mode == os.O_RDONLY and same else ""


def _look_full(stream: Stream) -> str:
    return f"/proc/{stream.pid}/fd/{stream.fd} is {FULL}" if descriptor(stream.pid, stream.fd) == FULL else ""


_LOOKS: dict[str, tuple[Callable[[Stream], str], str]] = {
    "closed_stream": (_look_closed, "EBADF"),
    "log_read_only": (_look_read_only, "EBADF"),
    "log_disk_full": (_look_full, "ENOSPC"),
}
"""How each is seen from outside, and what the rank is told when it writes."""


def held_open(aim: Aim) -> Step:
    """The rank has started a process that holds its streams: at the rank's end it must still live and have them."""
    stream = recorded(aim)
    if stream is None:
        return Errored("the rank did not say what its stream is")

    def check(status: ExitStatus) -> Result:
        told = last(aim, "holder")
        pid = 0 if told is None else int(str(told["pid"]))
        seen = read_process_state(pid) if pid else None
        if seen is None or seen.ended:
            return NotReached(f"the process that was to outlive the rank had ended before it; it ended with {status}")
        if identity_of(pid, stream.fd) != stream.identity:
            return Errored(f"descriptor {stream.fd} of pid {pid} is not {stream}")
        return Injected(f"the rank ended with {status}; pid {pid} lives and has {stream} open")

    return AtExit(check, "the end of the rank, which a process of its own outlives")


STREAM = choice_param("stream", NUMBERS, "Which of its two streams.", default="stdout")
FOUND = "the bytes in the rank's log file, behind what was in it before"


def _in_rank(
    name: str, summary: str, *params: Param, verified: str = FOUND, example: str = "", needs: str = IN_RANK
) -> Entry:
    """A fault that a rank commits on a stream of its own."""
    inject = {
        "no_newline_before_kill": died_in_the_midst,
        "pipe_holder": held_open,
        **dict.fromkeys(_LOOKS, changed),
    }.get(name, written)
    return Entry(
        name=name,
        side="in rank",
        summary=summary,
        inject=inject,
        verified=verified,
        healed="",
        example=example or f"faults.{name}(rank=0, when=when.line('step 2'))",
        params=(*params, STREAM),
        requires=Requires(
            needs,
            unavailable=(lambda: why_no_proc() or why_no_full_device()) if name == "log_disk_full" else why_no_proc,
        ),
        before_launcher=name == "pipe_holder",
        check=_check_text,
    )


def _check_text(values: Mapping[str, Value]) -> str:
    text = values.get("text", " ")
    return "" if text and "\n" not in str(text) else f"text: expected some text without a line end, got {text!r}"


def _beside(name: str, summary: str, *params: Param, verified: str, healed: str = "") -> Entry:
    """A fault on the log file of a rank, from outside."""
    return Entry(
        name=name,
        side="outside",
        summary=summary,
        inject=move_log,
        verified=verified,
        healed=healed,
        example=f"faults.{name}(rank=0, when=when.line('step 2'))",
        params=(*params, STREAM),
        requires=Requires("a rank whose stream goes to a log file; /proc", unavailable=why_no_proc),
        acts=Acts(lasts=bool(healed)),
    )


def _text(default: str) -> Param:
    return text_param("text", "The text in it.", default=default)


ENTRIES = (
    _in_rank(
        "partial_line",
        "The rank writes text without a line end, and goes on, or ends right behind it.",
        _text("derail: half a line"),
        choice_param("then", ("go_on", "exit"), "go_on, or os._exit(1) at once.", default="go_on"),
        verified=f"{FOUND}; the exit with code 1 and nothing behind them, if it is to end so",
        example="faults.partial_line(then='exit', rank=0, when=when.line('step 2'))",
    ),
    _in_rank(
        "no_newline_before_kill",
        "The rank writes text without a line end and is killed by SIGKILL at once.",
        _text("derail: last words"),
        flag_param("buffered", "Whether the text has only come to a buffer in the process: then it is lost."),
        verified="SIGKILL in the rank's exit; the text is the last in its log file, or (buffered) is not in it",
    ),
    _in_rank(
        "progress_bar",
        "The rank draws a progress bar by carriage returns, on a line that never ends.",
        _text("training"),
        count_param("steps", "How often it is drawn.", default=100, least=1, most=1_000_000),
    ),
    _in_rank(
        "ansi",
        "The rank writes terminal codes: colours, clear, the other screen, no cursor, a title, hidden text.",
        _text("derail"),
    ),
    _in_rank(
        "nul_bytes",
        "The rank writes NUL bytes in the middle of a line.",
        _text("derail"),
        count_param("count", "How many.", default=512, least=1, most=1 << 24),
    ),
    _in_rank("invalid_utf8", "The rank writes a line that is no UTF-8, in all the ways there are.", _text("derail")),
    _in_rank(
        "long_line",
        "The rank writes one very long line.",
        size_param("size", "Bytes in front of its line end; 100M is what makes launchers fall.", default=1 << 20),
        example="faults.long_line('100M', rank=0, when=when.line('step 2'))",
    ),
    _in_rank(
        "log_flood",
        "The rank writes numbered lines as fast as it can.",
        count_param("lines", "How many.", default=10_000, least=1, most=100_000_000),
        count_param("width", "Bytes in each, without the line end.", default=80, least=16, most=1 << 16),
    ),
    _in_rank(
        "closed_stream",
        "The rank closes a stream: writes fail with EBADF, and the next file that it opens has that number.",
        verified="no such descriptor, or another file under its number, in /proc/PID/fd; or EBADF in the rank",
    ),
    _in_rank(
        "log_read_only",
        "The rank has its log file open for reading only from now on: writes fail with EBADF.",
        verified="the flags of the descriptor in /proc/PID/fdinfo; or EBADF in the rank",
    ),
    _in_rank(
        "log_disk_full",
        "The stream of the rank is on a full disk (/dev/full) from now on: writes fail with ENOSPC.",
        verified="the descriptor in /proc/PID/fd; or ENOSPC in the rank",
        needs=f"{IN_RANK}; {FULL}",
    ),
    _in_rank(
        "pipe_holder",
        "The rank starts a process that keeps both of its streams open after the rank's end.",
        seconds_param("seconds", "How long that process lives.", default=60.0),
        flag_param("own_session", "Whether it leaves the process group of the rank."),
        verified="at the exit of the rank, that process lives, and its descriptor is the rank's log file",
    ),
    _beside(
        "log_deleted",
        "Removes the log file of a rank, which goes on writing to it.",
        verified="nothing under its name; the rank's descriptor is the file that was there",
    ),
    _beside(
        "log_truncated",
        "Cuts the log file of a rank to nothing, as logrotate's copytruncate does.",
        flag_param("copy", "Whether it is copied to NAME.1 before."),
        verified="the size of the file, which is still the same inode",
    ),
    _beside(
        "log_replaced",
        "Renames the log file of a rank to NAME.1 and puts an empty one in its place, as logrotate does.",
        verified="another inode under its name; the rank's descriptor is the old one",
    ),
    _beside(
        "log_fifo",
        "Renames the log file of a rank to NAME.1 and puts a FIFO in its place, which holds whoever opens it.",
        verified="a FIFO under its name; the rank's descriptor is the file that was there",
        healed="the file is put back under its name",
    ),
)
