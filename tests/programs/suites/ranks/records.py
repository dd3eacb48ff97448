"""Logs, properties and sections of ranks, by how rank 1 ends."""

import logging
import os
import threading

import pytest

log = logging.getLogger("train")


@pytest.mark.ranks(2)
@pytest.mark.parametrize("ending", ["passes", "fails", "hangs", "dies"])
def test_it(rank, ending, record_property, record_testsuite_property, request, caplog, tmp_path):
    log.warning("%s: logged by %d", ending, rank)
    caplog.set_level("INFO")
    record_property("alike", ending)
    record_property("loss", 0.5 + rank)
    record_testsuite_property(f"suite {ending}", rank)
    request.node.add_report_section("call", "metrics", f"{ending}: measured by {rank}")
    (tmp_path / str(rank)).touch()
    while not (tmp_path / str(1 - rank)).exists():
        pass
    if rank == 1 and ending == "fails":
        assert False
    if rank == 1 and ending == "hangs":
        threading.Event().wait()
    if rank == 1 and ending == "dies":
        os._exit(9)
