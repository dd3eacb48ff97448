"""Profiles of schedulers: which signals a job gets, in which order and at which times, before it is started again."""

from __future__ import annotations

import http.server
import signal
import threading
import tomllib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, get_args

from derail.model.clock import SYSTEM_CLOCK
from derail.model.input_error import InputError, not_known
from derail.platform.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Who: TypeAlias = Literal["launcher", "ranks", "all"]
"""Receivers of a signal: the first process of the job, the processes with a rank, or every process of the job."""
SHIPPED = Path(__file__).parent / "schedulers"
_KEYS = {"title": str, "source": str, "requeue": bool, "actions": list}
_OPTIONAL = {"restart_on": list}
_ACTION_KEYS = {"after": (int, float), "signal": str, "to": str, "announce": str}


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a profile.

    Attributes:
        after: seconds after the previous step.
        signal: the name of the signal; empty if it announces.
        to: the receivers of the signal.
        announce: text of an announcement; empty if it signals.
    """

    after: float
    signal: str = ""
    to: Who = "all"
    announce: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a scheduler does to a job that it takes down.

    Attributes:
        name: its name.
        title: one line about it.
        source: the documentation that its numbers are from.
        actions: the steps.
        requeue: whether the job is started again afterwards.
        restart_on: exit codes after which it is started again; None for all.
    """

    name: str
    title: str
    source: str
    actions: tuple[Action, ...]
    requeue: bool
    restart_on: tuple[int, ...] | None = None

    def scaled(self, factor: float) -> Profile:
        """Return the profile with all times multiplied."""
        return replace(self, actions=tuple(replace(each, after=each.after * factor) for each in self.actions))

    def restarts_after(self, code: int) -> bool:
        """Return whether a job that ended with an exit code is started again."""
        return self.requeue and (self.restart_on is None or code in self.restart_on)


@dataclass(frozen=True, slots=True)
class Sent:
    """Step that was carried out, at a time in monotonic seconds."""

    at: float
    action: Action


class Target(Protocol):
    """Job that a profile acts on."""

    def signal(self, number: signal.Signals, to: Who) -> None:
        """Send a signal."""
        ...

    def announce(self, text: str) -> None:
        """Announce the end."""
        ...


def preempt(profile: Profile, target: Target, wait: Callable[[float], bool]) -> list[Sent]:
    """Carry out the steps of a profile, and return those that were.

    Args:
        profile: the profile.
        target: the job.
        wait: waits for some seconds; True as soon as the job has ended, after which nothing is sent.
    """
    sent: list[Sent] = []
    for action in profile.actions:
        if wait(action.after):
            break
        if action.announce:
            target.announce(action.announce)
        if action.signal:
            target.signal(signal.Signals[action.signal], action.to)
        sent.append(Sent(SYSTEM_CLOCK.now(), action))
    return sent


def shipped_profiles() -> dict[str, Path]:
    """Return the files of the profiles that come with derail, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def load_profile(name_or_path: str) -> Profile:
    """Return a profile: one that comes with derail, by name, or that of a TOML file.

    Raises:
        InputError: if there is none, or with all errors in the file.
    """
    path = shipped_profiles().get(name_or_path) or Path(name_or_path)
    if path.suffix != ".toml":
        raise InputError(not_known(name_or_path, shipped_profiles(), "profile") + ". Or give a TOML file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    problems = _problems(table)
    if problems:
        raise InputError(*(f"{path}: {problem}" for problem in problems))
    actions = tuple(
        Action(float(each["after"]), each.get("signal", ""), each.get("to", "all"), each.get("announce", ""))
        for each in table["actions"]
    )
    codes = table.get("restart_on")
    restart_on = None if codes is None else tuple(codes)
    return Profile(path.stem, table["title"], table["source"], actions, table["requeue"], restart_on)


def _problems(table: dict[str, Any]) -> list[str]:
    problems = [not_known(key, (*_KEYS, *_OPTIONAL), "key") for key in table if key not in {**_KEYS, **_OPTIONAL}]
    for key, kind in {**_KEYS, **_OPTIONAL}.items():
        if key not in table and key in _KEYS:
            problems.append(f"{key}: missing")
        elif key in table and not isinstance(table[key], kind):
            problems.append(f"{key}: expected {kind.__name__}, got {table[key]!r}")
    if problems:
        return problems
    codes = table.get("restart_on", [])
    problems += [f"restart_on: expected exit codes from 0 to 255, got {code!r}" for code in codes if not _is_code(code)]
    if not table["actions"]:
        problems.append("actions: expected at least one")
    for index, action in enumerate(table["actions"]):
        problems += [f"actions[{index}]{problem}" for problem in _action_problems(action)]
    return problems


def _is_code(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 256


def _action_problems(action: object) -> list[str]:
    if not isinstance(action, dict):
        return [f": expected a table, got {action!r}"]
    problems = [f": {not_known(key, _ACTION_KEYS, 'key')}" for key in action if key not in _ACTION_KEYS]
    after = action.get("after")
    if isinstance(after, bool) or not isinstance(after, int | float) or not 0 <= after < 1e6:
        problems.append(f".after: expected seconds, 0 or more, got {after!r}")
    name = action.get("signal", "")
    if name and name not in signal.Signals.__members__:
        problems.append(f".signal: {not_known(str(name), signal.Signals.__members__, 'signal')}")
    if action.get("to", "all") not in get_args(Who):
        problems.append(f".to: {not_known(str(action['to']), get_args(Who), 'receiver')}")
    if not isinstance(action.get("announce", ""), str):
        problems.append(f".announce: expected text, got {action['announce']!r}")
    if bool(name) == bool(action.get("announce", "")):
        problems.append(": expected either signal or announce")
    return problems


class Notice:
    """Announcement of a spot instance's end: a file, and a URL on loopback. A context manager.

    Before the announcement the file does not exist, and the URL answers with 404.

    Args:
        directory: an existing directory for the file.
        served: whether there is a URL.
    """

    def __init__(self, directory: Path, *, served: bool = True) -> None:
        self._file = directory / "notice"
        self._served = served
        self._text = ""
        self._server: http.server.ThreadingHTTPServer | None = None
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        if self._served:
            notice = self

            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    """Answer with the announcement."""
                    body = notice._text.encode()
                    self.send_response(200 if body else 404)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
                    """Log nothing."""

            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            self._exit.callback(self._server.server_close)
            thread = threading.Thread(target=self._server.serve_forever, name="derail-notice", daemon=True)
            start_thread(thread)
            self._exit.callback(thread.join)
            self._exit.callback(self._server.shutdown)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def announce(self, text: str) -> None:
        """Make the announcement."""
        self._text = text
        self._file.write_text(text, encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """Return the variables by which a job finds the announcement."""
        found = {"DERAIL_NOTICE_FILE": str(self._file)}
        if self._server is not None:
            found["DERAIL_NOTICE_URL"] = f"http://127.0.0.1:{self._server.server_address[1]}/"
        return found
