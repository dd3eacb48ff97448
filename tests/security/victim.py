"""A user of derail: a job under an external agent with faults of every kind, and what else has a socket, FIFO or port.

``victim.py DIRECTORY``: says its ports on its first line, and what came of it all as JSON on its last.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

from derail import DefaultLogsSpecs, faults, when
from derail.agents.custom import CommandAgent
from derail.errors import ErrorHandler
from derail.faults.mechanisms.tcp_proxy import Proxy, Spoiling
from derail.logs import redirect_stderr
from derail.platform.ports import free_port
from derail.scenario.model import Scenario
from pytest_derail.jobs.leaks import RankFiles
from pytest_derail.ranks.debugger import Debugger
from pytest_derail.ranks.notify import Bell

directory = Path(sys.argv[1])
PROGRAMS = Path(__file__).resolve().parents[1] / "programs" / "security"
launcher, worker = directory / "launcher.py", directory / "worker.py"
(directory / "work").mkdir(mode=0o755)  # as that of --output-dir, which is the user's own
shutil.copy(PROGRAMS / "launcher.py", launcher)
shutil.copy(PROGRAMS / "worker.py", worker)
scenario = Scenario(
    "t",
    3,
    worker,
    faults=faults.plan(
        [
            faults.syscall_errno("fsync", "EIO", rank=0),
            faults.error_file("truncated", rank=1),
            faults.exit(7, rank=2, when=when.call("__main__:told")),
        ]
    ),
    env={"GO": str(directory / "go")},
    timeout=100.0,
)
before = os.umask(0)
os.environ["TORCHELASTIC_ERROR_FILE"] = str(directory / "recorded.json")
ErrorHandler().record_exception(ValueError("with a value in it"))
del os.environ["TORCHELASTIC_ERROR_FILE"]
with redirect_stderr(str(directory / "redirected")):
    os.write(2, b"what a rank prints\n")
Path(DefaultLogsSpecs(str(directory / "made" / "logs")).root_log_dir, "log").write_text("what a rank logs")
os.umask(before)
port = free_port()
proxy = Proxy(port, ("127.0.0.1", free_port()), Spoiling(latency=0.01))
proxy.start()
config = SimpleNamespace(getoption=lambda *_, **__: True)
with Bell(Path(tempfile.mkdtemp(prefix="derail-crew-")) / "bell") as bell, Debugger(config) as debugger:
    print(json.dumps({"ports": [port], "secrets": debugger.address.split(":")[:2]}), flush=True)
    agent = CommandAgent(f"{sys.executable} {launcher} {{script}} {directory / 'work'}")
    seen = agent.run(scenario, directory / "work")
    bell.wait(0)
    peer = debugger._listener.accept()
paths = SimpleNamespace(mktemp=lambda name: Path(tempfile.mkdtemp(prefix=name)), getbasetemp=lambda: directory)
rank_files = RankFiles(paths)
cache = Path(rank_files.environment()["TORCHINDUCTOR_CACHE_DIR"])
rank_files.remove()
outcome = {
    "error": seen.error,
    "timed_out": seen.timed_out,
    "exits": {rank: str(fate.status) for rank, fate in seen.ranks.items()},
    "faults": [str(told.status) for told in seen.faults],
    "details": [told.detail for told in seen.faults],
    "leftovers": [str(left) for left in seen.leftovers],
    "bell": sorted(bell.begun),
    "proxy": proxy.done["connections"],
    "debugged": peer is not None,
    "cache of another user": cache.exists() and cache.stat().st_uid != os.geteuid(),
    "threads": threading.active_count(),
    "pid": os.getpid(),
}
proxy.stop()
print(json.dumps(outcome), flush=True)
