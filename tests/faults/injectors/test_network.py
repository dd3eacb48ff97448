"""Broken connections and unavailable addresses, observed by real ranks and their peers."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.engine.driver import Driver
from derail.faults.mechanisms import namespaces, sockets, tcp_proxy
from derail.faults.mechanisms.tcp_proxy import Proxy, Spoiling
from derail.model.events import Started
from derail.model.input_error import InputError
from faults.fake_job import FakeJob, spec_of
from faults.real_job import DEADLINE, ENDED, ended, output_of, record_of, result_of, running, told, wait_for
from program_files import UNTIL, program_text
from pytest_derail.jobs.ports import claimed_port

READY = when.line("ready")
RESET = ("ECONNRESET", "EPIPE", "ENOTCONN")
"""What an end is told that was reset: the first time, and when it goes on all the same."""
UNTIL_SEEN = f"{UNTIL}\nuntil('{ENDED}')\n"
"""Behind a program: it does not end before it is known what came of the fault."""
CONNECTS = program_text("faults/connects")


@pytest.fixture
def listener():
    """Yield a listener on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE)
        yield server


@pytest.fixture
def port():
    """Return a port without a listener, reserved during this test."""
    with claimed_port() as number:
        yield number


def port_of(server):
    """Return the port of a listener."""
    return server.getsockname()[1]


STEALING = pytest.mark.skipif(bool(sockets.why_not()), reason=sockets.why_not())


@STEALING
def test_a_severed_connection_ends_for_the_rank_and_for_its_peer(tmp_path, listener):
    """Both read end of file, and the rank gets EPIPE on a write."""
    fault = faults.sever(peer_port=port_of(listener), rank=0, when=READY)
    with running(tmp_path, CONNECTS, fault, master_port=port_of(listener)) as job:
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(10) == b""
            seen = job.wait(DEADLINE)
        assert told(job.log(0, "stdout").read_text()) == ["", "EPIPE"]
        assert [result.status for result in seen.faults] == ["injected"], seen.faults


@STEALING
def test_a_reset_connection_is_a_reset_for_the_peer(tmp_path, listener):
    """Its read fails with ECONNRESET."""
    fault = faults.reset(rank=0, when=READY)
    with running(tmp_path, CONNECTS, fault, master_port=port_of(listener)) as job:
        peer, _ = listener.accept()
        with peer, pytest.raises(ConnectionResetError):
            peer.recv(10)
        seen = job.wait(DEADLINE)
        assert told(job.log(0, "stdout").read_text())[1] in RESET
        assert [result.status for result in seen.faults] == ["injected"], seen.faults


@STEALING
@pytest.mark.parametrize("name", ["sever", "reset"])
def test_connections_to_another_port_stay(tmp_path, listener, name):
    """Other connections are not touched, and the fault is not injected."""
    fault = getattr(faults, name)(peer_port=1, rank=0, when=READY)
    with running(tmp_path, CONNECTS, fault, master_port=port_of(listener)) as job:
        peer, _ = listener.accept()
        with peer:
            assert result_of(job) == "not_reached"
            peer.sendall(b"still here")
            wait_for(lambda: peer.recv(1) == b"x")
        job.wait(DEADLINE)
        assert told(job.log(0, "stdout").read_text())[0] == "still here"


@STEALING
@pytest.mark.parametrize("name", ["sever", "reset"])
def test_a_connection_that_the_peer_has_not_accepted_yet_is_broken_too(tmp_path, listener, name):
    """It has inode 0 on the peer's side, like files that are no sockets, which must not match."""
    with running(tmp_path, CONNECTS, getattr(faults, name)(rank=0, when=READY), master_port=port_of(listener)) as job:
        assert result_of(job) == "injected"
        job.wait(DEADLINE)
        assert told(job.log(0, "stdout").read_text())[1] in RESET


@STEALING
def test_a_rank_without_connections_has_nothing_to_sever(tmp_path):
    """It is not reached."""
    with running(tmp_path, "print('ready', flush=True)\ntime.sleep(60)", faults.sever(rank=0, when=READY)) as job:
        assert result_of(job) == "not_reached"
        assert "has no matching established TCP connection" in record_of(job, "end")["detail"]


