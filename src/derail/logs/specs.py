"""Names of all files of a job; the only place where their directories are created."""

from __future__ import annotations

import logging
import os
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from derail.model.std import Std, to_map

_log = logging.getLogger(__name__)

_CONSOLE = ""
"""Stands for a path: the stream goes to the launcher's own stream."""


@dataclass
class LogsDest:
    """Path of each log of each local rank.

    Attributes:
        stdouts: file that stdout is redirected to; empty for the launcher's own stdout.
        stderrs: the same for stderr.
        tee_stdouts: those of these files that are also shown on the launcher's stdout.
        tee_stderrs: the same for stderr.
        error_files: path of each rank's error file.
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
    """Specification of the destinations of each rank's streams.

    Args:
        log_dir: directory under which the files are created.
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
        """Return the files of one attempt, given the environment of each local rank.

        Sets ``TORCHELASTIC_ERROR_FILE`` in each of the environments given.
        """

    @property
    @abstractmethod
    def root_log_dir(self) -> str:
        """The directory that contains all files."""


class DefaultLogsSpecs(LogsSpecs):
    """One directory for a run, in it one per attempt, in it one per local rank.

    The constructor has no side effects; directories are created at first use. Without a ``log_dir``, a temporary one is
    used and removed when this object is collected or the interpreter exits. Nothing else is ever deleted, whatever an
    earlier attempt or another job left there.

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
            raise NotADirectoryError(f"log_dir: {log_dir} is a file; name a directory, or one that can be created")
        super().__init__(log_dir or None, redirects, tee, local_ranks_filter)
        self._run_log_dir: str | None = None

    @property
    def root_log_dir(self) -> str:
        """The directory that contains all files; it is created at the first access."""
        if self._root_log_dir is None:
            self._root_log_dir = _temporary_directory(self)
        elif self._root_log_dir != os.devnull:
            from pathlib import Path

            from derail.platform.private_files import make_private

            make_private(Path(self._root_log_dir))
        return str(self._root_log_dir)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Return the files of the attempt in ``TORCHELASTIC_RESTART_COUNT`` of rank 0, and create their directories.

        ======================================================== =====================================
        ``<log_dir>/<run_id>_<random>/attempt_<n>/<rank>/``      stdout.log, stderr.log, error.json
        ``<log_dir>/<run_id>_<random>/attempt_<n>/``             filtered_stdout.log, filtered_stderr.log
        ======================================================== =====================================

        A second call for the same attempt returns the same files, with their content.

        Raises:
            ValueError: if the ranks are not 0 to n - 1, or streams are given for a rank that does not exist.
        """
        if set(envs) != set(range(len(envs))):
            raise ValueError(
                f"environments are given for local ranks {sorted(envs)}; they must be 0 to {len(envs) - 1}"
            )
        if not envs:
            _log.warning("log files are requested, but there are no ranks: no environments were given")
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
            to_file, shown = int(redirects[rank]), int(tee[rank]) * is_shown  # each "&" of flags takes a microsecond
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
        """Return the directory of this run, ``<log_dir>/<run_id>_<random>``, created at the first call."""
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
        """Return whether both name the same directory and streams; two temporary directories are never the same."""
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

    __hash__ = None  # type: ignore[assignment]  # the directory is determined later


def _nowhere(envs: dict[int, dict[str, str]]) -> LogsDest:
    """Return the destinations for ``log_dir=os.devnull``: everything on the console, and no error files."""
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
    """Remove a directory that this process made; a forked child inherits the finalizer, but not the directory."""
    if os.getpid() == maker:
        import shutil

        shutil.rmtree(path, ignore_errors=True)
