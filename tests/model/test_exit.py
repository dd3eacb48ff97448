"""Exit statuses, and their texts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.model import exit as exits
from derail.model.exit import UNKNOWN_RETURNCODE, ExitStatus, signal_name, signal_number
from pytest_derail.strategies import exit_statuses

VALID_SIGNALS = [int(number) for number in signal.valid_signals()]


def ended(source: str) -> ExitStatus:
    """Return the status of a fresh interpreter that runs ``source``, as the kernel reports it."""
    with subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.DEVNULL) as child:
        status = ExitStatus.from_waitid(os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT))
        child.wait()
        assert status.returncode == child.returncode
        return status


class TestSignalName:
    """Every number has a name for people."""

    @pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM"), (11, "SIGSEGV"), (99, "signal 99")])
    def test_a_number_has_the_platforms_name(self, number, name):
        """A known number has its constant's name, an unknown one is shown as unknown."""
        assert signal_name(number) == name

    @pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals here")
    def test_real_time_signals_are_named_from_the_nearer_end(self):
        """Signals between SIGRTMIN and SIGRTMAX have names, though ``signal.Signals`` raises for them."""
        names = [signal_name(number) for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1)]

        assert names[:3] == ["SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+2"]
        assert names[-3:] == ["SIGRTMAX-2", "SIGRTMAX-1", "SIGRTMAX"]
        assert len(set(names)) == len(names)

    def test_a_platform_without_real_time_signals_shows_the_number(self, monkeypatch):
        """Where there is no real-time range, a number without a name is shown as a number."""
        monkeypatch.delattr(exits._signal, "SIGRTMIN", raising=False)

        assert signal_name(40) == "signal 40"

    @given(st.sampled_from(VALID_SIGNALS))
    def test_each_name_round_trips(self, number):
        """The text for a signal of this platform is parsed as that signal."""
        assert signal_number(signal_name(number)) == number


class TestSignalNumber:
    """A signal may be given by any of its names."""

    @pytest.mark.parametrize("name", ["SIGKILL", "KILL", "sigkill", "kill", " SIGKILL ", "9", 9, signal.SIGKILL])
    def test_all_usual_forms_are_understood(self, name):
        """With and without SIG, in any case, as text or as number."""
        assert signal_number(name) == 9

    @pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals here")
    @pytest.mark.parametrize(("name", "base", "offset"), [("SIGRTMIN+3", "SIGRTMIN", 3), ("rtmax-2", "SIGRTMAX", -2)])
    def test_an_offset_is_added(self, name, base, offset):
        """Real-time signals are counted from an end of their range."""
        assert signal_number(name) == getattr(signal, base) + offset

    @pytest.mark.parametrize("name", ["", "SIG", "SIGFOO", "SIGTERM+", "SIGTERM+x", "+3", "1.5", "SIGTERM-1+2"])
    def test_an_unknown_name_is_refused(self, name):
        """An unknown name is repeated, with an example of a valid one."""
        with pytest.raises(ValueError) as raised:
            signal_number(name)

        assert str(raised.value) == f"{name!r} is not a signal of this platform; use a name like 'SIGTERM' or a number"

    @pytest.mark.parametrize("name", ["0", 0, -9, "1000", signal.NSIG, "SIGHUP-1"])
    def test_a_number_out_of_range_is_refused(self, name):
        """A number that no signal has is refused, with the range."""
        with pytest.raises(ValueError, match=rf"does not exist here; signals go from 1 to {signal.NSIG - 1}$"):
            signal_number(name)

    @given(st.text())
    def test_any_text_is_read_or_refused_as_a_value_error(self, text):
        """No text raises anything but ValueError."""
        try:
            assert 1 <= signal_number(text) < signal.NSIG
        except ValueError:
            pass


