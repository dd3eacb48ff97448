"""Code of the ``derail`` fixture, in the process that runs pytest."""
