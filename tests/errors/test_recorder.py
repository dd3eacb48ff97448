"""The record of a rank about its own end; no problem of the recorder hides the recorded error."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from corpus_error_files import CORPUS, GOOD
from corpus_error_files import record as document
from derail.errors import ChildFailedError, ErrorHandler, ProcessFailure, get_error_handler, record, recorder
from derail.errors.protocol import ErrorRecord, decode, encode, read
from derail.errors.recorder import STACK_SIGNAL
from derail.errors.wording import MESSAGE_LIMIT, TRACEBACK_LIMIT
from derail.model.spec import JOB_ENV
from program_files import program_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def error_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the error file of this process, and disable the fault handler after the test."""
    monkeypatch.setattr(ErrorHandler, "initialize", lambda self: None)
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    return path


def _raise(error: BaseException) -> None:
    raise error


def _record_of(error: BaseException, path: Path) -> ErrorRecord:
    """Raise it under ``record``; the same object must propagate, and a good file must exist."""
    with pytest.raises(type(error)) as caught:
        record(_raise)(error)
    assert caught.value is error
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    found = read(path)
    assert isinstance(found, ErrorRecord)
    return found


def test_an_exception_is_recorded_and_propagates(error_file: Path) -> None:
    """The file contains type, text, traceback with its causes, and both clocks."""
    try:
        _raise(KeyError("cause"))
    except KeyError as cause:
        error = ValueError("boom ä")
        error.__cause__ = cause
    found = _record_of(error, error_file)
    assert found.message == "ValueError: boom ä"
    assert "in _raise" in str(found.traceback)
    assert "KeyError: 'cause'" in str(found.traceback)
    assert str(found.traceback).rstrip().endswith("ValueError: boom ä")
    assert None not in (found.timestamp, found.monotonic)
    assert found.remarks == ()


def test_the_recorded_traceback_begins_in_the_code_of_the_rank(error_file: Path) -> None:
    """No frame of ``record`` is above it, also where a recorded function calls another one."""
    with pytest.raises(ValueError, match="boom"):
        record(record(_raise))(ValueError("boom"))
    found = read(error_file)

    assert isinstance(found, ErrorRecord)
    assert (
        str(found.traceback)
        .splitlines()[1]
        .endswith(f'test_recorder.py", line {_raise.__code__.co_firstlineno + 1}, in _raise')
    )


def test_success_passes_through(error_file: Path) -> None:
    """Arguments, value, name and docstring are the function's; no file is written."""

    def main(a: int, *, b: int) -> int:
        """Words."""
        return a + b

    wrapped = record(main)
    assert (wrapped(1, b=2), wrapped.__name__, wrapped.__doc__, error_file.exists()) == (3, "main", "Words.", False)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (3, "SystemExit: 3"),
        ("out of data", "SystemExit: out of data"),
        (256, "SystemExit: 256"),
        ("", "SystemExit: "),
        (None, None),
    ],
)
def test_an_exit_is_recorded_unless_it_has_no_code(error_file: Path, code: object, told: str | None) -> None:
    """``sys.exit`` with a code or a text propagates and leaves its reason; without one it leaves nothing."""
    with pytest.raises(SystemExit) as caught:
        record(sys.exit)(code)
    assert caught.value.code == code
    found = read(error_file)
    assert (None if found is None else found.message) == told


@pytest.mark.parametrize("code", [0, False])
def test_exit_zero_is_a_return(error_file: Path, code: int) -> None:
    """As in torch: a program that is run as a function ends with ``sys.exit(0)``."""
    assert record(sys.exit)(code) is None
    assert not error_file.exists()


def test_an_exit_does_not_overwrite_a_record_of_the_rank(error_file: Path) -> None:
    """A rank that records an exception by hand and then exits has left the better reason."""

    def main() -> None:
        try:
            _raise(ValueError("the reason"))
        except ValueError as error:
            get_error_handler().record_exception(error)
        sys.exit(1)

    with pytest.raises(SystemExit):
        record(main)()
    assert read(error_file).message == "ValueError: the reason"


def test_an_exit_overwrites_a_record_of_an_earlier_attempt(error_file: Path) -> None:
    """Only a record since the start counts."""
    error_file.write_bytes(GOOD)
    with pytest.raises(SystemExit):
        record(sys.exit)(4)
    assert read(error_file).message == "SystemExit: 4"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit("x"), BaseException("own")], ids=repr)
def test_base_exceptions_are_recorded(error_file: Path, error: BaseException) -> None:
    """Ctrl-C, and exceptions that derive from BaseException."""
    assert _record_of(error, error_file).message.startswith(type(error).__name__)


