"""What other people's launchers do, seen without derail: its verdicts on them are held against these facts.

docs/explanation/agents tells of them. A fact that is no longer so is a new version of a launcher, and a new scorecard.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WATCH = Path(__file__).parent / "by_hand" / "watch.py"
MODULES = {
    "torchrun": "torch",
    "accelerate": "accelerate",
    "ft_launcher": "nvidia_resiliency_ext",
    "torchrunx": "torchrunx",
    "ray": "ray",
}
EXTERNAL = [*MODULES, "mpirun"]

pytestmark = pytest.mark.slow  # each starts an interpreter that imports torch; some wait for a grace period of others


def seen(launcher, what, *signals, more=(), longest=100, settle=2):
    """One run by hand, of so many seconds at most, with more arguments for the ranks; see by_hand/watch.py."""
    if launcher == "mpirun":
        missing = shutil.which("mpirun") is None
    else:
        missing = importlib.util.find_spec(MODULES[launcher.partition("-")[0]]) is None
    if missing:
        pytest.skip(f"{launcher} is not installed")
    ran = subprocess.run(
        [sys.executable, str(WATCH), launcher, what, *signals],
        env={**os.environ, "LONGEST": str(longest), "SETTLE": str(settle), "MORE": json.dumps(more)},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return json.loads(ran.stdout)


def blamed(run):
    """The rank that torch's banner calls the root cause."""
    _, _, after = "\n".join(run["output"]).partition("Root Cause")
    found = re.search(r"rank +: (\d+)", after)
    return int(found[1]) if found else None


def ranks_left(run):
    """How many ranks are left; a launcher's command line ends with the program as well."""
    return len([left for left in run["left"] if re.search(r"python\S* -u \S*rank\.py", left)])


@pytest.mark.parametrize(("what", "signals"), [("exit7", ()), ("killed", ()), ("raises", ()), ("waits", ("SIGTERM",))])
def test_torchrun_exits_with_1_whatever_ended_its_ranks(what, signals):
    """Exit 7, a SIGKILL, an exception and a SIGTERM to itself: its code says nothing of them."""
    run = seen("torchrun", what, *signals)

    assert (run["exit"], run["left"]) == (1, [])


def test_torchrun_breaks_on_half_an_error_file():
    """It ends with a JSONDecodeError and names no root cause; nothing says which rank failed, or how."""
    run = seen("torchrun", "truncated")

    text = "\n".join(run["output"])
    assert (run["exit"], "json.decoder.JSONDecodeError" in text, "ChildFailedError" in text) == (1, True, False)


def test_torchrun_blames_the_victim():
    """Rank 1 is killed, and rank 0 leaves because of it a moment later: both within one look of the agent's, which
    takes place ten times a second, have the same stamp, and the lower rank is called the root cause."""
    run = seen("torchrun", "dies_first")

    assert (blamed(run), run["ranks"]["rank-0"]) == (0, ["started", "watching"])


def test_torchrun_leaves_a_helper_in_its_own_session():
    """Nobody ends it."""
    assert seen("torchrun", "helper")["left"] == ["sleep 611"]


def test_torchrun_leaves_a_helper_in_the_group_of_a_rank_that_ended():
    """Nor this: groups whose leader has ended are not signalled."""
    assert seen("torchrun", "helper_beside")["left"] == ["sleep 611"]


def test_torchrun_leaves_its_ranks_at_the_third_ctrl_c():
    """The second and third interrupt its own cleaning up."""
    run = seen("torchrun", "busy", "SIGINT", "SIGINT", "SIGINT")

    assert (run["exit"], ranks_left(run)) == (1, 2)


def test_torchrun_leaves_its_ranks_when_it_is_killed():
    """Nothing tells them."""
    run = seen("torchrun", "waits", "SIGKILL")

    assert (run["exit"], ranks_left(run)) == (-9, 2)


