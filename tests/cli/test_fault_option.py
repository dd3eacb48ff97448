"""The ``--fault`` option."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from derail import faults, when
from derail.cli.fault_option import EXAMPLE, read_plan
from derail.faults.codec import to_toml
from derail.model.input_error import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from derail.faults.model.plan import Fault


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (EXAMPLE, faults.signal("SIGKILL", rank=2, when=when.line("step 3"))),
        ("signal=KILL rank=1,3 after=0.5", faults.signal("SIGKILL", rank=[1, 3], when=when.after(0.5))),
        ("signal=9 rank=all start", faults.signal("SIGKILL", rank="all")),
        ("signal=TERM rank=0 group times=2 every=0.5", faults.signal("TERM", rank=0, group=True, times=2, every=0.5)),
        (
            'signal=STOP rank=0 for=1.5 line="a b" hit=2 stream=stderr',
            faults.signal("STOP", rank=0, for_=1.5, when=when.line("a b", hit=2, stream="stderr")),
        ),
        ("exit=7 rank=1", faults.exit(7, rank=1)),
        ("signal=KILL rank=0 line=3", faults.signal("KILL", rank=0, when=when.line("3"))),
        ("exit=7 rank=0 call=json:dumps hit=3", faults.exit(7, rank=0, when=when.call("json:dumps", hit=3))),
        ("exit=7 rank=0 call=a:b.c at=exit", faults.exit(7, rank=0, when=when.call("a:b.c", at="exit"))),
        ("hang rank=minority import_of=torch", faults.hang(rank="minority", when=when.import_of("torch"))),
        ("signal=KILL rank=0 exit_of=1", faults.signal("KILL", rank=0, when=when.exit_of(1))),
        (
            "signal=KILL rank=0 phase='starting rank 1'",
            faults.signal("KILL", rank=0, when=when.phase("starting rank 1")),
        ),
        ("hang rank=0 restart=2", faults.hang(rank=0, when=when.restart(2))),
        ("hang rank=0 signal_received=TERM", faults.hang(rank=0, when=when.signal_received("TERM"))),
        (
            "signal=USR1 rank='all but one' point=step hit=2..6+2",
            faults.signal("USR1", rank="all but one", when=when.point("step", hit="2..6+2")),
        ),
        (
            """signal=KILL rank=0 all_of='["start", {line = "x", hit = 2}]'""",
            faults.signal("KILL", rank=0, when=when.all_of(when.start(), when.line("x", hit=2))),
        ),
        (
            """signal=KILL rank=0 probability=0.5 of='{point = "x"}' first=1""",
            faults.signal("KILL", rank=0, when=when.probability(0.5, when.point("x"), first=1)),
        ),
        (
            """syscall_errno=write errno=EIO rank=0 when='{call = "a:b"}'""",
            faults.syscall_errno("write", "EIO", rank=0, when=when.call("a:b")),
        ),
    ],
)
def test_words_say_what_python_says(spec: str, fault: Fault) -> None:
    """The option gives the same fault as its builder."""
    assert read_plan([spec]).faults == faults.plan([fault]).faults


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "the fault is empty"),
        ("sginal=KILL rank=0", "did you mean 'signal'?"),
        ("signal=KILLX rank=0", "did you mean 'SIGKILL'?"),
        ("signal=KILL rnak=0", "unknown parameter of 'signal' 'rnak'"),
        ("signal=KILL", "rank: is missing"),
        ("signal=KILL rank=0 rank=1", "'rank' is given twice"),
        ("signal=KILL rank=0 after=1 start", "expected at most one trigger, got after, start"),
        ("signal='KILL rank=0", "No closing quotation"),
    ],
)
def test_a_mistake_is_told_with_the_option_that_it_is_in(spec: str, says: str) -> None:
    """The checks are as strict as those of a plan file."""
    with pytest.raises(InputError) as caught:
        read_plan([spec])
    assert f"--fault {spec!r}: " in str(caught.value)
    assert says in str(caught.value)


def test_in_a_job_of_one_rank_no_option_need_name_it() -> None:
    """The only rank is the default."""
    assert read_plan(["exit=7 call=json:dumps hit=3"], ranks=1) == faults.plan(
        [faults.exit(7, rank=0, when=when.call("json:dumps", hit=3))]
    )
    with pytest.raises(InputError, match="rank: is missing"):
        read_plan(["exit=7"], ranks=2)


def test_options_come_after_the_faults_of_a_file_and_its_seed_may_be_replaced(tmp_path: Path) -> None:
    """The result is one plan."""
    kill, leave = faults.signal("KILL", rank=0), faults.exit(3, rank=1)
    file = tmp_path / "plan.toml"
    file.write_text(to_toml(faults.plan([kill], seed=4)))
    assert read_plan(["exit=3 rank=1"], file=file) == faults.plan([kill, leave], seed=4)
    assert read_plan([], file=file, seed=9) == faults.plan([kill], seed=9)