def test_severing_is_unavailable_without_access_to_descriptors(tmp_path, monkeypatch):
    """With the reason, and the rank continues."""
    monkeypatch.setattr(sockets, "PIDFD_GETFD", -1)
    sockets.why_not.cache_clear()
    try:
        seen, _ = ended(tmp_path, "print('ready', flush=True)", faults.sever(rank=0, when=READY))
    finally:
        sockets.why_not.cache_clear()

    assert [result.status for result in seen.faults] == ["unavailable"]
    assert "not implemented" in str(seen.faults[0])


@contextmanager
def echo(server):
    """Echo data, connection after connection, until the server is closed."""

    def serve():
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                try:
                    while data := peer.recv(65536):
                        peer.sendall(data)
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield port_of(server)
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def talk_through(tmp_path, listener, fault, times=1, timeout=DEADLINE):
    """Return a proxy fault's result, and the rank's record: seconds, and bytes and error of each connection."""
    with echo(listener) as port:
        program = program_text("faults/talks", TIMES=times, TIMEOUT=timeout) + UNTIL_SEEN
        seen, text = ended(tmp_path, program, fault, master_port=port)
    took, said = told(text)
    (result,) = seen.faults
    return result, took, said


@pytest.mark.parametrize(
    ("spoiling", "least"),
    [({"latency": 0.5}, 1.0), ({"bandwidth": 10_000}, 2.0), ({"latency": 0.3, "jitter": 0.2}, 0.6)],
)
def test_a_slow_proxy_passes_everything_on_but_late(tmp_path, listener, spoiling, least):
    """Nothing is lost; both directions are delayed."""
    result, took, said = talk_through(tmp_path, listener, faults.proxy(**spoiling, rank=0))

    assert (result.status, said) == ("injected", [[20000, ""]])
    assert took >= least


def test_a_slicing_proxy_passes_everything_on(tmp_path, listener):
    """The bytes are the same."""
    fault = faults.proxy(slice=100, latency=0.01, jitter=0.01, rank=0)
    result, _, said = talk_through(tmp_path, listener, fault)

    assert (result.status, said) == ("injected", [[20000, ""]])


def test_a_slicing_proxy_sends_small_pieces(listener, port, monkeypatch):
    """One call each; the kernel decides how many a slow reader gets at once."""
    sizes = []

    class Counts(socket.socket):
        def send(self, data, *flags):
            sizes.append(len(data))
            return super().send(data, *flags)

    def connect(target, **_):
        end = Counts()
        end.connect(target)
        return end

    monkeypatch.setattr(socket, "create_connection", connect)
    proxy = Proxy(port, ("127.0.0.1", port_of(listener)), Spoiling(slice=100))
    proxy.start()
    try:
        with socket.socket() as rank:
            rank.connect(("127.0.0.1", port))
            rank.sendall(b"x" * 20000)
            rank.shutdown(socket.SHUT_WR)
            peer, _ = listener.accept()
            with peer, peer.makefile("rb") as file:
                assert file.read() == b"x" * 20000
    finally:
        proxy.stop()

    assert (sum(sizes), max(sizes)) == (20000, 100)


def test_a_black_hole_keeps_the_connection_and_swallows_the_bytes(tmp_path, listener):
    """The rank waits without an answer."""
    result, _, said = talk_through(tmp_path, listener, faults.proxy(black_hole=True, rank=0), timeout=1)

    assert (result.status, said) == ("injected", [[0, "ETIMEDOUT"]])


def test_a_proxy_resets_a_connection_after_a_number_of_bytes(tmp_path, listener):
    """The rank gets no more than that, and ECONNRESET."""
    result, _, said = talk_through(tmp_path, listener, faults.proxy(reset_after=5000, rank=0))

    assert result.status == "injected"
    assert said[0][1] in RESET
    assert said[0][0] <= 5000


def test_a_proxy_closes_a_connection_after_a_number_of_bytes(tmp_path, listener):
    """The bytes that could be echoed arrive, and no more."""
    result, _, said = talk_through(tmp_path, listener, faults.proxy(close_after=25000, rank=0))

    assert result.status == "injected"
    assert said[0][0] <= 5000


