"""Controller side of an adopted test: it runs as ever, and what it would start as processes runs on ranks.

The class's own set-up, tear-down and bookkeeping stay in the controller, once, as its own runner has them there.
"""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.skipping import xfailed_key

from derail.agents.invocation import rank_environment
from pytest_derail.options import is_set, keep
from pytest_derail.ranks.controller import RanksTest
from pytest_derail.ranks.marker import read_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from derail.model.spec import Teardown
    from derail.scenario.model import JobResult
    from pytest_derail.protocol import Order
    from pytest_derail.ranks.marker import RanksMark
    from pytest_derail.ranks.result import Verdict

OF_RANKS = tuple(rank_environment(0, ranks=1, run_id="", master_port=0))
"""Variables of a rank that processes of other runners do not have, unless their parent has them."""


class NotAdoptedError(Exception):
    """Reason why functions cannot run on ranks; the test's own runner starts processes for them."""


class AdoptedTest(RanksTest):
    """Test that runs in the controller, and calls functions on ranks.

    Attributes:
        methods: the start methods of its ranks; empty if it has had none.
        reasons: why processes of the test are not replaced.
    """

    def __init__(self, item: pytest.Function) -> None:
        own = item.get_closest_marker("ranks")
        super().__init__(item, pytest.mark.ranks(1).mark if own is None else own)
        self.methods: list[str] = []
        self.reasons: list[str] = []
        self._is_own = own is not None
        self._calls: Any = b""
        self._jobs: list[JobResult] = []
        self._has_failed = False
        self._stops_others, self._is_launched = True, False

    def install(self) -> None:
        """Show the ranks in reports of the item; its set-up, body and tear-down stay its own."""
        item: Any = self.item
        item.repr_failure = self.show_failure

    def reset(self) -> None:
        """Forget an earlier run of the test."""
        super().reset()
        self._jobs, self._has_failed = [], False

    def call(
        self,
        functions: Sequence[Callable[[], object]],
        *,
        timeout: float,
        reuse: str | None = None,
        fork: bool = False,
        stop_others: bool = True,
        launched: bool = False,
    ) -> Verdict:
        """Call a function on each rank, and return the result.

        Args:
            functions: what each rank calls.
            timeout: the time limit of the test's own runner in seconds; the marker and derail's setting override it.
            reuse: which calls share the ranks: those of a "class"; None for this call only.
            stop_others: whether the end of one rank with an exit code ends the others.
            launched: whether ranks have the variables that torchrun sets.
            fork: whether to fork the ranks from this process if the functions cannot be pickled.

        Raises:
            NotAdoptedError: if the functions cannot be pickled.
        """
        __tracebackhide__ = True
        self._remove_evidence()
        self._stops_others, self._is_launched = stop_others, launched
        mark = replace(self._marked(), reuse=reuse)
        if self._is_own and mark.ranks != len(functions):
            pytest.fail(
                f"{self.item.nodeid}: @pytest.mark.ranks: expected {len(functions)} ranks, as the test itself starts, "
                f"got {mark.ranks}",
                pytrace=False,
            )
        limited = "timeout" in self._given.kwargs or is_set(self.item.config, "timeout")
        self.mark = replace(mark, ranks=len(functions), timeout=mark.timeout if limited else timeout)
        try:
            self._calls = pickle.dumps(list(functions))
        except Exception as error:  # pickling runs third-party code
            if not fork:
                raise NotAdoptedError(f"its function cannot be pickled: {error}") from error
            self._calls, self.mark = list(functions), replace(self.mark, start_method="fork")
        verdict = self.run_limited({})
        self.methods.append(self.mark.start_method)
        self._jobs.append(verdict.seen)
        self._log_records(verdict)
        return verdict

    def raise_failure(self, verdict: Verdict, error: Exception | None = None) -> None:
        """Raise the failure of the ranks, if there is one; ``error`` is what the test expects instead.

        An expected failure is an exception of a rank, and not a rank that died or hung.
        """
        __tracebackhide__ = True
        self.verdict = verdict
        if not verdict.failed:
            return
        failure = self.failure(verdict)
        if error is not None and any(rank.fate != "hung" for rank in verdict.bad):
            failure = self._raised = error
        outcome = getattr(getattr(self.item, "instance", None), "_outcome", None)
        if outcome is not None and not self._may_be_expected():
            outcome.expecting_failure = False
        raise failure

    def has_kept_ranks(self, ranks: int) -> bool:
        """Return whether there are as many reused ranks of the class."""
        from pytest_derail.ranks.pool.pool import kept_ranks

        mark = replace(self._marked(), ranks=ranks, reuse="class")
        return kept_ranks(self.item, mark, self.paths).is_running

    def teardown(self) -> Teardown:
        """Return how the ranks are ended."""
        return replace(super().teardown(), stop_others=self._stops_others)

    def jobs(self) -> list[JobResult]:
        """Return the results of the jobs of the test."""
        return self._jobs

    def before_report(self, call: pytest.CallInfo[None]) -> None:
        """Let hooks decide about the report, except that no xfail marker covers a rank that died or hung."""
        if call.when == "call" and self._raised is not None and not self._may_be_expected():
            self.item.stash[xfailed_key] = None

    def note_report(self, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException] | None) -> None:
        """Add the records of the ranks to a report."""
        self._has_failed |= report.failed
        super().note_report(report, excinfo)

    @property
    def paths(self) -> pytest.TempPathFactory:
        """Factory of temporary directories."""
        factory: pytest.TempPathFactory = self.item._request.getfixturevalue("tmp_path_factory")  # noqa: SLF001
        return factory

    def _marked(self) -> RanksMark:
        return replace(read_mark(self.item, self._given), own_files=False)

    def _order(self, folder: Path, packed: dict[str, bytes]) -> Order:
        environment = {} if self._is_launched else {name: os.environ.get(name) for name in OF_RANKS}
        return replace(super()._order(folder, packed), call=self._calls, environment=environment)

    def _keeps(self) -> bool:
        return keep(self.item.config) or self._broken_off is not None or self._has_failed

    def _remove_evidence(self) -> None:
        """Remove the evidence of an earlier call, which has passed or raised what the test expects."""
        if self._folder is not None and not keep(self.item.config):
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
