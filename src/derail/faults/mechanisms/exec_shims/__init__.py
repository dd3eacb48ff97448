"""Programs that prepare a process and then execute the rank's program in it."""
