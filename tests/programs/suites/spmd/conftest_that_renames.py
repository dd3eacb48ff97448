"""A conftest that writes the rank into the node ID of each test, as pylops-mpi's does."""

import os

RANK = os.environ["RANK"]


def rename(item):
    new = f"{item.nodeid}[Rank {RANK}]"
    if hasattr(item, "_nodeid"):
        item._nodeid = new
    else:  # since pytest 9.2
        from _pytest.nodeid import coerce_node_id

        item._id = coerce_node_id(new)


if "AFTERWARDS" in os.environ:

    def pytest_collection_modifyitems(items):
        for item in items:
            rename(item)

else:

    def pytest_itemcollected(item):
        rename(item)
