"""Ranks with a fail point in each step."""

import os
import signal
import threading
import time

import pytest

from derail import when
from derail.faults import fail_point
from pytest_derail import *


def steps(count=3):
    for step in range(count):
        print("before", step)
        fail_point("step")
        print("after", step)
    return int(os.environ["RANK"])
