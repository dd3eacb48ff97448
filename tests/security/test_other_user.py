"""Another user of the machine can neither speak to, read, nor delay a job of derail, whatever it tries."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="channels of Linux"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of other users"),
]
ATTACKER = 65534
HERE = Path(__file__).parent
DEADLINE = 150


def as_user(user):
    """Arguments of subprocess that start a process as this user."""
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def python_for(user, env):
    """A Python that this user reaches, and that can import derail; skips if there is none."""
    for name in dict.fromkeys((sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")):
        try:
            tried = subprocess.run(
                [name, "-c", "import sys, derail, click; assert sys.version_info >= (3, 11)"],
                env=env, cwd="/", capture_output=True, check=False, **as_user(user),
            )  # fmt: skip
        except OSError:
            continue
        if tried.returncode == 0:
            return name
    pytest.skip(f"user {user} reaches no Python 3.11 here")


@pytest.fixture
def place():
    """A temporary directory that every user enters, as /tmp; its name is short."""
    path = Path(tempfile.mkdtemp(prefix="at-", dir="/tmp"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def paths_of_packages():
    """Where derail, its plugin and what they need are imported from."""
    found = [Path(importlib.util.find_spec(name).origin).parents[1] for name in ("derail", "pytest_derail", "click")]
    return os.pathsep.join(map(str, dict.fromkeys(found)))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 65533])
def test_an_attacker_of_another_user_is_accepted_on_no_channel(place, victim, capsys):
    """The job has the same result as without the attacker; what the attacker tries is printed."""
    directory = place / "job"
    directory.mkdir(mode=0o755)
    os.chown(directory, victim, victim)
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(place), "HOME": str(directory), "PYTHONPATH": paths_of_packages()}
    python = python_for(victim, env)
    job = subprocess.Popen(
        [python, HERE / "victim.py", directory], env=env, cwd="/", stdout=subprocess.PIPE, text=True, **as_user(victim)
    )
    attacker = None
    try:
        first = json.loads(job.stdout.readline())
        wait_for_ranks(directory)
        secrets, environments = [*first["secrets"]], {}
        for pid in processes_of(directory):
            environment = environment_of(pid)
            if "DERAIL_INRANK" in environment:
                environments[pid] = environment
                secrets += json.loads(environment["DERAIL_INRANK"])["meet"].split(":")[:2]
        assert environments
        ports = "," + ",".join(map(str, first["ports"])) + ","
        attacker = subprocess.Popen(
            [python_of_strangers(), "-I", "-S", HERE / "attacker.py", str(ATTACKER), str(victim), place, directory],
            env={"PATH": os.environ["PATH"], "PORTS": ports}, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        tried = [json.loads(attacker.stdout.readline()) for _ in range(8)]
        (directory / "go").touch()
        said, _ = job.communicate(timeout=DEADLINE)
        outcome = json.loads(said.splitlines()[-1])
        attacker.stdin.write("\n")
        attacker.stdin.flush()
        tried += [json.loads(attacker.stdout.readline()) for _ in range(2)]
        late = run_late_rank(python, next(iter(environments.values())), victim, directory)
        rest, _ = attacker.communicate("\n", timeout=DEADLINE)
        tried += map(json.loads, rest.splitlines())
    finally:
        for process in (job, attacker):
            if process is not None:
                process.kill()
                process.communicate()
    told = next(each["text"] for each in tried if each["channel"] == "told")
    channels = [each for each in tried if each["channel"] != "told"]
    with capsys.disabled():
        for each in channels:
            print(f"\n  {each['channel']}: {each['tried']} tried, {len(each['accepted'])} accepted", end="")

    assert {each["channel"]: each["accepted"] for each in channels} == {each["channel"]: [] for each in channels}
    assert all(each["tried"] for each in channels if each["channel"] not in ("late ranks", "squat"))
    assert [secret for secret in secrets if secret in told] == []
    assert outcome["faults"] == ["injected"] * 3, outcome["details"]
    assert outcome["exits"] == {"0": "exit 0", "1": "exit 0", "2": "exit 7"}
    assert (outcome["error"], outcome["timed_out"], outcome["leftovers"]) == ("", False, [])
    assert (outcome["bell"], outcome["proxy"], outcome["debugged"]) == ([], 0, False)
    assert outcome["cache of another user"] is False
    assert late.stdout == "ran as itself\n"
    assert not (place / "forbidden").exists()


def python_of_strangers():
    """A Python that may be started by root, and then becomes another user: it has read its modules by then."""
    return sys.executable


def wait_for_ranks(directory):
    """Until all ranks have written that they are ready."""
    from derail.model.clock import SYSTEM_CLOCK

    end = SYSTEM_CLOCK.now() + DEADLINE
    while SYSTEM_CLOCK.now() < end:
        logs = list((directory / "work" / "logs").rglob("stdout.log"))
        if sum("ready" in path.read_text() for path in logs) == 3:
            return
        import threading

        threading.Event().wait(0.05)
    pytest.fail("the ranks were never ready")


def processes_of(directory):
    """The processes whose command line has this directory in it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in words:
            found.append(int(pid))
    return found


def environment_of(pid):
    """The variables of a process."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(entry.decode(errors="replace").partition("=")[::2] for entry in entries if b"=" in entry)


def run_late_rank(python, environment, victim, directory):
    """Run a Python of the job after the job is over, when another user may own the names of the job."""
    env = {name: value for name, value in environment.items() if not re.match("DERAIL_INRANK_PID", name)}
    return subprocess.run(
        [python, "-c", "print('ran as itself')"],
        env=env, cwd="/", capture_output=True, text=True, check=False, timeout=DEADLINE, **as_user(victim),
    )  # fmt: skip
