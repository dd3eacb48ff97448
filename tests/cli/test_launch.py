"""``derail launch`` with real jobs: exit codes, output and signals."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from derail.platform.ports import free_port
from program_files import program_text
from report.trace_format import check_trace

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from cli.conftest import Derail, StartDerail

DEADLINE = 100.0


def ready_pids(launcher: subprocess.Popen[str], ranks: int) -> list[int]:
    """Wait until the given number of ranks have written their pids, and return them."""
    pids: list[int] = []
    assert launcher.stdout is not None
    for line in launcher.stdout:
        if "ready" in line:
            pids.append(int(line.split()[-1]))
        if len(pids) == ranks:
            return pids
    assert launcher.stderr is not None
    pytest.fail(f"only {pids} became ready: {launcher.stderr.read()}")


def test_a_job_that_succeeds_exits_with_0_and_says_what_its_ranks_say(derail_command: Derail, script: Path) -> None:
    """Whole lines, each with the prefix of its rank and on its original stream; no other output."""
    done = derail_command("launch", "--ranks", 3, script, "hello")
    assert (done.returncode, sorted(done.stdout.splitlines()), sorted(done.stderr.splitlines())) == (
        0,
        [f"[rank{rank}]:hello from {rank} of 3" for rank in range(3)],
        [f"[rank{rank}]:warning from {rank}" for rank in range(3)],
    )


@pytest.mark.parametrize("code", [1, 7, 75, 255])
def test_it_exits_with_the_code_of_the_root_cause(derail_command: Derail, script: Path, code: int) -> None:
    """A scheduler gets the exit code of the failed rank."""
    assert derail_command("launch", "-n", 2, script, "exit", code).returncode == code


def test_a_failure_is_summed_up_on_stderr(derail_command: Derail, script: Path, tmp_path: Path) -> None:
    """The summary has the root cause, its exit code, its last lines and the log directory."""
    done = derail_command("launch", "-n", 2, "--output-dir", tmp_path / "logs", script, "exit", 7)
    for told in (
        "Root Cause",
        "rank      : 1 (local_rank: 1)",
        "exitcode  : 7",
        "last lines of stdout of rank 1:\n  | rank 1 leaves",
        f"logs and journal: {tmp_path / 'logs'}",
    ):
        assert told in done.stderr


def test_a_trace_is_written_however_the_job_ends(derail_command: Derail, script: Path, tmp_path: Path) -> None:
    """Also if the job fails or cannot be started; a path that cannot be written is refused beforehand."""
    failed, never = tmp_path / "failed.json", tmp_path / "never.json"
    derail_command("launch", "-n", 2, "--trace", failed, script, "exit", 7)
    signalled = derail_command(
        "launch", "-n", 64, "--trace", never, "--", "/bin/sh", "-c", "kill -TERM $PPID; sleep 99"
    )
    refused = derail_command("launch", "--trace", tmp_path, script, "exit", 7)

    launcher, *ranks = check_trace(failed.read_bytes())
    assert (launcher.process, launcher.name) == (f"derail: {script}", "launcher")
    assert [track.name for track in ranks] == ["rank 0", "rank 1"]
    assert [event["name"] for event in ranks[1].instants if event["cat"] == "exit"] == ["ended: exit 7"]
    assert signalled.returncode == 128 + signal.SIGTERM
    assert check_trace(never.read_bytes()) == []
    assert (refused.returncode, "is a directory" in refused.stderr) == (2, True)


def test_a_fault_kills_the_rank_and_the_code_tells_the_signal(derail_command: Derail, script: Path) -> None:
    """SIGKILL gives 137, the killed rank is the root cause, and the fault has its evidence."""
    done = derail_command("launch", "-n", 3, "--fault", "signal=SIGKILL rank=2 line='step 3'", script, "steps")
    assert done.returncode == 137
    assert "rank      : 2 (local_rank: 2)" in done.stderr
    assert re.search(r"fault signal SIGKILL on rank 2 at line 'step 3': injected: SIGKILL sent to pid \d+", done.stderr)


def test_faults_come_from_a_plan_too(derail_command: Derail, script: Path, tmp_path: Path) -> None:
    """A plan file has the same effect as the option."""
    plan = tmp_path / "plan.toml"
    plan.write_text('[[faults]]\nfault = "signal"\nsignal = "SIGTERM"\nrank = 0\nwhen = { line = "step 2" }\n')
    done = derail_command("launch", "-n", 2, "--plan", plan, script, "steps")
    assert done.returncode == 128 + signal.SIGTERM


def test_redirected_streams_are_only_in_files(derail_command: Derail, script: Path, tmp_path: Path) -> None:
    """--redirects hides streams from the console; the files have them in both cases."""
    done = derail_command("launch", "-n", 2, "-r", "0:3,1:2", "--output-dir", tmp_path / "logs", script, "hello")
    assert (done.stdout, done.stderr) == ("[rank1]:hello from 1 of 2\n", "")
    files = {path.parent.name + path.name: path.read_text() for path in (tmp_path / "logs").rglob("*.log")}
    assert {name: text for name, text in files.items() if "filtered" not in name} == {
        "0stdout.log": "hello from 0 of 2\n",
        "0stderr.log": "warning from 0\n",
        "1stdout.log": "hello from 1 of 2\n",
        "1stderr.log": "warning from 1\n",
    }


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("-t", "1"), {"hello", "warning"}),
        (("-r", "3", "-t", "1"), {"hello"}),
        (("-r", "1"), {"warning"}),
        (("-r", "3", "-t", "0"), set()),
    ],
)
def test_tee_and_redirects_mean_what_torchrun_means(
    derail_command: Derail, script: Path, options: tuple[str, ...], shown: set[str]
) -> None:
    """A stream is hidden if it is redirected and not teed."""
    done = derail_command("launch", *options, script, "hello")
    assert {word for word in ("hello", "warning") if word in done.stdout + done.stderr} == shown


def test_a_filter_shows_some_ranks_only(derail_command: Derail, script: Path, tmp_path: Path) -> None:
    """The files have the streams of all ranks."""
    logs = tmp_path / "logs"
    done = derail_command("launch", "-n", 3, "--local-ranks-filter", "0,2", "--output-dir", logs, script, "hello")

    assert sorted(done.stdout.splitlines()) == ["[rank0]:hello from 0 of 3", "[rank2]:hello from 2 of 3"]
    assert sorted(done.stderr.splitlines()) == ["[rank0]:warning from 0", "[rank2]:warning from 2"]
    assert sorted(path.read_text() for path in logs.glob("*/attempt_0/*/stdout.log")) == [
        f"hello from {rank} of 3\n" for rank in range(3)
    ]


def test_lines_begin_with_what_the_template_says(derail_command: Derail, script: Path) -> None:
    """Also with torch's variables, such as ${hostname} of torch 2.14; the option overrides the variable."""
    variable = {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "of the variable "}
    template = "${hostname} ${role_name} ${rank} ${local_rank} ${unknown} $"
    done = derail_command("launch", "-n", 2, "--log-line-prefix-template", template, script, "hello", env=variable)
    by_variable = derail_command("launch", script, "hello", env=variable)

    host = socket.gethostname()
    assert sorted(done.stdout.splitlines()) == [
        f"{host} default {rank} {rank} ${{unknown}} $hello from {rank} of 2" for rank in (0, 1)
    ]
    assert by_variable.stdout == "of the variable hello from 0 of 1\n"


