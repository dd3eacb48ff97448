"""Profiles of schedulers: what a real process tree gets from each, and the files that they are read from."""

from __future__ import annotations

import itertools
import re
import signal
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from derail.model.clock import SYSTEM_CLOCK
from derail.model.input_error import InputError
from derail.recovery.attempt import Attempt, Program
from derail.recovery.profiles import Notice, Profile, load_profile, preempt, shipped_profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from derail.recovery.profiles import Sent, Who

DEADLINE_S = 60.0
SCALE = 0.01  # a minute of a profile takes 0.6 s

JOB = Path(__file__).parent / "programs" / "notes_signals.py"
ALL = {"launcher", "rank0", "rank1", "helper"}
RECEIVERS: dict[Who, set[str]] = {"launcher": {"launcher"}, "ranks": {"rank0", "rank1"}, "all": ALL}

SHIPPED = {
    "ctrl-c": [(0, "SIGINT", "all"), (2, "SIGINT", "all")],
    "kubernetes": [(0, "SIGTERM", "launcher"), (30, "SIGKILL", "all")],
    "slurm": [(0, "SIGUSR1", "launcher"), (60, "SIGTERM", "all"), (30, "SIGKILL", "all")],
    "spot": [(0, "", "all"), (120, "SIGKILL", "all")],
    "terminate": [(0, "SIGTERM", "all"), (10, "SIGKILL", "all")],
    "torchrun-scale-down": [(0, "SIGTERM", "ranks"), (30, "SIGKILL", "ranks")],
}
"""The numbers of the documentation that each profile names, written down a second time."""


@dataclass
class Double:
    """Scheduler double: it carries out a profile on a real process tree, and notes what it does."""

    attempt: Attempt
    directory: Path
    wait_until: Callable[..., object]
    expected: int = 0
    announced: list[str] = field(default_factory=list)

    def signal(self, number: signal.Signals, to: Who) -> None:
        """Signal the receivers."""
        self.attempt.signal(number, to)
        if number != signal.SIGKILL:
            self.expected += len(RECEIVERS[to])

    def announce(self, text: str) -> None:
        """Note the announcement."""
        self.announced.append(text)

    def wait(self, seconds: float) -> bool:
        """Wait as long as the profile says, and until all signals are noted: equal pending signals are one."""
        self.wait_until(lambda: len(self.signals()) >= self.expected or self.attempt.finished.is_set())
        return self.attempt.finished.wait(seconds)

    def run(self, profile: Profile) -> list[Sent]:
        """Carry out a profile."""
        return preempt(profile, self, self.wait)

    def signals(self) -> list[tuple[str, str, float]]:
        """Return what the processes have noted: process, signal and time."""
        path = self.directory / "signals"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, number, float(at)) for name, number, at in map(str.split, lines)]

    def living(self) -> int:
        """Return the number of processes of the job."""
        return len(self.attempt.processes())


@pytest.fixture
def double(request: pytest.FixtureRequest, tmp_path: Path, wait_until: Callable[..., object]) -> Iterator[Double]:
    """Return a double on a job all of whose processes are ready; its parameter is the signal that they obey."""
    obeys = getattr(request, "param", "none")
    directory = tmp_path / "run"
    directory.mkdir()
    program = Program((sys.executable, str(JOB)), str(directory), ("ckpt/**",), env=(("OBEYS", obeys),))
    with Attempt(program, directory, tmp_path / "evidence") as attempt:
        wait_until(lambda: len(list(directory.glob("ready-*"))) == len(ALL))
        yield Double(attempt, directory, wait_until)
        attempt.close(signal.SIGKILL)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_profile_has_the_documented_steps_and_names_its_source(name: str) -> None:
    """Signals, receivers and times are those of the table, and the source has a URL."""
    profile = load_profile(name)

    assert [(each.after, each.signal, each.to) for each in profile.actions] == SHIPPED[name]
    assert re.search(r"https://\S+\.\S+/\S*", profile.source)
    assert profile.title
    assert profile.requeue


def test_all_shipped_profiles_are_in_the_table() -> None:
    """A new profile needs a row."""
    assert set(shipped_profiles()) == set(SHIPPED)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_processes_that_obey_nothing_get_each_signal(
    name: str, double: Double, wait_until: Callable[..., object]
) -> None:
    """Each step reaches its receivers and no other process, in order, and SIGKILL to all ends the job."""
    profile = load_profile(name).scaled(SCALE)

    sent = double.run(profile)

    catchable = [each for each in profile.actions if each.signal not in ("", "SIGKILL")]
    wait_until(lambda: len(double.signals()) >= double.expected)
    noted = double.signals()
    rest = iter([(receiver, number) for receiver, number, _ in noted])
    groups = [set(itertools.islice(rest, len(RECEIVERS[each.to]))) for each in catchable]
    assert [each.action for each in sent] == list(profile.actions)
    assert groups == [{(receiver, each.signal) for receiver in RECEIVERS[each.to]} for each in catchable]
    assert len(noted) == double.expected
    if ("SIGKILL", "all") in [(each.signal, each.to) for each in profile.actions]:
        assert double.attempt.finished.wait(DEADLINE_S)
        wait_until(lambda: not double.living())
    assert bool(double.announced) == any(each.announce for each in profile.actions)


