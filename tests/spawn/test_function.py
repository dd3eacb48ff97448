"""A function rank, by each start method: its return value, its exit, and its environment."""

from __future__ import annotations

import _thread
import asyncio
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from pathlib import Path

import pytest

import function_rank
import rank_functions as ranks
from derail.model.exit import ExitStatus
from derail.spawn import descriptors, fork
from derail.spawn.handle import Returned
from derail.spawn.spawn_error import StartError
from function_rank import METHODS, opened, rank_spec, run, started, wait_done_or_end, wait_readable, wait_status
from program_files import program_text
from wording import Tells

each_method = pytest.mark.parametrize("method", METHODS)
by_payload = pytest.mark.parametrize("method", ["spawn", "forkserver", "warm"])
OK = ExitStatus(code=0)


# ---- return value


@each_method
@pytest.mark.parametrize("value", [None, 0, "text", {"a": [1, 2.5]}, b"\x00" * 100_000], ids=lambda v: type(v).__name__)
def test_a_value_is_returned(method, value, tmp_path):
    """The launcher gets the return value of the function, and the rank ends with code 0."""
    ran = run(tmp_path, method, ranks.give, value)

    assert (ran.value, ran.status, ran.done, ran.stderr) == (value, OK, [0], "")


@each_method
def test_a_value_of_64_mib_is_returned(method, tmp_path):
    """The size of a value does not matter: the rank commits it before the launcher reads."""
    size = 64 << 20

    assert len(run(tmp_path, method, ranks.give_bytes, size).value) == size


@each_method
def test_a_value_of_a_class_of_the_user_is_returned(method, tmp_path):
    """Instances are returned if the launcher can import their class."""
    assert run(tmp_path, method, ranks.give_instance).value == ranks.Value(3)


@each_method
def test_a_value_that_cannot_be_pickled_fails_the_rank_with_a_reason(method, tmp_path):
    """The rank exits with 1; handle, stderr and error file name the value."""
    ran = run(tmp_path, method, ranks.give_generator)

    said = [
        "rank 0 returned a value of type generator that cannot be pickled" in t
        for t in (ran.reason, ran.stderr, ran.error)
    ]
    assert (ran.status, ran.done, said) == (ExitStatus(code=1), [], [True, True, True])


@each_method
def test_a_value_that_cannot_be_unpickled_here_is_a_reason(method, tmp_path):
    """A value that breaks in the launcher is not returned, and breaks nothing else."""
    ran = run(tmp_path, method, ranks.give_what_breaks_on_arrival)

    assert ran.reason == Tells("unpickle", "RuntimeError: not here")


@each_method
def test_a_rank_that_is_killed_while_it_returns_has_returned_nothing(method, tmp_path):
    """Half a value is no value."""
    ran = run(tmp_path, method, ranks.die_while_returning)

    assert (ran.reason, ran.status, ran.done) == ("", ExitStatus(signal=signal.SIGKILL), [])


@each_method
def test_a_crash_after_the_return_is_in_the_status(method, tmp_path):
    """The value is there, and the status shows that the process crashed during its exit."""
    ran = run(tmp_path, method, ranks.crash_after_return)

    assert (ran.value, ran.status.signal) == ("done", signal.SIGSEGV)


@pytest.mark.torch
@each_method
def test_a_tensor_is_sent_by_value(method, tmp_path):
    """A returned tensor is complete although its rank, with all shared memory, is gone."""
    torch = pytest.importorskip("torch")
    value = run(tmp_path, method, ranks.give_tensor, env={"RANK": "5"}).value

    assert torch.equal(value["weights"], torch.arange(20_000, dtype=torch.float32))
    assert value["rank"] == "5"


# ---- exit


@each_method
def test_an_exception_is_recorded_shown_and_ends_the_rank_with_1(method, tmp_path):
    """The error file and stderr have the exception, and there is no value."""
    ran = run(tmp_path, method, ranks.fail, "boom")

    assert json.loads(ran.error)["message"]["message"] == "ValueError: boom"
    assert ran.stderr.rstrip().endswith("ValueError: boom")
    assert (ran.status, ran.reason, ran.done) == (ExitStatus(code=1), "", [])