ATTEMPTS = """
import json, os, sys, time
json.dumps(1)
env = {name: os.environ[f"TORCHELASTIC_{name}"] for name in ("RESTART_COUNT", "MAX_RESTARTS")}
print(env["RESTART_COUNT"], "of", env["MAX_RESTARTS"], "at", os.environ["MASTER_PORT"], flush=True)
for step in range(4):
    print("step", step, flush=True)
if os.environ["RANK"] == "1" and env["RESTART_COUNT"] == "0" and sys.argv[2:]:
    time.sleep(600)
if os.environ["RANK"] == "1" and env["RESTART_COUNT"] < sys.argv[1]:
    sys.exit(7)
"""


@pytest.fixture
def attempts(tmp_path: Path) -> Path:
    """Return a program whose rank fails in its first attempts, as many as its argument says."""
    path = tmp_path / "attempts.py"
    path.write_text(ATTEMPTS)
    return path


def test_after_a_failure_all_ranks_are_started_again(derail_command: Derail, attempts: Path, tmp_path: Path) -> None:
    """Each attempt has a number, a port and a log directory of its own; the last one decides."""
    logs, trace = tmp_path / "logs", tmp_path / "t.json"
    options = ("-n", 2, "--max-restarts", 3, "--output-dir", logs, "--trace", trace)
    done = derail_command("launch", *options, attempts, 2)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[rank1]:") and " of 3 at " in line]

    assert done.returncode == 0, done.stderr
    assert [line.partition(" at ")[0] for line in lines] == [f"[rank1]:{attempt} of 3" for attempt in (0, 1, 2)]
    assert len({line.partition(" at ")[2] for line in lines}) == 3
    assert sorted(path.name for path in logs.glob("*/attempt_*")) == ["attempt_0", "attempt_1", "attempt_2"]
    assert "restart 2 of 3: starting all ranks again" in done.stderr
    launcher, *_ = check_trace(trace.read_bytes())
    assert [event["name"] for event in launcher.instants if "restart" in event["name"]] == [
        f"restart {number} of 3: all ranks are started again" for number in (1, 2)
    ]


