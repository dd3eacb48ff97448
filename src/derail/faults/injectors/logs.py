"""Faults in the output of ranks: unusual bytes, too many bytes, streams that refuse writes, log files that move."""

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
"""Maximum seconds until a rank's output is in its file: a hundred mebibytes take a while on a slow disk."""


def written(aim: Aim) -> Step:
    """Verify that the rank's output is in its log file."""
    stream = recorded(aim)
    if stream is None:
        return Errored("the rank did not report its stream")
    stream = stream.copied()
    search = Search(stream, payload(aim.fault.name, aim.fault.values))

    def check() -> Result | None:
        if stream.file and search.look():
            return Injected(f"{search.found} bytes at {search.first} of {stream}; written in {aim.where}")
        return _refused(aim)

    def at_exit(status: ExitStatus) -> Result:
        record = last(aim, "wrote")
        if not stream.file:
            took = f"it took {record['bytes']} bytes by its own record" if record else f"the rank ended with {status}"
            what = f"the rank's {aim.text('stream')} is not a file, so its data cannot be read again; {took}"
            return Errored(what)
        if not search.look(whole=True):
            return Errored(f"only {search.found} of the bytes are in {stream}; the rank ended with {status}")
        return Injected(f"{search.found} bytes at {search.first} of {stream}; the rank ended with {status}")

    def after_exit(status: ExitStatus) -> Result:
        result = _refused(aim) or at_exit(status)
        if not isinstance(result, Injected) or (status.code == 1 and search.is_last):
            return result
        return Errored(f"{result.evidence}, but expected exit 1 right after the text")

    if aim.fault.name == "partial_line" and aim.text("then") == "exit":
        return AtExit(after_exit, "the exit of the rank after its partial line")
    return Soon(check, f"the rank's output in {stream}", within=WRITTEN_WITHIN, at_exit=at_exit)


def _refused(aim: Aim) -> Result | None:
    record = last(aim, "wrote")
    if record is None or not record["errno"]:
        return None
    return Errored(f"the rank's {aim.text('stream')} took {record['bytes']} bytes, then failed: {record['errno']}")


def died_in_the_midst(aim: Aim) -> Step:
    """Verify that the rank was killed after text without a newline, and that its file shows this."""
    stream, buffered = recorded(aim), aim.flag("buffered")
    stream = None if stream is None else stream.copied()
    if stream is None or not stream.file:
        return Errored("the rank's stream is not a file, so its data cannot be read again")

    def check(status: ExitStatus) -> Result:
        if status.signal != 9 or 9 in aim.sent_by_supervisor:
            return NotReached(f"expected the rank's own SIGKILL, but the rank ended with {status}")
        search = Search(stream, payload(aim.fault.name, aim.fault.values))
        there = search.look(whole=True)
        if buffered == there or (there and not search.is_last):
            return Errored(f"{search.found} bytes of its text are in {stream}, read up to byte {search.end}")
        what = "none of its text" if buffered else f"{search.found} bytes without a newline are the last"
        return Injected(f"the rank ended with {status} in {aim.where}; {what} in {stream}")

    return AtExit(check, "the rank's SIGKILL to itself")


def changed(aim: Aim) -> Step:
    """Verify from outside that the rank's stream refuses writes."""
    stream, how = recorded(aim), aim.fault.name
    if stream is None:
        return Errored("the rank did not report its stream")
    look, error = _LOOKS[how]

    def check() -> Result | None:
        seen = look(stream)
        return Injected(f"{seen}; it was {stream}; changed in {aim.where}") if seen else None

    def at_exit(status: ExitStatus) -> Result:
        record = last(aim, "changed")
        if record is None or record["errno"] != error:
            return Errored(f"the rank ended with {status} before the change of its {aim.text('stream')} was verified")
        write = f"a write to its {aim.text('stream')} failed with {error} in {aim.where}"
        return Injected(f"{write}; the rank ended with {status}")

    return Soon(check, f"{how} in /proc/{stream.pid}/fd/{stream.fd}", at_exit=at_exit)


def _look_closed(stream: Stream) -> str:
    seen = descriptor(stream.pid, stream.fd)
    where = f"/proc/{stream.pid}/fd/{stream.fd}"
    if seen == "":
        return f"{where} does not exist"
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
"""Check from outside, and error of a write in the rank, by fault."""


def held_open(aim: Aim) -> Step:
    """Verify that the process that the rank has started outlives it and holds its stream."""
    stream = recorded(aim)
    if stream is None:
        return Errored("the rank did not report its stream")

    def check(status: ExitStatus) -> Result:
        record = last(aim, "holder")
        pid = 0 if record is None else int(str(record["pid"]))
        seen = read_process_state(pid) if pid else None
        if seen is None or seen.ended:
            return NotReached(f"the process that holds the stream ended before the rank, which ended with {status}")
        if identity_of(pid, stream.fd) != stream.identity:
            return Errored(f"expected descriptor {stream.fd} of pid {pid} to be {stream}, got another file")
        return Injected(f"the rank ended with {status}; pid {pid} lives and has {stream} open")

    return AtExit(check, "the exit of the rank before its child")


