"""Warm ranks: equal to spawned ones in every fact, forked from a kept process, and spawned where that is impossible."""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import function_rank
import rank_facts
import rank_functions as ranks
from derail.platform import supported
from derail.spawn import descriptors
from derail.spawn.function import ask_function
from derail.spawn.zygote import import_scan, pool, warm
from function_rank import opened, rank_spec, run, started, wait_readable
from program_files import program_text
from wording import Tells

TESTS = str(Path(function_rank.__file__).parent)


def warm_spec(directory, function, args=(), *, preload=(), **changes):
    """Return the specification of a warm rank with these preloaded modules."""
    spec = rank_spec(directory, "warm", function, args, **changes)
    return replace(spec, run=replace(spec.run, preload=tuple(preload)))


def run_warm(directory, function, *args, preload=(), **changes):
    """Run one rank to its end; return its value, its handle, and its parent."""
    spec = warm_spec(directory, function, args, preload=preload, **changes)
    with opened(spec.rank) as returns, started(spec, returns) as handle:
        parent = parent_of(handle.pid)
        function_rank.wait_done_or_end(handle, returns)
        returns.release()
        assert wait_readable(handle.exit_fd)
        result = handle.result()
    assert isinstance(result, function_rank.Returned), (spec.streams.stderr or Path(os.devnull)).read_text()
    return result.value, handle, parent


def parent_of(pid):
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid):
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module for ranks, and this process, to import."""
    directory = tmp_path / "modules"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))

    def write(name, source):
        path = directory / f"{name}.py"
        path.write_text(source)
        return path

    return write


# ---- like a spawned rank


def changed_host(monkeypatch, tmp_path):
    """Change inherited state of this process after the start of the zygote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHANGED", "since then")
    monkeypatch.setattr(sys, "argv", ["train.py", "--fast"])
    monkeypatch.setattr(sys, "path", [*sys.path, "/added/later"])
    undo = [(os.umask, os.umask(0o027)), (lambda h: signal.signal(signal.SIGHUP, h), signal.getsignal(signal.SIGHUP))]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    undo.append((lambda limit: resource.setrlimit(resource.RLIMIT_NOFILE, limit), (soft, hard)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 11, hard))
    return undo


