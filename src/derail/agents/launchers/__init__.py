"""Adapters for the launchers that derail knows: their command lines and promises."""
