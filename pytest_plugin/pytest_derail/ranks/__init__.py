"""``@pytest.mark.ranks``: in the process that runs pytest, but for its rooms."""
