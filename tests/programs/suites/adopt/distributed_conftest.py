"""Hooks by which tests and fixtures of the shape of DeepSpeed's launch themselves."""

import pytest
from common import DistributedTest


def pytest_configure(config):
    config.addinivalue_line("markers", "world_size(n): number of processes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    if getattr(item.cls, "is_dist_test", False):
        item.cls()(item._request)
        item.runtest = lambda: True


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    if getattr(fixturedef.func, "is_dist_fixture", False):
        fixturedef.func.launch(request)


def pytest_sessionfinish(session):
    for size, pool in DistributedTest._pool_cache.items():
        pool.starmap(DistributedTest()._dist_destroy, [()] * size, chunksize=1)
        pool.terminate()
