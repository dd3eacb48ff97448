"""Tries everything that a process of another user can try on a job of derail: ``attacker.py UID VICTIM TEMP JOBS``.

It reports what it has tried as one line of JSON for each channel, waits for a line, and reports what came to its traps.
Standard library only: no user can be assumed to reach derail.
"""

import encodings.idna  # noqa: F401 - it is imported when a name is looked up, and this user may not reach it then
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys

uid, victim, temporary, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if os.geteuid() != uid:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
HELLO = json.dumps({"rank": 1, "pid": os.getpid(), "job": "job", "argv": [sys.executable]}).encode()
GREETINGS = (
    HELLO + b"\n",
    b"0" * 32 + b" " + HELLO + b"\n",
    b"\x01",
    b"\x80\x04\x95" + b"\0" * 64,
    b"begun 0\nbad 0\n",
)
seen_paths, posers, traps = [], [], []


def say(channel, tried, accepted):
    """One channel: how many attempts, and what came of those that were accepted."""
    print(json.dumps({"channel": channel, "tried": tried, "accepted": accepted}), flush=True)


def attempt(what, action, accepted):
    """Note an attempt that was not refused; whatever is refused is an OSError."""
    try:
        found = action()
    except (OSError, ValueError, OverflowError):
        return
    if found:
        accepted.append(f"{what}: {found!r}"[:200])


def victims():
    """The processes of the victim, but for those of the kernel."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            about = os.stat(f"/proc/{name}")
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read()
            with open(f"/proc/{name}/status", "rb") as file:
                users = next(line.split()[1] for line in file if line.startswith(b"Uid:"))
        except (OSError, StopIteration):
            continue
        if int(users) == victim and words and about and (directory.encode() in words or b"derail" in words):
            found.append(int(name))
    return found


def read(path):
    """Bytes of a file."""
    with open(path, "rb") as file:
        return file.read(4096)


def write(path):
    """Open it to write; to have got so far is enough, but for a file whose write the kernel checks."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        if path.endswith("timerslack_ns"):
            os.write(fd, b"50000")
    finally:
        os.close(fd)
    return "opened for writing"


def greet(kind, address):
    """Connect and say who we are not; what is answered."""
    for text in GREETINGS:
        with socket.socket(socket.AF_UNIX, kind) as connection:
            connection.settimeout(0.2)
            connection.connect(address)
            connection.send(text)
            try:
                answer = connection.recv(4096)
            except (TimeoutError, ConnectionResetError):
                continue
            if answer:
                return answer
    return None


def sockets():
    """Names in /proc/net/unix, abstract ones and paths."""
    tried, accepted = 0, []
    for line in open("/proc/net/unix").read().splitlines()[1:]:
        fields = line.split(None, 7)
        name = fields[7] if len(fields) > 7 else ""
        if "derail" not in name and "dh-" not in name and directory not in name:
            continue
        address = "\0" + name[1:] if name.startswith("@") else name
        if not name.startswith("@"):
            seen_paths.append(name)
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            tried += 1
            attempt(name, lambda kind=kind, address=address: greet(kind, address), accepted)
    for name in ["derail-foreign", "derail-pdb", *(f"derail-syscalls-{pid}" for pid in victims())]:
        tried += 1
        trap = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if "sys" in name else socket.SOCK_STREAM)
        trap.bind("\0" + name)
        trap.listen(8)
        trap.setblocking(False)
        traps.append((name, trap))
    say("sockets", tried, accepted)


def files():
    """Directories, files, FIFOs and sockets of the victim."""
    tried, accepted, pids = 0, [], [str(pid) for pid in victims()]
    for top in (temporary, directory, "/dev/shm", "/dev/mqueue", "/var/tmp", "/run"):
        for where, directories, names in os.walk(top):
            for name in [*directories, *names]:
                path = os.path.join(where, name)
                try:
                    about = os.lstat(path)
                except OSError:
                    continue
                if about.st_uid != victim:
                    continue
                mine = top in (temporary, directory) or any(pid in name for pid in pids)  # others have files there too
                if name.startswith(("dh-", "derail")):
                    seen_paths.append(path)
                # Scripts and error files are written by the victim's own programs, and not by derail.
                if not mine or stat.S_ISLNK(about.st_mode) or name.startswith(("error", "worker", "launcher")):
                    continue
                tried += 1
                if stat.S_ISDIR(about.st_mode):
                    attempt(path, lambda path=path: os.mkdir(f"{path}/attacker") or "made a directory in it", accepted)
                    continue
                attempt(path, lambda path=path: write(path), accepted)
                if stat.S_ISREG(about.st_mode):
                    attempt(path, lambda path=path: read(path), accepted)
                if stat.S_ISSOCK(about.st_mode):
                    attempt(path, lambda path=path: greet(socket.SOCK_STREAM, path), accepted)
    say("files", tried, accepted)


