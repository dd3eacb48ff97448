"""Deciding when a job ends, and ending it."""
