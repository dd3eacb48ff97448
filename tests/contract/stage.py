"""What a contract case stands on: a directory, a console, ranks to start, and ways to wait for something."""

# ruff: noqa: TID251 - cases run where neither implementation's own means may be used, so they ask the system themselves

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contract.implementations import Api

PATIENCE = 60.0
"""Seconds in which whatever is to happen does so, on a busy machine too."""

SHORT = 3.0
"""Seconds in which it is seen not to happen, where torch is known never to do it."""


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def until(question: Callable[[], object], *, within: float = PATIENCE) -> bool:
    """Ask again and again until the answer is yes; False if it never was in time."""
    end = time.monotonic() + within
    while not question():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


class Stage:
    """The surroundings of one case, inside the process that runs it."""

    def __init__(self, api: Api, directory: Path, *, patience: float = PATIENCE) -> None:
        self.api = api
        self.dir = directory
        self.logs = str(directory / "logs")
        self.patience = patience
        """How long what is expected of the implementation is waited for."""

    def note(self, **facts: Any) -> None:
        """Keep facts also if the case never comes to its end."""
        with (self.dir / "notes.jsonl").open("a") as file:
            file.write(json.dumps(facts) + "\n")

    def programs(self, scripts: Sequence[str], **options: Any) -> Any:
        """Start one ``/bin/sh -c`` per script; the rest goes to ``DefaultLogsSpecs`` or ``start_processes``."""
        return self._start("/bin/sh", [("-c", script) for script in scripts], options)

    def pythons(self, scripts: Sequence[str], **options: Any) -> Any:
        """Start one Python program per script."""
        return self._start(sys.executable, [("-c", script) for script in scripts], options)

    def functions(self, target: Callable[..., Any], args: Sequence[tuple[Any, ...]], **options: Any) -> Any:
        """Start ``target`` once per tuple of arguments, forked unless told otherwise."""
        return self._start(target, args, {"start_method": "fork"} | options)

    def _start(
        self, entrypoint: str | Callable[..., Any], args: Sequence[tuple[Any, ...]], options: dict[str, Any]
    ) -> Any:
        kept = {k: options.pop(k) for k in ("redirects", "tee", "local_ranks_filter") if k in options}
        specs = options.pop("logs_specs", None) or self.api.DefaultLogsSpecs(log_dir=self.logs, **kept)
        return self.api.start_processes(
            name="job",
            entrypoint=entrypoint,
            args=dict(enumerate(args)),
            envs=options.pop("envs", None) or {rank: {} for rank in range(len(args))},
            logs_specs=specs,
            **options,
        )

    def path(self, name: str) -> Path:
        """A file of this case."""
        return self.dir / name

    def text(self, name: str, *, within: float = PATIENCE) -> str:
        """Contents of a file of this case, as soon as it has a whole line."""
        path = self.dir / name
        until(lambda: path.exists() and path.read_text().endswith("\n"), within=within)
        return path.read_text().strip() if path.exists() else ""

    def pid(self, name: str) -> int:
        """A process id that some process wrote into a file of this case."""
        return int(self.text(name))

    def soon(self, question: Callable[[], object]) -> bool:
        """Whether what is expected of the implementation happens."""
        return until(question, within=self.patience)

    def gone(self, pid: int) -> bool:
        """Whether the process has ended, now or soon."""
        return self.soon(lambda: not is_alive(pid))

    def console(self, stream: str = "stdout") -> str:
        """All that the case has put on its console."""
        getattr(sys, stream).flush()
        return (self.dir / f"console.{stream}").read_text(errors="replace")

    def launcher(self, act: Callable[[], None]) -> int:
        """Run ``act`` in a process of its own (its main thread), and return its pid. It exits with 0 after ``act``."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            signal.set_wakeup_fd(-1)
            act()
            code = 0
        except BaseException:  # whatever it was, this process must not go on as a second test runner
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def exit_of(self, pid: int, *, within: float = PATIENCE) -> int | None:
        """Wait for a process made by ``launcher``; its return code, or None if it does not end in time."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        return None


def took_less_than(seconds: float, act: Callable[[], object]) -> bool:
    """Whether ``act`` came back within ``seconds``."""
    start = time.monotonic()
    act()
    return time.monotonic() - start < seconds