@each_method
@pytest.mark.parametrize(
    ("code", "status", "returned"),
    [
        ((), 0, False),
        ((None,), 0, False),
        ((0,), 0, True),
        ((3,), 3, False),
        ((259,), 3, False),
        (("bad input",), 1, False),
    ],
    ids=["nothing", "None", "0", "3", "259", "text"],
)
def test_sys_exit_ends_the_rank_as_it_ends_a_program(method, code, status, returned, tmp_path):
    """The code is the program's; only sys.exit(0) counts as a return of None, as with torch's ``record``."""
    ran = run(tmp_path, method, ranks.leave, *code)

    assert (ran.status, isinstance(ran.result, Returned)) == (ExitStatus(code=status), returned)
    if returned:
        assert ran.value is None
    if code == ("bad input",):
        assert ran.stderr == "bad input\n"
        assert "bad input" in ran.error


@each_method
@pytest.mark.parametrize("code", [0, 7])
def test_os_exit_returns_nothing(method, code, tmp_path):
    """A process that exits without notice has its code, and no value, even if that is 0."""
    ran = run(tmp_path, method, ranks.leave_at_once, code)

    assert (ran.status, ran.reason, ran.done) == (ExitStatus(code=code), "", [])


@each_method
def test_exec_returns_nothing(method, tmp_path):
    """A rank that executes another program has that program's code, and no value."""
    ran = run(tmp_path, method, ranks.exec_true)

    assert (ran.status, ran.reason) == (OK, "")


@each_method
@pytest.mark.parametrize("function", [ranks.interrupt, ranks.interrupt_by_signal], ids=["raised", "signalled"])
def test_a_keyboard_interrupt_is_death_by_sigint(method, function, tmp_path):
    """As in any Python program: a traceback, and the signal as status."""
    ran = run(tmp_path, method, function)

    assert (ran.status, ran.reason) == (ExitStatus(signal=signal.SIGINT), "")
    assert ran.stderr.rstrip().endswith("KeyboardInterrupt")


@each_method
def test_exit_handlers_run_and_threads_are_joined(method, tmp_path):
    """A function rank exits as a program does."""
    run(tmp_path, method, ranks.write_at_exit, str(tmp_path / "exit"))
    run(tmp_path, method, ranks.write_in_own_thread, str(tmp_path / "thread"))

    assert [(tmp_path / name).read_text() for name in ("exit", "thread")] == ["said goodbye", "thread ended"]


@each_method
def test_a_rank_that_closed_our_descriptors_fails_with_a_reason(method, tmp_path):
    """The error names the descriptor and the remedy."""
    ran = run(tmp_path, method, ranks.close_all_descriptors)

    assert ran.status == ExitStatus(code=1)
    assert "rank 0 cannot return its value: the function closed descriptor" in ran.error


@each_method
def test_a_rank_never_writes_its_value_into_a_file_of_the_user(method, tmp_path):
    """Closed descriptors with reused numbers are not written to."""
    path = tmp_path / "precious"
    ran = run(tmp_path, method, ranks.reuse_our_descriptors, str(path))

    assert (ran.status, path.read_bytes()) == (ExitStatus(code=1), b"")


@each_method
def test_a_rank_waits_for_the_others_and_can_be_ended_there(method, tmp_path):
    """Until ``release`` a rank that has returned lives, and SIGTERM ends it."""
    with opened() as returns, started(rank_spec(tmp_path, method, ranks.give, (1,)), returns) as handle:
        assert wait_readable(returns.done_fd)
        assert returns.read_done() == [0]
        assert (wait_readable(handle.exit_fd, 0.2), handle.peek()) == (False, None)
        assert handle.signal(signal.SIGTERM)
        assert wait_status(handle) == ExitStatus(signal=signal.SIGTERM)
        assert handle.result().value == 1


