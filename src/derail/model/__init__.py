"""Frozen values: what a job is, what happened in it, how it ended. No I/O, no import from elsewhere in derail."""