@pytest.mark.parametrize("name", [name for name, steps in SHIPPED.items() if any(after for after, _, _ in steps)])
def test_steps_are_never_early_and_their_times_are_in_ratio(name: str, double: Double) -> None:
    """Each pause is at least its scaled time; a profile of twice the scale asks for twice of each."""
    profile = load_profile(name).scaled(SCALE)
    began = SYSTEM_CLOCK.now()

    sent = double.run(profile)

    pauses = [after - before for before, after in itertools.pairwise([began, *(each.at for each in sent)])]
    assert all(pause >= each.after for pause, each in zip(pauses, profile.actions, strict=True))
    twice = [each.after for each in profile.scaled(2).actions]
    assert twice == pytest.approx([2 * SCALE * after for after, _, _ in SHIPPED[name]])


@pytest.mark.parametrize(
    ("double", "name"),
    [("SIGTERM", "terminate"), ("SIGTERM", "kubernetes"), ("SIGUSR1", "slurm"), ("SIGINT", "ctrl-c")],
    indirect=["double"],
)
def test_nothing_is_sent_after_the_job_has_ended(name: str, double: Double) -> None:
    """A job that obeys the first signal gets no second one, long before its time."""
    sent = double.run(load_profile(name).scaled(10))

    assert [each.action.after for each in sent] == [0]


def test_only_chosen_exit_codes_lead_to_a_restart(tmp_path: Path) -> None:
    """Without a list each code does; without requeue none."""
    text = 'title = "t"\nsource = "s"\nrequeue = {}\n{}\n[[actions]]\nafter = 0\nsignal = "SIGTERM"\n'
    results = {}
    for name, requeue, codes in (("some", "true", "restart_on = [1, 143]"), ("all", "true", ""), ("none", "false", "")):
        path = tmp_path / f"{name}.toml"
        path.write_text(text.format(requeue, codes))
        profile = load_profile(str(path))
        results[name] = [profile.restarts_after(code) for code in (0, 1, 143)]

    assert results == {"some": [False, True, True], "all": [True] * 3, "none": [False] * 3}


GOOD = 'title = "t"\nsource = "s"\nrequeue = true\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + 'sorce = "x"\nactions = []\n', ["'sorce'", "'source'"]),
        ('title = "t"\nrequeue = true\nactions = []\n', ["source: missing"]),
        ('title = 3\nsource = "s"\nrequeue = 1\nactions = []\n', ["title: expected str", "requeue: expected bool"]),
        (GOOD + "actions = []\n", ["actions: expected at least one"]),
        (GOOD + '[[actions]]\nafter = 0\nsignal = "SIGTREM"\n', ["actions[0].signal", "'SIGTREM'", "'SIGTERM'"]),
        (GOOD + '[[actions]]\nafter = 0\nsignal = "SIGTERM"\nto = "rank"\n', ["actions[0].to", "'ranks'"]),
        (GOOD + '[[actions]]\nafter = -1\nsignal = "SIGTERM"\n', ["actions[0].after: expected seconds", "got -1"]),
        (GOOD + '[[actions]]\nafter = true\nsignal = "SIGTERM"\n', ["actions[0].after"]),
        (GOOD + '[[actions]]\nsignal = "SIGTERM"\n', ["actions[0].after", "got None"]),
        (GOOD + '[[actions]]\nafter = 0\nsignl = "SIGTERM"\n', ["actions[0]", "'signl'", "'signal'"]),
        (GOOD + "[[actions]]\nafter = 0\n", ["actions[0]: expected either signal or announce"]),
        (GOOD + '[[actions]]\nafter = 0\nsignal = "SIGTERM"\nannounce = "x"\n', ["expected either signal or announce"]),
        (GOOD + "[[actions]]\nafter = 0\nannounce = 3\n", ["actions[0].announce: expected text, got 3"]),
        (GOOD + "actions = [1]\n", ["actions[0]: expected a table, got 1"]),
        ("restart_on = [256, true]\n" + GOOD + '[[actions]]\nafter = 0\nsignal = "SIGTERM"\n', ["got 256", "got True"]),
        ("title = \n", ["not valid TOML"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_the_place_and_the_nearest_name(
    text: str, expected: list[str], tmp_path: Path
) -> None:
    """All its errors are in one message, with the file."""
    path = tmp_path / "own.toml"
    path.write_text(text)

    with pytest.raises(InputError) as refused:
        load_profile(str(path))

    assert [part for part in [str(path), *expected] if part not in str(refused.value)] == []


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A file that does not exist is named."""
    with pytest.raises(InputError, match=r"'slrum'.*'slurm'"):
        load_profile("slrum")
    with pytest.raises(InputError, match=r"absent\.toml: cannot be read"):
        load_profile(str(tmp_path / "absent.toml"))


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_notice_is_absent_before_its_announcement_and_has_the_text_after_it(tmp_path: Path) -> None:
    """The file and the URL, which is on loopback, change together; after the end nothing listens."""
    with Notice(tmp_path) as notice:
        found = notice.environment()
        path, url = tmp_path / "notice", found["DERAIL_NOTICE_URL"]
        assert found["DERAIL_NOTICE_FILE"] == str(path)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        assert (path.exists(), _get(url)) == (False, (404, ""))

        text = "ends in 120 s: \u00e9"
        notice.announce(text)

        assert (path.read_text(encoding="utf-8"), _get(url)) == (
            "ends in 120 s: \u00e9",
            (200, "ends in 120 s: \u00e9"),
        )
    with pytest.raises(urllib.error.URLError, match="refused"):
        _get(url)


def test_a_notice_without_a_url_has_only_the_file(tmp_path: Path) -> None:
    """Nothing is served."""
    with Notice(tmp_path, served=False) as notice:
        assert notice.environment() == {"DERAIL_NOTICE_FILE": str(tmp_path / "notice")}
