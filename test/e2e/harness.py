# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test is given: a folder, free ports, certificates, daemons and peers that end with it. Tests are
functions marked @test whose names are sentences."""
import os
import shutil
import signal
import socket
import subprocess
import time

import config
import wire
from daemon import Postern
from pki import Pki

REGISTRY = []


class Skip(Exception):
    """A peer this test needs is not there; CI=true turns it into a failure."""


class Test:
    def __init__(self, function, limit, quick, needs, root, alone, soak, plain):
        self.function, self.limit, self.quick = function, limit, quick
        self.needs, self.root, self.alone, self.soak, self.plain = needs, root, alone, soak, plain
        self.topic = function.__module__.removeprefix("test_")
        self.name = function.__name__.removeprefix("test_")

    @property
    def title(self):
        return f"{self.topic}: {self.name.replace('_', ' ')}"


def test(limit=20, quick=False, needs=(), root=False, alone=False, soak=False, plain=False):
    """limit: seconds until it counts as hung. quick: part of --quick. needs: programs. alone: measures time or
    memory, so nothing runs beside it. soak: only with --soak. plain: says nothing about a sanitized build."""

    def mark(function):
        REGISTRY.append(Test(function, limit, quick, needs, root, alone, soak, plain))
        return function

    return mark


def program(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/lib/postfix/sbin")


def need(*programs):
    missing = [p for p in programs if not program(p)]
    if missing:
        raise Skip("not installed: " + ", ".join(missing))


class T:
    """One test's world."""

    def __init__(self, binary, folder, shared, first_port, *, quick=False, sanitized=False, soak=False):
        self.binary, self.folder = binary, folder
        self.quick, self.sanitized, self.soak = quick, sanitized, soak
        self.pki = Pki(shared, f"{folder}/pki")
        self.ports = iter(range(first_port, first_port + 200))
        self.daemons, self.children, self.cleanups = [], [], []
        wire.PATIENCE = self.scaled(8)

    def scaled(self, seconds):
        return seconds * 6 if self.sanitized else seconds

    def port(self):
        """A port nobody listens on, outside the range the kernel gives to clients."""
        for port in self.ports:
            try:
                for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                    with socket.socket(family, socket.SOCK_STREAM) as probe:
                        if family == socket.AF_INET6:
                            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                        probe.bind((host, port))
                return port
            except OSError:
                continue
        raise RuntimeError("out of ports")

    def file(self, name, content, mode=0o644):
        path = f"{self.folder}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)
        os.chmod(path, mode)
        return path

    def folder_for(self, name, mode=0o755):
        path = f"{self.folder}/{name}"
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        return path

    def base(self, smtp=None, lmtp=None, **more):
        return config.base(self, smtp, lmtp, **more)

    def backend(self, **more):
        return wire.Backend(port=more.pop("port", None) or self.port(), **more)

    def postern(self, conf, **more):
        return Postern(self, conf, **more)

    def command(self, *args, env=None, timeout=10, cwd=None):
        """Runs the binary to its end: (exit status, standard output, standard error)."""
        environment = {k: v for k, v in os.environ.items() if k not in ("RUST_LOG", "PROXY_CONFIG", "PROXY_ADMIN_TOKEN")}
        environment.update(env or {})
        done = subprocess.run([self.binary, *args], capture_output=True, text=True, env=environment, check=False,
                              timeout=self.scaled(timeout), cwd=cwd or self.folder, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr

    def spawn(self, *command, name=None, **more):
        """A peer: started in the background, its output in a file, ended with the test."""
        name = name or f"{os.path.basename(command[0])}{len(self.children)}"
        log = f"{self.folder}/{name}.log"
        more.setdefault("stdin", subprocess.DEVNULL)
        with open(log, "wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **more)
        process.log = log
        self.children.append(process)
        return process

    def await_port(self, port, host="127.0.0.1", timeout=10, process=None):
        deadline = time.monotonic() + self.scaled(timeout)
        while True:
            try:
                with socket.create_connection((host, port), 1):
                    return
            except OSError as e:
                if process and process.poll() is not None:
                    raise AssertionError(f"{process.args[0]} ended with {process.returncode}: {self.tail(process.log)}") from e
                if time.monotonic() > deadline:
                    raise AssertionError(f"nobody listens on {host}:{port}") from e
                time.sleep(0.02)

    def await_that(self, what, timeout=5, every=0.01, about="it"):
        """Polls until what() is true and returns its value."""
        deadline = time.monotonic() + self.scaled(timeout)
        while not (value := what()):
            assert time.monotonic() < deadline, f"{about} did not happen within {timeout} s"
            time.sleep(every)
        return value

    @staticmethod
    def tail(path, size=3000):
        try:
            with open(path, "rb") as f:
                return f.read()[-size:].decode(errors="replace")
        except OSError:
            return ""

    def finish(self, failed):
        """Ends everything; the daemons' ends are part of the test unless it has failed already."""
        problems = []
        for thing in list(wire.OPEN):
            thing.close()
        for cleanup in reversed(self.cleanups):
            try:
                cleanup()
            except Exception as e:  # pylint: disable=broad-except
                problems.append(f"clean-up: {e!r}")
        for daemon in self.daemons:
            try:
                daemon.stop()
            except Exception as e:  # pylint: disable=broad-except
                problems.append(str(e))
                if daemon.process.poll() is None:
                    daemon.process.kill()
                    daemon.process.wait()
        for process in self.children:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        problems += leftovers()
        return [] if failed else problems


def descendants():
    """Children of this process (a subreaper), whoever started them."""
    me, found = os.getpid(), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                    text = f.read()
                state, parent = text.rsplit(")", 1)[1].split()[:2]
                if int(parent) == me:
                    found.append((int(entry), text[text.index("(") + 1:text.rindex(")")], state))
            except OSError:
                continue
    return found


def leftovers(spare=()):
    """Processes that outlived the test: reported, then ended."""
    deadline, problems = time.monotonic() + 3, []
    while True:
        alive = []
        for pid, name, state in descendants():
            if pid in spare:
                continue
            if state == "Z":
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass
            else:
                alive.append((pid, name))
        if not alive:
            return problems
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for pid, name in alive:
        problems.append(f"process left behind: {name}")
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except OSError:
            pass
    return problems