def test_a_proxy_refuses_the_first_connections_only(tmp_path, listener):
    """The third one gets through."""
    result, _, said = talk_through(tmp_path, listener, faults.proxy(refuse=2, rank=0), times=3)

    assert (result.status, [got for got, _ in said]) == ("injected", [0, 0, 20000])
    assert all(error in RESET for _, error in said[:2])


def test_only_the_target_rank_uses_the_proxy(tmp_path):
    """The others keep their address."""
    program = "print(os.environ['MASTER_PORT'], flush=True)"
    with running(tmp_path, program, faults.proxy(latency=1.0, rank=1), ranks=3, master_port=29999) as job:
        job.wait(DEADLINE)
        ports = [job.log(rank, "stdout").read_text().strip() for rank in range(3)]

    assert (ports[0], ports[2]) == ("29999", "29999")
    assert ports[1] != "29999"


class Slow(Driver):
    """Observer that delays the start event of a rank until the rank has recorded its result."""

    said = None

    def observe(self, event):
        """Pass on the start of a rank once its first line is written."""
        if isinstance(event, Started):
            wait_for(self.said.read_text)
        super().observe(event)


def test_a_rank_that_is_faster_than_the_engine_is_not_refused(tmp_path, listener):
    """The proxy listens before the rank exists."""
    program = """
import os, socket
socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))).send(b"x")
print("connected", flush=True)
"""
    driver = Slow(faults.plan([faults.net_black_hole(rank=0)]), journal=tmp_path / "journal.jsonl")
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port_of(listener))}
    spec = driver.prepare(spec_of(tmp_path, UNTIL + program + f"until('{ENDED}')", env=env))
    driver.said = spec.ranks[0].streams.stdout
    FakeJob(spec, driver).run()

    assert [result.status for result in driver.results()] == ["injected"]


@pytest.mark.parametrize("program", ["print('never connects')", program_text("faults/talks", TIMEOUT=DEADLINE)])
def test_a_proxy_that_could_spoil_nothing_did_not_inject(tmp_path, listener, program):
    """There was no connection, or too few bytes."""
    with echo(listener) as port:
        seen, _ = ended(tmp_path, program, faults.proxy(reset_after=10**6, rank=0), master_port=port)

    assert [result.status for result in seen.faults] == ["not_reached"], seen.faults


def test_the_proxy_waits_for_a_listener_that_comes_late(tmp_path):
    """A store that does not exist yet is not the rank's failure."""
    program = program_text("faults/talks", TIMEOUT=DEADLINE) + UNTIL_SEEN
    program = program.replace("sock.sendall", "print('connected', flush=True); sock.sendall")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # it is ours, and refuses whoever comes before it listens
        fault = faults.proxy(latency=0.01, rank=0)
        with running(tmp_path, program, fault, master_port=port_of(server)) as job:
            wait_for(lambda: "connected" in job.log(0, "stdout").read_text())
            server.listen()
            with echo(server):
                seen = job.wait(DEADLINE)
                got = told(job.log(0, "stdout").read_text())[1][0][0]

    assert ([result.status for result in seen.faults], got) == (["injected"], 20000), seen.faults


def test_a_port_that_is_taken_cannot_be_bound_by_the_rank_and_is_given_up_afterwards(tmp_path, port):
    """Its bind fails with EADDRINUSE; afterwards the port is free."""
    program = """
import errno, socket
try:
    socket.create_server(("", int(os.environ["MASTER_PORT"])))
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
"""
    seen, text = ended(tmp_path, program, faults.port_taken(rank=0), master_port=port)

    assert text == "EADDRINUSE\n"
    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_rank_that_is_faster_than_the_engine_does_not_get_the_port(tmp_path, port):
    """It is taken before the rank exists."""
    program = """
import errno, os, socket
try:
    socket.create_server(("127.0.0.1", int(os.environ["MASTER_PORT"])))
    print("bound", flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
"""
    driver = Slow(faults.plan([faults.port_taken(rank=0)]), journal=tmp_path / "journal.jsonl")
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    spec = driver.prepare(spec_of(tmp_path, UNTIL + program + f"until('{ENDED}')", env=env))
    driver.said = spec.ranks[0].streams.stdout
    FakeJob(spec, driver).run()

    assert [result.status for result in driver.results()] == ["injected"]
    assert driver.said.read_text() == "EADDRINUSE\n"