def test_torchrun_waits_for_a_node_that_has_failed():
    """The other node has ended with 1, the ranks of this one are done, and it does not end: it waits for the other one
    at its exit barrier, which takes five minutes."""
    run = seen("torchrun-nodes", "second_node_fails", longest=40)
    (done,) = (words for name, words in run["ranks"].items() if name.startswith("rank") and "done" in words)

    assert (run["exit"], run["ranks"]["node-1"], done[0]) == (None, ["1"], "started")


@pytest.mark.parametrize("launcher", ["torchrun", "ft_launcher"])
def test_options_of_the_program_are_taken_for_those_of_torchrun(launcher):
    """``--r=16`` could be short for several, and nothing is started. What is no beginning of one gets through."""
    run = seen(launcher, "arguments", more=["--r=16"])
    fine = seen(launcher, "arguments", more=["--x=16"])

    assert (run["exit"], run["ranks"], "ambiguous option: --r=16" in "\n".join(run["output"])) == (2, {}, True)
    assert {words[1] for words in fine["ranks"].values()} == {"--x=16"}


@pytest.mark.parametrize("launcher", ["accelerate", "mpirun"])
def test_options_of_the_program_are_its_own(launcher):
    """These know where their own command line ends."""
    run = seen(launcher, "arguments", more=["--r=16"])

    assert {words[1] for words in run["ranks"].values()} == {"--r=16"}


def test_torchrun_sends_ranks_that_were_restarted_to_dead_ones():
    """Addresses of the first attempt are still in the agent's store, where the second one finds them, if a rank looks
    for them before a peer has written its new ones. With a store of rank 0's own, there are none."""
    assert any(seen("torchrun-restarts", "gloo_once_more")["exit"] == 1 for _ in range(8))
    assert seen("torchrun-restarts-own-store", "gloo_once_more")["exit"] == 0


def test_torchrun_waits_30_seconds_for_a_rank_that_does_not_listen():
    """SIGTERM is ignored; SIGKILL comes half a minute later, and the job has ended."""
    run = seen("torchrun", "deaf")

    assert (run["exit"], run["left"], run["seconds"] > 30) == (1, [], True)


def test_torchrun_restarts_once_and_succeeds():
    """Rank 1 leaves with 7 the first time; all ranks are started again."""
    run = seen("torchrun-restarts", "second_time_fine")

    assert (run["exit"], run["ranks"]["rank-1"]) == (0, ["started", "started", "done"])


@pytest.mark.parametrize("launcher", ["accelerate", "ft_launcher"])
def test_what_is_built_on_torchs_agent_exits_with_1_as_well(launcher):
    """And its leader's helper is left, as torchrun leaves it."""
    run = seen(launcher, "helper")

    assert (run["exit"], run["left"]) == (1, ["sleep 611"])


@pytest.mark.parametrize("launcher", ["accelerate", "ft_launcher"])
def test_what_is_built_on_torchs_agent_leaves_its_ranks_when_it_is_killed(launcher):
    """Nothing tells them either."""
    run = seen(launcher, "waits", "SIGKILL")

    assert (run["exit"], ranks_left(run)) == (-9, 2)


def test_ft_launcher_calls_it_graceful_that_it_left_both_ranks():
    """After the third Ctrl-C it exits with 0, and both ranks go on."""
    run = seen("ft_launcher", "busy", "SIGINT", "SIGINT", "SIGINT")

    assert (run["exit"], ranks_left(run), "exited gracefully" in "\n".join(run["output"])) == (0, 2, True)


@pytest.mark.parametrize(("launcher", "code"), [("torchrun", 1), ("accelerate", 1), ("ft_launcher", 0), ("mpirun", 7)])
def test_ft_launcher_calls_a_failed_job_a_success_where_another_rank_ends_well(launcher, code):
    """Rank 1 leaves with 7, rank 0 with 0 when it is asked to end: of two fates it takes the better one."""
    assert seen(launcher, "polite")["exit"] == code


def test_torchrunx_does_not_notice_that_a_rank_raised():
    """An exception is a value that its worker returns: as long as another rank works, the job goes on."""
    run = seen("torchrunx", "raises", longest=30)

    assert (run["exit"], run["ranks"]) == (None, {"rank-0": ["started"], "rank-1": ["started"]})


