"""Hooks for calls, imports and signals of the program in a rank."""