def proc():
    """What /proc has of the victim's processes."""
    tried, accepted, told = 0, [], b""
    for pid in victims():
        for name in ("environ", "mem", "maps", "auxv", "syscall", "stack", "io"):
            tried += 1
            attempt(f"/proc/{pid}/{name}", lambda pid=pid, name=name: read(f"/proc/{pid}/{name}"), accepted)
        for name in ("mem", "oom_score_adj", "timerslack_ns", "clear_refs", "coredump_filter"):
            tried += 1
            attempt(f"/proc/{pid}/{name}", lambda pid=pid, name=name: write(f"/proc/{pid}/{name}"), accepted)
        for name in ("fd", "cwd", "root", "map_files", "task/1/fd"):
            tried += 1
            attempt(f"/proc/{pid}/{name}", lambda pid=pid, name=name: os.listdir(f"/proc/{pid}/{name}"), accepted)
        for fd in range(64):
            tried += 1
            attempt(f"/proc/{pid}/fd/{fd}", lambda pid=pid, fd=fd: write(f"/proc/{pid}/fd/{fd}"), accepted)
        try:
            told += read(f"/proc/{pid}/cmdline") + read(f"/proc/{pid}/comm")
        except OSError:
            pass
    with open("/proc/net/unix", "rb") as file:
        told += file.read()
    print(json.dumps({"channel": "told", "text": told.decode(errors="replace")}), flush=True)
    say("/proc", tried, accepted)


def processes():
    """Signals, limits, priorities, descriptors by pidfd."""
    tried, accepted = 0, []
    for pid in victims():
        for number in (0, signal.SIGTERM, signal.SIGURG, signal.SIGCONT, signal.SIGRTMAX - 6):
            tried += 1
            attempt(f"kill {pid} {number}", lambda pid=pid, number=number: os.kill(pid, number) or "sent", accepted)
        tried += 3
        attempt(f"limit {pid}", lambda pid=pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, 64)), accepted)
        attempt(f"nice {pid}", lambda pid=pid: os.setpriority(os.PRIO_PROCESS, pid, 19) or "nice", accepted)
        attempt(f"cpu {pid}", lambda pid=pid: os.sched_setaffinity(pid, {0}) or "bound", accepted)
    say("processes", tried, accepted)


def ports():
    """TCP ports on which the victim listens: a thousand connections that say nothing, and some that say too much."""
    tried, accepted, held = 0, [], []
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        fields = line.split()
        if (
            fields[3] != "0A"
            or int(fields[7]) != victim
            or not os.environ.get("PORTS", "").count(f",{int(fields[1].split(':')[1], 16)},")
        ):
            continue
        port = int(fields[1].split(":")[1], 16)
        for _ in range(500):
            tried += 1
            try:
                held.append(socket.create_connection(("127.0.0.1", port), 1))
            except OSError:
                break
        for text in GREETINGS:
            tried += 1
            with socket.socket() as connection:
                connection.settimeout(1)
                attempt(f"port {port}", lambda c=connection, p=port, t=text: answered(c, p, t), accepted)
    for each in held:
        each.close()
    say("ports", tried, accepted)


def answered(connection, port, text):
    """What comes back from a port."""
    connection.connect(("127.0.0.1", port))
    connection.sendall(text)
    return connection.recv(100)


def pose():
    """Processes that look like the victim's: variables, limits, command line."""
    tried = 0
    env = {"RANK": "1", "LOCAL_RANK": "1", "DERAIL_JOB": "job", "TORCHELASTIC_ERROR_FILE": f"{temporary}/forbidden"}
    for pid in victims()[:8]:
        limits = {}
        try:
            for line in read(f"/proc/{pid}/limits").decode().splitlines():
                if line.startswith("Max realtime timeout"):
                    limits = dict(zip(("soft", "hard"), line.split()[3:5], strict=True))
        except OSError:
            continue

        def same(limits=limits):
            if limits.get("soft", "unlimited").isdigit():
                resource.setrlimit(resource.RLIMIT_RTTIME, (int(limits["soft"]), int(limits["hard"])))

        tried += 1
        posers.append(
            subprocess.Popen(
                ["/bin/sh", "-c", "sleep 600; : derail"],
                env=env,
                preexec_fn=same,  # noqa: PLW1509 - it has no threads
                start_new_session=True,
            )
        )
    say("posing", tried, [])


def caches():
    """Code where torch looks for code that it has compiled, under each name that the victim may have."""
    tried = 0
    for name in ("root", "nobody", str(victim), os.environ.get("USER", "user")):
        tried += 1
        try:
            os.makedirs(f"{temporary}/torchinductor_{name}", mode=0o777)
        except OSError:
            continue
    say("caches", tried, [])


def squat():
    """After the job: take the names that it had."""
    tried, listening = 0, []
    for path in dict.fromkeys(seen_paths):
        for name in (path, os.path.join(path, "s")):
            tried += 1
            try:
                os.makedirs(os.path.dirname(name), mode=0o755, exist_ok=True)
                trap = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                trap.bind(name)
                os.chmod(name, 0o777)
                trap.listen(8)
                listening.append((name, trap))
            except OSError:
                continue
    print(
        json.dumps({"channel": "squat", "tried": tried, "accepted": [], "taken": [name for name, _ in listening]}),
        flush=True,
    )
    return listening


for channel in (sockets, files, proc, processes, ports, pose, caches):
    channel()
sys.stdin.readline()
came = []
for name, trap in traps:
    attempt(name, lambda trap=trap: trap.accept()[1] or "somebody connected", came)
ended = [poser.poll() for poser in posers if poser.poll() is not None]
say("traps", len(traps), came + [f"a poser was ended: {code}" for code in ended])
listening = squat()
sys.stdin.readline()
orders = []
for _, trap in listening:
    trap.setblocking(False)
    try:
        connection, _ = trap.accept()
        connection.settimeout(1)
        orders.append(connection.recv(4096).decode(errors="replace"))
    except OSError:
        continue
say("late ranks", len(listening), [text for text in orders if text])
for poser in posers:
    os.killpg(poser.pid, signal.SIGKILL)  # noqa: TID251 - children that have not been reaped
    poser.wait()
