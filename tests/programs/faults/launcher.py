"""A launcher with a fault in its only rank: ``WORKDIR FAULT``; prints the process ids below it."""

import re
import sys
import time
from pathlib import Path

from derail import faults
from derail.agents.invocation import LocalJob
from derail.agents.native_job import start_job
from faults.real_job import result_of

if __name__ == "__main__":
    run = [sys.executable, "-c", "import time; time.sleep(60)"]
    plan = faults.plan([getattr(faults, sys.argv[2])(rank=0)])
    job = start_job(LocalJob(run, ranks=1, plan=plan), Path(sys.argv[1]))
    assert result_of(job) == "injected", job.fault_results()
    child = re.findall(r"child .pid (\d+)", job.fault_results()[0].detail)
    print(job.pids()[0], *child, flush=True)
    time.sleep(60)