@each_method
def test_a_rank_that_has_returned_and_only_notes_sigterm_exits(method, tmp_path):
    """No code is left to read the flag of a handler: asked to end, the rank stops waiting."""
    with opened() as returns, started(rank_spec(tmp_path, method, ranks.flag_on_sigterm), returns) as handle:
        assert wait_readable(returns.done_fd)
        handle.signal(signal.SIGTERM)
        assert (wait_status(handle), handle.result().value) == (OK, "flagged")


@each_method
def test_a_rank_stops_waiting_when_the_launcher_closes(method, tmp_path):
    """The end of the pipe is a release as well: ranks do not wait for a launcher that is gone."""
    with opened() as returns, started(rank_spec(tmp_path, method, ranks.give, (1,)), returns) as handle:
        assert wait_readable(returns.done_fd)
        returns.close()
        assert wait_status(handle) == OK


# ---- environment


@each_method
def test_the_environment_is_there_before_the_users_modules_are_imported(method, tmp_path):
    """Modules have RANK when they are imported, and so has C code; a fork has the launcher's modules already."""
    wanted = {"RANK": "3", "OMP_NUM_THREADS": "1"}
    at_import, now = run(tmp_path, method, ranks.import_time_environment, env=wanted).value

    assert now == wanted
    if method != "fork":
        assert at_import == wanted
    assert run(tmp_path, method, ranks.c_environment, "RANK", env=wanted).value == "3"


@each_method
def test_the_environment_is_the_specs_and_nothing_else(method, tmp_path, monkeypatch):
    """Variables of the launcher that the spec leaves out are not there."""
    monkeypatch.setenv("ONLY_IN_THE_LAUNCHER", "1")
    spec = rank_spec(tmp_path, method, ranks.whole_environment, env={"ONLY_IN_THE_LAUNCHER": None, "NEW": "ü"})
    with opened() as returns:
        handle = function_rank.start_function(spec, returns)
        wait_done_or_end(handle, returns)
        returns.release()
        function_rank.end(handle)
        assert handle.result().value == spec.env


@each_method
def test_a_rank_gets_its_own_arguments_only(method, tmp_path):
    """Positional, in order, and no more than those."""
    assert run(tmp_path, method, ranks.count_arguments, "a", 2).value == (2, ("a", 2))


@each_method
def test_stdin_is_empty(method, tmp_path):
    """A rank that reads its stdin gets the end at once, and takes nothing away from the launcher."""
    assert run(tmp_path, method, ranks.read_stdin).value == ""


def test_the_streams_objects_are_alike_by_every_method(tmp_path):
    """Encoding, error handling, buffering and numbers are those of a fresh interpreter."""
    env = {"PYTHONIOENCODING": None, "PYTHONUNBUFFERED": None}
    found = {method: run(tmp_path, method, ranks.stream_facts, env=env).value for method in METHODS}

    assert found["fork"] == found["forkserver"] == found["warm"] == found["spawn"]


@each_method
def test_a_rank_leads_a_session_and_is_a_child_of_the_launcher_to_multiprocessing(method, tmp_path):
    """Its own session and group; its name is its rank; it has one thread and no children."""
    found = run(tmp_path, method, ranks.who, rank=4).value

    assert found == {
        "session": True,
        "group": True,
        "process": "Rank-4",
        "parent": os.getpid(),
        "parent_alive": True,
        "threads": ["MainThread"],
        "children": [],
    }


def test_children_of_the_launcher_are_not_those_of_a_forked_rank(tmp_path):
    """It neither lists them, nor ends or waits for them at its exit."""
    child = multiprocessing.get_context("fork").Process(target=ranks.wait_for_ever, daemon=True)
    child.start()
    try:
        ran = run(tmp_path, "fork", ranks.who)
        assert (ran.value["children"], ran.status, ran.stderr) == ([], OK, "")
        assert child.is_alive()
    finally:
        child.terminate()
        child.join()
        child.close()


