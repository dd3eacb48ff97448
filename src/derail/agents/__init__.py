"""Supervisors of the ranks: derail's own launcher, and external agents."""