def test_after_the_last_restart_the_failure_is_that_of_the_last_attempt(derail_command: Derail, attempts: Path) -> None:
    """The exit code is that of the last attempt; a fixed port is the same in all attempts."""
    done = derail_command("launch", "-n", 2, "--max-restarts", 1, "--master-port", free_port(), attempts, 9)

    assert done.returncode == 7
    assert done.stderr.count("Root Cause") == 1
    assert len({line.rpartition(" at ")[2] for line in done.stdout.splitlines() if " of 1 at " in line}) == 1


@pytest.mark.parametrize(
    ("fault", "proof", "words"),
    [
        ("signal=SIGKILL rank=1 line='step 2'", "the rank ended with SIGKILL (9)", (0, "stay")),
        ("exit=9 rank=1 call=json:dumps", "the rank ended with exit 9", (0,)),
        ("exit=9 rank=0 restart=1", "the rank ended with exit 9", (1,)),
        ("missing_variable=MASTER_PORT rank=0", "has no MASTER_PORT", (0,)),
    ],
)
def test_a_fault_acts_once_in_all_attempts(
    derail_command: Derail, attempts: Path, fault: str, proof: str, words: tuple[object, ...]
) -> None:
    """From outside, in the rank, in a later attempt, or before the rank is started."""
    done = derail_command("launch", "-n", 2, "--max-restarts", 4, "--fault", fault, attempts, *words)

    assert done.returncode == 0, done.stderr
    assert re.search(rf"^fault .*: injected: .*{re.escape(proof)}", done.stderr, re.MULTILINE)
    assert re.findall(r"restart (\d) of 4: ", done.stderr) == ["1", "2"][: int(str(words[0])) + 1]


def test_a_job_that_a_signal_ends_is_not_started_again(start_derail: StartDerail, script: Path, pid_gone) -> None:
    """A signal is a request to end the job."""
    launcher = start_derail("launch", "-n", 2, "--max-restarts", 5, script, "wait")
    pids = ready_pids(launcher, 2)
    launcher.send_signal(signal.SIGTERM)
    _, stderr = launcher.communicate(timeout=DEADLINE)

    assert launcher.returncode == 128 + signal.SIGTERM
    assert "restart" not in stderr
    assert all(pid_gone(pid) for pid in pids)


def test_signals_to_handle_end_the_job_and_go_to_the_ranks(start_derail: StartDerail, script: Path) -> None:
    """Only the named ones do; ranks find them in their environment, as under torchrun."""
    launcher = start_derail("launch", "-n", 2, "--signals-to-handle", "SIGUSR1,SIGTERM", script, "wait", "SIGUSR1")
    ready_pids(launcher, 2)
    launcher.send_signal(signal.SIGUSR1)
    stdout, stderr = launcher.communicate(timeout=DEADLINE)

    assert sorted(stdout.splitlines()) == ["[rank0]:rank 0 got SIGUSR1", "[rank1]:rank 1 got SIGUSR1"]
    assert (launcher.returncode, "ended by SIGUSR1" in stderr) == (128 + signal.SIGUSR1, True)


