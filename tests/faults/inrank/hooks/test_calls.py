"""Calls and imports in unchanged code: each fires at exactly the requested occurrence, in every Python."""

import re

import pytest

from derail import faults, when
from derail.agents.invocation import LocalJob
from derail.agents.native_job import start_job
from derail.faults import Plan
from faults.inrank.test_runtime import PYTHONS
from faults.rank_functions_of_faults import work
from faults.real_job import DEADLINE, ENDED
from program_files import UNTIL, program_text

WAVE = "__import__('wave')"

COUNTING = """
import json, time
from time import sleep
from json import dumps
for n in range(1, 6):
    print(n, flush=True)
    {call}
print("done", flush=True)
"""
FUNCTIONS = {
    "a function": ("json:dumps", "json.dumps(n)"),
    "a function that was imported by name": ("json:dumps", "dumps(n)"),
    "a method": ("json.encoder:JSONEncoder.encode", "json.dumps(n, skipkeys=True)"),
    "a class": ("json.encoder:JSONEncoder", "json.JSONEncoder()"),
    "a function in C": ("time:sleep", "time.sleep(0)"),
    "a function in C that was imported by name": ("time:sleep", "sleep(0)"),
}


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_rank_exits_at_exactly_the_third_call(run_faults, case, version):
    """For any kind of function, under any of its names."""
    target, call = FUNCTIONS[case]
    run = run_faults(
        [faults.exit(7, rank=0, when=when.call(target, hit=3))], COUNTING.format(call=call), python=PYTHONS[version]
    )

    assert run.log(0).split() == ["1", "2", "3"], run.log(0, "stderr")
    assert str(run.job.status[0]) == "exit 7"
    assert run.one().injected, run.one()
    assert re.search(r"in rank0.py:\d+ in <module>|in __init__.py:\d+ in dumps", run.one().detail)


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("target", ["json:dumps", "time:sleep", "__main__:work", "__main__:Trainer.step"])
def test_a_rank_is_killed_from_outside_at_exactly_the_third_call(run_faults, target, version):
    """It waits in the call until the driver has acted."""
    program = program_text("faults/trains")
    run = run_faults(
        [faults.signal("SIGKILL", rank=0, when=when.call(target, hit=3))], program, python=PYTHONS[version]
    )

    assert run.log(0).splitlines() == ["worked 1", "worked 2"]
    assert str(run.job.status[0]) == "SIGKILL (9)"
    assert run.one().injected, run.one()


MODULE = program_text("faults/things")


@pytest.fixture
def with_module(tmp_path, run_faults):
    """Run a rank that can import ``things``."""
    (tmp_path / "things.py").write_text(MODULE)

    def run(fault, source, *, first="import json, sys, threading, time\n", **options):
        return run_faults([fault], first + source, **options)

    return run


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("things:second", "things.first(n); things.second(n)"),
        ("things:Child.step", "things.Base().step(); things.Child().step()"),
        ("things:Base.step", "things.Child().step()"),
        ("things:Child.made", "things.Child.made(n)"),
        ("things:Child.still", "things.Child.still(n)"),
        ("things:Child", "things.Base(); things.Child()"),
    ],
)
def test_similar_functions_are_distinguished(with_module, version, target, call):
    """Decorated functions share their code, and classes their methods; each has its own count."""
    source = f"import things\nfor n in range(1, 5):\n    print(n, flush=True)\n    {call}\n"
    run = with_module(faults.exit(7, rank=0, when=when.call(target, hit=2)), source, python=PYTHONS[version])

    assert run.log(0).split() == ["1", "2"], (run.one(), run.log(0, "stderr"))
    assert run.one().injected


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("things:first", "things.first(n)"),
        ("things:fails", "fails(things, n)"),
        ("json:dumps", "json.dumps(n)"),
        ("time:sleep", "time.sleep(0)"),
    ],
)
def test_the_end_of_a_call_counts_too(with_module, version, target, call):
    """By a return or an exception, and after all effects of the call."""
    source = f"""
import things
def fails(things, n):
    try:
        things.fails(n)
    except KeyError:
        pass
for n in range(1, 5):
    print(n, flush=True)
    {call}
"""
    fault = faults.signal("SIGKILL", rank=0, when=when.call(target, hit=2, at="exit"))
    run = with_module(fault, source, python=PYTHONS[version])

    assert run.log(0).split() == ["1", "2"], (run.one(), run.log(0, "stderr"))
    assert run.one().injected


