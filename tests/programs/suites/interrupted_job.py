"""pytest-timeout's signal arrives while a job runs."""

import os
import signal
import threading


def waits_here(controller, job_runs):
    while os.environ["RANK"] == "1" and not job_runs.exists():
        pass
    if os.environ["RANK"] == "1":
        os.kill(controller, signal.SIGALRM)  # as the timer does when the time is over
    threading.Event().wait()


def function(controller, job_runs):
    print("before", flush=True)
    waits_here(controller, job_runs)


def test_it(derail, tmp_path):
    job_runs = tmp_path / "job runs"
    job = derail.start(function, ranks=2, args=(os.getpid(), job_runs))
    job_runs.touch()
    job.wait()
