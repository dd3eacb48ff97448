"""Fixtures that run a job with faults without derail's launcher, and return its results."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from derail import faults
from derail.faults.engine import journal
from derail.faults.engine.driver import Driver
from faults.fake_job import FakeJob, spec_of
from program_files import UNTIL

STEPS = (
    UNTIL
    + """
for step in range(1, 21):
    print("step", step, flush=True)
    until_told(step)
print("done", flush=True)
"""
)


@dataclass
class Run:
    """Result of a run."""

    job: FakeJob
    driver: Driver
    outcome: object
    results: tuple
    records: tuple

    def one(self):
        """Return the only result."""
        (result,) = self.results
        return result

    def events(self, name):
        """Return the journal's records of one kind."""
        return [record for record in self.records if record["event"] == name]

    def log(self, rank, stream="stdout"):
        """Return the output of a rank."""
        return self.job.log_file(rank, stream).read_text()


@pytest.fixture
def step_loop():
    """Return the source of a rank that prints its steps, each after the driver has read the previous one."""
    return STEPS


@pytest.fixture
def run_faults(tmp_path):
    """Run ranks (source text or argv) with faults to the end, or until the journal contains a text."""

    def run(given, *ranks, seed=0, env=None, grace=10.0, python=None, until=None):
        plan = faults.plan(given, seed=seed)
        driver = Driver(plan, journal=tmp_path / "journal.jsonl")
        options = {} if python is None else {"python": python}
        spec = driver.prepare(spec_of(tmp_path, *ranks, env=env, **options))
        path = driver.journal.path
        given_up = (lambda: until in path.read_text()) if until else (lambda: False)
        job = FakeJob(spec, driver, grace=grace, given_up=given_up)
        outcome = job.run()
        return Run(job, driver, outcome, driver.results(), journal.read(driver.journal.path))

    return run
