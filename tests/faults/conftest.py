"""A job with faults, run without derail's launcher, and all that came of it."""

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
    """What a run left."""

    job: FakeJob
    driver: Driver
    outcome: object
    results: tuple
    records: tuple

    def one(self):
        """The only result."""
        (result,) = self.results
        return result

    def events(self, name):
        """The journal's records of one kind."""
        return [record for record in self.records if record["event"] == name]

    def log(self, rank, stream="stdout"):
        """What a rank wrote."""
        return self.job.log_file(rank, stream).read_text()


@pytest.fixture
def step_loop():
    """The source of a rank that prints its steps; each when the driver has heard of the one before."""
    return STEPS


@pytest.fixture
def run_faults(tmp_path):
    """Runs ranks (source text or argv) with faults, to the end, or until the journal has a text."""

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
