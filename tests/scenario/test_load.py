"""Scenario files: their values, and all rejected errors."""

from dataclasses import replace

import pytest

from derail import faults, when
from derail.model.input_error import InputError
from derail.scenario.load import find, load, shipped, shipped_root
from derail.scenario.model import Expect, LogTail
from derail.scenario.recovery import STEP

GOOD = """
title = "Killed"
why = "because"
issue = "pytorch#1"
ranks = 3
worker = "worker.py"
args = ["--steps", "4"]
timeout = 12
grace = 0.5
nodes = 3
restarts = 2
step = 'step (\\d+)'
control = ["wrong-target"]
seed = 7
env = { A = "1" }

[[faults]]
fault = "signal"
signal = "SIGKILL"
rank = 2
when = { line = "step 3" }

[expect]
succeeded = false
root_cause = 2
failures = [2]
stopped = [1, 0]
exits = { 2 = "KILL", 1 = 7 }
message = "SIG.*"
log_tail = { rank = 2, like = "*step 3" }
error_file = { 2 = "missing" }
exit_code = 137
teardown_seconds = 2
restarts = 1
resumed_at = 3
leftovers = "ended"
"""
LAUNCHER = GOOD.replace("ranks = 3", "ranks = 1\nlaunches = 2").replace("rank = 2\nwhen", "rank = 0\nwhen")
LAUNCHER = LAUNCHER[: LAUNCHER.index("[expect]")].replace("nodes = 3\nrestarts = 2\n", "")
LAUNCHER += "[expect]\nsucceeded = false\n"
LEAST = 'title = "x"\nranks = 2\nworker = "worker.py"\n[expect]\nsucceeded = true\n'


@pytest.fixture
def write(tmp_path):
    """Write a scenario file, with its worker beside it."""

    def write(text):
        (tmp_path / "worker.py").write_text("")
        path = tmp_path / "story.toml"
        path.write_text(text)
        return path

    return write


def test_all_values_of_a_file_are_read(write):
    """Values have their types."""
    path = write(GOOD)
    scenario = load(path)

    assert (scenario.title, scenario.why, scenario.issue, scenario.ranks) == ("Killed", "because", "pytorch#1", 3)
    assert (scenario.worker, scenario.args, scenario.env) == (path.with_name("worker.py"), ("--steps", "4"), {"A": "1"})
    assert (scenario.timeout, scenario.grace, scenario.name, scenario.path) == (12.0, 0.5, "story", path)
    assert (scenario.nodes, scenario.restarts, scenario.control) == (3, 2, ("wrong-target",))
    assert scenario.faults == faults.plan([faults.signal("SIGKILL", rank=2, when=when.line("step 3"))], seed=7)
    assert scenario.expect == Expect(
        succeeded=False,
        root_cause=2,
        failures=(2,),
        stopped=(0, 1),
        exits={2: "SIGKILL", 1: 7},
        message="SIG.*",
        log_tail=(LogTail(2, ("*step 3",), "stdout"),),
        error_file={2: "missing"},
        exit_code=137,
        teardown_seconds=2.0,
        restarts=1,
        resumed_at=3,
        leftovers="ended",
    )


def test_a_job_without_faults_needs_few_keys(write):
    """There are no faults, and leftovers are not allowed."""
    scenario = load(write(LEAST))

    assert (scenario.faults.faults, scenario.expect) == ((), Expect(succeeded=True, leftovers="none"))


def test_several_log_tails_are_a_list(write):
    """Both one table and a list of tables are accepted."""
    first = '[[expect.log_tail]]\nrank = 0\nlike = ["a"]\n'
    second = '[[expect.log_tail]]\nrank = 1\nstream = "stderr"\nlike = ["b"]\n'

    assert load(write(LEAST + first + second)).expect.log_tail == (LogTail(0, ("a",)), LogTail(1, ("b",), "stderr"))


@pytest.mark.parametrize(
    ("text", "control"),
    [
        (LEAST, ()),
        (GOOD.replace('control = ["wrong-target"]', ""), ("no-fault", "wrong-target")),
        (GOOD.replace('["wrong-target"]', '["wrong-target", "no-fault"]'), ("no-fault", "wrong-target")),
        (GOOD.replace('["wrong-target"]', "[]"), ()),
        (GOOD.replace('control = ["wrong-target"]', "").replace("rank = 2\nwhen", 'rank = "all"\nwhen'), ("no-fault",)),
    ],
    ids=["no fault", "a named rank", "both", "none", "all ranks"],
)
def test_negative_controls_default_to_the_possible_ones(write, text, control):
    """A scenario without faults has none; a fault on all ranks has no other target."""
    assert load(write(text)).control == control


