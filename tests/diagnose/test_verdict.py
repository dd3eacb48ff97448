"""The verdict on a hang: who is named for which evidence, and when none is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.diagnose.stacks import parse_stack
from derail.diagnose.verdict import RankView, judge
from diagnose.recorded import call, ring

if TYPE_CHECKING:
    from derail.diagnose.rings import Collective
    from derail.diagnose.stacks import Stack
    from derail.diagnose.verdict import HangVerdict

LATE = 1000.0
"""Seconds on the clock long after the last call."""

STEPS = [call(place) for place in range(1, 17)]
"""What all ranks have done."""
WAITS = [*STEPS, call(17, left=None)]


def stack(function: str = "evaluate", line: int = 131, inner: str = "") -> Stack:
    """Return the stack of a rank that is in a function of train.py."""
    found = parse_stack(
        f'Thread 0x01 (most recent call first):\n{inner}  File "/x/train.py", line {line} in {function}\n'
    )
    assert found is not None
    return found


def waiting(*calls: Collective) -> RankView:
    """Return a rank with these last calls, after the common ones."""
    return RankView(ring(0, [*STEPS, *calls]), "S")


def verdict(views: dict[int, RankView], **facts: object) -> HangVerdict:
    """Return the verdict on four ranks; those without a view wait in all_reduce #17."""
    whole = {rank: views.get(rank, RankView(ring(rank, WAITS), "S")) for rank in range(4)}
    return judge(whole, **{"now": LATE, **facts})  # type: ignore[arg-type]


def test_a_rank_that_never_called_is_named_with_its_place() -> None:
    """The lines say what the others wait in, and where it went."""
    found = verdict({1: RankView(ring(1, STEPS), "S", stack=stack(), waits="waits on a lock")})

    assert [(culprit.rank, culprit.reason) for culprit in found.culprits] == [(1, "missing call")]
    assert str(found) == (
        "hang: ranks 0, 2, 3 wait in all_reduce #17 (float32[8]) called at train.py:88\n"
        "      rank 1 never called it: after all_reduce #16 it went to evaluate() at train.py:131 (waits on a lock)"
        "   <- look here"
    )


def test_a_rank_that_sleeps_with_the_gil_is_named_for_it() -> None:
    """It cannot reach the call. One that waits in the collective itself is no culprit."""
    idle = RankView(ring(1, STEPS), "S", stack=stack(), waits="waits on a lock and holds the GIL", holds_gil=True)
    found = verdict({1: idle, 2: RankView(ring(2, WAITS), "S", holds_gil=True)})

    assert [(culprit.rank, culprit.reason) for culprit in found.culprits] == [(1, "GIL held")]
    assert found.lines[1].endswith("evaluate() at train.py:131 (waits on a lock and holds the GIL)   <- look here")


def test_ranks_that_have_ended_the_same_way_share_a_sentence() -> None:
    """In the plural."""
    over = {rank: RankView(ring(rank, WAITS), ended="has finished the test") for rank in (1, 2)}
    found = verdict({**over, 3: RankView(ring(3, STEPS), "T")})
    assert found.lines[0] == "hang: ranks 1, 2 have finished the test"


def test_the_place_is_the_program_s_own() -> None:
    """Frames of libraries, pytest and derail are no place."""
    inner = (
        '  File "/usr/lib/python3.12/threading.py", line 5 in wait\n'
        '  File "/v/lib/python3.12/site-packages/derail/faults/inrank/recorder.py", line 6 in recorded\n'
    )
    found = verdict({1: RankView(ring(1, STEPS), "S", stack=stack(inner=inner))})

    assert "it went to evaluate() at train.py:131 " in str(found)


