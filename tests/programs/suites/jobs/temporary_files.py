"""Ranks that leave a temporary file."""

import os

where = []


def test_leaves(derail):
    outcome = derail.run(["sh", "-c", "echo $TMPDIR; touch $TMPDIR/left-$RANK"])
    where.append(outcome.log_tail[0, "stdout"][0])


def test_removed(derail):
    assert not os.path.exists(where[0])


def test_may_leave(derail):
    derail.allow_left("file")
    derail.run(["sh", "-c", "touch $TMPDIR/left-$RANK"])
