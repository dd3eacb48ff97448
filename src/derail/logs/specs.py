"""The names of all files of a job, and the one place where their directories are created."""

from __future__ import annotations

import logging
import os
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from derail.model.std import Std, to_map

_log = logging.getLogger(__name__)

_CONSOLE = ""
"""In place of a path: the stream goes to the launcher's own."""


@dataclass
class LogsDest:
    """Where each log of each local rank is.

    Attributes:
        stdouts: file that stdout is redirected to; empty for the launcher's own stdout.
        stderrs: the same for stderr.
        tee_stdouts: of those, the files whose lines are also shown on the launcher's stdout.
        tee_stderrs: the same for stderr.
        error_files: where each rank writes its error file.
        filtered_stdout: file for the teed lines of all ranks that match the caller's filters.
        filtered_stderr: the same for stderr.
    """

    stdouts: dict[int, str] = field(default_factory=dict)
    stderrs: dict[int, str] = field(default_factory=dict)
    tee_stdouts: dict[int, str] = field(default_factory=dict)
    tee_stderrs: dict[int, str] = field(default_factory=dict)
    error_files: dict[int, str] = field(default_factory=dict)
    filtered_stdout: str = ""
    filtered_stderr: str = ""


class LogsSpecs(ABC):
    """What is to become of the streams of each rank.

    Args:
        log_dir: directory under which the files lie.
        redirects: streams that go to a file; for all ranks, or by local rank.
        tee: streams that go to a file and are shown on the console as well; for all ranks, or by local rank.
        local_ranks_filter: only these ranks are shown on the console; None or empty shows all.
    """

    def __init__(
        self,
        log_dir: str | None = None,
        redirects: Std | dict[int, Std] = Std.NONE,
        tee: Std | dict[int, Std] = Std.NONE,
        local_ranks_filter: set[int] | None = None,
    ) -> None:
        self._root_log_dir = log_dir
        self._redirects = redirects
        self._tee = tee
        self._local_ranks_filter = local_ranks_filter

    @abstractmethod
    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Name the files of one attempt, given the environment of each local rank.

        ``TORCHELASTIC_ERROR_FILE`` is set in each of the environments given.
        """

    @property
    @abstractmethod
    def root_log_dir(self) -> str:
        """The directory under which all files lie."""


class DefaultLogsSpecs(LogsSpecs):
    """One directory for a run, in it one per attempt, in it one per local rank.

    The constructor touches nothing; directories are made when they are first needed. Without a ``log_dir`` that is a
    temporary one, which is removed when this object goes away or the interpreter ends. Nothing else is ever deleted,
    whatever an earlier attempt or another job left there.

    Raises:
        NotADirectoryError: if ``log_dir`` is a file.
    """

    def __init__(
        self,
        log_dir: str | None = None,
        redirects: Std | dict[int, Std] = Std.NONE,
        tee: Std | dict[int, Std] = Std.NONE,
        local_ranks_filter: set[int] | None = None,
    ) -> None:
        if log_dir and log_dir != os.devnull and os.path.exists(log_dir) and not os.path.isdir(log_dir):
            raise NotADirectoryError(f"log_dir: {log_dir} is a file; name a directory, or one that can be made")
        super().__init__(log_dir or None, redirects, tee, local_ranks_filter)
        self._run_log_dir: str | None = None

    @property
    def root_log_dir(self) -> str:
        """The directory under which all files lie; it exists from the first look at it."""
        if self._root_log_dir is None:
            self._root_log_dir = _temporary_directory(self)
        elif self._root_log_dir != os.devnull:
            from pathlib import Path

            from derail.platform.private_files import make_private

            make_private(Path(self._root_log_dir))
        return str(self._root_log_dir)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Name the files of the attempt that ``TORCHELASTIC_RESTART_COUNT`` of rank 0 says, and make their directories.

        ======================================================== =====================================
        ``<log_dir>/<run_id>_<random>/attempt_<n>/<rank>/``      stdout.log, stderr.log, error.json
        ``<log_dir>/<run_id>_<random>/attempt_<n>/``             filtered_stdout.log, filtered_stderr.log
        ======================================================== =====================================

        The same attempt again gives the same files, with what is in them.

        Raises:
            ValueError: if the ranks are not 0 to n - 1, or streams are given for a rank that there is not.
        """
        if set(envs) != set(range(len(envs))):
            raise ValueError(
                f"environments are given for local ranks {sorted(envs)}; they must be 0 to {len(envs) - 1}"
            )
        if not envs:
            _log.warning("log files are asked for, but there are no ranks: no environments were given")
        tee = to_map(self._tee, len(envs))
        redirects = {rank: std | tee[rank] for rank, std in to_map(self._redirects, len(envs)).items()}
        if self._root_log_dir == os.devnull:
            return _nowhere(envs)
        directory = self._attempt_directory(envs[0] if envs else {})
        dest = LogsDest(
            filtered_stdout=os.path.join(directory, "filtered_stdout.log"),
            filtered_stderr=os.path.join(directory, "filtered_stderr.log"),
        )
        for rank, env in envs.items():
            own = os.path.join(directory, str(rank))
            try:
                os.mkdir(own)  # a third of the time of ``makedirs``
            except OSError:
                os.makedirs(own, exist_ok=True)
            is_shown = not self._local_ranks_filter or rank in self._local_ranks_filter
            unredirected = _CONSOLE if is_shown else os.devnull
            to_file, shown = int(redirects[rank]), int(tee[rank]) * is_shown  # flags take a microsecond for each "&"
            for std, name, files, tees in (
                (int(Std.OUT), "stdout.log", dest.stdouts, dest.tee_stdouts),
                (int(Std.ERR), "stderr.log", dest.stderrs, dest.tee_stderrs),
            ):
                files[rank] = os.path.join(own, name) if to_file & std else unredirected
                if shown & std:
                    tees[rank] = files[rank]
            dest.error_files[rank] = env["TORCHELASTIC_ERROR_FILE"] = os.path.join(own, "error.json")
        return dest

    def run_directory(self, run_id: str) -> str:
        """Return the directory of this run, ``<log_dir>/<run_id>_<random>``, made at the first call."""
        if self._run_log_dir is None:
            import tempfile

            prefix = f"{run_id.replace(os.sep, '_')[:100]}_"
            self._run_log_dir = tempfile.mkdtemp(prefix=prefix, dir=self.root_log_dir)
            _log.info("log directory: %s", self._run_log_dir)
        return self._run_log_dir

    def _attempt_directory(self, env: dict[str, str]) -> str:
        directory = self.run_directory(env.get("TORCHELASTIC_RUN_ID", "test_run_id"))
        return os.path.join(directory, f"attempt_{env.get('TORCHELASTIC_RESTART_COUNT', '0')}")

    def __repr__(self) -> str:
        return (
            f"DefaultLogsSpecs(root_log_dir={self._root_log_dir}, redirects={self._redirects}, "
            f"tee={self._tee}, local_ranks_filter={self._local_ranks_filter})"
        )

    def __eq__(self, other: object) -> bool:
        """Whether both name the same directory and streams; two temporary directories are never the same."""
        if self is other:
            return True
        if not isinstance(other, DefaultLogsSpecs) or self._root_log_dir is None:
            return False
        return (self._root_log_dir, self._redirects, self._tee, self._local_ranks_filter) == (
            other._root_log_dir,
            other._redirects,
            other._tee,
            other._local_ranks_filter,
        )

    __hash__ = None  # type: ignore[assignment]  # the directory becomes known later


def _nowhere(envs: dict[int, dict[str, str]]) -> LogsDest:
    """For ``log_dir=os.devnull``: everything goes to the console, and there are no error files."""
    for env in envs.values():
        env["TORCHELASTIC_ERROR_FILE"] = ""
    return LogsDest(
        stdouts=dict.fromkeys(envs, _CONSOLE),
        stderrs=dict.fromkeys(envs, _CONSOLE),
        tee_stdouts=dict.fromkeys(envs, os.devnull),
        tee_stderrs=dict.fromkeys(envs, os.devnull),
        error_files=dict.fromkeys(envs, os.devnull),
        filtered_stdout=os.path.join(os.devnull, "filtered_stdout.log"),
        filtered_stderr=os.path.join(os.devnull, "filtered_stderr.log"),
    )


def _temporary_directory(owner: object) -> str:
    import tempfile

    path = tempfile.mkdtemp(prefix="derail_logs_")
    weakref.finalize(owner, _remove_own, path, os.getpid())
    return path


def _remove_own(path: str, maker: int) -> None:
    """Remove a directory that this process made; a forked child has inherited the finalizer, but not the directory."""
    if os.getpid() == maker:
        import shutil

        shutil.rmtree(path, ignore_errors=True)