@each_method
def test_a_rank_has_no_descriptors_of_the_launcher_but_its_own(method, tmp_path):
    """Descriptors that derail opened for this and other ranks are closed; a fork keeps those of the host, as usual."""
    with opened(0, 1, 2) as others, started(rank_spec(tmp_path, method, ranks.wait_for_ever), others):
        ours = {link for fd, link in ranks.descriptors().items() if fd in descriptors.owned()}
        found = run(tmp_path, method, ranks.descriptors, rank=1).value
        inheritable = run(tmp_path, method, ranks.inheritable_descriptors).value

    assert len(ours) >= 5  # three files, two pipes
    assert ours & set(found.values()) == set()
    mine = set(ranks.inheritable_descriptors()) if method == "fork" else set()
    assert set(inheritable) <= mine
    if method != "fork":
        kinds = sorted(link.split(":")[0].rpartition("/")[2] for fd, (link, *_) in found.items() if fd > 2)
        assert kinds == ["memfd", "pipe", "pipe"]


@each_method
def test_an_event_loop_runs_in_a_rank_whose_launcher_runs_one(method, tmp_path):
    """Started from a coroutine, a rank does not believe that it runs in the launcher's loop."""

    async def start():
        return run(tmp_path, method, ranks.run_event_loop).value

    assert asyncio.run(start()) == 42


@each_method
def test_a_rank_can_have_children(method, tmp_path):
    """It is no daemon: data loaders and pools work in it."""
    assert run(tmp_path, method, ranks.start_children, 2).value == [2, 1]


@each_method
def test_argv_and_path_are_the_launchers(method, tmp_path, monkeypatch):
    """As with multiprocessing, including changes at run time."""
    monkeypatch.setattr(sys, "argv", ["train.py", "--fast"])
    monkeypatch.setattr(sys, "path", [*sys.path, "/added/later"])

    assert run(tmp_path, method, ranks.argv_and_path).value == (sys.argv, sys.path)


@by_payload
def test_a_pythonpath_of_the_ranks_own_is_used(method, tmp_path):
    """Modules in its additions to the launcher's PYTHONPATH can be imported."""
    (tmp_path / "only_there.py").write_text("ANSWER = 42\n")

    assert run(tmp_path, method, ranks.import_by_name, "only_there", env={"PYTHONPATH": str(tmp_path)}).value == 42


# ---- arguments


@by_payload
def test_queues_events_and_pipes_are_shared(method, tmp_path):
    """Objects of multiprocessing, of the same start method, work as arguments, and no helper process stays."""
    context = multiprocessing.get_context("spawn" if method == "warm" else method)
    queue, (receiver, sender) = context.SimpleQueue(), context.Pipe(duplex=False)
    try:
        run(tmp_path, method, ranks.put, queue, {"a": 1})
        run(tmp_path, method, ranks.send, sender, [1, 2])

        assert (queue.get(), receiver.recv()) == ({"a": 1}, [1, 2])

        event = context.Event()
        run(tmp_path, method, ranks.set_event, event)
        assert event.is_set()
    finally:
        queue.close()
        receiver.close()
        sender.close()
        del queue, event
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._stop()


