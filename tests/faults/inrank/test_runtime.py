"""Runtime inside ranks: it enters unchanged programs, acts once, and leaves no trace without a plan."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from derail import faults, when
from derail.faults import fail_point
from derail.faults.catalogue.injector_api import control_signal
from derail.faults.engine.prepare import SITE
from derail.faults.inrank.runtime import Runtime
from faults.fake_job import FakeJob
from program_files import UNTIL, program_text
from wording import Tells

INSTALLED = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
PYTHONS = {
    path.parts[-3]: path
    for path in (sorted(INSTALLED.glob("3.*/bin/python")) if os.access(INSTALLED, os.R_OK | os.X_OK) else ())
    if int(path.parts[-3].split(".")[1]) >= 9 and os.access(path, os.X_OK)
} or {".".join(map(str, sys.version_info[:3])): Path(sys.executable)}
SLEEPING = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"
ENDED, TOLD, STARTED = (f'"event": "{event}"' for event in ("end", "tell", "started"))
LEAVES_WHEN_SEEN = f"""{UNTIL}
import threading
threading.Thread(target=lambda: (until('{ENDED}'), os._exit(0)), daemon=True).start()
"""
"""Whatever its main thread does, it ends when it is known what came of the fault."""


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        (faults.exit(7, rank=0), "exit 7"),
        (faults.exit(7, rank=0, when=when.line("ready")), "exit 7"),
        (faults.exception("RuntimeError", "boom", rank=0), "exit 1"),
        (faults.exception("RuntimeError", "boom", rank=0, when=when.line("ready")), "exit 1"),
        (faults.hang(["SIGTERM"], rank=0, when=when.line("ready")), "exit 0"),
    ],
    ids=str,
)
def test_it_works_in_every_python_that_a_rank_may_have(run_faults, version, fault, ends):
    """Whatever Python runs derail, and without an installed derail."""
    source = LEAVES_WHEN_SEEN + SLEEPING if fault.name == "hang" else SLEEPING
    run = run_faults([fault], source, python=PYTHONS[version])

    assert run.one().injected, run.one()
    assert str(run.job.status[0]) == ends
    assert run.events("runtime")[0]["python"] == ".".join(version.split(".")[:2])


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ((sys.executable, "-S", "-c", "pass"), "was started with -S"),
        ((sys.executable, "-I", "-c", "pass"), "was started with -I"),
        ((sys.executable, "-uE", "-c", "pass"), "was started with -uE"),
        (("/bin/sleep", "0.1"), "it runs /bin/sleep, which is not Python"),
        (("/bin/true",), "it runs /bin/true, which is not Python"),
        (("/usr/bin/env", "-u", "PYTHONPATH", sys.executable, "-c", "pass"), ""),
    ],
)
@pytest.mark.parametrize("trigger", [when.start(), when.after(0.0)], ids=str)
def test_a_run_without_the_runtime_reports_why(run_faults, argv, why, trigger):
    """Such a fault is unavailable, and its run never green."""
    run = run_faults([faults.exit(7, rank=0, when=trigger)], argv)

    assert run.one().status == "unavailable"
    assert run.one().detail == Tells("rank 0", why)
    assert str(run.job.status[0]) == "exit 0"


def test_the_first_python_of_a_shell_script_acts(run_faults):
    """The rank is the shell; its first Python acts for it, later ones do not."""
    script = f"{sys.executable} -c 'print(1)'; {sys.executable} -c 'print(2)'; exit 5"
    run = run_faults([faults.exit(7, rank=0)], ("/bin/sh", "-c", script))

    assert run.log(0) == "2\n"
    assert run.one().status == "errored"
    assert "exit 5" in run.one().detail


def test_a_program_that_the_shell_becomes_is_the_rank(run_faults):
    """After an exec it is the same process."""
    run = run_faults([faults.exit(7, rank=0)], ("/bin/sh", "-c", f"exec {sys.executable} -c 'print(1)'"))

    assert run.one().injected


def test_a_python_under_a_shell_gets_due_faults(run_faults):
    """It is not the rank's own process, but gets its signal."""
    source = "import time; print('ready', flush=True); time.sleep(60)"
    run = run_faults(
        [faults.exit(7, rank=0, when=when.line("ready"))], ("/bin/sh", "-c", f'{sys.executable} -c "{source}"; exit $?')
    )

    assert run.one().injected, run.one()


