"""Launchers under test that run in a sandbox and are observed from outside."""
