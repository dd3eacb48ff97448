"""Readers of tables and triggers in TOML and JSON."""
