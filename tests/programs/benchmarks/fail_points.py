"""Nanoseconds that an empty function and an unarmed fail point take per call: ``CALLS``; as JSON."""

import json
import sys
import time

from derail.faults import fail_point
from derail.faults.inrank import fail_point as points


def empty(name):
    pass


def took(function, calls):
    before = time.perf_counter_ns()
    for _ in range(calls):
        function("step")
    return (time.perf_counter_ns() - before) / calls


def bare(calls):
    before = time.perf_counter_ns()
    for _ in range(calls):
        pass
    return (time.perf_counter_ns() - before) / calls


calls = int(sys.argv[1])
loop = min(bare(calls) for _ in range(5))
print(
    json.dumps(
        [min(took(function, calls) for _ in range(5)) - loop for function in (empty, fail_point)]
        + [sorted(points._armed)]
    )
)
