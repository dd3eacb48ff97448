"""Ranks that print their steps, and ranks of which the second fails."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from derail import faults, when
from pytest_derail import *


def steps():
    for step in range(6000):
        print("step", step)
        time.sleep(0.01)


FAIL = ["sh", "-c", "test $RANK != 1 || exit 3; sleep 600"]