STREAM = choice_param("stream", NUMBERS, "Stream of the rank.", default="stdout")
FOUND = "the bytes in the rank's log file, after its earlier content"


def _in_rank(
    name: str, summary: str, *params: Param, verified: str = FOUND, example: str = "", needs: str = IN_RANK
) -> Entry:
    """Return the declaration of a fault that acts on a stream inside the rank."""
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
    return "" if text and "\n" not in str(text) else f"text: expected some text without a newline, got {text!r}"


def _beside(name: str, summary: str, *params: Param, verified: str, healed: str = "") -> Entry:
    """Return the declaration of a fault that acts on the log file of a rank from outside."""
    return Entry(
        name=name,
        side="outside",
        summary=summary,
        inject=move_log,
        verified=verified,
        healed=healed,
        example=f"faults.{name}(rank=0, when=when.line('step 2'))",
        params=(*params, STREAM),
        requires=Requires("a rank with a log file for the stream; /proc", unavailable=why_no_proc),
        acts=Acts(lasts=bool(healed)),
    )


def _text(default: str) -> Param:
    return text_param("text", "Text to write.", default=default)


ENTRIES = (
    _in_rank(
        "partial_line",
        "The rank writes text without a newline, and then continues or exits at once.",
        _text("derail: half a line"),
        choice_param("then", ("go_on", "exit"), "Continue, or os._exit(1) at once.", default="go_on"),
        verified=f"{FOUND}; for exit, exit code 1 and no bytes after them",
        example="faults.partial_line(then='exit', rank=0, when=when.line('step 2'))",
    ),
    _in_rank(
        "no_newline_before_kill",
        "The rank writes text without a newline and is killed by SIGKILL at once.",
        _text("derail: last words"),
        flag_param("buffered", "Whether the text is only in a buffer of the process, and so is lost."),
        verified="SIGKILL in the rank's exit status; the text is last in its log file, or (buffered) not in it",
    ),
    _in_rank(
        "progress_bar",
        "The rank draws a progress bar with carriage returns, without ever ending the line.",
        _text("training"),
        count_param("steps", "Number of times it is drawn.", default=100, least=1, most=1_000_000),
    ),
    _in_rank(
        "ansi",
        "The rank writes terminal codes: colours, clear, alternate screen, no cursor, a title, hidden text.",
        _text("derail"),
    ),
    _in_rank(
        "nul_bytes",
        "The rank writes NUL bytes in the middle of a line.",
        _text("derail"),
        count_param("count", "Number of NUL bytes.", default=512, least=1, most=1 << 24),
    ),
    _in_rank("invalid_utf8", "The rank writes a line with every kind of invalid UTF-8.", _text("derail")),
    _in_rank(
        "long_line",
        "The rank writes one very long line.",
        size_param("size", "Bytes before the newline; 100M is known to break launchers.", default=1 << 20),
        example="faults.long_line('100M', rank=0, when=when.line('step 2'))",
    ),
    _in_rank(
        "log_flood",
        "The rank writes numbered lines as fast as it can.",
        count_param("lines", "Number of lines.", default=10_000, least=1, most=100_000_000),
        count_param("width", "Bytes per line, without the newline.", default=80, least=16, most=1 << 16),
    ),
    _in_rank(
        "closed_stream",
        "The rank closes a stream: writes fail with EBADF, and the next file that it opens gets that number.",
        verified="no such descriptor, or another file under its number, in /proc/PID/fd; or EBADF in the rank",
    ),
    _in_rank(
        "log_read_only",
        "The rank's log file becomes read-only for the rank: writes fail with EBADF.",
        verified="the flags of the descriptor in /proc/PID/fdinfo; or EBADF in the rank",
    ),
    _in_rank(
        "log_disk_full",
        "The rank's stream moves to a full disk (/dev/full): writes fail with ENOSPC.",
        verified="the descriptor in /proc/PID/fd; or ENOSPC in the rank",
        needs=f"{IN_RANK}; {FULL}",
    ),
    _in_rank(
        "pipe_holder",
        "The rank starts a process that keeps both of its streams open after the rank's exit.",
        seconds_param("seconds", "Seconds that the process lives.", default=60.0),
        flag_param("own_session", "Whether the process leaves the process group of the rank."),
        verified="at the rank's exit, the process is alive, and its descriptor is the rank's log file",
    ),
    _beside(
        "log_deleted",
        "Deletes the log file of a rank, which continues to write to it.",
        verified="no file under its name; the rank's descriptor is the deleted file",
    ),
    _beside(
        "log_truncated",
        "Empties the log file of a rank, as logrotate's copytruncate does.",
        flag_param("copy", "Whether it is first copied to NAME.1."),
        verified="the size of the file, with the same inode",
    ),
    _beside(
        "log_replaced",
        "Renames the log file of a rank to NAME.1 and creates an empty one in its place, as logrotate does.",
        verified="another inode under its name; the rank's descriptor is the old one",
    ),
    _beside(
        "log_fifo",
        "Renames the log file of a rank to NAME.1 and creates a FIFO in its place, on which every open blocks.",
        verified="a FIFO under its name; the rank's descriptor is the file that was there",
        healed="the file is put back under its name",
    ),
)