DEVICES = "echo $LOCAL_RANK $RANK $CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("visible", "seen"),
    [(None, ["0 0 0", "0 1 1"]), ("4, 7,9", ["0 0 4", "0 1 7"]), ("GPU-a,GPU-b", ["0 0 GPU-a", "0 1 GPU-b"])],
)
def test_a_virtual_local_rank_is_0_with_a_device_of_its_own(
    derail_command: Derail, monkeypatch: pytest.MonkeyPatch, visible: str | None, seen: list[str]
) -> None:
    """Its device is an entry of the launcher's visible devices, or the rank's number."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    done = derail_command("launch", "-n", 2, "--virtual-local-rank", "--", "sh", "-c", DEVICES, env=env)

    assert sorted(line.partition(":")[2] for line in done.stdout.splitlines()) == seen


def test_a_port_that_is_taken_is_told_before_any_rank_is_started(derail_command: Derail, tmp_path: Path) -> None:
    """With exit code 1, torch's fields, and the message of its server (libuv)."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = derail_command("launch", "--master-port", port, "--", "touch", tmp_path / "started")

    assert (done.returncode, (tmp_path / "started").exists()) == (1, False)
    assert done.stderr.endswith(
        f"port: {port}, code: -{errno.EADDRINUSE}, name: EADDRINUSE, message: address already in use\n"
    )


def test_a_module_is_run_as_python_m_does(derail_command: Derail) -> None:
    """-m takes a module's name; later arguments go to the module."""
    done = derail_command("launch", "-m", "json.tool", "--help")
    assert done.returncode == 0
    assert "usage: python" in done.stdout


def test_a_program_is_run_as_it_is(derail_command: Derail) -> None:
    """Programs other than Python scripts run too."""
    done = derail_command("launch", "-n", 2, "--", "sh", "-c", "echo $LOCAL_RANK/$WORLD_SIZE")
    assert sorted(done.stdout.split()) == ["[rank0]:0/2", "[rank1]:1/2"]


def test_the_environment_is_left_alone(derail_command: Derail) -> None:
    """PYTHONUNBUFFERED and OMP_NUM_THREADS are neither set nor changed."""
    show = "echo x$PYTHONUNBUFFERED x$OMP_NUM_THREADS $MINE"
    clean = dict.fromkeys(("PYTHONUNBUFFERED", "OMP_NUM_THREADS"), "")
    done = derail_command("launch", "--", "sh", "-c", show, env={**clean, "MINE": "kept"})
    assert done.stdout == "[rank0]:x x kept\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_ranks_and_is_told_by_the_code(
    start_derail: StartDerail, script: Path, pid_gone, number: signal.Signals
) -> None:
    """The exit code is 128 + n, and no rank is left."""
    launcher = start_derail("launch", "-n", 2, script, "wait")
    pids = ready_pids(launcher, 2)
    launcher.send_signal(number)
    _, stderr = launcher.communicate(timeout=DEADLINE)
    assert launcher.returncode == 128 + number
    assert f"ended by {number.name}" in stderr
    assert all(pid_gone(pid) for pid in pids)


def test_a_signal_while_ranks_are_being_started_is_told_in_words_too(derail_command: Derail) -> None:
    """The first of many ranks sends the signal long before the last one is started."""
    done = derail_command("launch", "-n", 64, "--", "/bin/sh", "-c", "kill -TERM $PPID; exec sleep 600")

    assert done.returncode == 128 + signal.SIGTERM
    assert "ended by SIGTERM" in done.stderr


