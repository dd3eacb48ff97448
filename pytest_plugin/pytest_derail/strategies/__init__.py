"""Hypothesis strategies: faults and plans, error files, log streams, exit statuses, and launcher histories.

``AgentMachine`` draws the histories.
"""

from pytest_derail.strategies.artifacts import LogStream, error_files, exit_statuses, log_streams
from pytest_derail.strategies.machine import AgentMachine
from pytest_derail.strategies.plans import available_faults, fault_plans, random_faults, triggers

__all__ = [
    "AgentMachine",
    "LogStream",
    "available_faults",
    "error_files",
    "exit_statuses",
    "fault_plans",
    "log_streams",
    "random_faults",
    "triggers",
]