CHILDREN = program_text("faults/children")


def test_children_of_the_rank_do_not_act(run_faults, tmp_path):
    """Subprocesses, forks and multiprocessing's children inherit the environment and do nothing with it."""
    run = run_faults([faults.exit(7, rank=0, when=when.point("here"))], CHILDREN)

    assert run.log(0).splitlines() == ["child"] * 5
    assert len(run.events("runtime")) == len(run.events("start")) == 1
    assert run.one().injected


def test_a_child_that_gets_the_control_signal_does_not_act(run_faults):
    """A forked child inherits the handler, but not the rank's part."""
    rank = program_text("faults/forked_child")
    run = run_faults([faults.exit(7, rank=0, when=when.line("ready"))], rank)

    assert run.log(0).splitlines() == ["child lives", "ready"]
    assert run.one().injected


def test_a_rank_that_replaces_itself_does_not_act_twice_at_its_start(run_faults):
    """The same pid is the same rank, and its injected faults stay injected."""
    rank = f"""{UNTIL}
import sys
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "again"])
until('{ENDED}')
print("again", flush=True)
"""
    run = run_faults([faults.ignore_signal(["SIGUSR2"], rank=0)], rank)

    assert run.log(0) == "again\n"
    assert len(run.events("start")) == 1
    assert run.one().injected


def test_points_count_their_occurrences(run_faults):
    """``fail_point`` in code that calls it."""
    rank = """
from derail.faults import fail_point
for step in range(1, 6):
    fail_point("after_step"); fail_point("other")
    print(step, flush=True)
"""
    run = run_faults([faults.exit(7, rank=0, when=when.point("after_step", hit=3))], rank)

    assert run.log(0).split() == ["1", "2"]
    assert run.one().detail.startswith("sys.exit(7) in rank0.py:4 in <module>")


def test_a_disarmed_point_does_nothing():
    """It is one look-up."""
    assert fail_point("whatever") is None


def test_several_faults_of_one_rank_are_due_at_the_same_time(run_faults):
    """One that raises does not swallow the next."""
    rank = program_text("faults/catches_two")
    plan = [
        faults.exception("ConnectionError", "a", rank=0, when=when.line("ready")),
        faults.exception("ConnectionError", "b", rank=0, when=when.line("ready")),
    ]
    run = run_faults(plan, rank)

    assert run.log(0).endswith("caught 2\n")
    assert [result.status for result in run.results] == ["injected", "injected"]


