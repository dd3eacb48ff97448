"""Faults in the output of ranks: verified in the files, and survived by the launcher."""

import os
import re
import stat
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.engine import journal
from derail.model.events import LineSeen
from derail.model.input_error import InputError
from faults.inrank.test_runtime import PYTHONS
from faults.rank_functions_of_faults import work
from faults.real_job import DEADLINE, LATER_THAN_RANK_0, ended, record_of, result_of, running, state_of, wait_for
from program_files import program_text

AFTER = "os.write(1, b'after\\n')\nos.write(2, b'behind\\n')\n"
CODES = "\x1b[1;31mhi\x1b[0m\x1b[2J\x1b[H\x1b[?1049h\x1b[?25l\x1b]0;hi\x07\x1b[8m"


class Hears:
    """Observer that keeps all lines."""

    wants_lines = True

    def __init__(self):
        self.lines = []

    def attach(self, control):
        """Do nothing."""

    def observe(self, event):
        """Keep the event if it is a line."""
        if isinstance(event, LineSeen):
            self.lines.append((event.stream, event.text))

    def of(self, stream):
        """Return the lines of a stream."""
        return [text for which, text in self.lines if which == stream]


def told(seen):
    """Return the status and the detail of the only fault."""
    (result,) = seen.faults
    return result.status, result.detail


