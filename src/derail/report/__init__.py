"""Journals and outcomes, made readable."""
