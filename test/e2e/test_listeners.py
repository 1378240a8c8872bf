# SPDX-License-Identifier: GPL-3.0-or-later
"""Listening sockets as the kernel has them: options, addresses, families, how they are spread over workers, what
happens when a bind fails, and what a service manager gives and is told."""
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

import wire
from harness import Skip, program, test

PASSES_FDS = """import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"""


def number(sock, level, option):
    return sock.getsockopt(level, option)


def linger(sock):
    return struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))


def backlogs(port):
    """Send-Q of listening sockets is their backlog."""
    out = subprocess.run([program("ss"), "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[2]) for line in out.splitlines()]


def distinct(socks):
    """How many sockets, however many descriptors each has."""
    return len({os.fstat(s.fileno()).st_ino for s in socks})


def session(daemon, backend, port, host="127.0.0.1"):
    client = wire.connect(port, host)
    theirs = backend.accept().send("220 relay\r\n")
    client.expect("220 relay\r\n")
    return client, theirs


def whole_session(daemon, backend, port, host="127.0.0.1"):
    """One that has ended; returns the client's address as records write it."""
    client, theirs = session(daemon, backend, port, host)
    address, source = client.local
    client.close(), theirs.close()
    return f"[{address}]:{source}" if ":" in address else f"{address}:{source}"


@test(quick=True, root=True, needs=("ss",))
def test_defaults_of_the_server_and_overrides_of_a_listener_reach_every_socket(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["server.socket"] = {"backlog": 77, "ttl": 33, "tos": 16, "recv_buffer_size": 20000, "send_buffer_size": 30000,
                             "linger": "1500ms"}
    conf["listener.other"] = {"protocol": "smtp", "bind": [f"127.0.0.1:{t.port()}", f"[::1]:{t.port()}"], "tls": "plain"}
    conf["listener.other.socket"] = {"backlog": 99, "ttl": 44, "nodelay": False}
    daemon = t.postern(conf)
    ports = [int(b.rsplit(":", 1)[1]) for b in conf["listener.other.bind"]]
    for port, host, backlog, ttl, nodelay in ((daemon.port("smtp"), "127.0.0.1", 77, 33, True),
                                              (ports[0], "127.0.0.1", 99, 44, False), (ports[1], "::1", 99, 44, False)):
        assert set(backlogs(port)) == {backlog}, (port, backlogs(port))
        client, theirs = session(daemon, backend, port, host)
        listening, accepted = daemon.listening(port), daemon.accepted(port)
        assert len(listening) == 2 and len(accepted) == 1
        for sock in listening + accepted:
            if host == "::1":
                assert number(sock, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) == ttl
                assert number(sock, socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 16
            else:
                assert number(sock, socket.IPPROTO_IP, socket.IP_TTL) == ttl
                assert number(sock, socket.IPPROTO_IP, socket.IP_TOS) == 16
            assert number(sock, socket.SOL_SOCKET, socket.SO_RCVBUF) == 40000  # the kernel doubles
            assert number(sock, socket.SOL_SOCKET, socket.SO_SNDBUF) == 60000
            assert linger(sock) == (1, 2), "1500ms is rounded up to whole seconds"
        for sock in accepted:
            assert bool(number(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY)) == nodelay
        client.close(), theirs.close()


@test(quick=True, root=True, needs=("ss",))
def test_without_options_the_documented_defaults_hold(t):
    backend = t.backend()
    daemon = t.postern(t.base(backend))
    port = daemon.port("smtp")
    ends = session(daemon, backend, port)
    system = socket.socket()
    for sock in daemon.listening(port):
        assert number(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR) == number(sock, socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        assert number(sock, socket.IPPROTO_IP, socket.IP_TTL) == number(system, socket.IPPROTO_IP, socket.IP_TTL)
        assert linger(sock)[0] == 0
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as f:
        assert set(backlogs(port)) == {min(1024, int(f.read()))}
    (accepted,) = daemon.accepted(port)
    assert number(accepted, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    backends = [s for s in daemon.sockets() if not number(s, socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                and s.getpeername()[1] == backend.port]
    assert len(backends) == 1 and number(backends[0], socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for end in (system, *ends):
        end.close()


@test(quick=True, root=True)
def test_reuse_port_is_one_socket_a_worker_and_without_it_one_for_all(t):
    backend = t.backend().serve(wire.greeter())
    for reuse, count in ((True, 3), (False, 1)):
        conf = t.base(backend)
        conf["server.threads"] = 3
        conf["listener.smtp.socket"] = {"reuse_port": reuse, "reuse_addr": reuse}
        daemon = t.postern(conf)
        socks = daemon.listening(daemon.port("smtp"))
        assert distinct(socks) == count, (reuse, distinct(socks))
        for sock in socks:
            assert bool(number(sock, socket.SOL_SOCKET, socket.SO_REUSEPORT)) == reuse
            assert bool(number(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR)) == reuse
            sock.close()
        for _ in range(12):
            wire.connect(daemon.port("smtp")).expect("220 relay\r\n").close()
        daemon.closing(12)
        daemon.stop()


@test(quick=True)
def test_every_bind_address_serves_and_the_documented_pair_serves_both_families(t):
    """Scenario 267."""
    backend = t.backend()
    conf = t.base(backend)
    pair, one, two = t.port(), t.port(), t.port()
    conf["listener.smtp.bind"] = [f"0.0.0.0:{pair}", f"[::]:{pair}"]
    conf["listener.more"] = {"protocol": "smtp", "bind": [f"127.0.0.2:{one}", f"[::1]:{two}"], "tls": "plain"}
    daemon = t.postern(conf)
    for count, (host, port, listener) in enumerate((("127.0.0.1", pair, "smtp"), ("::1", pair, "smtp"),
                                                    ("127.0.0.2", one, "more"), ("::1", two, "more")), 1):
        text = whole_session(daemon, backend, port, host)
        record = daemon.closing(count)
        assert (record["listener"], record["peer"]) == (listener, text), record


@test(quick=True)
def test_the_ipv6_wildcard_alone_serves_ipv4_with_normalised_addresses(t):
    backend = t.backend()
    conf = t.base(backend)
    port = t.port()
    conf["listener.smtp.bind"] = f"[::]:{port}"
    daemon = t.postern(conf)
    text = whole_session(daemon, backend, port)
    assert text.startswith("127.0.0.1:") and daemon.closing()["peer"] == text
    text = whole_session(daemon, backend, port, "::1")
    assert text.startswith("[::1]:") and daemon.closing(2)["peer"] == text


@test(quick=True)
def test_port_zero_is_logged_with_the_port_the_kernel_chose(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["listener.smtp.bind"] = ["127.0.0.1:0"]
    daemon = t.postern(conf)
    port = int(daemon.wait("listening", listener="smtp")["addr"].rsplit(":", 1)[1])
    assert port != 0
    whole_session(daemon, backend, port)
    daemon.closing()


@test(quick=True)
def test_a_failing_bind_ends_the_start_with_its_place_and_opens_nothing(t):
    """Scenario 266."""
    taken = t.backend()
    conf = t.base(t.port())
    good = int(conf["listener.smtp.bind"][0].rsplit(":", 1)[1])
    conf["listener.taken"] = {"protocol": "smtp", "bind": [f"127.0.0.1:{taken.port}"], "tls": "plain"}
    daemon = t.postern(conf, wait=False)
    while daemon.process.poll() is None:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", good)) != 0, "half a start was served"
    daemon.stop(expect=1)
    lines = daemon.stderr().splitlines()
    with open(daemon.path, encoding="utf-8") as f:
        line = next(n for n, text in enumerate(f, 1) if str(taken.port) in text)
    assert len(lines) == 1 and re.match(
        rf"invalid configuration: {re.escape(daemon.path)}:{line}:\d+: listener\.taken\.bind(\[0\])?: ", lines[0]), lines
    assert f"127.0.0.1:{taken.port}" in lines[0] and "in use" in lines[0], lines
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", good)) != 0


@test(quick=True, root=True, needs=("setpriv",))
def test_a_privileged_port_as_an_ordinary_user_with_one_capability(t):
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as f:
        if int(f.read()) < 1024:
            raise Skip("this system has no privileged ports")
    backend, port = t.backend(), None
    for candidate in range(1000, 700, -1):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", candidate)) != 0:
                port = candidate
                break
    conf = t.base(backend)
    conf["listener.smtp.bind"] = [f"127.0.0.1:{port}"]
    caps = "+net_bind_service"
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
    if subprocess.run([*user, "--inh-caps", caps, "--ambient-caps", caps, "test", "-x", t.binary], check=False).returncode:
        raise Skip("setpriv cannot keep a capability here")
    daemon = t.postern(conf, wrap=(*user, "--inh-caps", caps, "--ambient-caps", caps))
    whole_session(daemon, backend, port)
    daemon.closing()
    daemon.stop()
    denied = t.postern(conf, wrap=user, wait=False)
    denied.wait_exit()
    denied.stop(expect=1)
    assert "listener.smtp.bind" in denied.stderr() and f"127.0.0.1:{port}" in denied.stderr(), denied.stderr()


@test(quick=True)
def test_sockets_of_the_service_manager_are_matched_by_address_and_by_name(t):
    backend = t.backend()
    conf = t.base(backend)
    by_address, named, stray = t.port(), t.port(), t.port()
    configured = t.port()
    conf["listener.smtp.bind"] = [f"127.0.0.1:{by_address}"]
    conf["listener.named"] = {"protocol": "smtp", "bind": [f"127.0.0.1:{configured}"], "tls": "plain"}
    given = [wire.Backend(port=p) for p in (by_address, named, stray)]
    # Descriptors from 3 on in the new process: moved there between fork and exec.
    high = [os.dup2(g.sock.fileno(), 200 + i, inheritable=True) for i, g in enumerate(given)]

    def place():
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, inheritable=True)

    daemon = t.postern(conf, wrap=(sys.executable, "-c", PASSES_FDS), preexec=place, fds=(3, 4, 5, *high),
                       env={"LISTEN_FDS": "3", "LISTEN_FDNAMES": "whatever:named:stray"})
    for g in given:
        g.sock.close()  # this process's copy only: Backend.close() would shut the socket down for both
    for count, (port, listener) in enumerate(((by_address, "smtp"), (named, "named")), 1):
        whole_session(daemon, backend, port)
        assert daemon.closing(count)["listener"] == listener
    assert {r["listener"]: (r["addr"], r["inherited"]) for r in daemon.find("listening")} == {
        "smtp": (f"127.0.0.1:{by_address}", "true"), "named": (f"127.0.0.1:{named}", "true")}
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", configured)) != 0, "bound although a socket was given"
    warnings = [r for r in daemon.records() if r["level"] == "warn" and str(stray) in r.get("problem", "")]
    assert len(warnings) == 1, warnings
    for fd in high:
        os.close(fd)


class Manager:
    """NOTIFY_SOCKET's other end."""

    def __init__(self, t):
        self.path = f"{t.folder}/notify"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        os.chmod(self.path, stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
        t.cleanups.append(self.sock.close)
        self.patience = t.scaled(5)

    def wait(self, wanted):
        """The next message with this line, STATUS and WATCHDOG passed over; as {key: value}."""
        deadline = time.monotonic() + self.patience
        while True:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            lines = self.sock.recv(4096).decode().splitlines()
            if wanted in lines:
                return dict(line.split("=", 1) for line in lines)
            assert all(line.startswith(("STATUS=", "WATCHDOG=")) for line in lines), f"{lines} before {wanted}"


@test(quick=True)
def test_the_service_manager_hears_of_start_reload_stop_and_life(t):
    manager = Manager(t)
    backend = t.backend().serve(wire.greeter())
    daemon = t.postern(t.base(backend), env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}, wait=False)
    manager.wait("READY=1")
    wire.connect(daemon.port("smtp")).expect("220 relay\r\n").close()  # ready means that it serves
    daemon.wait("proxy started")
    times = []
    for _ in range(3):
        manager.wait("WATCHDOG=1")
        times.append(time.monotonic())
    assert times[2] - times[1] < t.scaled(0.39), "slower than the watchdog allows"
    before = time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6
    daemon.signal(signal.SIGHUP)
    message = manager.wait("RELOADING=1")
    after = time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6
    assert before - 1000 <= int(message["MONOTONIC_USEC"]) <= after, message
    manager.wait("READY=1")
    daemon.rewrite("nonsense")
    daemon.signal(signal.SIGHUP)
    manager.wait("RELOADING=1")
    manager.wait("READY=1")  # a failed reload must not leave the unit reloading
    daemon.closing()
    daemon.signal(signal.SIGTERM)
    manager.wait("STOPPING=1")
    assert daemon.wait_exit() == 0  # stop() alone would send a second signal
    daemon.check()