KEEPS_LISTENING = """
import socket, subprocess
server = socket.create_server(("127.0.0.1", int(os.environ["MASTER_PORT"])))
server.set_inheritable(True)
subprocess.Popen(["sleep", "60"], close_fds=False)
"""


class Late(Driver):
    """Observer that delays the start event of a rank until the rank has ended."""

    def observe(self, event):
        """Pass on the start of a rank once it is a zombie, without reaping it."""
        if isinstance(event, Started):
            os.waitid(os.P_PID, event.pid, os.WEXITED | os.WNOWAIT)
        super().observe(event)


def test_the_port_of_a_rank_that_ended_before_its_start_was_noticed_is_taken(tmp_path, port):
    """Its environment cannot be read any more."""
    driver = Late(faults.plan([faults.port_kept(rank=0)]), journal=tmp_path / "journal.jsonl")
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    FakeJob(driver.prepare(spec_of(tmp_path, "", env=env)), driver).run()

    assert [result.status for result in driver.results()] == ["injected"], driver.results()


@pytest.mark.parametrize(("program", "status"), [("print('ran')", "injected"), (KEEPS_LISTENING, "not_reached")])
def test_the_port_of_a_rank_that_has_ended_is_taken_unless_a_helper_listens_there(tmp_path, port, program, status):
    """The socket belongs to derail until the job is over."""
    seen, _ = ended(tmp_path, program, faults.port_kept(rank=0), master_port=port)

    assert [result.status for result in seen.faults] == [status], seen.faults
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_of_another_process_was_not_taken_by_derail(tmp_path, listener):
    """It is not reached."""
    seen, _ = ended(tmp_path, "print('ran')", faults.port_taken(rank=0), master_port=port_of(listener))

    assert [result.status for result in seen.faults] == ["not_reached"], seen.faults


@pytest.mark.parametrize("make", [lambda: faults.proxy(latency=1, rank=0), lambda: faults.port_taken(rank=0)])
def test_a_rank_without_an_address_is_refused_before_anything_starts(tmp_path, make):
    """A proxy would have no target."""
    with pytest.raises(InputError, match=r"expected an address in its environment, got .* and MASTER_PORT='none'"):
        ended(tmp_path, "print('ran')", make(), env={"MASTER_PORT": "none"})


def test_a_proxy_that_spoils_nothing_is_refused():
    """At the creation of the fault."""
    with pytest.raises(InputError, match="spoils nothing"):
        faults.proxy(rank=0)


@pytest.mark.parametrize(
    ("make", "gets"),
    [
        (lambda: faults.net_latency(0.4, rank=0), (20000, "")),
        (lambda: faults.net_bandwidth(20_000, rank=0), (20000, "")),
        (lambda: faults.net_slices(100, rank=0), (20000, "")),
        (lambda: faults.net_black_hole(rank=0), (0, "ETIMEDOUT")),
        (lambda: faults.net_half_open("to_rank", rank=0), (0, "ETIMEDOUT")),
        (lambda: faults.net_half_open("from_rank", rank=0), (0, "ETIMEDOUT")),
        (lambda: faults.net_reset(0, rank=0), (0, RESET)),
        (lambda: faults.net_close(25000, rank=0), (5000, "")),
        (lambda: faults.net_refuse(1, rank=0), (0, RESET)),
    ],
    ids=["latency", "bandwidth", "slices", "black hole", "to rank", "from rank", "reset", "close", "refuse"],
)
def test_each_disturbance_of_the_proxy_has_its_own_fault(tmp_path, listener, make, gets):
    """The rank gets its bytes late, in pieces, in part or not at all, with the matching error."""
    waits_in_vain = gets == (0, "ETIMEDOUT")
    result, took, said = talk_through(tmp_path, listener, make(), timeout=2 if waits_in_vain else DEADLINE)
    got, error = said[0]

    assert result.status == "injected", result
    assert got <= gets[0]
    assert error in ((gets[1],) if isinstance(gets[1], str) else gets[1])
    assert got == gets[0] or gets[0] == 5000
    if make().name in ("net_latency", "net_bandwidth"):
        assert took >= 0.8