@pytest.mark.parametrize(
    "preload", [(), pytest.param(("torch",), marks=pytest.mark.torch)], ids=["nothing preloaded", "torch preloaded"]
)
@pytest.mark.parametrize("cpus", [None, 1], ids=["all CPUs", "one CPU"])
@pytest.mark.usefixtures("unmeasured")
def test_a_warm_rank_has_the_same_state_as_a_spawned_one(preload, cpus, tmp_path, monkeypatch, capsys):
    """Item by item, also where the launcher has changed since the zygote was started; the table shows it."""
    change = {
        "env": {"RANK": "3", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": None},
        "cpus": None if cpus is None else frozenset(sorted(os.sched_getaffinity(0))[:cpus]),
    }
    with_torch = "torch" in preload
    if with_torch:
        pytest.importorskip("numpy")
    run_warm(tmp_path, ranks.give, 1, preload=preload, rank=3, **change)
    before = pool.kept()
    undo = changed_host(monkeypatch, tmp_path)
    try:
        change["env"]["CHANGED"] = "since then"
        target = rank_facts.facts_with_torch if with_torch else rank_facts.facts
        spawned = run(tmp_path, "spawn", target, rank=3, **change).value
        found, _, _ = run_warm(tmp_path, target, preload=preload, rank=3, **change)
    finally:
        for put_back, value in undo:
            put_back(value)
    assert pool.kept() == before  # the same process, from before the changes

    told = {name: "the same" if found[name] == fact else short(found[name]) for name, fact in spawned.items()}
    lines = [f"| {name} | {short(fact)} | {told[name]} |" for name, fact in spawned.items()]
    with capsys.disabled():
        print("\n" + "\n".join(["| fact | spawn | warm |", "|---|---|---|", *lines]))
    assert found == spawned


def short(value):
    """Return a value in at most 60 characters."""
    text = repr(value).replace("|", "/")
    return text if len(text) <= 60 else f"{text[:44]}... ({len(text)} characters)"


@pytest.mark.torch
def test_random_generators_differ_from_rank_to_rank(tmp_path):
    """Random generators that the system seeds are seeded in each rank."""
    pytest.importorskip("numpy")
    drawn = [run_warm(tmp_path, rank_facts.chances, preload=("numpy", "torch"))[0] for _ in range(3)]

    assert len(drawn[0]) == 8
    assert {name: len({each[name] for each in drawn}) for name in drawn[0]} == dict.fromkeys(drawn[0], 3)


def test_a_rank_has_the_effects_of_preloaded_modules(tmp_path, module):
    """Handlers and variables that a module sets at its import are set, unless the rank's environment differs."""
    module(
        "busybody",
        "import os, signal\n"
        "def note(*_): pass\n"
        "signal.signal(signal.SIGUSR1, note)\n"
        "os.environ.setdefault('SET_BY_MODULE', 'yes')\n"
        "os.environ.setdefault('ALSO_SET', 'yes')\n"
        "os.environ.pop('REMOVED', None)\n",
    )
    os.environ["REMOVED"] = "not yet"
    try:
        found, _, _ = run_warm(tmp_path, rank_facts.traces, preload=("busybody",), env={"ALSO_SET": "mine"})
    finally:
        del os.environ["REMOVED"]

    assert found == {"handler": "note", "SET_BY_MODULE": "yes", "ALSO_SET": "mine", "REMOVED": None}


def test_exit_functions_of_preloaded_modules_run_once_in_the_end(tmp_path, module):
    """A directory that a module removes at its exit is not removed by the first rank; the rank's own do run there."""
    log = tmp_path / "log"
    module(
        "tidy", f"import atexit, os\natexit.register(lambda: open({str(log)!r}, 'a').write(f'{{os.getpid()}}\\n'))\n"
    )
    parents = {run_warm(tmp_path, ranks.give, 1, preload=("tidy",))[2] for _ in range(2)}
    run_warm(tmp_path, ranks.write_at_exit, str(tmp_path / "own"), preload=("tidy",))
    assert ((tmp_path / "own").read_text(), log.exists()) == ("said goodbye", False)
    warm.end_idle()

    assert [int(line) for line in log.read_text().split()] == list(parents)


def test_a_temporary_directory_and_a_log_handler_of_the_rank_end_with_it(tmp_path):
    """Functions that Python registers once for all exits are registered in the rank as well."""
    path, _, _ = run_warm(
        tmp_path, rank_facts.leave_something_to_the_exit, str(tmp_path / "log"), preload=("tempfile",)
    )

    assert (os.path.exists(path), (tmp_path / "log").read_text()) == (False, "held back\n")


# ---- the zygote


def test_the_zygote_is_kept_for_the_next_job(tmp_path):
    """Ranks of one job and of the next have one parent, a child of ours; end_idle ends it."""
    parents = [run_warm(tmp_path, ranks.give, n)[2] for n in range(3)]
    (pid,) = pool.kept()

    assert (parents, parent_of(pid)) == ([pid] * 3, os.getpid())
    warm.end_idle()
    assert (pool.kept(), alive(pid)) == ({}, False)


def test_end_idle_leaves_a_process_that_is_in_use_to_its_last_rank(tmp_path):
    """It accepts no new rank, and ends when no rank needs it."""
    with opened() as returns, started(warm_spec(tmp_path, ranks.wait_for_ever), returns) as handle:
        (pid,) = pool.kept()
        warm.end_idle()
        assert (pool.kept(), alive(pid), handle.peek()) == ({}, True, None)
    assert not alive(pid)


def at_the_gate(server):
    """Return the pids of a zygote's ranks that wait to be started: they have their own session by then."""
    found = []
    for pid in map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split()):
        with suppress(OSError):
            waits = "pipe" in Path(f"/proc/{pid}/wchan").read_text()
            found += [pid] if waits and os.getsid(pid) == pid else []
    return found


