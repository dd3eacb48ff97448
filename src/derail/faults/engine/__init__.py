"""A plan at work on a job: the only part of ``faults`` with state."""