@pytest.mark.parametrize(
    ("target", "source", "status", "why"),
    [
        ("things:frist", "import things", "errored", "things has no 'frist'; did you mean 'first'?"),
        ("things:Child.stop", "import things", "errored", "Child has no 'stop'; did you mean 'step'?"),
        ("json:dunps", "", "errored", "json has no 'dunps'; did you mean 'dumps'?"),
        ("things:SIZE", "import things", "errored", "things:SIZE is not callable: it is int"),
        ("builtins:dict.update", "", "errored", "dict.update cannot be watched"),
        ("__main__:gone", "", "errored", "defines no function 'gone'"),
        ("things:first", "", "not_reached", "things was never imported in rank 0"),
        ("things:first", "import things", "not_reached", "it was never due (at call of things:first)"),
    ],
)
@pytest.mark.parametrize("make", [lambda **how: faults.exit(7, **how), lambda **how: faults.signal("SIGKILL", **how)])
def test_an_impossible_call_is_not_injected(with_module, make, target, source, status, why):
    """A misspelt function is an error at once; a module that was never imported could not be checked."""
    run = with_module(make(rank=0, when=when.call(target)), source)

    assert (run.one().status, why in run.one().detail) == (status, True), run.one()
    assert str(run.job.status[0]) == "exit 0"
    assert run.log(0, "stderr") == ""


@pytest.mark.parametrize("version", PYTHONS)
def test_no_hook_is_left_when_nothing_waits_any_more(tmp_path, run_faults, version):
    """No tool of sys.monitoring, no detour, no finder, no handler; the functions' attributes are their own."""
    (tmp_path / "things.py").write_text(MODULE)
    source = program_text("faults/looks_unchanged")
    stays = f"{UNTIL}until('{ENDED}', 5)\n"
    whens = [
        when.call("things:first", hit=2), when.call("json:dumps", hit=2), when.call("time:sleep", hit=2),
        when.import_of("wave"), when.signal_received("SIGUSR1"),
    ]  # fmt: skip
    run = run_faults(
        [faults.block_signal(["SIGUSR2"], rank=0, when=trigger) for trigger in whens],
        source + stays,
        python=PYTHONS[version],
    )

    assert [result.status for result in run.results] == ["injected"] * 5, run.results
    assert run.log(0).splitlines() == [
        "[] (n)", "[]", "[None, None]", "<built-in function sleep> True signal", "True <built-in function __import__>",
    ], run.log(0, "stderr")  # fmt: skip


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(
    ("module", "source"),
    [("things", "import things"), ("xml.dom", "import xml.dom.minidom"), ("json", "import sys, json"), ("wave", WAVE)],
)
def test_an_import_fires_before_the_first_line_of_the_module(with_module, version, module, source):
    """A module that is already imported fires at the import statement."""
    run = with_module(
        faults.exception("ImportError", "gone", rank=0, when=when.import_of(module)),
        f"print('before', flush=True)\n{source}\nprint('after', flush=True)",
        first="",
        python=PYTHONS[version],
    )

    assert run.log(0) == "before\n", run.log(0, "stderr")
    assert run.log(0, "stderr").endswith("ImportError: gone\n")
    assert run.one().injected, run.one()


def test_a_module_that_is_never_imported_is_not_reached(with_module):
    """The result has the awaited module."""
    run = with_module(faults.exit(7, rank=0, when=when.import_of("wave")), "")

    assert (run.one().status, "at the import of wave" in run.one().detail) == ("not_reached", True)


@pytest.mark.parametrize("make", [lambda **how: faults.exit(7, **how), lambda **how: faults.signal("SIGKILL", **how)])
def test_a_call_in_another_thread_counts_and_the_main_thread_acts(with_module, make):
    """Exiting works only there; the thread waits for it."""
    source = """
def work():
    for n in range(1, 5):
        print(n, flush=True)
        json.dumps(n)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    run = with_module(make(rank=0, when=when.call("json:dumps", hit=2)), source)

    assert run.log(0).split()[:2] == ["1", "2"]
    assert run.one().injected, run.one()


def test_calls_of_a_function_rank_count(tmp_path):
    """A spawned function has no first line of a program."""
    fault = faults.signal("SIGKILL", rank=0, when=when.call("time:sleep", hit=3))
    job = start_job(LocalJob(work, ranks=1, plan=Plan((fault,))), workdir=tmp_path / "w")
    try:
        seen = job.wait(DEADLINE)
        lines = job.log(0, "stdout").read_text().split("\n")
    finally:
        job.close()

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert lines == ["step 1", "step 2", "step 3", ""]