@pytest.mark.torch
@by_payload
def test_tensors_are_shared_as_arguments(method, tmp_path):
    """A tensor in shared memory is the same memory in the rank; so is one passed twice, and each of a hundred."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.multiprocessing")
    shared = torch.ones(4).share_memory_()
    run(tmp_path, method, ranks.double_in_place, shared)
    assert shared.tolist() == [2.0] * 4

    many = [torch.full((2,), float(i)) for i in range(300)]
    assert run(tmp_path, method, ranks.sum_tensors, shared, shared[:2], *many).value == [
        8.0,
        4.0,
        *(2.0 * i for i in range(300)),
    ]


@by_payload
@pytest.mark.parametrize(
    ("function", "args", "words"),
    [
        (lambda: 1, (), "the function itself of"),
        (ranks.give, (threading.Lock(),), "argument 0 (a lock) of give"),
        (ranks.count_arguments, (1, (x for x in ())), "argument 1 (a generator) of count_arguments"),
    ],
    ids=["lambda", "lock", "generator"],
)
def test_an_argument_that_cannot_be_sent_is_named(method, function, args, words, tmp_path):
    """The error names rank, argument and reason, and nothing is started."""
    with opened(2) as returns, pytest.raises(pickle.PicklingError) as caught:
        function_rank.start_function(rank_spec(tmp_path, method, function, args, rank=2), returns)

    assert str(caught.value) == Tells("rank 2", repr(method), words, "pickled")


def test_a_fork_runs_functions_that_cannot_be_pickled(tmp_path):
    """A closure is inherited."""
    lock = threading.Lock()

    assert run(tmp_path, "fork", lambda: lock.acquire(blocking=False)).value is True


@by_payload
def test_a_function_that_cannot_be_imported_there_is_recorded(method, tmp_path, monkeypatch):
    """A failure before the function runs is in the error file as well."""
    (tmp_path / "fleeting.py").write_text("def work(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import fleeting

    (tmp_path / "fleeting.py").write_text("raise ImportError('no such library')\n")
    ran = run(tmp_path, method, fleeting.work)
    del sys.modules["fleeting"]

    assert ran.status == ExitStatus(code=1)
    assert json.loads(ran.error)["message"]["message"] == "ImportError: no such library"


@by_payload
def test_sys_exit_at_import_is_no_return(method, tmp_path, monkeypatch):
    """A module that exits with 0 when it is imported has not run the function."""
    (tmp_path / "hasty.py").write_text("def work(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import hasty

    (tmp_path / "hasty.py").write_text("import sys; sys.exit(0)\n")
    ran = run(tmp_path, method, hasty.work)
    del sys.modules["hasty"]

    assert (ran.status, ran.reason) == (OK, "")


# ---- the launcher


@each_method
def test_a_job_starts_from_a_host_with_threads(method, tmp_path):
    """From any thread, with others running, without a warning; the end of that thread has no effect."""
    stop = threading.Event()
    others = [threading.Thread(target=stop.wait) for _ in range(4)]
    for thread in others:
        thread.start()
    try:
        with opened() as returns:
            made = []
            spec = rank_spec(tmp_path, method, ranks.who)
            starter = threading.Thread(target=lambda: made.append(function_rank.start_function(spec, returns)))
            starter.start()
            starter.join()
            (handle,) = made
            wait_done_or_end(handle, returns)
            assert handle.peek() is None
            returns.release()
            assert function_rank.end(handle) == OK
            assert handle.result().value["threads"] == ["MainThread"]
    finally:
        stop.set()
        for thread in others:
            thread.join()


@pytest.mark.parametrize("kind", ["daemon", "unknown to threading"])
def test_a_rank_forked_from_any_thread_waits_for_its_own_threads(kind, tmp_path):
    """They are no daemons, although the forking thread was one."""
    ended = threading.Event()

    def work():
        try:
            run(tmp_path, "fork", ranks.write_in_own_thread, str(tmp_path / "thread"))
        finally:
            ended.set()

    if kind == "daemon":
        threading.Thread(target=work, daemon=True).start()
    else:
        _thread.start_new_thread(work, ())
    assert ended.wait(function_rank.DEADLINE)

    assert (tmp_path / "thread").read_text() == "thread ended"


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_failed_start_of_a_forked_rank_is_explained_correctly(method, tmp_path, monkeypatch):
    """A CPU that does not exist is not reported as a missing program."""
    spec = rank_spec(tmp_path, method, ranks.give, (1,), cpus=frozenset({4095}))
    with opened() as returns, pytest.raises(StartError) as caught:
        function_rank.start_function(spec, returns)

    assert str(caught.value) == Tells("[Errno 22]", "rank 0", "CPUs [4095]", "Invalid argument")


def test_in_child_runs_first_in_a_fork(tmp_path):
    """Before the rank has its own session, in the child only, with signals as in a fresh interpreter."""
    read, write = os.pipe()
    try:
        spec = rank_spec(tmp_path, "fork", ranks.give, (1,))
        with opened() as returns:
            report = lambda: os.write(write, b"%d %d" % (os.getpid(), os.getsid(0)))  # noqa: E731
            with started(spec, returns, in_child=report) as handle:
                assert os.read(read, 100) == b"%d %d" % (handle.pid, os.getsid(0))
    finally:
        os.close(read)
        os.close(write)


def test_a_failing_in_child_is_an_error_of_the_start(tmp_path):
    """The function does not run then, and the child is gone."""

    def fail():
        raise OSError(28, "no room")

    with opened() as returns, pytest.raises(StartError) as caught:
        function_rank.start_function(rank_spec(tmp_path, "fork", ranks.give, (1,)), returns, in_child=fail)

    assert "no room" in str(caught.value)


def test_a_forked_rank_leaves_the_hosts_exit_handlers_alone(run_python, tmp_path):
    """Exit handlers and buffers of the host are used once: in the host."""
    done = run_python(
        program_text("spawn/buffered_host"),
        str(tmp_path),
        str(Path(function_rank.__file__).parent),
        env={"PYTHONUNBUFFERED": ""},
    )

    assert (done.stdout, done.stderr) == ("held back 3 ''\n", "host ends")


def test_buffered_output_behind_a_replaced_stdout_of_the_host_is_not_in_the_ranks_log(run_python, tmp_path):
    """Neither when the rank writes to a stream object of the host, nor when it uses none of them."""
    done = run_python(
        program_text("spawn/replaced_stdout"),
        str(tmp_path),
        str(Path(function_rank.__file__).parent),
        env={"PYTHONUNBUFFERED": ""},
    )

    assert done.stdout == "held back 'rank\\n' held back 3 ''\n"


def test_an_unknown_start_method_is_refused(tmp_path):
    """The error has its name, and those of the valid ones."""
    with (
        opened() as returns,
        pytest.raises(ValueError, match=r"'thread'.*'spawn', 'fork', 'forkserver', 'warm'"),
    ):
        function_rank.start_function(rank_spec(tmp_path, "thread", ranks.give, (1,)), returns)


def test_the_main_module_is_run_again_in_a_spawned_rank(run_python, tmp_path):
    """Functions and classes of the main script can be used, values of its classes are returned, and its guard works."""
    script = tmp_path / "script.py"
    script.write_text(program_text("spawn/own_classes"))
    done = run_python(
        f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, {str(script)!r}, *sys.argv[1:]]))",
        str(tmp_path),
        str(Path(function_rank.__file__).parent),
    )

    assert done.stdout == "spawn True 2\nfork True 2\nforkserver True 2\nwarm True 2\n"


def test_a_script_without_a_guard_gets_an_explanation(tmp_path, run_python):
    """Instead of starting ranks of ranks of ranks."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import function_rank
