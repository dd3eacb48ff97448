"""A run again from its journal: the same schedule, and what differed."""

import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derail import faults, when
from derail.campaign import replay
from derail.faults.engine import journal
from faults.rank_functions_of_faults import work
from faults.real_job import DEADLINE, running
from wording import Tells

STEPS = """
from derail.faults import fail_point
for step in range(1, 8):
    fail_point("step")
    print("step", step, sys.argv[1:], os.environ.get("MINE"), flush=True)
"""
KILL = faults.signal("SIGKILL", rank="one", when=when.probability(0.4, when.point("step", hit="1..")))
LEAVE = faults.exit(7, rank=1, when=when.call("__main__:train", hit=2))


def first_run(tmp_path, program, *given, **options):
    """The journal of a run, and what it recorded."""
    with running(tmp_path, program, *given, **options) as job:
        job.wait(DEADLINE)
    return job.journal


def again(path, tmp_path):
    """What came of a second run, and how it ended."""
    before = replay.read(path)
    job = replay.start(before, workdir=tmp_path / "again")
    try:
        job.wait(DEADLINE)
        logs = [job.log(rank, "stdout").read_text() for rank in range(before.how["ranks"])]
    finally:
        job.close()
    return before, replay.read(job.journal), logs


def test_the_same_schedule_runs_again(tmp_path, monkeypatch):
    """The same fault, on the same rank, at the same hit; with the same arguments, directory and variables."""
    monkeypatch.setenv("MINE", "yes")
    options = {"args": ["a", 1], "env": {"MINE": "yes"}, "ranks": 3, "seed": 5}
    path = first_run(tmp_path, STEPS, KILL, faults.signal("SIGURG", rank="minority"), **options)
    before, now, logs = again(path, tmp_path)

    assert replay.exit_code(before, now) == 0, replay.differences(before, now)
    assert (before.results, before.hits) == (now.results, now.hits)
    assert [result for _, result in sorted(now.results.items())] == ["injected", "injected"]
    ((_, hit),) = [(key, hits) for key, hits in now.hits.items() if hits != (None,)]
    (killed,) = [rank for (fault, rank) in now.results if fault.startswith("signal") and now.hits[fault, rank] == hit]
    assert logs[killed].splitlines() == [f"step {n} ['a', '1'] yes" for n in range(1, hit[0])]


def test_a_journal_holds_values_of_known_variables_only(tmp_path, monkeypatch):
    """Of others the name: a replay takes their values from its own environment, and says which are missing."""
    monkeypatch.delenv("MINE", raising=False)
    path = first_run(tmp_path, "pass", faults.signal("SIGURG", rank=0), env={"MINE": "pass" + "word", "RANK": "0"})

    assert "password" not in path.read_text()
    assert replay.read(path).how["env"] == {"MINE": None, "RANK": "0"}
    with pytest.raises(replay.InputError, match="MINE"):
        replay.start(replay.read(path), workdir=tmp_path / "again")


def test_what_differed_is_told_fault_by_fault(tmp_path):
    """A program that has changed does not do the same."""
    path = first_run(tmp_path, STEPS, faults.signal("SIGKILL", rank=0, when=when.point("step", hit=4)))
    (tmp_path / "program.py").write_text("print('nothing')\n")
    before, now, _ = again(path, tmp_path)
    told = [difference.text for difference in replay.differences(before, now) if difference.matters]

    assert replay.exit_code(before, now) == replay.INCONCLUSIVE
    assert told == [
        Tells(before.plan.faults[0].id, "rank 0", "injected", "not_reached"),
        Tells("root cause", "rank 0", "none"),
    ]


def recorded(tmp_path, name, *, result="injected", hits=(3,), order=(0, 1), cause=None, fates=None, started=False):
    """A journal that says so, read."""
    plan = faults.plan([faults.signal("SIGURG", rank="all", id="a")])
    file = journal.Journal(tmp_path / name)
    file.write_plan(plan, (0, 1), {"argv": ["true"], "ranks": 2, "cwd": str(tmp_path), "name": "true"})
    if started:
        file.write("started", rank=0, pid=1)
    for rank in order:
        for n, hit in enumerate(hits):
            file.write("again" if n else "start", fault="a", rank=rank, n=n + 1, hit=hit)
    for rank in (0, 1):
        file.write("end", fault="a", rank=rank, result=result if rank == 0 else "injected", detail="")
    file.write("finished", root_cause=cause, ranks=fates or {})
    return replay.read(file.path)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({}, 0, None),
        ({"result": "not_reached"}, 3, "a on rank 0: injected then, not_reached now"),
        ({"result": "unavailable"}, 4, "a on rank 0: injected then, unavailable now"),
        ({"result": "errored"}, 3, "a on rank 0: injected then, errored now"),
        ({"hits": (3, 5)}, 1, "a on rank 0: acted at hit 3 then, at hit 3, 5 now"),
        ({"order": (1, 0)}, 0, "the order was a on rank 0, a on rank 1 then, a on rank 1, a on rank 0 now"),
        ({"cause": 1}, 1, "the root cause was none then, rank 1 now"),
        ({"fates": {"0": "rank 0: exit 1, by itself"}}, 0, "was not started then; rank 0: exit 1, by itself now"),
    ],
)
def test_each_difference_is_told_and_weighed(tmp_path, change, code, text):
    """What the plan decides must be the same; what the machine decides is told only."""
    before, now = recorded(tmp_path, "a"), recorded(tmp_path, "b", **change)

    assert (replay.exit_code(before, now), replay.exit_code(before, before)) == (code, 0)
    assert [found.text for found in replay.differences(before, now)][:1] == ([text] if text else [])


