"""A test that leaves a process of a fork server."""

import multiprocessing
import time

from pytest_derail.jobs import leaks

leaks.SETTLE_SECONDS = 0.5
kept = []


def test_leaves(derail):
    kept.append(multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(600,)))
    kept[0].start()
    derail.allow_left("descriptor")


def test_after():
    kept[0].kill()
    kept[0].join()
