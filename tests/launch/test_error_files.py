"""Whatever the error file contains, the launcher survives, and exit code and root cause are right."""

from __future__ import annotations

import pytest

from corpus_error_files import CORPUS
from derail import ChildFailedError


class Spoiler:
    """An observer that writes a case of the corpus to rank 1's error file, after its exit and before it is read."""

    wants_lines = False

    def __init__(self, case):
        self.case = case

    def attach(self, control):
        """Remember the job."""
        self.control = control

    def observe(self, event):
        """Write the file."""
        if type(event).__name__ == "Exited" and event.rank == 1:
            self.case.write(self.control.error_file(1))


@pytest.mark.parametrize("name", CORPUS)
def test_no_error_file_hurts_the_launcher(jobs, name):
    """Rank 1 fails and its file is odd: code, root cause and text are right, and the launcher survives."""
    result = jobs.sh("exec sleep 600", "exit 4", observers=[Spoiler(CORPUS[name])]).wait(60)
    assert (list(result.failures), result.failures[1].exitcode, result.root_cause) == ([1], 4, 1)
    text = str(ChildFailedError("job", result.failures))
    text.encode()
    if CORPUS[name].problem:
        assert result.failures[1].error_file_problem
