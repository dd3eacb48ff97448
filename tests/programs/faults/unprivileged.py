"""A job whose rank has faults of system calls, run without privileges; prints what came of it."""

import shutil
import sys
import tempfile
from pathlib import Path

from derail import faults
from derail.agents.invocation import LocalJob
from derail.agents.native_job import start_job

workdir = tempfile.mkdtemp(dir="/tmp")
try:
    plan = faults.plan(
        [
            faults.syscall_errno("write", "ENOSPC", calls=4, rank=0),
            faults.syscall_errno("open,openat", "EIO", calls=1000, path="null", rank=0),
        ]
    )
    job = start_job(LocalJob(sys.argv[1:], ranks=1, plan=plan), Path(workdir))
    seen = job.wait(120)
    job.close()
    capless = "CapEff:\t0000000000000000" in open("/proc/self/status").read()
    print(*seen.faults, seen.ranks[0].status, capless, sep="\n")
finally:
    shutil.rmtree(workdir)
