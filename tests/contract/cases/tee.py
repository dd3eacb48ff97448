"""``tee``: log files and, with a prefix before each line, the console."""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from contract import ranks
from contract.registry import Facts, Fault, case
from contract.stage import PATIENCE, until

if TYPE_CHECKING:
    from contract.implementations import Api
    from contract.stage import Stage


def _in_two_pieces(stage: Stage, first: bytes, seen: bytes, last: bytes) -> str:
    """A Python program that writes ``first``, waits until ``seen`` is on the console (for long on torch, which shows
    it; half a second on derail, which does not), and then writes ``last``."""
    sys.stdout = io.TextIOWrapper(open(1, "wb", buffering=0, closefd=False), write_through=True)  # no buffer of its own
    patience = PATIENCE if stage.api.implementation == "torch" else 0.5
    return (
        f"import os, time\nos.write(1, {first!r})\nend = time.monotonic() + {patience}\n"
        f"while {seen!r} not in open({str(stage.path('console.stdout'))!r}, 'rb').read() and time.monotonic() < end:\n"
        f"    time.sleep(0.01)\n"
        f"os.write(1, {last!r})"
    )


@case({"console": ["[job0]:out\n[job1]:out\n", "[job0]:err\n[job1]:err\n"], "files": ["out\n", "err\n"]})
def teed_lines_are_on_the_console_with_their_rank(api: Api, stage: Stage) -> Facts:
    """Each line is prefixed with ``[name rank]:``, stdout on stdout and stderr on stderr; the files have it plain."""
    result = stage.programs(["echo out; echo err >&2"] * 2, tee=api.Std.ALL).wait()
    lines = ["".join(sorted(stage.console(stream).splitlines(keepends=True))) for stream in ("stdout", "stderr")]
    return {"console": lines, "files": [Path(result.stdouts[0]).read_text(), Path(result.stderrs[1]).read_text()]}


@case({"console": "[job0]:r0 out\n[job1]:r1 out\n"})
def functions_are_teed(api: Api, stage: Stage) -> Facts:
    """The same holds for functions."""
    stage.functions(ranks.print_to_both, [("r0",), ("r1",)], tee=api.Std.OUT, redirects=api.Std.ERR).wait()
    return {"console": "".join(sorted(stage.console().splitlines(keepends=True)))}


@case({"console": "[job1]:one\n<zero> zero\n"})
def prefixes_can_be_given_for_some_ranks(api: Api, stage: Stage) -> Facts:
    """``log_line_prefixes`` replaces the prefix of the ranks that it names."""
    stage.programs(["echo zero", "echo one"], tee=api.Std.OUT, log_line_prefixes={0: "<zero> "}).wait()
    return {"console": "".join(sorted(stage.console().splitlines(keepends=True), reverse=True))} | {
        "console": "".join(sorted(stage.console().splitlines(keepends=True), key=lambda line: line[0], reverse=True))
    }


@case({"console": "[job1]:out\n", "files": [True, True]})
def tee_can_differ_by_rank(api: Api, stage: Stage) -> Facts:
    """A map chooses who is tee'd; the others may still be redirected."""
    result = stage.programs(["echo out"] * 2, redirects=api.Std.OUT, tee={1: api.Std.OUT}).wait()
    return {"console": stage.console(), "files": [Path(result.stdouts[r]).read_text() == "out\n" for r in (0, 1)]}


@case({"filtered": ["[job0]:loss 1\n[job1]:loss 1\n", "[job0]:warn 2\n[job1]:warn 2\n"]})
def filtered_files_have_the_matching_lines_of_all_ranks(api: Api, stage: Stage) -> Facts:
    """Duplicate filters collect the matching tee'd lines of all ranks in one file per stream."""
    result = stage.programs(
        ["echo noise; echo loss 1; echo warn 2 >&2; echo noise >&2"] * 2,
        tee=api.Std.ALL,
        duplicate_stdout_filters=["loss", "accuracy"],
        duplicate_stderr_filters=["warn"],
    ).wait()
    attempt = Path(result.stdouts[0]).parents[1]
    return {
        "filtered": [
            "".join(sorted((attempt / f"filtered_{stream}.log").read_text().splitlines(keepends=True)))
            for stream in ("stdout", "stderr")
        ]
    }


@case({"files": []})
def without_filters_there_are_no_filtered_files(api: Api, stage: Stage) -> Facts:
    """Filtered files are made on demand."""
    result = stage.programs(["echo out"], tee=api.Std.OUT).wait()
    attempt = Path(result.stdouts[0]).parents[1]
    return {"files": sorted(path.name for path in attempt.glob("filtered*") if path.read_text())}