class HostileTextError(Exception):
    """An exception with a ``__str__`` that does something else."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act = act

    def __str__(self) -> str:
        return self.act()

    __repr__ = __str__


class HostileStr(str):
    """A text that cannot be used."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize(
    "act",
    [
        lambda: _raise(RuntimeError("no text")),
        lambda: _raise(SystemExit(0)),
        lambda: _raise(KeyboardInterrupt()),
        lambda: _raise(HostileTextError(lambda: _raise(RuntimeError()))),
        lambda: 5,
        lambda: HostileStr("x"),
        lambda: "x" * (1 << 24),
        lambda: "\ud800\x00\x1b[31m$" * 10,
        lambda: str(HostileTextError(lambda: "deep")) and exec("def f(): f()\nf()"),
    ],
    ids=[
        "raises",
        "exits",
        "interrupts",
        "raises a hostile one",
        "number",
        "hostile text",
        "huge",
        "surrogates",
        "recursion",
    ],
)
def test_a_hostile_text_masks_nothing(error_file: Path, act: Callable[[], object]) -> None:
    """The exception is recorded by its type, and propagates."""
    found = _record_of(HostileTextError(act), error_file)
    assert found.message.startswith("HostileTextError: ")
    assert "in _raise" in str(found.traceback)
    assert error_file.stat().st_size < 8 << 20


def test_cycles_and_groups_are_recorded(error_file: Path) -> None:
    """Exceptions that are their own cause, and groups, have a normal traceback."""
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert "ValueError: one" in str(_record_of(one, error_file).traceback)
    group = ExceptionGroup("many", [ValueError(str(i)) for i in range(1000)])
    assert "ValueError: 0" in str(_record_of(group, error_file).traceback)


@pytest.mark.parametrize("sign", ["x", "\n", "\U0001f600", "\ud800", '"'])
def test_a_huge_exception_is_cut_and_keeps_both_ends(error_file: Path, sign: str) -> None:
    """Whatever the text consists of, the file stays within the read limit, with the beginning and the end of it."""
    error = ValueError("BEGIN" + sign * (4 << 20) + "END")
    error.add_note("note" + sign * (1 << 20))
    found = _record_of(error, error_file)
    assert found.message.startswith("ValueError: BEGIN")
    assert found.message.endswith("END")
    assert str(found.traceback).startswith("Traceback")
    assert len(found.message) < MESSAGE_LIMIT + 100
    assert len(str(found.traceback)) < TRACEBACK_LIMIT + 100


def test_a_deep_recursion_is_recorded(error_file: Path) -> None:
    """A RecursionError has its traceback."""

    def down() -> None:
        down()

    with pytest.raises(RecursionError):
        record(down)()
    assert "more times" in str(read(error_file).traceback)


