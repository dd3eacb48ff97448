"""The request to a process for its stack, and the detection of its end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from derail.platform.hang import answers_still, ask_for_python_stack, deaf_threads, stack_signal
from program_files import program_text

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is read from /proc")

ANSWERS = program_text("platform/answers")


def test_the_stack_is_awaited_until_its_last_line_is_written(wait_until) -> None:
    """The stack was cut off where the rank lost the CPU for a moment; now it is read after the handler has ended.
    A stopped process is not awaited."""
    with subprocess.Popen(
        [sys.executable, "-c", ANSWERS, str(stack_signal())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def on(said: str) -> None:
            process.stdin.write("on\n")  # type: ignore[union-attr]
            assert process.stdout.readline() == f"{said}\n"  # type: ignore[union-attr]

        assert process.stdout.readline() == "ready\n"
        assert not answers_still(process.pid)
        assert ask_for_python_stack(process.pid)
        wait_until(lambda: not answers_still(process.pid))
        assert "most recent call first" in process.stderr.readline()

        on("busy")
        process.send_signal(stack_signal())
        assert answers_still(process.pid)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: not answers_still(process.pid))
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: answers_still(process.pid))
        on("free")
        wait_until(lambda: not answers_still(process.pid))
        on("deaf")  # it blocks the signal for ever: no stack is awaited
        assert answers_still(process.pid)
        assert not answers_still(process.pid, deaf=deaf_threads(process.pid))
        process.communicate("end\n")
    assert not answers_still(process.pid)