@case(
    {"console": "[job0]:hello\n"},
    torch=Fault(
        "seen on 2.13.0: a line that is written in pieces gets a prefix before each piece",
        {"finished": True, "console": "[job0]:hel[job0]:lo\n"},
    ),
)
def a_line_written_in_pieces_has_one_prefix(api: Api, stage: Stage) -> Facts:
    """Lines are whole on the console, whatever the writes were cut into."""
    stage.pythons([_in_two_pieces(stage, b"hel", b"hel", b"lo\n")], tee=api.Std.OUT).wait()
    return {"console": stage.console()}


@case(
    {"console": "[job0]:5 € only\n"},
    torch=Fault(
        "seen on 2.13.0: a character that is cut by two reads becomes replacement characters",
        {"finished": True, "console": "[job0]:5 \ufffd[job0]:\ufffd only\n"},
    ),
)
def a_character_written_in_pieces_stays_one(api: Api, stage: Stage) -> Facts:
    """Characters of several bytes are whole on the console."""
    euro = "€".encode()
    script = _in_two_pieces(stage, b"5 " + euro[:2], b"5 \xef\xbf\xbd", euro[2:] + b" only\n")
    stage.pythons([script], tee=api.Std.OUT).wait()
    return {"console": stage.console()}


@case(
    {"carriage returns": 2, "lines": 1, "in the file": "10%\r20%\rdone\n"},
    torch=Fault(
        "torchx#424, seen on 2.13.0: each step of a progress bar becomes a line of its own",
        {"carriage returns": 0, "lines": 3, "in the file": "10%\r20%\rdone\n"},
    ),
)
def progress_bars_keep_their_carriage_returns(api: Api, stage: Stage) -> Facts:
    """A carriage return is no line end: the steps of a progress bar stay one line."""
    result = stage.pythons(["import os; os.write(1, b'10%\\r20%\\rdone\\n')"], tee=api.Std.OUT).wait()
    stage.console()
    raw = stage.path("console.stdout").read_bytes()
    return {
        "carriage returns": raw.count(b"\r"),
        "lines": raw.count(b"\n"),
        "in the file": Path(result.stdouts[0]).read_bytes().decode(),
    }


@case({"console": "[job0]:last words"})
def a_last_line_without_its_end_is_shown(api: Api, stage: Stage) -> Facts:
    """What a rank wrote before it was killed is on the console, also without a line end."""
    stage.programs(["printf 'last words'; kill -KILL $$"], tee=api.Std.OUT).wait()
    return {"console": stage.console().rstrip("\n")}


@case({"last line": [True] * 5})
def the_last_line_before_a_crash_is_shown(api: Api, stage: Stage) -> Facts:
    """A line written just before the exit is on the console when ``wait`` has returned."""
    seen = []
    for turn in range(5):
        stage.functions(ranks.print_and_die, [(f"turn {turn}",)], tee=api.Std.OUT, redirects=api.Std.ERR).wait()
        seen.append(f"[job0]:turn {turn}\n" in stage.console())
    return {"last line": seen}


@case({"console": "[job0]:a\ufffdb\n"})
def bad_bytes_are_replaced_on_the_console(api: Api, stage: Stage) -> Facts:
    """Bytes that are no text do not stop the tee."""
    stage.pythons(["import os; os.write(1, b'a\\xffb\\n')"], tee=api.Std.OUT).wait()
    return {"console": stage.console()}


@case(
    {"seen while it ran": "[job0]:hello\n"},
    torch=Fault(
        "pytorch#167169, torchx#805, seen on 2.13.0: on a pipe nothing shows before the launcher ends",
        {"finished": True, "seen while it ran": ""},
    ),
)
def teed_lines_are_flushed_as_they_come(api: Api, stage: Stage) -> Facts:
    """A line is on a console that is a pipe while the rank still runs."""
    read_end, write_end = os.pipe()
    os.dup2(write_end, 1)
    os.close(write_end)
    sys.stdout = open(1, "w", closefd=False)
    context = stage.programs([f"echo hello; while ! [ -e {stage.dir}/go ]; do sleep 0.05; done"], tee=api.Std.OUT)
    ready, _, _ = select.select([read_end], [], [], stage.patience)
    seen = os.read(read_end, 1000).decode() if ready else ""
    stage.path("go").write_text("")
    context.wait()
    return {"seen while it ran": seen}


WORDS = ("zero", "one", "two", "three")
LINES = 10_000
ROUNDS, MANY_ROUNDS = 6, 60
"""Threads that write to one stream do not collide in each job; in one of so many they do."""


