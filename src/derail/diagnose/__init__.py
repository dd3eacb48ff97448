"""Where a job hangs: the last collectives of each rank, their stacks, and the rank that the others wait for."""