def test_a_scenario_may_be_about_the_launcher_itself(write):
    """The launcher is the one rank, and launches others."""
    scenario = load(write(LAUNCHER))

    assert (scenario.launches, scenario.ranks, scenario.control) == (2, 1, ("wrong-target",))


def test_ranks_may_be_calls_of_a_function(write):
    """The worker's file must define it."""
    path = write(change('"worker.py"', '"worker.py:train"'))
    path.with_name("worker.py").write_text("def train():\n    return 1\n")

    assert (load(path).worker, load(path).function) == (path.with_name("worker.py"), "train")


def test_step_lines_are_recorded_in_jobs_with_restarts_or_where_the_file_has_a_pattern(write):
    """Ranks that are started once repeat no step; the usual pattern is that of derail's own workers."""
    assert load(write(GOOD)).watched_steps == r"step (\d+)"
    assert load(write(change(r"step = 'step (\d+)'", ""))).watched_steps == STEP
    assert load(write(LEAST)).watched_steps == ""


def test_the_directory_of_the_run_replaces_workdir(write, tmp_path):
    """It replaces ``{workdir}`` when the run starts."""
    text = change('["--steps", "4"]', '["--to={workdir}/x", "{other}"]').replace('A = "1"', 'A = "{workdir}"')
    placed = load(write(text)).placed(tmp_path / "run")

    assert (placed.args, placed.env) == ((f"--to={tmp_path}/run/x", "{other}"), {"A": f"{tmp_path}/run"})


def test_a_tail_may_exclude_lines(write):
    """``unlike`` is used with ``like``, or alone."""
    alone = load(write(change('like = "*step 3"', 'unlike = "*error*"')))
    both = load(write(change('like = "*step 3"', 'like = "*step 3", unlike = ["a", "b"]')))

    assert alone.expect.log_tail == (LogTail(2, unlike=("*error*",)),)
    assert both.expect.log_tail == (LogTail(2, ("*step 3",), unlike=("a", "b")),)


@pytest.mark.parametrize(("name", "family"), [("crash/killed", "crash"), ("story", ""), ("a/b/c", "a")])
def test_the_family_is_the_first_part_of_the_name(write, name, family):
    """Reports group by it."""
    assert replace(load(write(LEAST)), name=name).family == family


def change(old, new):
    """Return the good scenario with one error."""
    assert old in GOOD
    return GOOD.replace(old, new)