def work(): return 1
ran = function_rank.run(Path(sys.argv[1]), "spawn", work)
print(ran.status, "bootstrapping" in ran.stderr, "bootstrapping" in ran.error)
"""
    )
    done = run_python(
        f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, {str(script)!r}, *sys.argv[1:]]))",
        str(tmp_path),
        str(Path(function_rank.__file__).parent),
    )

    assert done.stdout == "exit 1 True True\n"


def test_the_hosts_start_method_stays_open(run_python, tmp_path):
    """Starting a rank does not fix multiprocessing's start method for the host."""
    done = run_python(
        """
import multiprocessing, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import function_rank, rank_functions
for method in function_rank.METHODS:
    function_rank.run(Path(sys.argv[1]), method, rank_functions.give, 3)
print(multiprocessing.get_start_method(allow_none=True))
""",
        str(tmp_path),
        str(Path(function_rank.__file__).parent),
    )

    assert done.stdout == "None\n"


def test_a_fork_that_hangs_before_it_is_a_rank_is_an_error_of_the_start(tmp_path, monkeypatch):
    """No start waits for ever; the child is gone."""
    monkeypatch.setattr(fork, "START_SECONDS", 0.2)
    spec = rank_spec(tmp_path, "fork", ranks.give, (1,))
    with opened() as returns, pytest.raises(StartError, match="before it had its own session"):
        function_rank.start_function(spec, returns, in_child=threading.Event().wait)
