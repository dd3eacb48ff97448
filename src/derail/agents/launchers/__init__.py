"""Adapters for known launchers: their command lines, reports and promises."""
