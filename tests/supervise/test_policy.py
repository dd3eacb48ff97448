"""The policy alone: histories of events in, actions out; no process, no clock."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from derail.model.events import DeadlinePassed, Exited, SignalSent, Started, StopRequested, ValueReceived
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause
from derail.model.spec import Teardown
from derail.supervise.policy import Enter, Look, Policy, Release, SetDeadline, Signal

TEARDOWN = Teardown(signal=15, grace=4.0, kill_wait=2.0)
OK, CRASH = ExitStatus(code=0), ExitStatus(code=3)


def running(ranks=3, functions=(), teardown=TEARDOWN):
    """A policy whose ranks all run."""
    policy = Policy(functions, ranks=range(ranks), teardown=teardown)
    for rank in range(ranks):
        assert policy.handle(Started(rank, 100 + rank, at=0.0)) == []
    assert policy.all_started(0.0) == [Enter("running")]
    return policy


def exited(rank, status, at=1.0):
    """The end of a rank."""
    return Exited(rank, 100 + rank, status, at=at)


def sent(policy, *ranks, signal=15, at=1.0):
    """Tell the policy that its signal was sent."""
    for rank in ranks:
        policy.handle(SignalSent(rank, signal, at=at))


def test_ranks_that_finish_end_the_job_without_a_signal():
    """The job is done when the last rank has left with code 0."""
    policy = running(2)
    assert policy.handle(exited(0, OK)) == []
    assert policy.handle(exited(1, OK)) == [Enter("done")]
    assert [o.succeeded for o in policy.outcomes({}).values()] == [True, True]


def test_the_first_failure_asks_the_others_and_sets_the_deadlines():
    """One failure: SIGTERM to the living, a look and SIGKILL at the end of one common grace."""
    policy = running(3)
    assert policy.handle(exited(1, CRASH)) == [
        Enter("stopping"),
        Signal((0, 2), 15),
        SetDeadline("look", 1.0 + 4.0 - 0.25),
        SetDeadline("kill", 5.0),
    ]


def test_who_did_not_obey_is_looked_at_killed_and_at_last_abandoned():
    """Stopping -> killing -> done, each with its deadline; a rank that stays is abandoned."""
    policy = running(2)
    policy.handle(exited(0, CRASH))
    sent(policy, 1)
    assert policy.handle(DeadlinePassed("look", at=4.75)) == [Look((1,))]
    assert policy.handle(DeadlinePassed("kill", at=5.0)) == [
        Enter("killing"),
        Signal((1,), 9),
        SetDeadline("abandon", 7.0),
    ]
    sent(policy, 1, signal=9)
    assert policy.handle(DeadlinePassed("abandon", at=7.0)) == [Enter("done")]
    fate = policy.outcomes({1: "state: D"})[1]
    assert (fate.cause, fate.status, fate.signals_sent, fate.stack, fate.failed) == (
        Cause.ABANDONED,
        None,
        (15, 9),
        "state: D",
        True,
    )


def test_a_rank_that_failed_before_our_signal_failed_by_itself():
    """Two ranks fail within one turn: neither had been signalled, so both failed by themselves, in their order."""
    policy = running(3)
    policy.handle(exited(2, CRASH, at=1.0))
    policy.handle(exited(0, ExitStatus(signal=11), at=1.0))
    sent(policy, 1)
    policy.handle(exited(1, ExitStatus(signal=15), at=1.1))
    fates = policy.outcomes({})
    assert {r: (f.cause, f.exit_order, f.failed) for r, f in fates.items()} == {
        2: (Cause.SELF, 0, True),
        0: (Cause.SELF, 1, True),
        1: (Cause.STOPPED_BY_US, 2, False),
    }


def test_a_function_that_leaves_with_code_0_without_returning_has_failed():
    """Code 0 is no success for a function that did not return."""
    policy = running(2, functions={0, 1})
    assert policy.handle(exited(0, OK))[0] == Enter("stopping")
    assert policy.outcomes({})[0].failed


def test_functions_are_released_when_all_have_returned():
    """A rank that has returned waits for the others, and is let go once."""
    policy = running(2, functions={0, 1})
    assert policy.handle(ValueReceived(1, at=1.0)) == []
    assert policy.handle(ValueReceived(0, at=1.0)) == [Release()]
    assert policy.handle(ValueReceived(0, at=1.0)) == []
    assert policy.handle(exited(0, OK)) == []
    assert policy.handle(exited(1, OK)) == [Enter("done")]


def test_values_that_came_while_others_were_being_started_are_not_forgotten():
    """Functions that all returned before the start was over are released then."""
    policy = Policy({0, 1}, ranks=range(2), teardown=TEARDOWN)
    for rank in range(2):
        policy.handle(Started(rank, 100 + rank, at=0.0))
        assert policy.handle(ValueReceived(rank, at=0.0)) == []
    assert policy.all_started(0.0) == [Enter("running"), Release()]


@pytest.mark.parametrize("request_", [StopRequested("again", 2, 0.0, 2.0), StopRequested("again", 9, 30.0, 2.0)])
def test_a_second_request_without_grace_goes_to_sigkill_at_once(request_):
    """Asking again escalates; it never breaks the teardown off."""
    policy = running(2)
    policy.handle(StopRequested("first", 15, 30.0, 1.0))
    assert policy.handle(request_) == [Enter("killing"), Signal((0, 1), 9), SetDeadline("abandon", 4.0)]


def test_a_second_request_can_shorten_the_grace_but_not_lengthen_it():
    """The earlier of two ends counts."""
    policy = running(1)
    policy.handle(StopRequested("first", 15, 10.0, 1.0))
    assert policy.handle(StopRequested("later", 15, 30.0, 2.0)) == []
    assert policy.handle(StopRequested("sooner", 2, 1.0, 2.0)) == [
        Signal((0,), 2),
        SetDeadline("look", 2.75),
        SetDeadline("kill", 3.0),
    ]


def test_no_grace_skips_the_asking_but_not_the_phase():
    """Grace 0 passes through stopping, without SIGTERM."""
    policy = running(1)
    actions = policy.handle(StopRequested("now", 15, 0.0, 1.0))
    assert actions == [Enter("stopping"), Enter("killing"), Signal((0,), 9), SetDeadline("abandon", 3.0)]


def test_a_stop_before_any_rank_was_started_is_the_end():
    """Nothing was started, so nothing is to be waited for."""
    policy = Policy((), ranks=range(4), teardown=TEARDOWN)
    assert policy.handle(StopRequested("never mind", 15, 30.0, 1.0)) == [Enter("stopping"), Enter("done")]
    assert policy.outcomes({}) == {}


def test_a_failure_while_others_are_started_counts_when_all_are():
    """Rank 0 dies before rank 1 is started: the job is stopped as soon as it runs."""
    policy = Policy((), ranks=range(2), teardown=TEARDOWN)
    policy.handle(Started(0, 100, at=0.0))
    assert policy.handle(exited(0, CRASH, at=0.1)) == []
    policy.handle(Started(1, 101, at=0.2))
    assert policy.all_started(0.2)[:3] == [Enter("running"), Enter("stopping"), Signal((1,), 15)]


def test_nothing_is_decided_after_the_end():
    """Late events of a job that is done lead to nothing."""
    policy = running(1)
    policy.handle(exited(0, OK))
    late = [StopRequested("late", 15, 1.0, 2.0), exited(0, CRASH), DeadlinePassed("kill", 9.0), ValueReceived(0, 9.0)]
    assert [policy.handle(event) for event in late] == [[], [], [], []]


ORDER = ["starting", "running", "stopping", "killing", "done"]


class PolicyMachine(RuleBasedStateMachine):
    """Any order of starts, exits, values, requests and deadlines, in a world that carries out the actions."""

    @initialize(data=st.data(), ranks=st.integers(1, 4), grace=st.sampled_from([0.0, 0.5, 30.0]))
    def begin(self, data, ranks, grace):
        functions = data.draw(st.sets(st.integers(0, ranks - 1)))
        self.policy = Policy(functions, ranks=range(ranks), teardown=Teardown(15, grace, 1.0))
        self.now = 0.0
        self.total = ranks
        self.started: list[int] = []
        self.alive: set[int] = set()
        self.hit: dict[int, list[int]] = {r: [] for r in range(ranks)}
        self.deadlines: dict[str, float] = {}
        self.phases = ["starting"]
        self.functions = functions

    def feed(self, event):
        self.carry_out(self.policy.handle(event))

    def carry_out(self, actions):
        for action in actions:
            match action:
                case Enter(phase=phase):
                    self.phases.append(phase)
                case SetDeadline(name=name, at=at):
                    assert at >= self.now
                    self.deadlines[name] = at
                case Signal(ranks=ranks, signal=number):
                    for rank in ranks:
                        if rank in self.alive:
                            self.hit[rank].append(number)
                            self.feed(SignalSent(rank, number, self.now))
                case Look() | Release():
                    pass

    def has(self):
        return hasattr(self, "policy")

    @precondition(lambda self: self.has() and self.policy.phase == "starting" and len(self.started) < self.total)
    @rule()
    def start_one(self):
        rank = len(self.started)
        self.started.append(rank)
        self.alive.add(rank)
        self.feed(Started(rank, 100 + rank, self.now))

    @precondition(lambda self: self.has() and self.policy.phase == "starting" and len(self.started) == self.total)
    @rule()
    def all_started(self):
        self.carry_out(self.policy.all_started(self.now))

    @precondition(lambda self: self.has() and self.alive)
    @rule(data=st.data(), status=st.sampled_from([OK, CRASH, ExitStatus(signal=9), ExitStatus(lost="stolen")]))
    def one_ends(self, data, status):
        rank = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.discard(rank)
        self.feed(exited(rank, status, self.now))

    @precondition(lambda self: self.has() and self.alive)
    @rule(data=st.data())
    def one_returns(self, data):
        self.feed(ValueReceived(data.draw(st.sampled_from(sorted(self.alive))), self.now))

    @rule(signal=st.sampled_from([15, 2, 9]), grace=st.sampled_from([0.0, 1.0, 60.0]))
    def somebody_asks(self, signal, grace):
        if self.has():
            self.feed(StopRequested("asked", signal, grace, self.now))

    @precondition(lambda self: self.has() and self.deadlines)
    @rule(data=st.data())
    def time_passes(self, data):
        name = data.draw(st.sampled_from(sorted(self.deadlines)))
        self.now = max(self.now, self.deadlines.pop(name))
        self.feed(DeadlinePassed(name, self.now))

    @invariant()
    def no_phase_is_skipped_and_none_comes_back(self):
        if self.has():
            assert self.phases == sorted(self.phases, key=ORDER.index)
            if "killing" in self.phases:
                assert "stopping" in self.phases
            assert len(set(self.phases)) == len(self.phases)

    @invariant()
    def no_wait_is_without_a_bound(self):
        if self.has() and self.policy.phase == "stopping":
            assert "kill" in self.deadlines
        if self.has() and self.policy.phase == "killing":
            assert "abandon" in self.deadlines

    @invariant()
    def who_was_signalled_is_never_to_blame(self):
        if self.has():
            for fate in self.policy.outcomes({}).values():
                if fate.status is not None and self.hit[fate.rank]:
                    assert fate.cause is Cause.STOPPED_BY_US
                    assert not fate.failed

    def teardown(self):
        """From wherever it stands, the job ends by deadlines alone, and each started rank has a fate."""
        if not self.has():
            return
        self.feed(StopRequested("end", 15, 1.0, self.now))
        for _ in range(8):
            if self.policy.phase == "done":
                break
            name = min(self.deadlines, key=self.deadlines.__getitem__)
            self.now = max(self.now, self.deadlines.pop(name))
            self.feed(DeadlinePassed(name, self.now))
        assert self.policy.phase == "done"
        assert set(self.policy.outcomes({})) == set(self.started)
        self.no_phase_is_skipped_and_none_comes_back()


TestPolicyMachine = PolicyMachine.TestCase
TestPolicyMachine.settings = settings(max_examples=200, stateful_step_count=30)
