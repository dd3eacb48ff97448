"""The temporary directory of ranks, and the caches that outlast it."""

from __future__ import annotations

import os
import tempfile

import pytest

from pytest_derail.jobs.leaks import RankFiles

CACHE = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture
def common(tmp_path, monkeypatch):
    """Return a temporary directory like /tmp, in which every user can create files."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    directory.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.delenv(CACHE, raising=False)
    monkeypatch.setenv("LOGNAME", "user")
    return directory


@pytest.fixture
def cache_of(tmp_path_factory):
    """Return the directory of the compiled-code cache of ranks."""

    def cache_of():
        files = RankFiles(tmp_path_factory)
        try:
            return files.environment()[CACHE]
        finally:
            files.remove()

    return cache_of


def test_a_cache_of_this_user_outlasts_the_ranks(common, cache_of):
    """It is torch's usual directory, so that code is compiled once for all sessions."""
    (common / "torchinductor_user").mkdir(mode=0o755)

    assert cache_of() == str(common / "torchinductor_user")


def test_a_cache_that_another_user_could_create_is_not_shared(common, cache_of, tmp_path_factory):
    """Torch executes code in its cache: a predictable name in /tmp is not safe."""
    assert cache_of() == str(tmp_path_factory.getbasetemp() / "torchinductor")

    common.chmod(0o700)
    assert cache_of() == str(common / "torchinductor_user")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make directories of another user")
def test_a_cache_of_another_user_is_not_used(common, cache_of, tmp_path_factory):
    """Nor is one that every user may write to."""
    (common / "torchinductor_user").mkdir()
    os.chown(common / "torchinductor_user", 65534, 65534)
    others = cache_of()
    os.chown(common / "torchinductor_user", 0, 0)
    (common / "torchinductor_user").chmod(0o777)

    assert {others, cache_of()} == {str(tmp_path_factory.getbasetemp() / "torchinductor")}
