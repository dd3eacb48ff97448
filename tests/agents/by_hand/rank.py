"""A rank of the hand-made runs: ``rank.py WHAT``. Rank 1 has the trouble, rank 0 works until somebody ends it.

Standard library only, but for torch's ``@record`` and process group where they are what it is about. What a rank lives
through, signals too, it writes to ``$SAYS/rank-N``, a line each, whoever runs it.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

RANK = int(os.environ.get("RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
SAYS = Path(os.environ["SAYS"])
HELPER = ["sleep", "611"]


def say(words: str) -> None:
    """Write a line into the file of this rank."""
    with (SAYS / f"rank-{RANK}").open("a") as file:
        file.write(words + "\n")


def heard(number: int, _: object) -> None:
    """Says it, and then dies of it as if nobody had listened."""
    say(signal.Signals(number).name)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def work(seconds: float = 120) -> None:
    """Print steps."""
    end = time.monotonic() + seconds
    step = 0
    while time.monotonic() < end:
        step += 1
        print(f"rank {RANK}: step {step}", flush=True)
        time.sleep(0.05)  # noqa: TID251 - this is the work


def recorded(function):
    """With torch's ``@record``."""
    from torch.distributed.elastic.multiprocessing.errors import record

    return record(function)


def until(rank: int, words: str) -> None:
    """Work until another rank has said something."""
    path = SAYS / f"rank-{rank}"
    while not path.is_file() or words not in path.read_text().split("\n"):
        work(0.02)


def arguments() -> None:
    """Both say what stands behind WHAT."""
    say(" ".join(sys.argv[2:]))


def fine() -> None:
    """Both end well."""
    work(0.2)


def waits() -> None:
    """Both work until somebody ends them."""
    work()


def busy() -> None:
    """Both go on at SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: say(f"{signal.Signals(got).name} ignored"))
    say("busy")
    work()


def quiet() -> None:
    """Both wait without a word, so that no broken pipe ends them."""
    say("started quietly")
    time.sleep(120)  # noqa: TID251 - this is the work


def quiet_and_busy() -> None:
    """Both wait without a word, and go on at SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    say("busy")
    time.sleep(120)  # noqa: TID251 - this is the work


def exit7() -> None:
    """Rank 1 leaves with 7."""
    if RANK == 1:
        sys.exit(7)
    work()


def second_node_fails() -> None:
    """The rank of the second node leaves with 7, that of the first ends well."""
    if os.environ["NODE"] == "1":
        sys.exit(7)
    work(0.5)


def leaves0() -> None:
    """Rank 1 leaves by ``sys.exit(0)`` before the other one ends."""
    if RANK == 1:
        sys.exit(0)
    work(0.5)


def polite() -> None:
    """Rank 1 leaves with 7, rank 0 with 0 as soon as it is asked to end."""
    if RANK == 0:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        say("polite")
        work()
    until(0, "polite")
    sys.exit(7)


def killed() -> None:
    """Rank 1 is killed."""
    if RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    work()


def raises() -> None:
    """Rank 1 raises."""
    if RANK == 1:
        raise RuntimeError("no such device")
    work()


def raises_recorded() -> None:
    """Rank 1 raises, and its error file tells."""
    recorded(raises)()


def truncated() -> None:
    """An error file as torch writes it, cut off in the middle."""
    if RANK == 1:
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text('{"message": {"message": "RuntimeError: loss is n')
        sys.exit(1)
    work()


def deaf() -> None:
    """Rank 1 fails when rank 0 has stopped listening to SIGTERM."""
    if RANK == 0:
        busy()
    until(0, "busy")
    sys.exit(7)


def helper() -> None:
    """Rank 1 leaves with 7 and lets its helper go on, which is in a session of its own."""
    if RANK == 1:
        subprocess.Popen(HELPER, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sys.exit(7)
    work()


def helper_beside() -> None:
    """The same, but the helper is in its rank's group."""
    if RANK == 1:
        subprocess.Popen(HELPER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sys.exit(7)
    work()


def dies_first() -> None:
    """Rank 1 is killed, and rank 0, which sees that at once, leaves with 3: as a peer whose connection is gone does."""
    if RANK == 1:
        say(str(os.getpid()))
        say("killed next")
        until(0, "watching")
        os.kill(os.getpid(), signal.SIGKILL)
    until(1, "killed next")
    said = (SAYS / "rank-1").read_text().split()
    pidfd = os.pidfd_open(int(said[1]))
    say("watching")
    select.select([pidfd], [], [])
    os._exit(3)


def held_launcher() -> None:
    """Rank 1 is killed, then rank 0, while their launcher is stopped: it sees both at once when it continues."""
    launcher = os.getppid()
    if RANK == 1:
        (SAYS / "pid-1.part").write_text(str(os.getpid()))
        (SAYS / "pid-1.part").rename(SAYS / "pid-1")
        until(0, "watching")
        os.kill(launcher, signal.SIGSTOP)
        while "State:\tT" not in Path(f"/proc/{launcher}/status").read_text():
            time.sleep(0.002)  # noqa: TID251 - no library of ours may help
        os.kill(os.getpid(), signal.SIGKILL)
    while not (SAYS / "pid-1").is_file():
        time.sleep(0.002)  # noqa: TID251 - as above
    first, own = os.pidfd_open(int((SAYS / "pid-1").read_text())), os.pidfd_open(os.getpid())
    if os.fork() == 0:  # lets the launcher continue once both are dead
        os.setsid()
        select.select([own], [], [])
        os.kill(launcher, signal.SIGCONT)
        os._exit(0)
    say("watching")
    select.select([first], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def slow_to_leave() -> None:
    """Rank 1 raises, records it, and takes a second to end; rank 0 notices, raises as well, and ends at once."""

    @recorded
    def first() -> None:
        raise ValueError("loss is nan")

    @recorded
    def victim() -> None:
        raise ConnectionError("connection closed by peer")

    if RANK == 1:
        try:
            first()
        finally:
            say("raised")
            work(1.0)
    until(1, "raised")
    work(1.1 - time.time() % 1)  # noqa: TID251 - until the next second: torch's stamps are whole seconds
    victim()


def second_time_fine() -> None:
    """Rank 1 leaves with 7, but only the first time."""
    if RANK == 1 and (SAYS / "rank-1").read_text().count("started") == 1:
        sys.exit(7)
    work(0.5)


def gloo_once_more() -> None:
    """Both make a process group; the first time, rank 1 is killed when they have it."""
    from datetime import timedelta

    from torch import distributed

    distributed.init_process_group("gloo", timeout=timedelta(seconds=20))
    distributed.barrier()
    if (SAYS / f"rank-{RANK}").read_text().count("started") == 1:
        if RANK == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.barrier()
    distributed.destroy_process_group()


def main(what: str) -> None:
    """Do it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            signal.signal(number, heard)
        except ValueError:
            break  # a function that some launchers run in a thread
    say("started")
    globals()[what]()
    say("done")


if __name__ == "__main__":
    main(sys.argv[1])
