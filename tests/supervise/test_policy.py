"""The policy alone: histories of events in, actions out; no process, no clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from derail.model.events import DeadlinePassed, ErrorRecorded, Exited, SignalSent, Started, StopRequested, ValueReceived
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause
from derail.model.spec import Teardown
from derail.supervise.policy import Enter, Look, Policy, Release, SetDeadline, Signal

TEARDOWN = Teardown(signal=15, grace=4.0, kill_wait=2.0)
OK, CRASH = ExitStatus(code=0), ExitStatus(code=3)


def running(ranks=3, functions=(), teardown=TEARDOWN):
    """Return a policy with all ranks running."""
    policy = Policy(functions, ranks=range(ranks), teardown=teardown)
    for rank in range(ranks):
        assert policy.handle(Started(rank, 100 + rank, at=0.0)) == []
    assert policy.all_started(0.0) == [Enter("running")]
    return policy


def exited(rank, status, at=1.0):
    """Return the exit of a rank."""
    return Exited(rank, 100 + rank, status, at=at)


def sent(policy, *ranks, signal=15, at=1.0):
    """Report to the policy that its signal was sent."""
    for rank in ranks:
        policy.handle(SignalSent(rank, signal, at=at))


def recorded(rank, at=1.0, *, message="ValueError: x", order="known"):
    """Return the record of an error by a rank."""
    return ErrorRecorded(rank, message, at, order=order)


def blamed(policy):
    """Return the ranks that failed, by the order of the evidence."""
    failed = [fate for fate in policy.outcomes({}).values() if fate.failed]
    return [fate.rank for fate in sorted(failed, key=lambda fate: fate.evidence_order)]


def test_ranks_that_finish_end_the_job_without_a_signal():
    """The job is done when the last rank has exited with code 0."""
    policy = running(2)
    assert policy.handle(exited(0, OK)) == []
    assert policy.handle(exited(1, OK)) == [Enter("done")]
    assert [o.succeeded for o in policy.outcomes({}).values()] == [True, True]


def test_the_first_failure_asks_the_others_and_sets_the_deadlines():
    """One failure: SIGTERM to the live ranks, a look and SIGKILL at the end of one common grace period."""
    policy = running(3)
    assert policy.handle(exited(1, CRASH)) == [
        Enter("stopping"),
        Signal((0, 2), 15),
        SetDeadline("look", 1.0 + 4.0 - 0.25),
        SetDeadline("kill", 5.0),
    ]


def test_a_rank_that_does_not_end_is_examined_killed_and_abandoned():
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


def test_a_rank_that_recorded_its_error_first_is_blamed_although_we_stopped_it():
    """The record before our signal is evidence, however slowly the rank exits; its victim ended before."""
    policy = running(2)
    assert policy.handle(recorded(1, at=1.0)) == []
    assert policy.handle(exited(0, CRASH, at=1.3))[0] == Enter("stopping")
    sent(policy, 1, at=1.8)
    policy.handle(exited(1, ExitStatus(signal=15), at=1.9))
    assert blamed(policy) == [1, 0]
    fate = policy.outcomes({})[1]
    assert (fate.cause, fate.recorded_at, fate.signalled_at, fate.exit_order) == (Cause.SELF, 1.0, 1.8, 1)
    assert str(fate) == "rank 1: SIGTERM (15), stopped after it had failed by itself"


def test_a_record_read_before_our_signal_counts_though_it_is_reported_later():
    """The launcher read the record at 1.0, and sent its signal at 1.1, while the record waited behind another exit."""
    policy = running(2)
    policy.handle(exited(0, CRASH, at=1.0))
    sent(policy, 1, at=1.1)
    policy.handle(recorded(1, at=1.0))
    policy.handle(exited(1, ExitStatus(signal=15), at=1.2))
    assert blamed(policy) == [0, 1]


def test_a_record_after_our_signal_is_an_answer_to_it():
    """A rank that turns our SIGTERM into an exception, and records that, was stopped by us."""
    policy = running(2)
    policy.handle(exited(0, CRASH, at=1.0))
    sent(policy, 1, at=1.0)
    policy.handle(recorded(1, at=1.1))
    policy.handle(exited(1, ExitStatus(code=1), at=1.2))
    assert blamed(policy) == [0]
    fate = policy.outcomes({})[1]
    assert str(fate) == "rank 1: exit 1, stopped by us; it ended 200 ms after the stop was sent"


@pytest.mark.parametrize("asked", [False, True])
def test_a_record_that_the_rank_survived_is_no_failure(asked):
    """Code 0 means that the rank survived its record, whether or not it was asked to end in between."""
    policy = running(2)
    policy.handle(recorded(1, at=0.5))
    policy.handle(exited(0, CRASH if asked else OK))
    if asked:
        sent(policy, 1)
    policy.handle(exited(1, OK))
    assert blamed(policy) == ([0] if asked else [])
    assert policy.outcomes({})[1].succeeded is not asked


def test_a_function_that_returns_has_survived_its_record():
    """We stop it while it waits for the others: no failure."""
    policy = running(2, functions={0, 1})
    policy.handle(recorded(1))
    policy.handle(ValueReceived(1, at=1.5))
    policy.handle(exited(0, CRASH, at=2.0))
    sent(policy, 1, at=2.0)
    policy.handle(exited(1, ExitStatus(signal=15), at=2.1))
    assert blamed(policy) == [0]


def test_a_later_record_takes_the_place_of_one_that_was_survived():
    """A rank that recorded an error, continued, and recorded another one failed with the second."""
    policy = running(2)
    policy.handle(recorded(0, at=0.1, message="first"))
    policy.handle(recorded(1, at=0.2))
    policy.handle(recorded(0, at=0.3, message="second"))
    policy.handle(exited(0, CRASH))
    policy.handle(exited(1, CRASH))
    assert blamed(policy) == [1, 0]
    assert policy.outcomes({})[0].recorded == "second"


def test_a_death_by_a_signal_that_we_did_not_send_is_a_failure_of_its_own():
    """SIGKILL after our SIGTERM came from elsewhere; our own SIGKILL did not."""
    policy = running(3)
    policy.handle(exited(0, CRASH, at=1.0))
    sent(policy, 1, 2)
    policy.handle(exited(1, ExitStatus(signal=9), at=1.1))
    policy.handle(DeadlinePassed("kill", at=5.0))
    sent(policy, 2, signal=9, at=5.0)
    policy.handle(exited(2, ExitStatus(signal=9), at=5.1))
    assert blamed(policy) == [0, 1]
    assert policy.outcomes({})[2].cause is Cause.STOPPED_BY_US


def test_a_record_alone_stops_nothing_and_makes_a_stopped_rank_the_root_cause():
    """A rank that recorded its error and hangs runs until a caller stops the job; then it is the root cause."""
    policy = running(2)
    assert policy.handle(recorded(1)) == []
    policy.handle(StopRequested("timeout", 15, 4.0, 9.0))
    sent(policy, 0, 1, at=9.0)
    for rank in (0, 1):
        policy.handle(exited(rank, ExitStatus(signal=15), at=9.1))
    assert blamed(policy) == [1]


def test_ranks_that_recorded_an_error_are_asked_a_moment_later():
    """They are about to exit: their own code is more specific than our signal. Those that remain are asked then."""
    policy = running(4)
    policy.handle(recorded(1))
    policy.handle(recorded(2))
    assert policy.handle(exited(0, CRASH)) == [
        Enter("stopping"),
        Signal((3,), 15, spared=(1, 2)),
        SetDeadline("look", 4.75),
        SetDeadline("kill", 5.0),
        SetDeadline("ask", 1.5),
    ]
    policy.handle(exited(1, CRASH, at=1.2))
    sent(policy, 3)
    assert policy.handle(DeadlinePassed("ask", at=1.5)) == [Signal((2,), 15, spared=(3,))]


@pytest.mark.parametrize(("order", "rivals"), [("unknown", (0, 3)), ("within its kind", (3,)), ("known", ())])
def test_evidence_of_unknown_order_has_rivals(order, rivals):
    """If the kernel does not report the order, ranks that may have been first are rivals."""
    policy = running(4)
    policy.handle(exited(2, CRASH))
    policy.handle(Exited(0, 100, CRASH, at=1.0, order=order))
    policy.handle(recorded(3, order=order))
    policy.handle(exited(1, CRASH))
    policy.handle(exited(3, CRASH))
    assert blamed(policy) == [2, 0, 3, 1]
    assert (policy.rivals(2), policy.rivals(1)) == (rivals, ())


def test_a_function_that_leaves_with_code_0_without_returning_has_failed():
    """Code 0 is no success for a function that did not return."""
    policy = running(2, functions={0, 1})
    assert policy.handle(exited(0, OK))[0] == Enter("stopping")
    assert policy.outcomes({})[0].failed


def test_functions_are_released_when_all_have_returned():
    """A rank that has returned waits for the others, and is released once."""
    policy = running(2, functions={0, 1})
    assert policy.handle(ValueReceived(1, at=1.0)) == []
    assert policy.handle(ValueReceived(0, at=1.0)) == [Release()]
    assert policy.handle(ValueReceived(0, at=1.0)) == []
    assert policy.handle(exited(0, OK)) == []
    assert policy.handle(exited(1, OK)) == [Enter("done")]


def test_a_failure_need_not_stop_the_others():
    """Without ``stop_others`` they run to their own end; those that have returned wait for them, not for the failed."""
    policy = running(3, functions={0, 1, 2}, teardown=replace(TEARDOWN, stop_others=False))
    assert policy.handle(ValueReceived(2, at=1.0)) == []
    assert policy.handle(exited(1, CRASH)) == []
    assert policy.handle(ValueReceived(0, at=2.0)) == [Release()]
    assert policy.handle(exited(0, OK)) == []
    assert policy.handle(exited(2, OK)) == [Enter("done")]
    assert blamed(policy) == [1]


def test_values_that_arrive_during_the_start_are_not_forgotten():
    """Functions that all returned before the start was over are released then."""
    policy = Policy({0, 1}, ranks=range(2), teardown=TEARDOWN)
    for rank in range(2):
        policy.handle(Started(rank, 100 + rank, at=0.0))
        assert policy.handle(ValueReceived(rank, at=0.0)) == []
    assert policy.all_started(0.0) == [Enter("running"), Release()]


@pytest.mark.parametrize("request_", [StopRequested("again", 2, 0.0, 2.0), StopRequested("again", 9, 30.0, 2.0)])
def test_a_second_request_without_grace_goes_to_sigkill_at_once(request_):
    """A further request escalates; it never aborts the teardown."""
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


def test_no_grace_skips_the_signal_but_not_the_phase():
    """Grace 0 passes through stopping, without SIGTERM."""
    policy = running(1)
    actions = policy.handle(StopRequested("now", 15, 0.0, 1.0))
    assert actions == [Enter("stopping"), Enter("killing"), Signal((0,), 9), SetDeadline("abandon", 3.0)]


def test_a_stop_before_any_rank_was_started_is_the_end():
    """No rank was started, so none is awaited."""
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
    """Any order of starts, exits, values, requests and deadlines, in a world that performs the actions."""

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
        self.recorded: set[int] = set()

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
                case Signal(ranks=ranks, signal=number, spared=spared):
                    assert set(ranks) | set(spared) >= self.alive - set(self.unstarted()) - self.given_up()
                    assert not set(ranks) & set(spared)
                    for rank in ranks:
                        if rank in self.alive:
                            self.hit[rank].append(number)
                            self.feed(SignalSent(rank, number, self.now))
                case Look() | Release():
                    pass

    def has(self):
        return hasattr(self, "policy")

    def unstarted(self):
        return set(range(self.total)) - set(self.started)

    def given_up(self):
        return {fate.rank for fate in self.policy.outcomes({}).values() if fate.status is None} - self.alive

    @precondition(lambda self: self.has() and self.alive)
    @rule(data=st.data())
    def one_records_an_error(self, data):
        rank = data.draw(st.sampled_from(sorted(self.alive)))
        if not self.hit[rank] and self.policy.phase != "done":
            self.recorded.add(rank)
        phases = list(self.phases)
        self.feed(recorded(rank, self.now))
        assert self.phases == phases, "a record alone must not end anything"

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
        rank = data.draw(st.sampled_from(sorted(self.alive)))
        if self.policy.phase != "done":
            self.recorded.discard(rank)
        self.feed(ValueReceived(rank, self.now))

    @rule(signal=st.sampled_from([15, 2, 9]), grace=st.sampled_from([0.0, 1.0, 60.0]))
    def a_stop_is_requested(self, signal, grace):
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
    def who_was_signalled_is_blamed_only_on_evidence(self):
        if self.has():
            for fate in self.policy.outcomes({}).values():
                if fate.status is None or not self.hit[fate.rank]:
                    continue
                own = fate.rank in self.recorded and not fate.status.ok
                foreign = fate.status.signal is not None and fate.status.signal not in self.hit[fate.rank]
                assert (fate.cause is Cause.SELF) == (own or foreign)
                assert fate.failed == (own or foreign)

    @invariant()
    def who_failed_has_evidence_and_who_did_not_has_none(self):
        if self.has():
            for fate in self.policy.outcomes({}).values():
                if fate.status is not None:
                    assert (fate.evidence_order is not None) == fate.failed

    def teardown(self):
        """From any state, the job ends by deadlines alone, and each started rank has an outcome."""
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


@pytest.mark.parametrize("message", ["the cause", None])
def test_a_record_that_is_read_later_has_the_place_of_its_announcement(message):
    """Rank 1 was announced before rank 2 recorded; an announcement without a record leaves no trace."""
    policy = Policy(set(), ranks=range(3), teardown=Teardown())
    for rank in range(3):
        policy.handle(Started(rank, 100 + rank, at=0.0))
    policy.all_started(0.0)
    policy.announce(1, 1.0, "known")
    policy.handle(ErrorRecorded(2, "later", at=2.0))
    if message:
        policy.handle(ErrorRecorded(1, message, at=3.0, order="as announced"))
    policy.handle(Exited(0, 100, ExitStatus(code=4), at=3.0))
    for rank in (2, 1):
        policy.handle(SignalSent(rank, 15, at=4.0))
        policy.handle(Exited(rank, 100 + rank, ExitStatus(signal=15), at=5.0))
    outcomes = policy.outcomes({})
    evidence = {rank: each.evidence_order for rank, each in outcomes.items() if each.evidence_order is not None}
    assert sorted(evidence, key=evidence.__getitem__) == ([1, 2, 0] if message else [2, 0])
    assert outcomes[1].recorded_at == (1.0 if message else None)
    assert policy.rivals(1) == ()


@pytest.mark.parametrize(("may_be_older", "rivals"), [(True, (2,)), (False, ())])
def test_a_record_that_nothing_announced_is_a_rival_of_all_records_before_it(may_be_older, rivals):
    """Also of those from earlier turns; its order against exits is known."""
    policy = Policy(set(), ranks=range(4), teardown=Teardown())
    for rank in range(4):
        policy.handle(Started(rank, 100 + rank, at=0.0))
    policy.all_started(0.0)
    policy.handle(ErrorRecorded(0, "first", at=1.0))
    policy.handle(ErrorRecorded(1, "second", at=2.0))
    policy.handle(ErrorRecorded(2, "found", at=3.0, may_be_older=may_be_older))
    policy.handle(ErrorRecorded(3, "last", at=4.0))
    for rank in range(4):
        policy.handle(Exited(rank, 100 + rank, ExitStatus(code=1), at=5.0))
    assert (policy.rivals(0), policy.rivals(3)) == (rivals, ())


@pytest.mark.parametrize(
    ("status", "root_cause", "rivals"), [(ExitStatus(signal=9), 1, (0,)), (CRASH, 0, (1,)), (OK, 0, ())], ids=str
)
def test_an_exit_under_way_at_a_record_is_first_only_if_it_is_a_death_by_a_signal(status, root_cause, rivals):
    """No error of a peer kills a rank by a signal; it may make a rank exit with a code. Neither order is known."""
    policy = running(2)
    policy.exiting(1, "known", ("signal", "abort"))
    policy.handle(recorded(0, order="unknown"))
    policy.exiting(1, "unknown", ("code",))
    policy.handle(exited(1, status))
    policy.handle(exited(0, CRASH))
    evidence = {
        rank: each.evidence_order for rank, each in policy.outcomes({}).items() if each.evidence_order is not None
    }

    assert min(evidence, key=evidence.__getitem__) == root_cause
    assert policy.rivals(root_cause) == rivals


@pytest.mark.parametrize(
    ("status", "root_cause"), [(ExitStatus(signal=9), 1), (ExitStatus(signal=6), 0), (CRASH, 0)], ids=str
)
def test_an_exit_under_way_behind_a_failure_that_is_over_is_first_if_no_peer_can_have_caused_it(status, root_cause):
    """A rank may abort because of a peer that has exited; nothing else that a peer does is a signal."""
    policy = running(2)
    policy.exiting(1, "unknown", ("signal",))
    policy.handle(recorded(0, order="unknown"))
    policy.handle(exited(0, CRASH))
    policy.handle(exited(1, status))
    evidence = {
        rank: each.evidence_order for rank, each in policy.outcomes({}).items() if each.evidence_order is not None
    }

    assert min(evidence, key=evidence.__getitem__) == root_cause
    assert policy.rivals(root_cause) == ((0,) if root_cause else ())