@pytest.mark.parametrize(
    ("make", "written", "lines"),
    [
        (faults.partial_line("half", rank=0), b"halfafter\n", ["halfafter"]),
        (
            faults.progress_bar("go", steps=2, rank=0),
            b"\rgo [##########..........] 1/2\rgo [####################] 2/2after\n",
            ["\rgo [##########..........] 1/2\rgo [####################] 2/2after"],
        ),
        (faults.ansi("hi", rank=0), CODES.encode() + b"\nafter\n", [CODES, "after"]),
        (faults.nul_bytes("hi", count=3, rank=0), b"hi\0\0\0hi\nafter\n", ["hi\0\0\0hi", "after"]),
        (
            faults.invalid_utf8("hi", rank=0),
            b"hi \x80 \xc0\xaf \xed\xa0\x80 \xf5\x80\x80\x80 \xff\xfe \xe2\x82\nafter\n",
            [b"hi \x80 \xc0\xaf \xed\xa0\x80 \xf5\x80\x80\x80 \xff\xfe \xe2\x82".decode(errors="replace"), "after"],
        ),
        (faults.long_line(200_000, rank=0), b"x" * 200_000 + b"\nafter\n", ["x" * 200_000, "after"]),
        (
            faults.log_flood(3000, width=40, rank=0),
            b"".join(b"flood %09d %s\n" % (n, b"~" * 24) for n in range(1, 3001)) + b"after\n",
            [*(f"flood {n:09d} {'~' * 24}" for n in range(1, 3001)), "after"],
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_output_is_in_the_log_and_reaches_the_observers(tmp_path, make, written, lines):
    """Byte by byte in the file, line by line in the launcher, including the lines after it."""
    hears = Hears()
    with running(tmp_path, AFTER, make, observers=[hears]) as job:
        seen = job.wait(DEADLINE)
        data = job.log(0, "stdout").read_bytes()

    assert data == written
    assert hears.of("stdout") == lines
    status, detail = told(seen)
    assert status == "injected", detail
    assert detail.startswith(f"{len(written) - 6} bytes at 0 of {job.log(0, 'stdout')}")


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(
    "make",
    [
        faults.nul_bytes(count=2, rank=0),
        faults.closed_stream(stream="stderr", rank=0),
        faults.log_read_only(stream="stderr", rank=0),
        faults.log_disk_full(stream="stderr", rank=0),
        faults.pipe_holder(own_session=True, rank=0),
        faults.no_newline_before_kill(buffered=True, rank=0),
    ],
    ids=lambda fault: fault.name,
)
def test_it_works_in_every_python_that_a_rank_may_have(tmp_path, make, version):
    """Whatever Python runs derail."""
    script = tmp_path / "rank.py"
    script.write_text("import os\nos.write(1, b'after\\n')\n")
    seen, _ = ended(tmp_path, [str(PYTHONS[version]), str(script)], make)

    assert told(seen)[0] == "injected", told(seen)


def test_stderr_can_be_the_target(tmp_path):
    """Then it is not in stdout."""
    with running(tmp_path, AFTER, faults.nul_bytes(count=2, stream="stderr", rank=0)) as job:
        seen = job.wait(DEADLINE)
        assert job.log(0, "stderr").read_bytes() == b"derail\0\0derail\nbehind\n"
        assert job.log(0, "stdout").read_bytes() == b"after\n"
    assert told(seen)[0] == "injected"


def test_earlier_content_of_the_file_is_no_evidence(tmp_path):
    """The same bytes are already there; the fault's own are after them."""
    program = "os.write(1, b'half')\nprint('go', file=sys.stderr, flush=True)\ntime.sleep(60)"
    fault = faults.partial_line("half", rank=0, when=when.line("go", stream="stderr"))
    with running(tmp_path, program, fault) as job:
        assert record_of(job, "end")["detail"].startswith("4 bytes at 4 of ")
        assert job.log(0, "stdout").read_bytes() == b"halfhalf"


def test_a_partial_line_may_be_the_last(tmp_path):
    """The rank exits right after it; observers get it as well."""
    hears = Hears()
    fault = faults.partial_line("half", then="exit", rank=0)
    with running(tmp_path, AFTER, fault, observers=[hears]) as job:
        seen = job.wait(DEADLINE)
        assert job.log(0, "stdout").read_bytes() == b"half"

    assert str(seen.ranks[0].status) == "exit 1"
    assert (hears.of("stdout"), told(seen)[0]) == (["half"], "injected")


@pytest.mark.parametrize(("buffered", "left"), [(False, b"derail: last words"), (True, b"")])
def test_output_before_a_sigkill_is_in_the_log_unless_buffered(tmp_path, buffered, left):
    """A buffer of the process is lost with it."""
    hears = Hears()
    with running(tmp_path, AFTER, faults.no_newline_before_kill(buffered=buffered, rank=0), observers=[hears]) as job:
        seen = job.wait(DEADLINE)
        assert job.log(0, "stdout").read_bytes() == left

    assert seen.ranks[0].status.signal == 9
    assert hears.of("stdout") == [left.decode()] * bool(left)
    assert told(seen)[0] == "injected", told(seen)


def test_a_line_of_100_mib_reaches_the_observers_in_pieces_and_whole(tmp_path):
    """Nothing of it is lost, and the next line is separate."""
    sizes = []

    class Measures(Hears):
        def observe(self, event):
            if isinstance(event, LineSeen):
                sizes.append((len(event.text), event.text[:5]))

    with running(tmp_path, AFTER, faults.long_line("100M", rank=0), observers=[Measures()]) as job:
        seen = job.wait(DEADLINE)

    assert told(seen)[0] == "injected"
    assert sum(size for size, text in sizes if text == "xxxxx") == 100 << 20
    assert (5, "after") in sizes


@pytest.mark.parametrize(
    ("make", "said", "is_so"),
    [
        (faults.closed_stream, "EBADF", lambda fd: not os.path.lexists(fd)),
        (faults.log_read_only, "EBADF", lambda fd: flags_of(fd) & os.O_ACCMODE == os.O_RDONLY),
        (faults.log_disk_full, "ENOSPC", lambda fd: os.readlink(fd) == "/dev/full"),
    ],
)
@pytest.mark.parametrize(("stream", "number"), [("stdout", 1), ("stderr", 2)])
def test_a_stream_refuses_writes(tmp_path, make, said, is_so, stream, number):
    """Its writes fail, /proc shows why, and the earlier output is there."""
    says = tmp_path / "says"
    program = f"os.write({number}, b'before\\n')\n" + "from derail.faults import fail_point\nfail_point('now')\n"
    program += program_text("faults/writes_descriptor", FD=number)
    fault = make(stream=stream, rank=0, when=when.point("now"))
    with running(tmp_path, program, fault, env={"SAYS": str(says)}) as job:
        assert result_of(job) == "injected"
        assert wait_for(lambda: says.is_symlink() and os.readlink(says)) == said
        assert is_so(f"/proc/{job.pids()[0]}/fd/{number}")
        assert job.log(0, stream).read_text() == "before\n"


def flags_of(fd):
    """Return the flags of a process's descriptor."""
    path = Path(fd)
    text = (path.parents[1] / "fdinfo" / path.name).read_text()
    return int(re.search(r"flags:\s*(\d+)", text)[1], 8)


def test_a_rank_that_exits_at_once_has_closed_its_stream_by_its_own_record(tmp_path):
    """It may end before the check from outside; the error of its own write is known."""
    seen, text = ended(tmp_path, "os._exit(3)", faults.closed_stream(rank=0))

    assert told(seen)[0] == "injected", told(seen)
    assert (text, str(seen.ranks[0].status)) == ("", "exit 3")


def test_the_next_file_gets_the_number_of_a_closed_stream(tmp_path):
    """The program then prints into its own file: this is the danger."""
    program = "file = open('data', 'w')\nprint('print', flush=True)\nprint(file.fileno(), file=sys.stderr, flush=True)"
    with running(tmp_path, program, faults.closed_stream(rank=0), cwd=tmp_path) as job:
        seen = job.wait(DEADLINE)
        assert job.log(0, "stderr").read_text() == "1\n"

    assert (tmp_path / "data").read_text() == "print\n"
    assert told(seen)[0] == "injected"


@pytest.mark.parametrize("name", ["closed_stream", "log_read_only", "log_disk_full", "partial_line"])
def test_a_stream_that_is_closed_already_is_no_injection(tmp_path, name):
    """The rank reports that it failed."""
    program = "from derail.faults import fail_point\nos.close(1)\nfail_point('now')\n"
    seen, _ = ended(tmp_path, program, getattr(faults, name)(rank=0, when=when.point("now")))

    status, detail = told(seen)
    assert status == "errored"
    assert "Bad file descriptor" in detail


def test_output_that_cannot_be_read_again_is_no_injection(tmp_path):
    """The stream has become a pipe, so its data cannot be read again."""
    program = """
read, write = os.pipe()
os.dup2(write, 1)
from derail.faults import fail_point
fail_point("now")
"""
    seen, _ = ended(tmp_path, program, faults.nul_bytes(rank=0, when=when.point("now")))

    status, detail = told(seen)
    assert status == "errored"
    assert "is not a file" in detail


def test_a_write_that_the_disk_refuses_is_no_injection(tmp_path):
    """The stream accepts nothing: the bytes never were in the log."""
    program = """
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
from derail.faults import fail_point
fail_point("now")
"""
    seen, text = ended(tmp_path, program, faults.long_line(100, rank=0, when=when.point("now")))

    assert (told(seen)[0], text) == ("errored", "")


@pytest.mark.parametrize("name", ["partial_line", "closed_stream", "pipe_holder"])
def test_a_program_that_is_no_python_is_not_reached_inside(tmp_path, name):
    """The result has the reason."""
    seen, _ = ended(tmp_path, ["/bin/sleep", "0.1"], getattr(faults, name)(rank=0))

    assert told(seen)[0] == "unavailable"


def test_a_function_writes_odd_bytes_too(tmp_path):
    """Whatever the kind of rank."""
    seen, text = ended(tmp_path, work, faults.partial_line("half", rank=0), args=(1,))

    assert text == "halfstep 1\n"
    assert told(seen)[0] == "injected"


@pytest.mark.parametrize("own_session", [False, True])
def test_a_process_that_keeps_the_log_open_does_not_block_the_launcher(tmp_path, own_session):
    """The rank has ended and its helper has the file; the job ends, and ends the helper."""
    fault = faults.pipe_holder(3600, own_session=own_session, rank=0)
    with running(tmp_path, "print('done', flush=True)", fault) as job:
        seen = job.wait(DEADLINE)
        assert job.log(0, "stdout").read_text() == "done\n"
        pid = int(record_of(job, "holder")["pid"])

    status, detail = told(seen)
    assert (status, f"pid {pid} lives" in detail) == ("injected", True)
    assert not seen.timed_out
    assert state_of(pid) in ("", "Z")


def test_a_holder_that_ends_before_the_rank_is_not_reached(tmp_path):
    """No process outlived the rank."""
    program = "os.wait()\n"
    seen, _ = ended(tmp_path, program, faults.pipe_holder(0, rank=0))

    assert told(seen)[0] == "not_reached"


# The files, from outside.

WRITES = """
os.write(1, b"one\\n")
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.005)
os.write(1, b"two\\n")
"""
ONE = when.line("one")


def moved(tmp_path, fault, program=WRITES, **options):
    """Return the observation, the lines and the job after a log was moved between two lines."""
    hears, go = Hears(), tmp_path / "go"
    with running(tmp_path, program, fault, observers=[hears], env={"GO": str(go)}, **options) as job:
        record_of(job, "end")
        during = os.stat(job.log(0, "stdout")) if job.log(0, "stdout").exists() else None
        go.touch()
        return job.wait(DEADLINE), hears, job, during


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (faults.log_deleted(rank=0, when=ONE), {}),
        (faults.log_truncated(rank=0, when=ONE), {"stdout.log": b"two\n"}),
        (faults.log_truncated(copy=True, rank=0, when=ONE), {"stdout.log": b"two\n", "stdout.log.1": b"one\n"}),
        (faults.log_replaced(rank=0, when=ONE), {"stdout.log": b"", "stdout.log.1": b"one\ntwo\n"}),
        (faults.log_fifo(rank=0, when=ONE), {"stdout.log": b"one\ntwo\n"}),
    ],
    ids=["deleted", "truncated", "copytruncate", "replaced", "fifo"],
)
def test_a_log_that_is_moved_away_loses_no_line(tmp_path, make, found):
    """The file is where the fault put it; observers get the lines before and after; the job succeeds."""
    seen, hears, job, _ = moved(tmp_path, make)

    assert hears.of("stdout") == ["one", "two"]
    assert str(seen.ranks[0].status) == "exit 0"
    assert told(seen)[0] == "injected", told(seen)
    logs = job.log(0, "stdout").parent
    assert {path.name: path.read_bytes() for path in logs.iterdir() if path.name.startswith("stdout")} == found


def test_the_log_is_a_fifo_during_the_fault(tmp_path):
    """An open of it would block; the launcher does not block."""
    seen, _, job, during = moved(tmp_path, faults.log_fifo(rank=0, when=ONE))

    assert stat.S_ISFIFO(during.st_mode)
    assert "is a FIFO" in told(seen)[1]
    assert f"{job.log(0, 'stdout')}.1" in told(seen)[1]  # what the rank has open, as /proc tells


@pytest.mark.parametrize("name", ["log_deleted", "log_replaced", "log_fifo", "log_truncated"])
def test_a_log_that_is_moved_at_the_exit_does_not_block(tmp_path, name):
    """After the last line, before the launcher's result; stderr is part of the report of a failed rank."""
    fault = getattr(faults, name)(stream="stderr", rank=0, when=when.own_exit())
    hears = Hears()
    program = "os.write(2, b'last words\\n')\nos._exit(3)"
    with running(tmp_path, program, fault, observers=[hears]) as job:
        seen = job.wait(DEADLINE)

    assert hears.of("stderr") == ["last words"]
    assert str(seen.ranks[0].status) == "exit 3"
    assert told(seen)[0] == "injected", told(seen)


@pytest.mark.parametrize("name", ["log_deleted", "log_replaced", "log_fifo", "log_truncated"])
def test_the_console_shows_output_to_a_moved_log(tmp_path, name, capfd):
    """A teed rank is shown to its last line."""
    from derail.model.std import Std

    seen, _, _, _ = moved(tmp_path, getattr(faults, name)(rank=0, when=ONE), tee=Std.ALL)

    assert told(seen)[0] == "injected"
    assert [line for line in capfd.readouterr().out.splitlines() if "rank0" in line] == ["[rank0]:one", "[rank0]:two"]


@pytest.mark.parametrize("name", ["log_deleted", "log_replaced", "log_fifo", "log_truncated"])
def test_a_log_that_the_rank_does_not_write_to_is_not_moved(tmp_path, name):
    """It has redirected its stream itself, so moving the file would have no effect."""
    program = "os.dup2(os.open('other', os.O_WRONLY | os.O_CREAT), 1)\nos.write(2, b'ready\\n')\ntime.sleep(60)"
    fault = getattr(faults, name)(rank=0, when=when.line("ready"))
    with running(tmp_path, program, fault, cwd=tmp_path) as job:
        assert result_of(job) == "errored"
        assert stat.S_ISREG(job.log(0, "stdout").lstat().st_mode)


def test_an_empty_log_cannot_be_cut(tmp_path):
    """There would be no change."""
    with running(tmp_path, "time.sleep(60)", faults.log_truncated(rank=0)) as job:
        assert result_of(job) == "errored"


def test_a_missing_log_cannot_be_deleted(tmp_path):
    """The second of two finds nothing."""
    given = [faults.log_deleted(rank=0, when=ONE, id="a"), faults.log_deleted(rank=0, when=ONE, id="b")]
    with running(tmp_path, "os.write(1, b'one\\n')\ntime.sleep(600)\n", *given) as job:
        ends = wait_for(
            lambda: len(found := [r for r in journal.read(job.journal) if r["event"] == "end"]) == 2 and found
        )

    assert [(end["fault"], end["result"]) for end in ends] == [("a", "injected"), ("b", "errored")]


def test_a_log_of_a_rank_that_has_ended_is_not_reached(tmp_path):
    """A line of rank 1 fires the fault after rank 0 has ended."""
    fault = faults.log_deleted(rank=0, when=when.line("ready", rank=1))
    seen, text = ended(tmp_path, LATER_THAN_RANK_0, fault, ranks=2)

    assert (told(seen)[0], text) == ("not_reached", "ready\n")
    assert "its target ended with exit 0" in told(seen)[1]


def test_a_fifo_becomes_a_file_again_after_for(tmp_path):
    """Its earlier content is restored."""
    with running(
        tmp_path, "os.write(1, b'one\\n')\ntime.sleep(60)", faults.log_fifo(rank=0, when=ONE, for_=0.1)
    ) as job:
        assert result_of(job) == "injected"
        record_of(job, "healed")
        assert job.log(0, "stdout").read_bytes() == b"one\n"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.partial_line("x", then="die", rank=0), "unknown then 'die'"),
        (lambda: faults.partial_line("a\n", rank=0), "text without a newline"),
        (lambda: faults.no_newline_before_kill("", rank=0), "some text"),
        (lambda: faults.partial_line(stream="stdin", rank=0), "unknown stream 'stdin'"),
        (lambda: faults.nul_bytes(count=0, rank=0), "from 1 to"),
        (lambda: faults.log_flood(0, rank=0), "from 1 to"),
        (lambda: faults.long_line("lots", rank=0), "expected bytes"),
        (lambda: faults.pipe_holder(-1, rank=0), "expected a number of seconds"),
        (lambda: faults.log_deleted(rank=0, for_=1), "cannot be undone"),
    ],
)
def test_wrong_values_are_refused_where_they_are_given(make, problem):
    """Nothing is started with them."""
    with pytest.raises(InputError) as error:
        make()

    assert problem in str(error.value)