def test_the_last_run_of_a_journal_counts(tmp_path):
    """A directory that was used twice holds both."""
    first_run(tmp_path, "pass", faults.signal("SIGURG", rank=0, when=when.after(30)))
    path = first_run(tmp_path, "time.sleep(0.2)", faults.signal("SIGURG", rank=0))

    assert list(replay.read(path).results.values()) == ["injected"]


def damaged(line, **changes):
    """What damages the line of a journal whose event is this."""

    def damage(lines):
        place = next(place for place, text in enumerate(lines) if json.loads(text)["event"] == line)
        record = json.loads(lines[place])
        for path, value in changes.items():
            holder = record
            *way, last = path.split("__")
            for key in way:
                holder = holder[key]
            if value is None:
                del holder[last]
            else:
                holder[last] = value
        return [*lines[:place], json.dumps(record), *lines[place + 1 :]], place + 1

    return damage


def cut(line):
    """What cuts a line in two, as a full disk does."""
    return lambda lines: ([*lines[:line], lines[line][: len(lines[line]) // 2], *lines[line + 1 :]], line + 1)


def put(text, line=1):
    """What puts other bytes in the place of a line."""
    return lambda lines: ([*lines[:line], text, *lines[line + 1 :]], line + 1)


DAMAGES = {
    "half a line": (cut(1), "not valid JSON"),
    "half a plan": (cut(0), "not valid JSON"),
    "no record": (put("[1, 2]"), "expected a record"),
    "a value of a megabyte": (damaged("finished", root_cause="x" * 1_000_000), "finished.root_cause"),
    "no event": (put('{"at": 1}'), "a string in 'event'"),
    "deep": (put("[" * 200_000), "not valid JSON"),
    "a huge number": (put('{"event": "end", "rank": ' + "9" * 10_000 + "}"), "not valid JSON"),
    "NUL": (put("\0" * 512), "not valid JSON"),
    "another plan": (damaged("plan", plan__seed=7), "the plan was changed"),
    "an unknown fault": (damaged("plan", plan__faults=[{"fault": "hagn", "rank": 0}]), "did you mean 'hang'?"),
    "no plan": (damaged("plan", plan=None), "expected a table"),
    "a journal of another version": (damaged("plan", version=99), "version: expected 1, got 99"),
    "a key twice": (put('{"event": "started", "at": 1.0, "at": 2.0}'), "duplicate key 'at'"),
    "a rank twice": (damaged("plan", ranks=[0, 0]), "run.ranks"),
    "truth values as ranks": (damaged("plan", ranks=[False, True]), "run.ranks"),
    "a directory with NUL": (damaged("plan", run__cwd="/tm\0p"), "NUL"),
    "a word that is no bytes": (damaged("plan", run__argv=["\ud800"]), "a process can receive"),
    "a time that no clock shows": (damaged("started", at=10**400), "started.at"),
    "no run": (damaged("plan", run=[]), "does not name the program of the ranks"),
    "an agent's run": (damaged("plan", run__agent="torchrun"), "run.agent"),
    "no ranks": (damaged("plan", run__ranks=None), "run.ranks: is missing"),
    "many ranks": (damaged("plan", run__ranks=10**9), "run.ranks"),
    "ranks of another kind": (damaged("plan", run__ranks="2"), "run.ranks"),
    "no directory": (damaged("plan", run__cwd=None), "run.cwd: is missing"),
    "nothing to run": (damaged("plan", run__argv=[]), "run: expected one of function, script and argv"),
    "words of another kind": (damaged("plan", run__argv=["true", 1]), "run.argv"),
    "a word with NUL": (damaged("plan", run__argv=["tr\0ue"]), "NUL"),
    "variables of another kind": (damaged("plan", run__env={"A": 1}), "run.env.A"),
    "a variable without a name": (damaged("plan", run__env={"": "1"}), "NUL"),
    "no such signal": (damaged("plan", run__teardown={"signal": 4000}), "run.teardown.signal"),
    "no such sweep": (damaged("plan", run__teardown={"sweep": "x"}), "run.teardown.sweep"),
    "no such rank": (damaged("end", rank="x"), "end.rank"),
    "no result": (damaged("end", result=None), "end.result"),
    "a hit of another kind": (damaged("start", hit="x"), "start.hit"),
    "no fault": (damaged("start", fault=7), "start.fault"),
    "ends of another kind": (damaged("finished", ranks={"x": "y"}), "finished.ranks"),
    "a root cause of another kind": (damaged("finished", root_cause="0"), "finished.root_cause"),
    "no time": (damaged("started", at="now"), "started.at"),
    "an endless time": (damaged("started", at=float("inf")), "started.at"),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_journal_is_one_error_that_names_its_line(tmp_path, damage, why):
    """The first thing that is wrong; nothing is started."""
    path = tmp_path / "journal.jsonl"
    recorded(tmp_path, path.name, started=True)
    lines, number = damage(path.read_text().splitlines())
    path.write_text("\n".join(lines) + "\n")

    with pytest.raises(replay.InputError) as error:
        replay.read(path)
    text = str(error.value)

    assert text.startswith(f"{path}:{number}")
    assert why in text
    assert "\n" not in text
    assert len(text) <= 1000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def good_journal(tmp_path_factory):
    """The bytes of a journal, and where to put others."""
    path = tmp_path_factory.mktemp("changed") / "journal.jsonl"
    recorded(path.parent, path.name, started=True)
    return path, path.read_bytes()


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_is_changed_in_a_journal_it_is_read_or_refused_with_a_place(good_journal, data):
    """A value anywhere in it, or a piece of its bytes: nothing else is raised, and the error is one line."""
    path, content = good_journal
    if data.draw(st.booleans(), "a value"):
        lines = [json.loads(line) for line in content.splitlines()]
        place = lines[data.draw(st.integers(0, len(lines) - 1), "line")]
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))), "key")
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans(), "stop"):
                break
            place = inner
        place[key] = data.draw(VALUES, "value")
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    else:
        at = data.draw(st.integers(0, len(content)), "place")
        cut = data.draw(st.integers(0, 40), "bytes cut")
        content = content[:at] + data.draw(st.binary(max_size=8), "put") + content[at + cut :]
    path.write_bytes(content)

    try:
        replay.read(path)
    except replay.InputError as error:
        text = str(error)
        assert (text.startswith(f"{path}:"), "\n" in text, len(text) <= 1000) == (True, False, True)