@case(
    {"torn": 0},
    torch=Fault(
        "CPython gh-119506, seen on 2.13.0: tailing threads write to one text stream, and tear and lose lines",
        {"torn": "some"},
        chance="whether threads collide is chance; in none of sixty jobs they hardly ever do",
    ),
)
def lines_of_many_ranks_are_neither_lost_nor_torn(api: Api, stage: Stage) -> Facts:
    """Ranks that print at the same time: each line is there, once and whole."""
    script = f"import sys\nfor n in range({LINES}): print(sys.argv[-1], n, 'x' * 60)"
    expected = sorted(f"[job{r}]:{word} {n} {'x' * 60}" for r, word in enumerate(WORDS) for n in range(LINES))
    seen = 0
    for _ in range(MANY_ROUNDS if api.implementation == "torch" else ROUNDS):
        context = api.start_processes(
            "job",
            sys.executable,
            {rank: ("-c", script, word) for rank, word in enumerate(WORDS)},
            {rank: {} for rank in range(len(WORDS))},
            api.DefaultLogsSpecs(log_dir=stage.logs, tee=api.Std.OUT),
        )
        context.wait(period=0.1)
        lines = stage.console().splitlines()[seen:]
        seen += len(lines)
        if sorted(lines) != expected:
            return {"torn": "some"}
    return {"torn": 0}


@case(
    {"result": "exit 3 of rank 0"},
    torch=Fault(
        "seen on 2.13.0: a console that nobody reads blocks wait() for ever",
        {"finished": False},
        deadline=15,
    ),
)
def a_blocked_console_does_not_hold_the_result(api: Api, stage: Stage) -> Facts:
    """When the console is a pipe that nobody reads, the rank's exit is known all the same."""
    _, write_end = os.pipe()
    os.dup2(write_end, 1)
    os.close(write_end)
    sys.stdout = open(1, "w", closefd=False)
    speak = "yes 'a line of some length to fill the pipe' | head -c 2000000; exit 3"
    result = stage.programs([speak], tee=api.Std.OUT).wait(period=0.1)
    facts = {"result": f"exit {result.failures[0].exitcode} of rank 0"}
    sys.stdout = open(os.devnull, "w")
    return facts


@case({"result": "exit 3 of rank 0", "log": 2000000})
def a_full_console_does_not_lose_the_result(api: Api, stage: Stage) -> Facts:
    """When the console is on a full disk, the log file and the rank's exit are there all the same."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.close(full)
    sys.stdout = open(1, "w", closefd=False)
    speak = "yes 'a line of some length' | head -c 2000000; exit 3"
    result = stage.programs([speak], tee=api.Std.OUT).wait(period=0.1)
    facts = {
        "result": f"exit {result.failures[0].exitcode} of rank 0",
        "log": Path(result.stdouts[0]).stat().st_size,
    }
    sys.stdout = open(os.devnull, "w")
    return facts


FLOOD = "while :; do head -c 3000000 /dev/zero | tr '\\000' '\\n'; sleep 0.1; done"
"""A writer without end: 30 MB of empty lines a second, more than any tail of text can read."""


@case(
    {"exit code": 3},
    torch=Fault(
        "NVRx#270, seen on 2.13.0: what a crashed rank left behind floods the log faster than it is read, "
        "and wait() never returns",
        {"finished": False},
        deadline=8,
    ),
)
def a_flooding_child_of_a_crashed_rank_does_not_hold_the_result(api: Api, stage: Stage) -> Facts:
    """A process that outlives its rank and writes on without end holds nobody up."""
    _console_to_nowhere()
    result = stage.programs([f"({FLOOD}) & sleep 0.3; exit 3"], tee=api.Std.OUT).wait(period=0.1)
    _remove(result.stdouts[0])
    return {"exit code": result.failures[0].exitcode}


@case(
    {"exit code": 3, "left": "some"},
    torch=Fault(
        "NVRx#270, seen on 2.13.0: a flooding process in a session of its own holds wait() for ever",
        {"finished": False},
        deadline=8,
    ),
)
def a_flooding_escaped_child_does_not_hold_the_result(api: Api, stage: Stage) -> Facts:
    """Nor does one that has left the rank's session; that one is not ended unless the job asks for it."""
    _console_to_nowhere()
    stage.path("flood").write_text(FLOOD)
    result = stage.programs([f"setsid sh {stage.path('flood')} & sleep 0.3; exit 3"], tee=api.Std.OUT).wait(period=0.1)
    _remove(result.stdouts[0])
    return {"exit code": result.failures[0].exitcode}


def _console_to_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    sys.stdout = open(1, "w", closefd=False)


def _remove(path: str) -> None:
    os.truncate(path, 0)
    os.remove(path)


@case(
    {"threads": "no more than one"},
    torch=Fault(
        "seen on 2.13.0: each tee'd stream of each rank has a thread of its own",
        {"finished": True, "threads": "one per stream"},
    ),
)
def a_job_needs_one_thread(api: Api, stage: Stage) -> Facts:
    """However many streams are tee'd, the launcher has one thread more than before."""
    before = threading.active_count()
    context = stage.programs([f"while ! [ -e {stage.dir}/go ]; do sleep 0.05; done"] * 4, tee=api.Std.ALL)
    until(lambda: threading.active_count() > before, within=2)
    more = threading.active_count() - before
    stage.path("go").write_text("")
    context.wait()
    return {"threads": "one per stream" if more >= 8 else "no more than one" if more <= 1 else str(more)}
