"""How a process ended: a code, a signal, or not known; and how that is written for people."""

from __future__ import annotations

import os
import signal as _signal
from dataclasses import dataclass

SIGKILL, SIGCONT = int(_signal.SIGKILL), int(_signal.SIGCONT)

UNKNOWN_RETURNCODE = 255
"""What ``returncode`` says of an exit whose status was lost: a number that no caller takes for success."""


def signal_name(number: int) -> str:
    """Name a signal: ``SIGKILL``, ``SIGRTMIN+3``, or ``signal 99`` where the platform has no name for it.

    ``signal.Signals`` knows only the two ends of the real-time range and raises for those between.
    """
    try:
        return _signal.Signals(number).name
    except ValueError:
        pass
    low, high = getattr(_signal, "SIGRTMIN", None), getattr(_signal, "SIGRTMAX", None)
    if low is not None and high is not None and low < number < high:
        return f"SIGRTMIN+{number - low}" if number - low <= high - number else f"SIGRTMAX-{high - number}"
    return f"signal {number}"


def signal_number(name: str | int) -> int:
    """Number of a signal given as ``"SIGKILL"``, ``"KILL"``, ``"SIGRTMIN+3"``, ``"9"`` or ``9``.

    Raises:
        ValueError: if it names no signal of this platform.
    """
    if isinstance(name, int):
        number = int(name)
    else:
        text = name.strip().upper()
        if text.isdigit():
            number = int(text)
        else:
            text = text if text.startswith("SIG") else f"SIG{text}"
            base, sign, offset = text, "", "0"
            for mark in "+-":
                if mark in text:
                    base, sign, offset = *text.partition(mark)[:2], text.partition(mark)[2]
            if base not in _signal.Signals.__members__ or (sign and not offset.isdigit()):
                raise ValueError(f"{name!r} is not a signal of this platform; use a name like 'SIGTERM' or a number")
            number = int(_signal.Signals[base]) + int(f"{sign}{offset}")
    if not 1 <= number < _signal.NSIG:
        raise ValueError(f"signal {number} does not exist here; signals go from 1 to {_signal.NSIG - 1}")
    return number


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended. Exactly one of ``code``, ``signal`` and ``lost`` says so.

    Attributes:
        code: what it passed to ``_exit``, 0 to 255.
        signal: number of the signal that ended it.
        lost: why the status is not known (somebody else reaped the process, SIGCHLD was ignored ...).
        core_dumped: whether the kernel wrote a core file.
    """

    code: int | None = None
    signal: int | None = None
    lost: str | None = None
    core_dumped: bool = False

    def __post_init__(self) -> None:
        """Refuse a status that says two things, or nothing."""
        if (self.code is not None) + (self.signal is not None) + (self.lost is not None) != 1:
            raise ValueError(f"an exit has a code, a signal or a reason why it is lost, and only one of them: {self}")

    @classmethod
    def from_returncode(cls, returncode: int) -> ExitStatus:
        """Read ``subprocess``' convention: ``-n`` is signal n."""
        return cls(signal=-returncode) if returncode < 0 else cls(code=returncode)

    @classmethod
    def from_waitid(cls, result: object) -> ExitStatus:
        """Read what ``os.waitid`` returned for a process that has ended.

        Raises:
            ValueError: if the result tells of a stop or a ptrace trap, which is no exit.
        """
        code, status = result.si_code, result.si_status  # type: ignore[attr-defined]
        if code == os.CLD_EXITED:
            return cls(code=status)
        if code in (os.CLD_KILLED, os.CLD_DUMPED):
            return cls(signal=status, core_dumped=code == os.CLD_DUMPED)
        raise ValueError(f"si_code {code} tells of a stop or a trap, not of an exit")

    @property
    def ok(self) -> bool:
        """Whether it exited with code 0. A lost status is never ok."""
        return self.code == 0

    @property
    def returncode(self) -> int:
        """``subprocess``' number: the code, minus the signal, or UNKNOWN_RETURNCODE."""
        if self.code is not None:
            return self.code
        return UNKNOWN_RETURNCODE if self.signal is None else -self.signal

    @property
    def shell_code(self) -> int:
        """The shell's number: the code, 128 + the signal, or UNKNOWN_RETURNCODE."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode

    def __str__(self) -> str:
        """``exit 3``, ``SIGKILL (9)``, ``SIGSEGV (11), core dumped`` or ``exit status lost: ...``."""
        if self.code is not None:
            return f"exit {self.code}"
        if self.signal is not None:
            return f"{signal_name(self.signal)} ({self.signal})" + (", core dumped" if self.core_dumped else "")
        return f"exit status lost: {self.lost}"
