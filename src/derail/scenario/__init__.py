"""Scenarios, their expectations, and results of runs."""
