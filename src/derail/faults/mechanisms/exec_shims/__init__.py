"""Programs that prepare a process and then exec the rank's program in it."""
