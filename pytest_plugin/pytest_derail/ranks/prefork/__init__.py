"""Preparation of the process that warm ranks are forked from."""
