"""Scenarios on agents: one run, many of them side by side, and a run once more."""
