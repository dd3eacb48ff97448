"""Injectors: one family of faults per file."""