def test_torchrunx_ends_a_job_whose_rank_leaves():
    """A process that ends is noticed, but neither its rank nor its code is told."""
    run = seen("torchrunx", "exit7")

    text = "\n".join(run["output"])
    assert (run["exit"], "WorkerFailedError: To enable traceback see" in text, run["left"]) == (1, True, [])


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", -15), ("SIGKILL", -9)])
def test_torchrunx_leaves_a_process_for_ever_when_it_is_ended(name, code):
    """It has no handler for SIGTERM. Its ranks end some seconds later; the server that gathers the logs does not."""
    run = seen("torchrunx", "waits", name, settle=15)

    assert (run["exit"], [left.split("/")[-1] for left in run["left"]]) == (code, ["torchrunx_job.py waits"])


@pytest.mark.parametrize(("what", "code"), [("exit7", 7), ("killed", 137), ("raises", 1), ("deaf", 7)])
def test_mpirun_exits_as_its_first_failed_rank(what, code):
    """And it leaves nobody, a rank that ignores SIGTERM neither."""
    run = seen("mpirun", what)

    assert (run["exit"], run["left"]) == (code, [])


def test_mpirun_names_the_later_of_two_ranks_that_were_killed():
    """Rank 1 is killed, then rank 0; it has not looked meanwhile, and names rank 0 alone."""
    run = seen("mpirun", "held_launcher")

    text = "\n".join(run["output"])
    assert (run["exit"], "mpirun noticed that process rank 0 " in text, "process rank 1 " in text) == (137, True, False)


def test_torchrun_blames_the_lower_of_two_ranks_that_were_killed():
    """The same, though rank 1 died first: the stamps of both are the moment at which it looked."""
    run = seen("torchrun", "held_launcher")

    assert (run["exit"], blamed(run)) == (1, 0)


@pytest.mark.parametrize("what", ["helper", "helper_beside"])
def test_mpirun_leaves_helpers(what):
    """Also those in the group of their rank."""
    assert seen("mpirun", what)["left"] == ["sleep 611"]


@pytest.mark.parametrize(("signals", "code"), [(["SIGKILL"], -9), (["SIGINT"] * 3, 1), (["SIGTERM"], 1)])
def test_mpirun_leaves_no_rank_that_prints_when_it_is_ended(signals, code):
    """When it is killed, they die of the terminal that it has closed."""
    run = seen("mpirun", "waits", *signals)

    assert (run["exit"], run["left"]) == (code, [])


@pytest.mark.parametrize(
    ("what", "signals", "code"),
    [("quiet", ["SIGKILL"], -9), ("quiet_and_busy", ["SIGKILL"], -9), ("quiet", ["SIGINT"] * 3, 1)],
)
def test_mpirun_leaves_quiet_ranks_when_it_is_killed_or_interrupted_again(what, signals, code):
    """Nothing but their own output would have ended them."""
    run = seen("mpirun", what, *signals)

    assert (run["exit"], ranks_left(run)) == (code, 2)


def test_mpirun_ends_quiet_ranks_when_it_is_asked_to_end():
    """Once, by SIGTERM."""
    run = seen("mpirun", "quiet", "SIGTERM")

    assert (run["exit"], ranks_left(run)) == (1, 0)


@pytest.mark.parametrize(("launcher", "code"), [("mpirun", 0), ("torchrun", 0), ("ray", 1)])
def test_to_leave_with_0_is_a_failure_on_ray_train_alone(launcher, code):
    """SystemExit is an exception of the training function there, whatever its code."""
    assert seen(launcher, "leaves0", longest=150)["exit"] == code


def test_ray_train_names_the_rank_that_raised():
    """A rank that leaves by sys.exit is a failure with its rank; Ray ends all that it started."""
    run = seen("ray", "exit7")

    text = "\n".join(run["output"])
    assert (run["exit"], "[Rank 1 Error Snippet]" in text, "SystemExit: 7" in text, run["left"]) == (1, True, True, [])