def test_a_half_open_connection_still_passes_the_other_way(tmp_path, listener):
    """The peer gets the rank's data; the rank never gets the peer's."""
    program = CONNECTS.replace("got = sock.recv(10)", "sock.sendall(b'hello'); got = sock.recv(10)")
    with running(tmp_path, program, faults.net_half_open("to_rank", rank=0), master_port=port_of(listener)) as job:
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(5) == b"hello"
            peer.sendall(b"answer")
            assert result_of(job) == "injected"
            assert job.log(0, "stdout").read_text() == "ready\n"


LISTENS = """
import socket
import subprocess
import sys
server = socket.create_server(("127.0.0.1", int(os.environ["MASTER_PORT"])))
print("ready", flush=True)
server.accept()
"""


def test_the_store_dies_with_the_rank_that_serves_it(tmp_path, port):
    """The port has no listener afterwards."""
    seen, _ = ended(tmp_path, LISTENS, faults.store_dies(rank=0, when=READY), master_port=port)

    assert ([result.status for result in seen.faults], str(seen.ranks[0].status)) == (
        ["injected"],
        "SIGKILL (9)",
    )


def test_a_store_that_is_a_child_of_the_rank_dies_alone(tmp_path, port):
    """The rank reads its exit and continues."""
    program = f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", '''import os{LISTENS}'''])
print("exit", child.wait(), flush=True)
"""
    with running(tmp_path, program, faults.store_dies(rank=0, when=READY), master_port=port) as job:
        seen = job.wait(DEADLINE)
        text = job.log(0, "stdout").read_text()

    assert ([result.status for result in seen.faults], text) == (["injected"], "ready\nexit -9\n"), seen.faults


@pytest.mark.parametrize("env", [{}, {"MASTER_PORT": "none"}], ids=["nobody listens", "no port"])
def test_a_rank_that_serves_no_store_is_left_alone(tmp_path, port, env):
    """It is not reached."""
    program = "print('ready', flush=True)\n" + UNTIL_SEEN
    options = {"env": env} if env else {"master_port": port}
    seen, _ = ended(tmp_path, program, faults.store_dies(rank=0, when=READY), **options)

    assert ([result.status for result in seen.faults], seen.exit_code) == (["not_reached"], 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: faults.wrong_address("127.0.0.254", rank=1), {"MASTER_ADDR": "127.0.0.254"}),
        (lambda: faults.wrong_world_size(7, rank=1), {"WORLD_SIZE": "7"}),
        (lambda: faults.duplicate_rank(0, rank=1), {"RANK": "0"}),
        (lambda: faults.missing_variable("MASTER_PORT", rank=1), {"MASTER_PORT": None}),
    ],
    ids=["address", "size", "rank", "missing"],
)
def test_a_rank_is_started_with_a_wrong_environment(tmp_path, make, says):
    """Only this rank, and only in this variable."""
    names = ["MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"]
    program = f"import json\nprint(json.dumps({{name: os.environ.get(name) for name in {names}}}), flush=True)\n"
    with running(tmp_path, program + UNTIL_SEEN, make(), ranks=2, master_port=29998) as job:
        seen = job.wait(DEADLINE)
        first, second = (told(job.log(rank, "stdout").read_text()) for rank in range(2))

    right = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29998", "WORLD_SIZE": "2"}
    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert (first, second) == ({**right, "RANK": "0"}, {**right, "RANK": "1", **says})


def test_a_wrong_address_is_refused_by_the_kernel(tmp_path, listener):
    """It has no listener; the same port at 127.0.0.1 belongs to another process."""
    program = program_text("faults/talks", TIMEOUT=DEADLINE) + UNTIL_SEEN
    seen, text = ended(tmp_path, program, faults.wrong_address(rank=0), master_port=port_of(listener))

    assert told(text)[1] == [[0, "ECONNREFUSED"]]
    assert [result.status for result in seen.faults] == ["injected"]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.wrong_address("127.0.0.1", rank=0), "MASTER_ADDR is already '127.0.0.1'"),
        (lambda: faults.duplicate_rank(0, rank=0), "RANK is already '0'"),
        (lambda: faults.missing_variable("NO_SUCH_THING", rank=0), "NO_SUCH_THING is already None"),
    ],
)
def test_an_environment_that_would_not_change_is_refused(tmp_path, make, problem):
    """Before anything starts."""
    with pytest.raises(InputError, match=problem):
        ended(tmp_path, "print('ran')", make())


def test_the_environment_of_a_function_is_refused(tmp_path):
    """The kernel does not show it."""
    with pytest.raises(InputError, match="expected a rank that runs a program"):
        ended(tmp_path, print, faults.wrong_world_size(5, rank=0))


RESOLVES = program_text("faults/resolves")


def test_names_do_not_resolve_in_the_rank_for_a_time(tmp_path):
    """Numeric addresses do, and after the time names do as well."""
    seen, text = ended(tmp_path, RESOLVES, faults.dns_failure(["*"], rank=0, for_=4.0))

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert text.split()[:2] == [str(int(socket.EAI_AGAIN)), "127.0.0.1"]
    assert text.split()[2] in ("127.0.0.1", "::1")


def test_a_name_that_is_never_looked_up_is_not_reached(tmp_path):
    """Other names resolve normally."""
    seen, text = ended(tmp_path, RESOLVES, faults.dns_failure(["node7"], rank=0))

    assert [result.status for result in seen.faults] == ["not_reached"], seen.faults
    assert text.split()[0] in ("127.0.0.1", "::1")


NET = pytest.mark.skipif(bool(namespaces.why_not("net")), reason=namespaces.why_not("net"))


@NET
def test_a_rank_without_a_network_reaches_no_peer(tmp_path, listener):
    """Not even the loopback: the error is ENETUNREACH."""
    program = """