TRACED = """
import os, signal, sys, time
def wake(frame, event, _):
    {wake}
    return wake
caught = set()
def note(error):
    while error is not None:  # the second one may come while the first is handled
        caught.add(str(error))
        error = error.__context__
def catch():
    try:
        while len(caught) < 2:
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [{number}])
                time.sleep(60)
            except ConnectionError as error:
                note(error)
    except ConnectionError as error:
        note(error)
        catch()
signal.pthread_sigmask(signal.SIG_BLOCK, [{number}])
print("ready", flush=True)
while open({journal!r}).read().count('"tell"') < {first}:
    time.sleep(0.01)
sys.settrace(wake)
catch()
sys.settrace(None)
print(*sorted(caught), flush=True)
"""


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("moment", ["line", "return"])
def test_a_delayed_exception_is_not_lost_to_the_next_one(run_faults, tmp_path, version, moment):
    """On a busy machine a second signal may arrive between the record of the first fault and its exception."""
    rank = TRACED.format(
        wake=f"""if event == {moment!r} and frame.f_code.co_name == "_go" and "effect" in frame.f_locals:
        signal.raise_signal({control_signal()})""",
        number=int(control_signal()),
        journal=str(tmp_path / "journal.jsonl"),
        first=2,
    )
    plan = [faults.exception("ConnectionError", word, rank=0, when=when.line("ready")) for word in ("a", "b")]
    run = run_faults(plan, rank, python=PYTHONS[version])

    assert run.log(0) == "ready\na b\n"


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("function", ["_come_back", "_go", "_happen"])
def test_a_signal_between_the_record_of_a_fault_and_its_exception_loses_neither(
    run_faults, tmp_path, version, function
):
    """The handler is not reentrant, whichever function of the engine it interrupts."""
    rank = TRACED.format(
        wake=f"""if event == "line" and frame.f_code.co_name == {function!r}:
        signal.raise_signal({control_signal()})""",
        number=int(control_signal()),
        journal=str(tmp_path / "journal.jsonl"),
        first=2,
    )
    plan = [faults.exception("ConnectionError", word, rank=0, when=when.line("ready")) for word in ("a", "b")]
    run = run_faults(plan, rank, python=PYTHONS[version])

    assert run.log(0) == "ready\na b\n"


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("function", ["__call__", "_act_here"])
def test_a_signal_does_not_swallow_an_occurrence(run_faults, tmp_path, version, function):
    """An exception of another fault waits until the fault that is due at the occurrence has acted."""
    rank = program_text("faults/caught_in_function", FUNCTION=function, NUMBER=int(control_signal()))
    plan = [
        faults.exception("ConnectionError", "a", rank=0, when=when.call("time:localtime", hit=1)),
        faults.exception("ConnectionError", "b", rank=0, when=when.line("ready")),
    ]
    run = run_faults(plan, rank, python=PYTHONS[version])

    assert run.log(0) == "ready\na b\n"
    assert run.events("start")[0]["fault"] == run.results[0].fault.id


def test_a_fault_due_while_the_waking_thread_ends_is_not_lost(monkeypatch):
    """The thread never reverts a note of the main thread."""
    threads, woken = [], []
    part = SimpleNamespace(signal=control_signal(), attempt="0")
    runtime = Runtime(part)
    monkeypatch.setattr("derail.faults.inrank.runtime._thread.start_new_thread", lambda run, _: threads.append(run))
    monkeypatch.setattr("derail.faults.inrank.runtime.signal.getsignal", lambda _: runtime._on_signal)
    monkeypatch.setattr("derail.faults.inrank.runtime.real_time.sleep", lambda _: None)

    def kill(*_):
        woken.append(len(threads))
        runtime._due = due = Due()
        due.due_at_look = 2 if len(threads) == 1 else 0

    class Due(list):
        """List of due faults to which the main thread adds right after the thread has found it empty."""

        due_at_look = 0

        def __bool__(self):
            self.due_at_look -= 1
            if self.due_at_look == 0:
                self.append("another fault")
                runtime._come_back()
                return False
            return len(self) > 0

    monkeypatch.setattr("derail.faults.inrank.runtime.os.kill", kill)
    runtime._due = ["a fault"]
    runtime._come_back()
    threads[0]()
    for thread in threads[1:]:
        thread()

    assert woken[0] == 1
    assert len(woken) >= 2


def test_a_rank_without_threads_is_woken_by_the_next_signal(monkeypatch):
    """A failed start of the waking thread does not count as a running one."""
    runtime = Runtime(SimpleNamespace(signal=control_signal(), attempt="0"))

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("derail.faults.inrank.runtime._thread.start_new_thread", refuse)
    runtime._come_back()

    assert runtime._comes_back is False


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(("function", "local"), [("_read", "file"), ("_on_signal", "due"), ("write", "fd")])
def test_a_fault_due_during_the_handler_interrupts_nothing(run_faults, tmp_path, version, function, local):
    """A second fault becomes due during the handling of the first. An OSError does not count as the handler's own."""
    been_here = str(tmp_path / "been here")
    rank = TRACED.format(
        wake=f"""if event == "line" and frame.f_code.co_name == {function!r} and {local!r} in frame.f_locals:
        if not os.path.exists({been_here!r}):
            open({been_here!r}, "w").close()
            print("again", flush=True)
            while open({str(tmp_path / "journal.jsonl")!r}).read().count('"tell"') < 2:
                time.sleep(0.01)
            signal.raise_signal({control_signal()})""",
        number=int(control_signal()),
        journal=str(tmp_path / "journal.jsonl"),
        first=1,
    )
    lines = {"a": "ready", "b": "again"}
    plan = [faults.exception("ConnectionError", word, rank=0, when=when.line(line)) for word, line in lines.items()]
    run = run_faults(plan, rank, python=PYTHONS[version])

    assert run.log(0) == "ready\nagain\na b\n"
    assert [result.status for result in run.results] == ["injected", "injected"]


