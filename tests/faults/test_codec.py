"""Plans as TOML and JSON: lossless, and strict."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derail import faults, when
from derail.faults.codec import from_json, from_toml, load, to_json, to_toml
from derail.faults.injectors.errorfile import CONTENTS, PLACES
from derail.faults.model.plan import Plan
from derail.faults.model.targets import WORDS
from derail.model.exit import signal_name
from derail.model.input_error import InputError

UNHURRIED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
COMBINED = (when.all_of, when.any_of, when.then)
TEXTS = st.text(max_size=20)
SECONDS = st.floats(0, 1e6, allow_nan=False) | st.integers(0, 1000)
RANKS = st.integers(0, 9) | st.lists(st.integers(0, 9), min_size=1, unique=True) | st.sampled_from([*WORDS])
SIGNALS = st.sampled_from([signal_name(number) for number in (1, 2, 9, 10, 15, 19, 34, 37, 50, 64)])
TRIGGERS = st.one_of(
    st.builds(when.start),
    st.builds(when.after, SECONDS),
    st.builds(
        when.line,
        TEXTS.map(re.escape),
        stream=st.sampled_from([None, "stdout", "stderr"]),
        hit=st.integers(1, 99),
        rank=st.none() | st.integers(0, 9),
    ),
)
HITS = st.integers(1, 99) | st.builds(
    lambda first, more, step: f"{first}..{first + more}+{step}", *[st.integers(1, 9)] * 3
)
TRIGGERS = st.recursive(
    TRIGGERS
    | st.builds(when.point, TEXTS.filter(bool), hit=st.integers(1, 9))
    | st.builds(when.call, st.sampled_from(["a:b", "a.b:C.d"]), at=st.sampled_from(["enter", "exit"]))
    | st.builds(when.import_of, st.sampled_from(["a", "a.b"]))
    | st.builds(when.signal_received, SIGNALS)
    | st.builds(when.exit_of, st.integers(0, 9))
    | st.builds(when.restart, st.integers(0, 9))
    | st.builds(when.phase, st.sampled_from(["running", "starting rank 3"])),
    lambda inner: st.one_of(
        *(st.lists(inner, min_size=2, max_size=3).map(lambda parts, make=make: make(*parts)) for make in COMBINED),
        st.builds(when.barrier, inner, ranks=st.none() | st.lists(st.integers(0, 9), min_size=1, unique=True)),
        st.builds(when.probability, st.floats(0, 1), inner, first=st.integers(0, 3)),
    ),
    max_leaves=5,
)
LONG = st.none() | SECONDS
FAULTS = st.one_of(
    st.builds(
        faults.signal, SIGNALS, rank=RANKS, when=TRIGGERS, group=st.booleans(), every=SECONDS,
        times=st.integers(1, 9), for_=LONG,
    ),
    st.builds(faults.exit, st.integers(-5, 300) | TEXTS, rank=RANKS, when=TRIGGERS),
    st.builds(faults.signal, SIGNALS, rank=RANKS, when=st.builds(when.point, st.just("p"), hit=HITS)),
    st.builds(faults.exit, st.integers(0, 300), rank=RANKS, how=st.just("_exit"), when=st.just(when.point("p"))),
    st.builds(faults.exception, st.sampled_from(["OSError", "a.b:C"]), TEXTS, rank=RANKS, when=TRIGGERS),
    st.builds(faults.hang, st.lists(st.sampled_from(["SIGTERM", "SIGINT"])), rank=RANKS, for_=LONG, when=TRIGGERS),
    st.builds(faults.error_file, st.sampled_from([*CONTENTS, *PLACES]), rank=RANKS),
)  # fmt: skip
KEYS = st.sampled_from(["faults", "fault", "rank", "when", "seed", "line", "signal", "id", "for", "times"]) | TEXTS
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
)
PLANS = st.builds(
    faults.plan, st.lists(FAULTS, max_size=5), seed=st.integers(0, 2**63 - 1), keep_alive=st.integers(0, 3)
)


@UNHURRIED
@given(PLANS)
def test_a_plan_survives_toml(plan):
    """The same plan is read back, with the same ids and the same hash."""
    back = from_toml(to_toml(plan))

    assert back == plan
    assert back.hash == plan.hash


@UNHURRIED
@given(PLANS)
def test_a_plan_survives_json(plan):
    """The same plan is read back, with the same ids and the same hash."""
    back = from_json(to_json(plan))

    assert back == plan
    assert back.hash == plan.hash


def test_a_plan_is_read_from_a_file(tmp_path):
    """The suffix decides the format."""
    plan = faults.plan([faults.signal("SIGKILL", rank=2, when=when.line("step 3"))], seed=7)
    (tmp_path / "p.toml").write_text(to_toml(plan))
    (tmp_path / "p.json").write_text(to_json(plan))

    assert load(tmp_path / "p.toml") == load(tmp_path / "p.json") == plan


def test_toml_by_hand_means_what_python_means():
    """In the form that users write."""
    plan = from_toml(
        """
        seed = 7
        [[faults]]
        fault = "signal"
        signal = 9
        rank = 2
        when = { line = "step 3", hit = 2 }
        [[faults]]
        fault = "hang"
        ignore = ["term"]
        rank = [3, 1]
        for = 1
        when = "start"
        """
    )

    assert plan == faults.plan(
        [
            faults.signal("SIGKILL", rank=2, when=when.line("step 3", hit=2)),
            faults.hang(["SIGTERM"], rank=[1, 3], for_=1.0),
        ],
        seed=7,
    )


KILL = 'fault = "signal"\nsignal = "SIGKILL"\nrank = 2\n'
WRONG = {
    "no such fault": (
        '[[faults]]\nfault = "signl"\nrank = 1',
        "faults[0].fault: unknown fault 'signl'; did you mean 'signal'?",
    ),
    "no such signal": (
        '[[faults]]\nfault = "signal"\nsignal = "SIGKIL"\nrank = 1',
        "faults[0].signal: unknown signal 'SIGKIL'; did you mean 'SIGKILL'?",
    ),
    "no such trigger": (
        f'[[faults]]\n{KILL}when = {{ lines = "x" }}',
        "faults[0].when: unknown trigger 'lines'; did you mean 'line'?",
    ),
    "a bad expression": (
        f'[[faults]]\n{KILL}when = {{ line = "(" }}',
        "faults[0].when.line: '(' is not a regular expression",
    ),
    "a parameter too much": (
        f"[[faults]]\n{KILL}groop = true",
        "faults[0].groop: unknown parameter of 'signal' 'groop'; did you mean 'group'?",
    ),
    "a common key misspelt": (
        f'[[faults]]\n{KILL}whn = "start"',
        "unknown parameter of 'signal' 'whn'; did you mean 'when'?",
    ),
    "a parameter missing": ('[[faults]]\nfault = "signal"\nrank = 1', "faults[0].signal: is missing"),
    "no rank": ('[[faults]]\nfault = "hang"', "faults[0].rank: is missing"),
    "a wrong rank": ('[[faults]]\nfault = "hang"\nrank = -1', "faults[0].rank: expected a rank, 0 or more, got -1"),
    "a rank twice": ('[[faults]]\nfault = "hang"\nrank = [1, 1]', "faults[0].rank: [1, 1] names a rank twice"),
    "no ranks": ('[[faults]]\nfault = "hang"\nrank = []', "faults[0].rank: an empty list names no rank"),
    "a wrong word": (
        '[[faults]]\nfault = "hang"\nrank = "al"',
        "faults[0].rank: unknown target 'al'; did you mean 'all'?",
    ),
    "a wrong type": (f'[[faults]]\n{KILL}group = "yes"', "faults[0].group: expected true or false, got 'yes'"),
    "a wrong number": (f"[[faults]]\n{KILL}times = 0", "faults[0].times: expected a whole number, 1 or more, got 0"),
    "a fault that acts once": ('[[faults]]\nfault = "hang"\nrank = 0\ntimes = 2', "faults[0].times: 'hang' acts once"),
    "a fault that lasts": (
        '[[faults]]\nfault = "exit"\ncode = 1\nrank = 0\nfor = 2',
        "faults[0].for: 'exit' cannot be undone",
    ),
    "the wrong trigger": (
        '[[faults]]\nfault = "exit"\ncode = 1\nrank = 0\nwhen = "own_exit"',
        "faults[0].when: 'exit' cannot act at its exit",
    ),
    "a clash": (
        '[[faults]]\nfault = "exit"\ncode = "x"\nhow = "_exit"\nrank = 0',
        "faults[0]: expected a number for os._exit, got 'x'",
    ),
    "never ignored": (
        '[[faults]]\nfault = "hang"\nignore = ["KILL"]\nrank = 0',
        "faults[0]: no process can ignore SIGKILL",
    ),
    "no such exception": (
        '[[faults]]\nfault = "exception"\ntype = "RuntimeErr"\nrank = 0',
        "faults[0].type: unknown builtin exception 'RuntimeErr'; did you mean 'RuntimeError'?",
    ),
    "an exception with more arguments": (
        '[[faults]]\nfault = "exception"\ntype = "UnicodeDecodeError"\nrank = 0',
        "faults[0]: UnicodeDecodeError needs more than a message",
    ),
    "no such content": (
        '[[faults]]\nfault = "error_file"\ncontent = "truncate"\nrank = 0',
        "faults[0].content: unknown content 'truncate'; did you mean 'truncated'?",
    ),
    "two ids": (f'[[faults]]\n{KILL}id = "a"\n[[faults]]\n{KILL}id = "a"', "faults: duplicate id: 'a'"),
    "a key too much": ("sed = 7", "sed: unknown key 'sed'; did you mean 'seed'?"),
    "a wrong seed": ("seed = -1", "seed: expected a whole number, 0 or more, got -1"),
    "a huge seed": ("seed = 9223372036854775808", "seed: is 2**63 or more"),
    "no table": ("faults = [1]", "faults[0]: expected a table, got 1"),
    "no list": ("faults = 1", "faults: expected a list of tables, got 1"),
    "no TOML": ("seed =", "not valid TOML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_plan_is_refused_with_its_path_and_the_nearest_name(case, tmp_path):
    """A misspelt fault must not become a green run without a fault."""
    text, problem = WRONG[case]
    path = tmp_path / "plan.toml"
    path.write_text(text)

    with pytest.raises(InputError) as error:
        load(path)

    assert str(error.value).startswith(f"{path}: ")
    assert problem in str(error.value)


def test_all_problems_are_reported_at_once():
    """Users should not correct a file one error at a time."""
    with pytest.raises(InputError) as error:
        from_toml('sed = 1\n[[faults]]\nfault = "signl"\nrank = 1\n[[faults]]\nfault = "exit"\nrank = -1\nwhen = "x"')

    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "faults[0].fault", "faults[1].when", "faults[1].code", "faults[1].rank", "sed",
    ]  # fmt: skip


@UNHURRIED
@given(DATA)
def test_any_file_content_is_read_as_a_plan_or_refused(data):
    """Reading never fails in another way."""
    try:
        plan = from_json(json.dumps(data))
    except InputError:
        return
    assert isinstance(plan, Plan)


@pytest.mark.parametrize("name", ["missing.toml", "plan.yaml"])
def test_a_file_that_is_no_plan_is_refused_by_name(tmp_path, name):
    """The message begins with the file name."""
    (tmp_path / "plan.yaml").write_text("")

    with pytest.raises(InputError) as error:
        load(tmp_path / name)

    assert str(error.value).startswith(f"{tmp_path / name}: ")