import errno, socket
try:
    socket.create_connection(("127.0.0.1", int(os.environ["MASTER_PORT"])), timeout=120)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
time.sleep(60)
"""
    with running(tmp_path, program, faults.loopback_down(rank=0), master_port=port_of(listener)) as job:
        assert output_of(job) == "ENETUNREACH\n"
        assert result_of(job) == "injected"
        assert "127.0.0.1" not in Path(f"/proc/{job.pids()[0]}/net/fib_trie").read_text()
        assert os.readlink(f"/proc/{job.pids()[0]}/ns/net") != os.readlink("/proc/self/ns/net")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("user", [0, 65534])
def test_a_connection_of_another_user_is_neither_counted_nor_passed_on(listener, user):
    """It is closed, and does not use up a disturbance of the rank."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port_of(taken)
    proxy = Proxy(port, ("127.0.0.1", port_of(listener)), Spoiling(latency=0.001))
    proxy.start()
    source = (
        f"import os, socket; os.setgroups([]); os.setresuid({user}, {user}, {user})\n"
        f"s = socket.socket(); s.connect(('127.0.0.1', {port})); s.settimeout(3)\n"
        "try: print(s.recv(1))\nexcept TimeoutError: print('open')"
    )
    try:
        said = subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True, check=False)
    finally:
        proxy.stop()

    assert (said.stdout, proxy.done["connections"]) == (("b''\n", 0) if user else ("open\n", 1))


def test_many_connections_cost_one_read_of_the_table_of_sockets(listener, monkeypatch):
    """A thousand connections of another user do not delay the rank: waiting ones are checked together."""
    looks = []
    monkeypatch.setattr(tcp_proxy, "are_own", lambda came: looks.append(len(came)) or sockets.are_own(came))
    near = socket.create_server(("127.0.0.1", 0), backlog=128)
    proxy = Proxy(port_of(near), ("127.0.0.1", port_of(listener)), Spoiling(latency=0.001))
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(near.getsockname()))
        proxy.start(near)
        stack.callback(proxy.stop)
        wait_for(lambda: proxy.done["connections"] == 100)

    assert looks == [100]
