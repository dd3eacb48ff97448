"""Exit statuses: a code, a signal, or unknown; and their text for people."""

from __future__ import annotations

import os
import signal as _signal
from dataclasses import dataclass

SIGABRT, SIGCONT, SIGKILL = int(_signal.SIGABRT), int(_signal.SIGCONT), int(_signal.SIGKILL)

UNKNOWN_RETURNCODE = 255
"""``returncode`` of an exit whose status was lost: a number that no caller takes for success."""


def signal_name(number: int) -> str:
    """Return the name of a signal: ``SIGKILL``, ``SIGRTMIN+3``, or ``signal 99`` where the platform has no name for it.

    ``signal.Signals`` has names only for the two ends of the real-time range and raises for the numbers between.
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
    """Return the number of a signal given as ``"SIGKILL"``, ``"KILL"``, ``"SIGRTMIN+3"``, ``"9"`` or ``9``.

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
    """The exit status of a process: exactly one of ``code``, ``signal`` and ``lost`` is set.

    Attributes:
        code: the process's argument to ``_exit``, 0 to 255.
        signal: number of the signal that ended it.
        lost: why the status is unknown (another thread or library reaped the process, SIGCHLD was ignored ...).
        core_dumped: whether the kernel wrote a core file.
    """

    code: int | None = None
    signal: int | None = None
    lost: str | None = None
    core_dumped: bool = False

    def __post_init__(self) -> None:
        """Refuse a status with none or more than one of the three."""
        if (self.code is not None) + (self.signal is not None) + (self.lost is not None) != 1:
            raise ValueError(f"exit status: expected exactly one of code, signal and lost, got: {self}")

    @classmethod
    def from_returncode(cls, returncode: int) -> ExitStatus:
        """Convert a return code of ``subprocess``, where ``-n`` is signal n."""
        return cls(signal=-returncode) if returncode < 0 else cls(code=returncode)

    @classmethod
    def from_waitid(cls, result: object) -> ExitStatus:
        """Convert the result of ``os.waitid`` for a process that has ended.

        Raises:
            ValueError: if the result is that of a stop or a ptrace trap, which is no exit.
        """
        code, status = result.si_code, result.si_status  # type: ignore[attr-defined]
        if code == os.CLD_EXITED:
            return cls(code=status)
        if code in (os.CLD_KILLED, os.CLD_DUMPED):
            return cls(signal=status, core_dumped=code == os.CLD_DUMPED)
        raise ValueError(f"si_code {code}: expected an exit, got a stop or a trap")

    @property
    def ok(self) -> bool:
        """Whether the process exited with code 0. A lost status is never ok."""
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