def test_a_forked_child_does_not_record_for_the_rank(
    error_file: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A forked child that dies of an exception does not change the rank's error file."""
    source = program_text("errors/forks")
    done = run_python(source)
    assert ("the child's" in done.stderr, error_file.exists()) == (True, False)


def test_a_handler_that_fails_masks_nothing(error_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An exception of a subclass during recording is reported on stderr; the rank's own error propagates."""

    class Broken(ErrorHandler):
        def record_exception(self, e: BaseException) -> None:
            raise SystemExit(0)

    bare = type("Bare", (), {"initialize": lambda self: None})()
    for handler in (Broken(), bare):
        with pytest.raises(ValueError, match="mine"):
            record(_raise, handler)(ValueError("mine"))
    assert capfd.readouterr().err.count("could not be recorded") == 2


def test_the_hooks_of_a_subclass_are_used(error_file: Path) -> None:
    """Path and writing can be overridden, as with torch's handler."""
    written = []

    class Elsewhere(ErrorHandler):
        def _get_error_file_path(self) -> str:
            return "elsewhere"

        def _write_error_file(self, file_path: str, error_msg: str) -> None:
            written.append((file_path, decode(error_msg.encode()).message))

    with pytest.raises(ValueError, match="x"):
        record(_raise, Elsewhere())(ValueError("x"))
    assert (written, error_file.exists()) == ([("elsewhere", "ValueError: x")], False)


def test_the_root_causes_file_is_passed_on(error_file: Path, tmp_path: Path) -> None:
    """A launcher's error is replaced by that of the root cause, with the exit code that only the launcher has."""
    child = tmp_path / "child" / "error.json"
    child.parent.mkdir()
    child.write_bytes(GOOD)
    failures = {0: ProcessFailure(0, 1, 1, ""), 3: ProcessFailure(3, 4, -11, str(child), order=0)}
    failures[0].order = 1
    with pytest.raises(ChildFailedError):
        record(_raise)(ChildFailedError("job", failures))
    assert json.loads(error_file.read_text()) == {"message": {**document()["message"], "errorCode": -11}}


def test_a_root_cause_without_a_file_is_not_recorded(error_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As in torch: the launcher's own error is not the rank's; stderr shows how to get a file."""
    with pytest.raises(ChildFailedError):
        record(_raise)(ChildFailedError("job", {5: ProcessFailure(0, 1, -9, "")}))
    assert not error_file.exists()
    assert "rank 5 failed and left no error file" in capfd.readouterr().err


@pytest.mark.parametrize("name", [*CORPUS, "missing"])
def test_any_file_of_a_child_can_be_passed_on(error_file: Path, tmp_path: Path, name: str) -> None:
    """Whatever the child has left, all information is written, with the exit code where there is a place for it."""
    child = tmp_path / "child.json"
    if name in CORPUS:
        CORPUS[name].write(child)
    ErrorHandler().dump_error_file(str(child), 7)
    found = read(error_file)
    assert isinstance(found, ErrorRecord)
    problem = "it does not exist" if name == "missing" else CORPUS[name].problem
    assert problem in found.message
    structured = isinstance(json.loads(error_file.read_text())["message"], dict)
    assert found.error_code == (7 if structured else None)


def test_a_parent_may_share_its_childs_file(error_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same path on both sides loses nothing, and the overwritten message is reported."""
    error_file.write_bytes(GOOD)
    ErrorHandler().dump_error_file(str(error_file), 3)
    found = read(error_file)
    assert (found.message, found.error_code) == ("ValueError: boom", 3)
    assert "is overwritten; its message was: ValueError: boom" in capfd.readouterr().err


def test_an_overwritten_message_sends_no_control_sequences_to_the_terminal(error_file: Path, capfd) -> None:
    """Escape sequences of a message are escaped, as everywhere else."""
    content = {"message": {"message": "\x1b[2Jold", "extraInfo": {"py_callstack": "", "timestamp": "1"}}}
    error_file.write_text(json.dumps(content))
    ErrorHandler().dump_error_file(str(error_file))
    error = capfd.readouterr().err

    assert "its message was: \\x1b[2Jold" in error
    assert "\x1b" not in error


def test_without_an_own_error_file_there_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A missing destination is reported on stderr."""
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    ErrorHandler().dump_error_file("/nowhere/child.json", 3)
    assert "TORCHELASTIC_ERROR_FILE is not set" in capfd.readouterr().err


def test_readers_see_whole_files_only(error_file: Path) -> None:
    """While a rank records again and again, a reader finds one record or the other, never a part."""
    handler, seen, looking, done = ErrorHandler(), set(), threading.Event(), threading.Event()
    handler.record_exception(ValueError("first"))

    def look() -> None:
        while not done.is_set():
            seen.add(type(decode(error_file.read_bytes())))
            looking.set()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        assert looking.wait(60)
        for size in range(200):
            handler.record_exception(ValueError("x" * size * 100))
    finally:
        done.set()
        thread.join()
    assert seen == {ErrorRecord}


def test_a_directory_that_accepts_no_new_file_is_no_obstacle(error_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing file of another process is written in place, even if the new content is shorter."""
    error_file.write_bytes(GOOD * 10)
    real = os.open

    def no_new_files(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode)

    monkeypatch.setattr(recorder.os, "open", no_new_files)
    assert _record_of(ValueError("boom"), error_file).message == "ValueError: boom"


def test_a_new_error_file_is_read_by_this_user_only(error_file: Path) -> None:
    """Whatever the umask allows; a file with another mode keeps it."""
    before = os.umask(0)
    try:
        _record_of(ValueError("boom"), error_file)
        modes = [stat.S_IMODE(error_file.stat().st_mode)]
        error_file.chmod(0o640)
        _record_of(ValueError("boom"), error_file)
        modes.append(stat.S_IMODE(error_file.stat().st_mode))
    finally:
        os.umask(before)

    assert modes == [0o600, 0o640]


def test_a_file_that_cannot_be_replaced_is_written_in_place(error_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is a mount point gives EBUSY, as /dev/termination-log in a pod does."""
    error_file.write_bytes(GOOD * 10)

    def busy(source: str, target: str) -> None:
        raise OSError(16, "Device or resource busy", source, None, target)

    monkeypatch.setattr(recorder.os, "replace", busy)
    assert _record_of(ValueError("boom"), error_file).message == "ValueError: boom"


def test_a_link_is_followed(error_file: Path, tmp_path: Path) -> None:
    """An error file that is a link stays one; its target is written, also if it did not exist."""
    (tmp_path / "elsewhere").mkdir()
    error_file.symlink_to("elsewhere/target.json")
    _record_of_link = pytest.raises(ValueError, match="x")
    with _record_of_link:
        record(_raise)(ValueError("x"))
    assert error_file.is_symlink()
    assert isinstance(read(tmp_path / "elsewhere" / "target.json"), ErrorRecord)


def test_a_fifo_without_a_reader_does_not_block(error_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It stays a FIFO, and the rank continues."""
    os.mkfifo(error_file)
    with pytest.raises(ValueError, match="x"):
        record(_raise)(ValueError("x"))
    assert stat.S_ISFIFO(error_file.stat().st_mode)
    assert "cannot write the error file" in capfd.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device node to try it on")
def test_a_device_stays_a_device(error_file: Path) -> None:
    """``/dev/null`` as error file, the usual way to have none, is written to and not replaced."""
    try:
        os.mknod(error_file, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no device nodes here")
    with pytest.raises(ValueError, match="x"):
        record(_raise)(ValueError("x"))
    assert stat.S_ISCHR(error_file.stat().st_mode)


def _full_disk(directory: Path) -> str:
    """Return a device that is always full; for root a copy, since root could replace the real one by mistake."""
    if os.geteuid() != 0:
        return "/dev/full"
    path = directory / "full"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        os.close(os.open(path, os.O_WRONLY))
    except OSError as error:
        pytest.skip(f"no device nodes here: {error}")
    return str(path)


FAILING_RANK = """
import os, resource, sys
from derail.errors import record

def main():
    {prepare}
    raise ValueError("the original")

record(main)()
"""


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("path", "prepare", "told"),
    [
        ("{dir}/missing/error.json", "pass", "No such file or directory"),
        ("{full}", "pass", "No space left on device"),
        ("{dir}", "pass", "Is a directory"),
        ("{dir}/" + "x" * 300, "pass", "File name too long"),
        ("{dir}/error.json", "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))", "File too large"),
        ("{dir}/error.json", "resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))", "Too many open files"),
    ],
    ids=["missing directory", "full disk", "a directory", "long name", "file size limit", "no descriptors"],
)
def test_a_file_that_cannot_be_written_masks_nothing(
    path: str, prepare: str, told: str, tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The rank dies of its own error with its own traceback, after the reason for the missing file; nothing is left."""
    file = path.format(dir=tmp_path / "logs", full=_full_disk(tmp_path))
    (tmp_path / "logs").mkdir()
    done = run_python(FAILING_RANK.format(prepare=prepare), env={"TORCHELASTIC_ERROR_FILE": file}, check=False)
    first, *_, last = done.stderr.splitlines()
    assert (done.returncode, last) == (1, "ValueError: the original")
    assert first.startswith("derail: cannot write the error file")
    assert told in first
    assert list((tmp_path / "logs").iterdir()) == []


@pytest.mark.parametrize(
    "prepare",
    [
        "sys.stderr = None",
        "sys.stderr.close()",
        "os.close(2)",
        "del sys.stderr",
        "sys.stderr = type('Mute', (), {'flush': lambda self: None})()",
        "sys.path.clear(); sys.meta_path.clear()",
        "sys.setrecursionlimit(60)",
        "os.environ.clear()",
    ],
)
def test_a_damaged_rank_still_dies_of_its_own_error(
    prepare: str, tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Without stderr, without imports, with little stack, without its environment: the exit code is Python's own, which
    is 120 where it cannot write a traceback, and the record exists if it is possible."""
    path = tmp_path / "error.json"
    done = run_python(FAILING_RANK.format(prepare=prepare), env={"TORCHELASTIC_ERROR_FILE": str(path)}, check=False)
    found = read(path)
    told = None if found is None else found.message
    code = 120 if "close(2)" in prepare else 1
    assert (done.returncode, told) == (code, None if "environ" in prepare else "ValueError: the original")


@pytest.mark.parametrize("stderr", ["closed", "none"])
def test_initialize_needs_no_stderr(stderr: str, run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A process without stderr can be a rank."""
    start = "import sys, os; " + ("os.close(2); " if stderr == "closed" else "sys.stderr = sys.__stderr__ = None; ")
    done = run_python(start + "from derail.errors import record; print(record(lambda: 5)())")
    assert done.stdout == "5\n"


CRASHING_RANK = """
import ctypes
from derail.errors import record

@record
def reads_null():
    ctypes.string_at(0)

reads_null()
"""


def test_a_crash_prints_where(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A segmentation fault under ``record`` leaves the Python stack on stderr."""
    done = run_python(CRASHING_RANK, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert "in reads_null" in done.stderr


HANGING_RANK = """
import signal, sys
from derail.errors import record
{prepare}
@record
def hangs_here():
    print("ready", flush=True)
    sys.stdin.readline()

hangs_here()
print("done", flush=True)
"""


def _hang(source: str, marked: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if name != JOB_ENV}
    return subprocess.Popen(
        [sys.executable, "-c", source],
        env={**environ, **({JOB_ENV: marked} if marked else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(STACK_SIGNAL is None, reason="no real-time signals on this platform")
@pytest.mark.parametrize(
    ("prepare", "marked", "expected"),
    [
        ("", "job-1", (0, True, True)),
        ("", "", (-(STACK_SIGNAL or 0), False, False)),
        ("signal.signal(signal.SIGRTMAX - 1, signal.SIG_IGN)", "job-1", (0, False, True)),
    ],
    ids=["rank of a job", "rank of another launcher", "signal taken"],
)
def test_the_stack_of_a_hung_rank_can_be_requested(prepare: str, marked: str, expected: tuple[int, bool, bool]) -> None:
    """A rank of a job prints its stack on the signal and continues; elsewhere, and where the signal is used, nothing
    is changed."""
    rank = _hang(HANGING_RANK.format(prepare=prepare), marked)
    assert rank.stdout is not None
    assert rank.stdin is not None
    assert rank.stdout.readline() == "ready\n"
    rank.send_signal(STACK_SIGNAL or 0)
    out, err = rank.communicate("\n", timeout=60)
    assert (rank.returncode, "in hangs_here" in err, "done" in out) == expected


@pytest.mark.usefixtures("unmeasured")
def test_importing_record_loads_little(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A rank that only records does not load the launcher's side, nor torch, nor slow modules."""
    source = (
        "import sys; from derail.errors import record; print(sorted({'derail.errors.failure', 'derail.errors.summary',"
        " 'torch', 'multiprocessing', 'subprocess', 'asyncio', 'logging', 'datetime', 'tempfile'} & set(sys.modules)))"
    )
    assert run_python(source).stdout == "[]\n"


def test_derail_errors_lists_its_names() -> None:
    """``derail.errors`` has torch's names, and lists them in the error about an unknown one."""
    from derail import errors

    assert sorted(errors.__all__) == [
        "ChildFailedError",
        "ErrorHandler",
        "ProcessFailure",
        "get_error_handler",
        "record",
    ]
    with pytest.raises(AttributeError, match="has no attribute 'recrod'; it has ChildFailedError"):
        errors.recrod  # noqa: B018


@pytest.mark.torch
def test_torchs_handlers_can_be_used(error_file: Path, tmp_path: Path) -> None:
    """A handler that derives from torch's records and copies under our ``record``."""
    from torch.distributed.elastic.multiprocessing.errors import ErrorHandler as TorchHandler

    class Handler(TorchHandler):
        def initialize(self) -> None:
            """Leave the fault handler of the test run alone."""

    with pytest.raises(ValueError, match="x"):
        record(_raise, Handler())(ValueError("x"))
    assert read(error_file).message == "ValueError: x"
    child = tmp_path / "child.json"
    child.write_bytes(encode("ValueError: y", wall=1e9, monotonic=0.0))
    for path in (child, tmp_path):  # the second is a directory, which torch's handler cannot read
        with pytest.raises(ChildFailedError):
            record(_raise, Handler())(ChildFailedError("job", {0: ProcessFailure(0, 1, 3, str(path))}))
        assert (read(error_file).message, read(error_file).error_code) == ("ValueError: y", 3)


@pytest.mark.torch
def test_torchs_error_is_passed_on(error_file: Path, tmp_path: Path) -> None:
    """Torch's launcher under our ``record``: the root cause's file becomes the rank's."""
    from torch.distributed.elastic.multiprocessing import errors as torch_errors

    child = tmp_path / "child.json"
    child.write_bytes(GOOD)
    failure = torch_errors.ProcessFailure(0, 1, 3, str(child))
    with pytest.raises(torch_errors.ChildFailedError):
        record(_raise)(torch_errors.ChildFailedError("job", {0: failure}))
    assert (read(error_file).message, read(error_file).error_code) == ("ValueError: boom", 3)