def test_a_second_signal_ends_deaf_ranks_at_once(start_derail: StartDerail, script: Path, pid_gone) -> None:
    """A second signal overrides any grace period."""
    launcher = start_derail("launch", "-n", 2, "--grace", 500, script, "wait", "SIGTERM")
    pids = ready_pids(launcher, 2)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.stdout is not None
    assert "got SIGTERM" in launcher.stdout.readline()  # the first has arrived, and nobody went
    launcher.send_signal(signal.SIGTERM)
    launcher.communicate(timeout=DEADLINE)
    assert launcher.returncode == 128 + signal.SIGTERM
    assert all(pid_gone(pid) for pid in pids)


def test_usr1_goes_to_every_rank_and_ends_nothing(start_derail: StartDerail, script: Path) -> None:
    """The launcher only forwards preemption notices."""
    launcher = start_derail("launch", "-n", 2, script, "wait", "SIGUSR1")
    ready_pids(launcher, 2)
    launcher.send_signal(signal.SIGUSR1)
    stdout, _ = launcher.communicate(timeout=DEADLINE)
    assert (launcher.returncode, sorted(stdout.splitlines())) == (
        0,
        ["[rank0]:rank 0 got SIGUSR1", "[rank1]:rank 1 got SIGUSR1"],
    )


def test_nohup_protects_a_job(start_derail: StartDerail, script: Path) -> None:
    """A SIGHUP that is ignored at the start of derail stays ignored."""
    launcher = start_derail("launch", "-n", 1, script, "wait", "SIGUSR1", preexec_fn=_ignore_hangup)
    ready_pids(launcher, 1)
    launcher.send_signal(signal.SIGHUP)
    launcher.send_signal(signal.SIGUSR1)
    stdout, _ = launcher.communicate(timeout=DEADLINE)
    assert (launcher.returncode, stdout) == (0, "[rank0]:rank 0 got SIGUSR1\n")


def _ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["launch", "-n", "0", "x.py"], "0 is not in the range"),
        (["launch", "-n", "2"], "Missing argument 'PROGRAM'"),
        (["launch", "--nodes", "2", "x.py"], "No such option"),
        (["launch", "gone.py"], "no script"),
        (["launch", "no-such-program-anywhere"], "no-such-program-anywhere"),
        (["launch", "--tee", "5", "true"], "does not select streams"),
        (["launch", "--tee", "3:1", "true"], "local rank(s) [3]"),
        (["launch", "--max-restarts", "-1", "true"], "-1 is not in the range"),
        (["launch", "--local-ranks-filter", "0,x", "true"], "expected a list of ranks such as 0,2, got '0,x'"),
        (["launch", "-n", "2", "--local-ranks-filter", "0,2", "true"], "there is no rank 2; the job has ranks 0 to 1"),
        (["launch", "--signals-to-handle", "SIGTRM", "true"], "did you mean 'SIGTERM'?"),
        (["launch", "--signals-to-handle", "SIGKILL", "true"], "SIGKILL cannot be handled"),
        (["launch", "--fault", "sginal=KILL rank=0", "true"], "did you mean 'signal'?"),
        (["launch", "--fault", "signal=KILL rank=5", "true"], "rank 5"),
        (["launch", "--plan", "gone.toml", "true"], "gone.toml: cannot be read"),
        (["launch", "--output-dir", "/dev/null/x", "true"], "/dev/null"),
        (["no-such-command"], "No such command"),
        (["run", "no/such_scenario"], "unknown scenario"),
    ],
)
def test_what_was_asked_for_wrongly_exits_with_2_and_says_what(
    derail_command: Derail, words: list[str], says: str
) -> None:
    """There is a message without a traceback, and nothing is started."""
    done = derail_command(*words)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_the_logs_are_in_the_directory_that_is_named(derail_command: Derail, script: Path, tmp_path: Path) -> None:
    """They are beside the journal, without a second ``logs`` directory."""
    derail_command("launch", "--output-dir", tmp_path / "logs", script, "hello")
    (log,) = (tmp_path / "logs").glob("*/attempt_0/0/stdout.log")

    assert "hello" in log.read_text()
    assert (log.parents[2] / "journal.jsonl").is_file()
    assert (tmp_path / "logs" / "journal.jsonl").samefile(log.parents[2] / "journal.jsonl")
    assert list((tmp_path / "logs").rglob("logs")) == []