STEP_PROBLEM = r"step: expected a regular expression with a group for the number, like 'step (\d+)', got"
WRONG = {
    "step lines without a group": (change(r"step = 'step (\d+)'", "step = 'step'"), f"{STEP_PROBLEM} 'step'"),
    "no pattern of step lines": (change(r"step = 'step (\d+)'", "step = '('"), f"{STEP_PROBLEM} '('"),
    "uneven nodes": (change("nodes = 3", "nodes = 2"), "nodes: is 2; 3 ranks cannot be spread evenly over 2 nodes"),
    "no nodes": (change("nodes = 3", "nodes = 0"), "nodes: expected a whole number, 1 or more, got 0"),
    "no restarts": (change("restarts = 2", "restarts = -1"), "restarts: expected a whole number, 0 or more, got -1"),
    "too many restarts": (
        change("restarts = 1", "restarts = 3"),
        "expect.restarts: expected at most 2, which the scenario allows, got 3",
    ),
    "no step": (change("resumed_at = 3", 'resumed_at = "x"'), "expect.resumed_at: expected a whole number, 0 or more"),
    "unknown negative control": (
        change('"wrong-target"', '"wrong-targt"'),
        "control: unknown negative control 'wrong-targt'; did you mean",
    ),
    "one negative control": (change('["wrong-target"]', '"wrong-target"'), "control: expected a list of strings"),
    "a launcher of one of two": (
        LEAST.replace("ranks = 2", "ranks = 2\nlaunches = 2"),
        "launches: the launcher is the one rank of its job: expected ranks = 1",
    ),
    "a launcher that restarts": (
        LEAST.replace("ranks = 2", "ranks = 1\nlaunches = 2\nrestarts = 1"),
        "launches: the launcher is the one rank of its job: expected ranks = 1",
    ),
    "no function": (
        change('"worker.py"', '"worker.py:train"'),
        "worker: there is no function train in ",
    ),
    "no name of a function": (
        change('"worker.py"', '"worker.py:a b"'),
        "worker: 'a b' is not a valid name of a function",
    ),
    "no module": (change("timeout = 12", "needs = 3"), "needs: expected a list of strings, got 3"),
    "no pattern that must not match": (
        change('like = "*step 3"', "unlike = 3"),
        "expect.log_tail.unlike: expected a list of strings, got 3",
    ),
    "no pattern at all": (change(', like = "*step 3"', ""), "expect.log_tail.like: is missing"),
    "unknown key": (change("title", "titel"), "titel: unknown key 'titel'; did you mean 'title'?"),
    "unknown optional key": (
        change("ranks", "restart = 1\nranks"),
        "restart: unknown key 'restart'; did you mean 'restarts'?",
    ),
    "missing title": (change('title = "Killed"', ""), "title: is missing"),
    "missing worker": (change('worker = "worker.py"', ""), "worker: is missing"),
    "missing expectations": (GOOD[: GOOD.index("[expect]")], "expect: is missing"),
    "no worker file": (change("worker.py", "wroker.py"), "worker: there is no file"),
    "no ranks": (change("ranks = 3", "ranks = 0"), "ranks: expected a whole number, 1 or more, got 0"),
    "too many ranks": (change("ranks = 3", "ranks = 100000"), "ranks: expected at most 4096, got 100000"),
    "impossible rank of a fault": (change("rank = 2\nwhen", "rank = 3\nwhen"), "faults[0].rank: there is no rank 3"),
    "impossible root cause": (change("root_cause = 2", "root_cause = 3"), "expect.root_cause: there is no rank 3"),
    "impossible rank in a list": (change("[1, 0]", "[1, 4]"), "expect.stopped: there is no rank 4"),
    "impossible rank in a table": (change("1 = 7", "9 = 7"), "expect.exits.9: there is no rank 9"),
    "impossible rank of a tail": (
        change("{ rank = 2, like", "{ rank = 5, like"),
        "expect.log_tail.rank: there is no rank 5",
    ),
    "no rank in a table": (change("1 = 7", "one = 7"), "expect.exits.one: expected a rank number as key"),
    "no exit": (
        change("1 = 7", "1 = 256"),
        "expect.exits.1: expected an exit code from 0 to 255 or the name of a signal",
    ),
    "no signal": (
        change('"KILL"', '"KIL"'),
        "expect.exits.2: expected an exit code from 0 to 255 or the name of a signal",
    ),
    "unknown fault": (
        change('"signal"', '"singal"'),
        "faults[0].fault: unknown fault 'singal'; did you mean 'signal'?",
    ),
    "wrong trigger": (change("line =", "lin ="), "faults[0].when: unknown trigger 'lin'; did you mean 'line'?"),
    "unknown expectation": (
        change("stopped", "stoped"),
        "expect.stoped: unknown key 'stoped'; did you mean 'stopped'?",
    ),
    "no truth value": (
        change("succeeded = false", 'succeeded = "no"'),
        "expect.succeeded: expected true or false, got 'no'",
    ),
    "unknown leftovers": (change('"ended"', '"some"'), "expect.leftovers: unknown leftovers 'some'"),
    "unknown error file": (change('"missing"', '"bad"'), "expect.error_file.2: unknown state of an error file 'bad'"),
    "no expression": (change('"SIG.*"', '"SIG("'), "expect.message: expected a regular expression, got 'SIG('"),
    "no pattern": (change('"*step 3"', "3"), "expect.log_tail.like: expected a list of strings, got 3"),
    "unknown stream": (
        change("rank = 2, like", 'rank = 2, stream = "out", like'),
        "expect.log_tail.stream: unknown stream 'out'",
    ),
    "no seconds": (
        change("teardown_seconds = 2", "teardown_seconds = -1"),
        "expect.teardown_seconds: expected a number of seconds, 0 or more, or 'any', got -1",
    ),
    "no list of ranks": (change("[2]\n", '"2"\n'), "expect.failures: expected a list of ranks, got '2'"),
    "no environment": (change('A = "1"', '"A=B" = "1"'), "env.A=B: cannot be an environment variable"),
    "no string in the environment": (change('A = "1"', "A = 1"), "env.A: expected a string, got 1"),
    "contradiction": (
        change("succeeded = false", "succeeded = true"),
        "expect.succeeded: a job that succeeded has no failures",
    ),
    "no TOML": ("title =", "not valid TOML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_scenario_is_refused_with_file_path_and_the_nearest_name(case, write):
    """A misspelt expectation must not be ignored."""
    text, problem = WRONG[case]
    path = write(text)

    with pytest.raises(InputError) as error:
        load(path)

    assert f"{path}: {problem}" in str(error.value)


def test_all_errors_are_reported_at_once(write):
    """One run of the command reports the whole list."""
    text = GOOD.replace("title", "titel").replace("signal =", "sginal =").replace("root_cause = 2", "root_cause = 7")

    with pytest.raises(InputError) as error:
        load(write(text))

    assert {problem.split(":")[0] for problem in error.value.problems} == {
        "title", "titel", "faults[0].signal", "faults[0].sginal", "expect.root_cause",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "line"), [("ranks", "ranks = 3"), ("nodes", "nodes = 3"), ("restarts", "restarts = 2")]
)
@pytest.mark.parametrize("value", ['"3"', "-1", "3.0", "true"])
def test_a_wrong_number_is_one_problem_and_not_the_cause_of_others(key, line, value, write):
    """Values are not checked against an unknown number."""
    with pytest.raises(InputError) as error:
        load(write(GOOD.replace(line, f"{key} = {value}", 1)))

    assert [problem.split(":")[0] for problem in error.value.problems] == [key]


@pytest.mark.parametrize("ranks", ["", "ranks = 100000"])
def test_a_missing_or_invalid_number_of_ranks_is_one_problem(ranks, write):
    """The ranks that the file names are not reported as well."""
    with pytest.raises(InputError) as error:
        load(write(GOOD.replace("ranks = 3", ranks, 1)))

    assert [problem.split(":")[0] for problem in error.value.problems] == ["ranks"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """It is missing, a directory, or not text."""
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')

    for name in ("missing.toml", ".", "latin.toml"):
        with pytest.raises(InputError, match="cannot be read"):
            load(tmp_path / name)


def test_a_scenario_is_found_by_path_and_by_name(write, monkeypatch):
    """An existing file has priority."""
    path = write(LEAST)
    monkeypatch.chdir(path.parent)

    assert find("story.toml").resolve() == path
    assert find("crash/killed_at_step_3") == find("crash/killed_at_step_3.toml") == shipped()["crash/killed_at_step_3"]
    with pytest.raises(InputError, match=r"there is no file crash/kiled.*did you mean 'crash/killed_at_step_3'"):
        find("crash/kiled_at_step_3")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("stroy.toml", "there is no file stroy.toml (did you mean 'story.toml'?)"),
        ("killed_at_step3", "unknown scenario 'killed_at_step3'; did you mean 'crash/killed_at_step_3'?"),
        ("crash", "crash is a family of scenarios. Give one of those in 'derail list scenarios crash'"),
        ("zzzz", f"unknown scenario 'zzzz'; 'derail list scenarios' names all {len(shipped())}"),
    ],
)
def test_an_unknown_name_gets_suggestions(name, problem, write, monkeypatch):
    """Suggestions are a file beside it, a scenario's name with its family, a family, or the command that lists all."""
    monkeypatch.chdir(write(LEAST).parent)
    with pytest.raises(InputError) as error:
        find(name)

    assert problem in str(error.value)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_scenario_is_valid(name):
    """Its name is its path."""
    scenario = load(shipped()[name])

    assert scenario.name == name
    assert scenario.why
    assert scenario.worker.is_relative_to(shipped_root())


@pytest.mark.parametrize(
    ("place", "name", "family"),
    [
        ("scenarios/crash/story.toml", "crash/story", "crash"),
        ("scenarios/story.toml", "story", ""),
        ("elsewhere/story.toml", "story", ""),
        ("elsewhere/scenarios.toml", "scenarios", ""),
        ("scenarios/old/scenarios/hang/story.toml", "hang/story", "hang"),
    ],
)
def test_a_scenario_is_named_after_its_path_below_scenarios(tmp_path, place, name, family):
    """Scenarios of a project have families as well."""
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    (path.parent / "w.py").write_text("")
    path.write_text('title = "t"\nranks = 1\nworker = "w.py"\n[expect]\nsucceeded = false\n')

    assert (load(path).name, load(path).family) == (name, family)
