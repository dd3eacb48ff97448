"""Supervision of a job: the decision when it ends, and its teardown."""