@pytest.mark.parametrize("starts", [True, False], ids=["started", "cancelled"])
def test_a_requested_rank_waits_until_it_is_started(starts, tmp_path, wait_until):
    """It exists before, and runs nothing; if it is not started, it never does, and nothing of it is left."""
    target = tmp_path / "ran"
    spec = warm_spec(tmp_path, ranks.touch, (target,))
    with opened(spec.rank) as returns:
        before = descriptors.owned()
        asked = ask_function(spec, returns)
        (server,) = pool.kept()
        (pid,) = wait_until(lambda: at_the_gate(server))
        assert not target.exists()
        if not starts:
            asked.cancel()
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the end of the rank")
            assert not target.exists()
            assert descriptors.owned() - before <= set(pool.kept()[server])
            return
        with started(spec, returns, asked=asked) as handle:
            assert handle.pid == pid
            function_rank.wait_done_or_end(handle, returns)
            assert target.exists()


def test_a_rank_that_was_killed_before_its_start_has_that_exit_status(tmp_path, wait_until):
    """It existed: its death is an exit like any other, and no failed start."""
    spec = warm_spec(tmp_path, ranks.give, (5,))
    with opened(spec.rank) as returns:
        asked = ask_function(spec, returns)
        (server,) = pool.kept()
        (pid,) = wait_until(lambda: at_the_gate(server))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid))
        with started(spec, returns, asked=asked) as handle:
            assert wait_readable(handle.exit_fd)
            assert wait_until(handle.peek).signal == signal.SIGKILL


def test_a_rank_that_was_requested_in_vain_is_requested_again(tmp_path, wait_until):
    """Its zygote was killed before it was started."""
    spec = warm_spec(tmp_path, ranks.give, (5,))
    with opened(spec.rank) as returns:
        asked = ask_function(spec, returns)
        (server,) = pool.kept()
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not alive(server))
        with started(spec, returns, asked=asked) as handle:
            function_rank.wait_done_or_end(handle, returns)
            returns.release()
            assert wait_readable(handle.exit_fd)
            assert handle.result().value == 5


def test_a_killed_zygote_is_replaced(tmp_path, monkeypatch):
    """Whether it dies between two jobs, or when a rank is requested."""
    _, _, first = run_warm(tmp_path, ranks.give, 1)
    (server,) = pool._zygotes.values()
    os.kill(first, signal.SIGKILL)
    assert wait_readable(server.exit_fd)
    value, _, second = run_warm(tmp_path, ranks.give, 2)
    assert (value, second != first) == (2, True)

    os.kill(second, signal.SIGSTOP)
    (server,) = pool._zygotes.values()
    ask = server.ask_for_rank
    monkeypatch.setattr(server, "ask_for_rank", lambda fds: (ask(fds), os.kill(second, signal.SIGKILL)))
    value, handle, third = run_warm(tmp_path, ranks.give, 3)
    assert (value, handle.spawned_because, third != second) == (3, "", True)


HOST = program_text("spawn/host_of_warm_ranks")


@pytest.mark.parametrize(("how", "code"), [("ends", 0), ("raises", 3), ("killed", -9)])
def test_an_idle_zygote_ends_with_its_host(how, code, tmp_path, run_python, pid_gone):
    """However the host ends."""
    done = run_python(HOST, str(tmp_path), how, TESTS, check=False)

    assert (done.returncode, done.stderr, pid_gone(int(done.stdout))) == (code, "", True)


