"""Zygotes: processes from which ranks are forked."""
