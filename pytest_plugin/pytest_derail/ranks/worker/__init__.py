"""A test on ranks, in the rank."""
