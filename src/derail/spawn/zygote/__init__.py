"""Processes that ranks are forked from."""