def test_each_run_has_a_directory_of_its_own(derail_command: Derail, script: Path, tmp_path: Path) -> None:
    """A second run does not change the logs or the journal of the first; the link points to the newer one."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "journal.jsonl").write_text("of an older derail\n")
    derail_command("launch", "--output-dir", logs, script, "hello")
    (first,) = logs.glob("*/journal.jsonl")
    before = first.read_bytes()
    derail_command("launch", "--output-dir", logs, script, "hello")
    (second,) = set(logs.glob("*/journal.jsonl")) - {first}

    assert first.read_bytes() == before
    assert second.read_text().count('"event": "plan"') == 1
    assert (logs / "journal.jsonl").resolve() == second.resolve()
    assert (logs / "journal.jsonl.old").read_text() == "of an older derail\n"


def test_a_temporary_log_directory_is_kept_only_if_the_job_fails(
    derail_command: Derail, script: Path, tmp_path: Path
) -> None:
    """The summary of a failure names it; after a success it is removed."""
    own = tmp_path / "tmp"
    own.mkdir()
    derail_command("launch", script, "hello", env={"TMPDIR": str(own)})
    assert list(own.iterdir()) == []
    done = derail_command("launch", "-n", 2, script, "exit", 3, env={"TMPDIR": str(own)})
    (kept,) = own.iterdir()
    assert f"logs and journal: {kept}" in done.stderr
    assert (kept / "journal.jsonl").is_file()


def test_the_version_is_told(derail_command: Derail) -> None:
    """It is the version of the package."""
    from importlib.metadata import version

    assert derail_command("--version").stdout == f"derail {version('derail')}\n"


def test_a_console_that_is_closed_does_not_end_the_job(start_derail: StartDerail, tmp_path: Path) -> None:
    """If the reader closes the pipe the ranks continue, and their logs are complete."""
    proof = tmp_path / "proof"
    source = f"i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo done > {proof}"
    launcher = start_derail("launch", "--output-dir", tmp_path / "logs", "--", "sh", "-c", source)
    assert launcher.stdout is not None
    launcher.stdout.readline()
    launcher.stdout.close()
    launcher.stdout = None
    launcher.communicate(timeout=DEADLINE)
    assert proof.read_text() == "done\n"
    (log,) = (tmp_path / "logs").rglob("0/stdout.log")
    assert len(log.read_text().splitlines()) == 2000
    assert os.WIFEXITED(launcher.returncode)


RAISES = program_text("cli/raises")


def test_the_root_causes_error_file_becomes_the_launchers_own(derail_command: Derail, tmp_path: Path) -> None:
    """As under torchrun, it is the rank's document, including the rank's exit code."""
    script, reply = tmp_path / "raises.py", tmp_path / "reply.json"
    script.write_text(RAISES)
    reply.write_text("{}")  # of an earlier attempt
    done = derail_command("launch", "-n", 2, script, env={"TORCHELASTIC_ERROR_FILE": str(reply)})
    told = json.loads(reply.read_text())["message"]

    assert done.returncode == 1
    assert told["message"] == "ValueError: rank 1 had enough"
    assert told["errorCode"] == 1
    assert "rank 1 had enough" in told["extraInfo"]["py_callstack"]


def test_a_root_cause_without_an_error_file_leaves_none_to_the_launcher(derail_command: Derail, tmp_path: Path) -> None:
    """As under torchrun."""
    script, reply = tmp_path / "raises.py", tmp_path / "reply.json"
    script.write_text(RAISES)
    done = derail_command("launch", "-n", 2, script, "bare", env={"TORCHELASTIC_ERROR_FILE": str(reply)})

    assert done.returncode == 7
    assert not reply.exists()


def test_a_job_that_succeeds_leaves_the_launchers_error_file_alone(
    derail_command: Derail, script: Path, tmp_path: Path
) -> None:
    """No rank writes to it either: each has its own file."""
    reply = tmp_path / "reply.json"
    done = derail_command("launch", "-n", 2, script, "hello", env={"TORCHELASTIC_ERROR_FILE": str(reply)})

    assert done.returncode == 0
    assert not reply.exists()
