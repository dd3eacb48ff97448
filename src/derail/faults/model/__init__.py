"""Frozen values of which a plan consists; nothing here imports another part of ``faults``."""
