"""The ``derail`` fixture: in the process that runs pytest."""
