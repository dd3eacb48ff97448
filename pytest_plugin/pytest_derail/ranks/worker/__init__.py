"""Execution of a test inside a rank."""
