"""Entries that ranks leave in /dev/shm: unlinked if known to be theirs, else noted, and never an error."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

DIE = """
@pytest.mark.ranks(1, timeout=60{options})
def test_it(rank):
    make_and_kill_tracker(rank)
    {death}
"""


@pytest.fixture
def name():
    """Return an unused name in /dev/shm, and remove its entry afterwards."""
    unique = f"derail-{uuid.uuid4().hex[:12]}"
    yield unique
    for path in Path("/dev/shm").glob(f"{unique}*"):
        path.unlink()


@pytest.mark.parametrize("death", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"])
@pytest.mark.parametrize("options", [", start_method='spawn'", ", start_method='warm'", ", reuse='module'"])
def test_what_a_dead_tracker_had_registered_is_unlinked_if_the_rank_has_created_it(
    run_pytest: RunPytest, pytester: pytest.Pytester, name: str, options: str, death: str
) -> None:
    """Shared memory and semaphores of the rank are removed; segments that it only attached to stay."""
    strangers = Path(f"/dev/shm/{name}-strangers")
    strangers.write_bytes(b"x")
    result = run_pytest(
        program_text("suites/ranks/dead_trackers", NAME=name) + DIE.format(options=options, death=death)
    )
    result.assert_outcomes(failed=1)
    semaphore = pytester.path.joinpath("0.semaphore").read_text().lstrip("/")
    assert not os.path.exists(f"/dev/shm/sem.{semaphore}")
    assert list(Path("/dev/shm").glob(f"{name}*")) == [strangers]
    if "reuse" not in options:
        result.stdout.fnmatch_lines([f"*unlinked: /dev/shm/{name}-made-0 *"])


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_came_to_shared_memory_by_an_unknown_maker_is_a_note(
    run_pytest: RunPytest, name: str, workers: tuple[str, ...]
) -> None:
    """With marker and fixture, with and without pytest-xdist: the test passes, and the report names the entry."""
    source = f"""
import pytest

def leave(kind):
    open("/dev/shm/{name}-" + kind, "w").close()

@pytest.mark.ranks(1, timeout=60)
def test_marker(rank):
    leave("marker")

def test_fixture(derail):
    derail.run(leave, ranks=1, args=("fixture",))
"""
    plugins = ("xdist", "xdist.looponfail") if workers else ()
    result = run_pytest(source, "-rA", *workers, plugins=plugins)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(
        [f"*may be left behind: /dev/shm/{name}-{kind} *" for kind in ("marker", "fixture")]
    )


def test_what_is_used_again_under_another_inode_is_not_unlinked(
    run_pytest: RunPytest, pytester: pytest.Pytester, name: str
) -> None:
    """The rank's segment was removed, and another process has created one of the same name."""
    body = f"""
@pytest.mark.ranks(1, timeout=60)
def test_it(rank):
    make_and_kill_tracker(rank)
    os.rename("/dev/shm/{name}-strangers", "/dev/shm/{name}-made-0")
    os._exit(3)
"""
    Path(f"/dev/shm/{name}-strangers").write_bytes(b"another's")
    result = run_pytest(program_text("suites/ranks/dead_trackers", NAME=name) + body)
    result.assert_outcomes(failed=1)
    assert Path(f"/dev/shm/{name}-made-0").read_bytes() == b"another's"
