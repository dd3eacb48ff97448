"""Waiting in the program of a rank: for a text in the journal of its job, and for lines that the launcher has read."""

import os
import time

JOURNAL = os.environ.get("JOURNAL") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "work", "journal.jsonl")


def until(text, times=1):
    """Wait until the journal has a text that many times."""
    while True:
        with open(JOURNAL) as file:
            if file.read().count(text) >= times:
                return
        time.sleep(0.01)


def until_told(lines):
    """Wait until the launcher has read that many lines of stdout."""
    while os.path.getsize(os.environ["TOLD"]) < lines:
        time.sleep(0.01)