def test_a_fault_that_is_due_while_python_starts_waits_for_it(run_faults):
    """The driver defers it until the runtime listens."""
    run = run_faults([faults.exit(7, rank=0, when=when.after(0.0))], SLEEPING)

    assert run.one().injected


def test_a_fault_due_before_the_program_waits_for_its_first_line(run_faults, tmp_path):
    """An exception during Python's own start would break Python and not the program."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nprint('starting', flush=True)\n"
        "while sys.getprofile() is None: time.sleep(0.01)\n"  # which looks out for the first line, once it was told
    )
    run = run_faults([faults.exit(7, rank=0, when=when.line("starting"))], SLEEPING, env={"PYTHONPATH": str(tmp_path)})

    assert run.one().detail == Tells("sys.exit(7)", "rank0.py:1", "<module>", "exit 7")
    assert run.log(0) == "starting\n"


def test_a_rank_that_removes_the_handler_is_not_killed_by_the_signal(run_faults):
    """Its default action would end the rank."""
    rank = f"""{UNTIL}
import signal
for number in signal.valid_signals() - {{9, 19}}:
    signal.signal(number, signal.SIG_DFL)
print("ready", flush=True)
until('{ENDED}')
"""
    run = run_faults([faults.exit(7, rank=0, when=when.line("ready"))], rank)

    assert run.one().status == "not_reached"
    assert run.one().detail == Tells("rank 0", "SIGRTMAX-6")
    assert str(run.job.status[0]) == "exit 0"


def test_a_rank_that_never_runs_the_handler_is_not_reached(run_faults):
    """The signal is still pending when it ends."""
    rank = f"""{UNTIL}
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("ready", flush=True)
until('{TOLD}')
"""
    run = run_faults([faults.exit(7, rank=0, when=when.line("ready"))], rank)

    assert run.one().status == "not_reached"
    assert run.one().detail == Tells("main thread")
    assert len(run.events("tell")) == 1


def test_the_program_sees_no_difference(run_faults, tmp_path):
    """Arguments, path and modules are unchanged; only two variables show the plan."""
    rank = """