@pytest.mark.parametrize(
    ("view", "reason", "words"),
    [
        (RankView(ring(1, STEPS), "Z", ended="exit 0"), "exited", "rank 1 exit 0 after all_reduce #16"),
        (RankView(None, "Z", ended="SIGKILL"), "exited", "rank 1 SIGKILL   <-"),
        (RankView(ring(1, STEPS), "T"), "stopped", "rank 1 is stopped (state T) after all_reduce #16"),
        (RankView(ring(1, WAITS), "T"), "stopped", "rank 1 is stopped (state T) in all_reduce #17 (float32[8])"),
        (RankView(ring(1, [])), "missing call", "rank 1 never called it: before any collective"),
        (
            waiting(call(17, "barrier", shapes="", left=None)),
            "other operation",
            "rank 1 called barrier instead, as #17",
        ),
        (waiting(call(17, shapes="float32[9]", left=None)), "other shape", "called all_reduce (float32[9]) instead"),
        (waiting(call(17, shapes="float64[8]", raised=True)), "other shape", "called all_reduce (float64[8]) instead"),
        (
            waiting(call(17, "broadcast", subject="root 2", left=None)),
            "other operation",
            "(float32[8], root 2) instead",
        ),
        (waiting(call(1, group="b", label="tp", left=None)), "other group", "all_reduce #1 (group 'tp', float32[8])"),
        (
            waiting(call(0, "store.wait", group="store", of_store=True, subject="go", left=None)),
            "other operation",
            "rank 1 waits in store.wait of key 'go' at train.py:88 instead",
        ),
        (
            RankView(ring(1, [*STEPS[:-1], call(16, left=None)]), "S"),
            "has not returned",
            "rank 1 has not returned from all_reduce #16",
        ),
        (RankView(None, "S", stack=stack()), "missing call", "rank 1 never called it: it went to evaluate()"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_each_kind_of_evidence_names_the_rank(view: RankView, reason: str, words: str) -> None:
    """It is the only one that is named, wherever the evidence is from."""
    found = verdict({1: view})

    assert [(culprit.rank, culprit.reason) for culprit in found.culprits] == [(1, reason)]
    assert words in str(found)
    assert str(found).endswith("   <- look here")


def test_a_rank_with_an_answer_to_a_peer_missing_is_waited_for() -> None:
    """A rank waits for the peer that never sends to it."""
    receives = call(1, "recv", to_peer=True, peer=2, compared=False, left=None)
    found = verdict({0: waiting(receives), 2: RankView(ring(2, STEPS), "S", stack=stack())})

    assert found.ranks == (2,)
    assert "rank 2 never called it: after all_reduce #16 it went to evaluate()" in str(found)


def test_a_peer_that_has_sent_is_not_waited_for() -> None:
    """The calls of the two are matched by their number."""
    receives = call(1, "recv", to_peer=True, peer=2, compared=False, left=None)
    sent = call(1, "send", to_peer=True, peer=0, compared=False)
    found = judge({0: waiting(receives), 2: waiting(sent)}, now=LATE)

    assert found.ranks == ()


def test_a_key_that_one_rank_should_have_set_is_missed_from_it() -> None:
    """All others wait for the key; it waits for nothing."""
    key = waiting(call(0, "store.wait", group="store", of_store=True, subject="go", left=None))
    found = verdict({0: key, 1: key, 2: key, 3: RankView(ring(3, STEPS), "S", stack=stack())})

    assert found.ranks == (3,)
    assert "rank 3 never set it: after all_reduce #16 it went to evaluate()" in str(found)


def test_a_call_that_one_rank_alone_has_made_names_it_once_the_others_have_exited() -> None:
    """They can never call it any more."""
    done = RankView(ring(0, STEPS), "Z", ended="exit 0")
    found = verdict({0: done, 1: done, 3: done})

    assert [(culprit.rank, culprit.reason) for culprit in found.culprits] == [(2, "extra call")]


IDLE = RankView(ring(0, STEPS), "S", stack=stack("wait_for_file"))
SLOW = [call(place, entered=LATE - 17 + place, left=LATE - 16.9 + place) for place in range(1, 17)]
RECEIVES = call(1, "recv", to_peer=True, peer=None, compared=False, left=None)


@pytest.mark.parametrize(
    ("views", "why"),
    [
        (dict.fromkeys(range(4), IDLE), "no rank waits in a recorded collective"),
        (dict.fromkeys(range(4), RankView()), "no rank has recorded a collective"),
        ({}, "all ranks wait in all_reduce"),
        (dict.fromkeys(range(4), RankView(ring(0, WAITS), "T")), "all ranks are stopped (state T)"),
        ({0: IDLE, 1: IDLE, 2: IDLE}, "most ranks have not called what the others wait in"),
        (
            {rank: waiting(call(17, "barrier", shapes="", left=None)) for rank in (0, 1)},
            "the ranks wait for each other, and no position is that of most",
        ),
        (
            {
                rank: waiting(call(1, "recv", to_peer=True, peer=(rank + 1) % 4, compared=False, left=None))
                for rank in range(4)
            },
            "all ranks wait in recv",
        ),
        (
            {
                **{rank: RankView(ring(rank, [*SLOW, call(17, entered=LATE - 0.5, left=None)])) for rank in range(3)},
                3: RankView(ring(3, SLOW), "R", stack=stack("compute")),
            },
            "the job makes progress: the last collective was 0.5 s ago, and they are usually 1.0 s apart",
        ),
    ],
    ids=["external event", "no records", "same collective", "paused", "one is ahead", "two and two", "cycle", "slow"],
)
def test_without_evidence_against_a_rank_none_is_named(views: dict[int, RankView], why: str) -> None:
    """The first line says why."""
    found = verdict(views)

    assert found.culprits == ()
    assert found.why_none == why
    assert found.lines[0] == f"hang: no rank stands out: {why}"
    assert "look here" not in str(found)


def test_a_job_whose_collectives_end_while_it_is_examined_is_not_hung() -> None:
    """It makes progress."""
    found = verdict({1: RankView(ring(1, STEPS), "R", stack=stack())}, progressed=True)

    assert found.ranks == ()
    assert found.why_none == "the job makes progress: collectives ended while the ranks were examined"


def test_ranks_outside_of_a_group_are_not_waited_for() -> None:
    """Only members can be missing."""
    half = call(1, group="g", ranks=frozenset({0, 1}), left=None)
    found = judge({0: waiting(half), 1: waiting(), 2: waiting(), 3: IDLE}, now=LATE)

    assert found.ranks == (1,)


def test_a_group_whose_records_may_have_been_overwritten_names_no_rank() -> None:
    """A long ring without a call in a group does not show that there was none."""
    old = RankView(ring(1, [call(place, group="other") for place in range(900, 1028)]), "S", stack=stack())
    found = verdict({1: old})

    assert found.ranks == ()


calls = st.builds(
    lambda place, operation, group, left, kind, peer: call(
        place,
        operation,
        group=group,
        left=left,
        to_peer=kind == "peer",
        of_store=kind == "store",
        peer=peer,
        subject="k",
    ),
    st.integers(0, 5),
    st.sampled_from(["all_reduce", "recv", "send", "barrier"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([None, 200.0]),
    st.sampled_from(["group", "peer", "store"]),
    st.sampled_from([None, 0, 1, 7]),
)
views = st.builds(
    RankView,
    ring=st.none() | st.builds(lambda made: ring(0, made), st.lists(calls, max_size=4)),
    state=st.sampled_from(["", "S", "R", "T", "D", "Z"]),
    ended=st.sampled_from(["", "", "exit 0"]),
    stack=st.none() | st.just(stack()),
)


@given(st.dictionaries(st.integers(0, 5), views, max_size=6), st.booleans())
def test_any_state_of_a_job_has_a_verdict(job: dict[int, RankView], progressed: bool) -> None:
    """It names ranks of the job with words, or says why none, and names no rank twice."""
    found = judge(job, now=LATE, progressed=progressed)

    assert bool(found.culprits) != bool(found.why_none)
    assert set(found.ranks) <= set(job)
    assert len(set(found.ranks)) == len(found.ranks)
    assert found.lines[0].startswith("hang: ")
    assert sum("look here" in line for line in found.lines) == len(found.ranks)


def test_a_job_of_a_thousand_ranks_is_judged_as_a_small_one() -> None:
    """Every rank waits for one."""
    steps = [call(place, ranks=frozenset(range(1024))) for place in range(1, 128)]
    waits = RankView(ring(0, [*steps, call(128, ranks=frozenset(range(1024)), left=None)]), "S")
    job = dict.fromkeys(range(1024), waits) | {700: RankView(ring(700, steps), "S", stack=stack())}

    found = judge(job, now=LATE)

    assert found.ranks == (700,)
    assert found.lines[0].startswith("hang: ranks 0-699, 701-1023 wait in all_reduce #128 ")
