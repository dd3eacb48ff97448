"""Frozen values that make up a plan; nothing here imports another part of ``faults``."""
