"""Holds that no rank reaches."""

from points import steps

from derail import when


def test_typo(derail):
    derail.hold("stop")
    derail.run(steps)


def test_waits_for_a_rank_that_ends(derail):
    hold = derail.hold("step", hit=4, ranks=[1])
    derail.start(steps, ranks=2)
    hold.wait()


def test_waits_too_long(derail):
    hold = derail.hold("never")
    derail.start(["sleep", "600"], ranks=1)
    hold.wait(0.1)


def test_no_such_rank(derail):
    derail.hold("step", ranks=2)
    derail.run(steps, ranks=2)


def test_no_place_in_a_rank(derail):
    derail.hold(when.after(3))


def test_no_job(derail):
    derail.hold("step").wait()