def test_a_reader_of_the_hosts_output_does_not_wait_for_the_zygote(tmp_path):
    """A host that redirects its own stdout for a while gets it back completely: no other process holds it."""
    source = HOST.replace(
        '    if how == "killed":', "    sys.stdout.flush(); os.close(1); os.close(2); sys.stdin.read()\n    if 0:"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source, str(tmp_path), "ends", TESTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        assert host.stdout is not None
        pid = int(host.stdout.read())  # to its end, while the host and its zygote live
        assert (host.poll(), alive(pid)) == (None, True)
        host.communicate()


def test_each_set_of_modules_has_its_own_process(tmp_path):
    """Both stay: jobs that need one and the other in turn find them."""
    parents = [run_warm(tmp_path, ranks.give, 1, preload=names)[2] for names in [("colorsys",), (), ("colorsys",), ()]]

    assert (parents[:2], len(set(parents))) == (parents[2:], 2)


def test_variables_that_libraries_read_early_are_those_of_the_rank(tmp_path):
    """Another OMP_NUM_THREADS needs another process, which replaces the idle one; RANK does not."""
    parents = [
        run_warm(tmp_path, ranks.give, 1, env=env)[2]
        for env in ({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "1", "RANK": "1"}, {"OMP_NUM_THREADS": "2"})
    ]

    assert (parents[0] == parents[1], parents[1] == parents[2]) == (True, False)
    assert list(pool.kept()) == [parents[2]]
    environment = Path(f"/proc/{parents[2]}/environ").read_bytes().split(b"\0")
    assert b"OMP_NUM_THREADS=2" in environment


def test_a_changed_source_file_is_imported_anew(tmp_path, module):
    """The next rank has the new code; nothing is imported again while nothing changes."""
    path = module("growing", "VALUE = 1\n")
    first = run_warm(tmp_path, rank_facts.attribute, "growing", "VALUE", preload=("growing",))
    again = run_warm(tmp_path, rank_facts.attribute, "growing", "VALUE", preload=("growing",))
    path.write_text("VALUE = 2, 'changed'\n")
    changed = run_warm(tmp_path, rank_facts.attribute, "growing", "VALUE", preload=("growing",))

    assert [first[0], again[0], changed[0]] == [1, 1, (2, "changed")]
    assert (first[2] == again[2], again[2] == changed[2], list(pool.kept())) == (True, False, [changed[2]])


def test_a_new_folder_of_modules_is_found(tmp_path, module, monkeypatch):
    """The zygote has searched for modules there, and found no folder."""
    module("preloaded_here", "")
    folder = tmp_path / "later"
    monkeypatch.syspath_prepend(str(folder))
    _, _, before = run_warm(tmp_path, ranks.give, 1, preload=["preloaded_here"])
    folder.mkdir()
    (folder / "comes_later.py").write_text("ANSWER = 42")
    found, _, parent = run_warm(tmp_path, ranks.import_by_name, "comes_later", preload=["preloaded_here"])

    assert (found, parent) == (42, before)


def test_a_module_that_is_found_elsewhere_now_is_another_module(tmp_path, module, monkeypatch):
    """sys.path determines the file, here as in a spawned rank."""
    module("moving", "VALUE = 'there'\n")
    before = run_warm(tmp_path, rank_facts.attribute, "moving", "VALUE", preload=("moving",))[0]
    other = tmp_path / "other"
    other.mkdir()
    (other / "moving.py").write_text("VALUE = 'here'\n")
    monkeypatch.syspath_prepend(str(other))

    assert (before, run_warm(tmp_path, rank_facts.attribute, "moving", "VALUE", preload=("moving",))[0]) == (
        "there",
        "here",
    )


def test_a_module_that_cannot_be_preloaded_fails_only_in_the_rank(tmp_path, module, capfd):
    """It is reported, and the rank that imports it fails with its own reason."""
    module("hasty", "raise SystemExit('not now')\n")
    value, handle, _ = run_warm(tmp_path, ranks.give, 1, preload=("hasty", "no_such_module_anywhere"))

    said = capfd.readouterr().err
    assert (value, handle.spawned_because) == (1, "")
    assert said == Tells("'hasty'", "SystemExit: not now", "'no_such_module_anywhere'", "ModuleNotFoundError")


# ---- where a fork is impossible


UNFIT = {
    "a thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "preloaded modules have started 1 thread(s), which a fork would not have",
    ),
    "a process": (
        "import subprocess\nchild = subprocess.Popen(['sleep', '0'])\n",
        "preloaded modules have started a process, which would not be the rank's child",
    ),
    "its end": ("import os\nos._exit(3)\n", "the process that preloads heavy ended unexpectedly"),
}