class TestExitStatus:
    """One status in every convention."""

    @pytest.mark.parametrize(
        ("status", "ok", "returncode", "shell_code", "text"),
        [
            (ExitStatus(code=0), True, 0, 0, "exit 0"),
            (ExitStatus(code=3), False, 3, 3, "exit 3"),
            (ExitStatus(signal=9), False, -9, 137, "SIGKILL (9)"),
            (ExitStatus(signal=11, core_dumped=True), False, -11, 139, "SIGSEGV (11), core dumped"),
            (ExitStatus(lost="stolen"), False, UNKNOWN_RETURNCODE, 255, "exit status lost: stolen"),
        ],
    )
    def test_each_kind_of_end_in_all_conventions(self, status, ok, returncode, shell_code, text):
        """Subprocess' number, the shell's number, and the text."""
        told = (status.ok, status.returncode, status.shell_code, str(status))

        assert told == (ok, returncode, shell_code, text)

    @pytest.mark.parametrize(
        "parts", [{}, {"code": 0, "signal": 9}, {"signal": 9, "lost": "x"}, {"code": 1, "lost": ""}]
    )
    def test_a_status_with_none_or_two_of_the_parts_is_refused(self, parts):
        """An exit has exactly one of code, signal and reason."""
        with pytest.raises(ValueError, match="expected exactly one of code, signal and lost"):
            ExitStatus(**parts)

    @given(exit_statuses(lost=False))
    def test_a_returncode_round_trips(self, status):
        """Subprocess' number round-trips; only the core file is lost."""
        again = ExitStatus.from_returncode(status.returncode)

        assert (again, again.returncode) == (replace(status, core_dumped=False), status.returncode)

    @given(exit_statuses(lost=False))
    def test_a_waitid_result_round_trips(self, status):
        """A status in the form of ``waitid`` is read as the same status."""
        code = os.CLD_EXITED if status.signal is None else os.CLD_DUMPED if status.core_dumped else os.CLD_KILLED
        told = SimpleNamespace(si_code=code, si_status=status.code if status.signal is None else status.signal)

        assert ExitStatus.from_waitid(told) == status

    @given(exit_statuses(), exit_statuses())
    def test_different_statuses_have_different_texts(self, one, other):
        """No status is confused with another in a report, and a signal is read back from its name."""
        assert (str(one) == str(other)) == (one == other)
        assert one.signal is None or signal_number(str(one).partition(" (")[0]) == one.signal

    @given(exit_statuses())
    def test_only_code_zero_is_success_in_every_convention(self, status):
        """No convention turns a failure into a success, least of all a lost status."""
        assert status.ok == (status.code == 0) == (status.returncode == 0) == (status.shell_code == 0)

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("pass", ExitStatus(code=0)),
            ("import os; os._exit(7)", ExitStatus(code=7)),
            ("import os; os.kill(os.getpid(), 9)", ExitStatus(signal=9)),
            ("import os; os.kill(os.getpid(), 37)", ExitStatus(signal=37)),
        ],
    )
    def test_a_waitid_result_is_converted(self, source, expected):
        """``waitid`` distinguishes a code from a signal."""
        if expected.signal is not None and expected.signal not in VALID_SIGNALS:
            pytest.skip(f"no signal {expected.signal} here")
        assert ended(source) == expected

    def test_a_core_file_is_reported(self):
        """A process that left a core file has another si_code than one that was just killed."""
        result = SimpleNamespace(si_code=os.CLD_DUMPED, si_status=6)

        assert ExitStatus.from_waitid(result) == ExitStatus(signal=6, core_dumped=True)

    @pytest.mark.parametrize("code", [os.CLD_STOPPED, os.CLD_TRAPPED, os.CLD_CONTINUED])
    def test_a_stop_is_no_exit(self, code):
        """A stopped or traced process has not ended, and is not treated as ended."""
        with pytest.raises(ValueError, match="expected an exit, got a stop or a trap"):
            ExitStatus.from_waitid(SimpleNamespace(si_code=code, si_status=19))
