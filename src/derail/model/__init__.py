"""Frozen values: the job, its events and its result. No I/O, no import from the rest of derail."""