@pytest.mark.parametrize(("source", "reason"), UNFIT.values(), ids=UNFIT)
def test_a_preload_that_does_not_survive_a_fork_makes_ranks_spawn(source, reason, tmp_path, module, caplog):
    """They run normally; the handle has the reason, and a warning is logged once."""
    module("heavy", source)
    with caplog.at_level(logging.WARNING, "derail"):
        ran = [run_warm(tmp_path, ranks.give, n, preload=("heavy",)) for n in range(2)]

    assert [(value, handle.spawned_because, parent) for value, handle, parent in ran] == [
        (n, reason, os.getpid()) for n in range(2)
    ]
    assert caplog.messages == [Tells("'warm'", "heavy", "'spawn'", reason)]
    assert pool.kept() == {}


@pytest.mark.parametrize("name", ["nvidia0", "dri/renderD128"])
def test_an_open_gpu_makes_ranks_spawn(name, tmp_path, module, monkeypatch):
    """The descriptor of a device proves a context, whatever library has opened it."""
    from derail.spawn.zygote import preload

    device = tmp_path / "dev" / name
    device.parent.mkdir(parents=True)
    device.touch()
    monkeypatch.setattr(preload, "_GPU_DEVICES", (str(tmp_path / "dev/nvidia"), str(tmp_path / "dev/dri/render")))
    assert preload._open_gpu() == ""
    with device.open():
        assert preload._open_gpu() == f"{device} is open"


def test_an_initialized_cuda_makes_ranks_spawn(tmp_path, module):
    """It is torch that is queried, if it is loaded."""
    package = module("torch", "").with_suffix("")
    package.with_suffix(".py").unlink()
    package.mkdir()
    (package / "__init__.py").write_text("from torch import cuda\n")
    (package / "cuda.py").write_text("def is_initialized(): return True\n")
    value, handle, _ = run_warm(tmp_path, ranks.give, 1, preload=("torch",))

    assert (value, handle.spawned_because) == (1, Tells("GPU", "torch.cuda"))


def test_where_no_process_may_be_forked_ranks_are_spawned(tmp_path, monkeypatch, caplog):
    """As on macOS."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "macOS" in supported.why_not_to_fork()
    monkeypatch.undo()
    monkeypatch.setattr(supported, "why_not_to_fork", lambda: "not here")
    value, handle, parent = run_warm(tmp_path, ranks.give, 1)

    assert (value, handle.spawned_because, parent) == (1, "not here", os.getpid())
    assert len(caplog.messages) == 1


@pytest.mark.torch
def test_threads_that_end_before_a_fork_are_no_obstacle(tmp_path):
    """OpenBLAS, which is part of numpy, ends its threads before each fork, and starts new ones when needed."""
    pytest.importorskip("numpy")
    value, handle, _ = run_warm(tmp_path, rank_facts.multiply, 300, preload=("numpy",))

    assert (value, handle.spawned_because) == (300.0 * 300 * 300, "")


# ---- preloaded modules


def test_imports_of_a_functions_module_are_preloaded_by_default(tmp_path, module):
    """Installed modules only, and only modules loaded here: a module of the user may read RANK when imported."""
    module("mine", "")
    module(
        "body",
        "from __future__ import annotations\n"
        "import colorsys, mine, json.decoder\n"
        "from xml import sax\n"
        "try:\n    import tomllib\nexcept ImportError:\n    pass\n"
        "if False:\n    import imaplib\n"
        "def late():\n    import poplib\n"
        "def work(names):\n    import sys\n    return [name for name in names if name in sys.modules]\n",
    )
    import body

    try:
        learned = import_scan.imports_of(body.work)
        names = ["colorsys", "json.decoder", "xml.sax", "tomllib", "mine"]
        assert learned == ("__future__", "colorsys", "json.decoder", "xml", "xml.sax", "tomllib")
        spec = rank_spec(tmp_path, "warm", body.work, (names,))
        assert warm.service(spec, spec.run).modules == learned
        assert run(tmp_path, "warm", body.work, names).value == names
    finally:
        for name in ("body", "mine"):
            del sys.modules[name]
