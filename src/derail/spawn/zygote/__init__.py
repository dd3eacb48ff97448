"""Processes that ranks are forked from: what they import, how they are asked, and what a fork becomes."""