import os, sys
print(sys.argv[0].endswith("rank0.py"), sys.path[0] == os.path.dirname(sys.argv[0]))
print([path for path in sys.path if "inrank" in path], sys.getprofile(), sys.gettrace())
print(sorted(name for name in os.environ if "DERAIL" in name))
import threading; print(threading.active_count())
"""
    run = run_faults([faults.exit(7, rank=0, when=when.line("never"))], rank)

    assert run.log(0).splitlines() == [
        "True True", "[] None None", "['DERAIL_INRANK', 'DERAIL_INRANK_PID']", "1",
    ]  # fmt: skip


@pytest.mark.parametrize("version", PYTHONS)
def test_an_existing_sitecustomize_is_chained(tmp_path, version):
    """With a plan or without, the hidden one runs unchanged."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.hidden = __file__\n")
    done = subprocess.run(
        [PYTHONS[version], "-c", "import sys, sitecustomize; print(sys.hidden == sitecustomize.__file__, sys.hidden)"],
        env={"PYTHONPATH": f"{SITE}:{tmp_path}"}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert done.stdout.split() == ["True", str(tmp_path / "sitecustomize.py")]


def test_an_existing_sitecustomize_is_chained_with_a_plan_too(run_faults, tmp_path):
    """Both run."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.hidden = 1\n")
    run = run_faults(
        [faults.exit(7, rank=0, when=when.line("hidden"))],
        "import sys, time\nprint('hidden', sys.hidden, flush=True)\ntime.sleep(60)",
        env={"PYTHONPATH": str(tmp_path)},
    )

    assert run.log(0) == "hidden 1\n"
    assert run.one().injected


def test_a_broken_sitecustomize_fails_as_without_derail(tmp_path):
    """Python prints the error and continues."""
    (tmp_path / "sitecustomize.py").write_text("1 / 0\n")

    def start(path):
        return subprocess.run(
            [sys.executable, "-c", "print('went on')"],
            env={"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    with_us, without = start(f"{SITE}:{tmp_path}"), start(str(tmp_path))

    assert (with_us.returncode, with_us.stdout) == (without.returncode, without.stdout) == (0, "went on\n")
    assert with_us.stderr.splitlines()[-1] == without.stderr.splitlines()[-1]


def test_without_a_plan_nothing_of_derail_is_imported():
    """There is only one look into the environment."""
    source = "import sys; print([name for name in sys.modules if 'derail' in name])"
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={"PYTHONPATH": str(SITE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("value", ["{", "[]", '{"job": 1}', "null"])
def test_a_broken_plan_in_the_environment_does_not_break_the_program(value):
    """The error is on stderr, and the program runs."""
    done = subprocess.run(
        [sys.executable, "-c", "print('went on')"], env={"PYTHONPATH": str(SITE), "DERAIL_INRANK": value},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert done.stderr.startswith("derail: the in-rank runtime did not start: ")


def test_a_rank_of_an_external_agent_finds_its_rank_in_the_environment(tmp_path):
    """One environment for all; each acts by its RANK, once in all attempts."""
    from derail.faults.engine.journal import Journal, read
    from derail.faults.engine.prepare import environment

    journal = Journal(tmp_path / "j")
    journal.write("plan")
    plan = faults.plan([faults.exit(7, rank=[1, 2])])
    env = environment(plan, range(3), journal=journal.path, job="j", environ={})
    codes = [
        subprocess.run([sys.executable, "-c", "pass"], env={**env, **rank}, timeout=60, check=False).returncode
        for rank in (
            {"RANK": "0"},
            {"RANK": "1"},
            {"LOCAL_RANK": "2", "TORCHELASTIC_RESTART_COUNT": "1"},
            {"RANK": "1", "TORCHELASTIC_RESTART_COUNT": "1"},
            {},
        )
    ]

    assert codes == [0, 7, 7, 0, 0]
    assert [record["rank"] for record in read(journal.path) if record["event"] == "start"] == [1, 2]


@pytest.mark.parametrize("make", [lambda **how: faults.exit(7, **how), lambda **how: faults.signal("SIGKILL", **how)])
@pytest.mark.parametrize(
    "trigger", [when.point("here"), when.call("json:loads"), when.signal_received("SIGUSR1"), when.import_of("wave")]
)
def test_a_journal_that_cannot_be_written_does_not_reach_the_program(run_faults, make, trigger):
    """A fault that cannot be journalled is not injected, and the program does not notice."""
    rank = program_text("faults/without_journal")
    run = run_faults([make(rank=0, when=trigger)], rank)

    assert run.log(0) == "handled\nwent on\n", run.log(0, "stderr")
    assert (run.one().status, str(run.job.status[0])) == ("not_reached", "exit 0")


@pytest.mark.parametrize("lost", [1, 2])
def test_a_rank_that_was_entering_a_system_call_is_signalled_again(run_faults, monkeypatch, lost):
    """Its Python has noted the signal, and would handle it after the call returns."""
    send, sent = FakeJob.send_signal, []

    def swallowed(self, rank, number, *, group=False):
        if number == control_signal():
            sent.append(number)
            if len(sent) <= lost:
                return True
        return send(self, rank, number, group=group)

    monkeypatch.setattr(FakeJob, "send_signal", swallowed)
    run = run_faults(
        [faults.exit(7, rank=0, when=when.line("ready"))], "import time; print('ready', flush=True); time.sleep(60)"
    )

    assert run.one().injected, run.one()
    assert len(sent) > lost
    assert len(run.events("tell")) == 1