def test_a_journal_of_a_terabyte_is_refused_unread(tmp_path):
    """A sparse file claims any size; 64 MiB of it are read at most."""
    with (tmp_path / "journal.jsonl").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(replay.InputError, match=r"expected at most 67108864 bytes, got 1099511627776"):
        replay.read(tmp_path / "journal.jsonl")


def test_a_file_without_an_end_is_not_read(tmp_path):
    """A FIFO would be waited for, a device never end."""
    os.mkfifo(tmp_path / "journal.jsonl")

    for path in (tmp_path / "journal.jsonl", tmp_path, "/dev/zero"):
        with pytest.raises(replay.InputError, match="not a regular file"):
            replay.read(Path(path))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read"),
        ("", "not a journal of a run"),
        ("nonsense\n", "not a journal of a run"),
        (
            '{"event": "plan", "version": 1, "plan": {"faults": [{"fault": "hagn", "rank": 0}]}}\n',
            "did you mean 'hang'?",
        ),
        ('{"event": "plan", "version": 1, "plan": {"seed": 1}}\n', "does not name the program of the ranks"),
    ],
)
def test_what_is_no_journal_is_refused(tmp_path, text, why):
    """With the reason, and nothing is started."""
    path = tmp_path / "journal.jsonl"
    if text is not None:
        path.write_text(text)

    with pytest.raises(replay.InputError) as error:
        replay.read(path)

    assert str(path) in str(error.value)
    assert why in str(error.value)


def test_functions_cannot_be_called_from_a_journal(tmp_path):
    """The message names the function."""
    path = first_run(tmp_path, work, faults.signal("SIGKILL", rank=0, when=when.line("step 2")))

    with pytest.raises(replay.InputError, match="rank_functions_of_faults:work, which cannot be called"):
        replay.start(replay.read(path), workdir=tmp_path / "again")


def test_a_job_that_was_stopped_is_stopped_again(tmp_path):
    """After as long as it had run then."""
    with running(tmp_path, "time.sleep(60)", faults.signal("SIGURG", rank=0)) as job:
        job.wait(0.5)
    before = replay.read(job.journal)

    assert 0.3 < before.stopped_after < DEADLINE
    assert json.loads(job.journal.read_text().splitlines()[0])["run"]["cwd"] == os.getcwd()
    assert before.how["teardown"].signal == signal.SIGTERM
