"""Declarations of faults, and the interface between engine and injectors."""
