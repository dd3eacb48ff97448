"""Scenarios on agents: one run, many in parallel, and replay."""
