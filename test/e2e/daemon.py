# SPDX-License-Identifier: GPL-3.0-or-later
"""A running Postern: started, read (log, metrics, /proc), told to reload and stopped, with nothing left
unchecked at the end: exit status, sanitizer reports, one closing record a connection."""
import collections
import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

SANITIZER = re.compile(r"Sanitizer|runtime error:|LeakSan")
PAIR = re.compile(r'([A-Za-z_][\w.]*)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?: |$)')
CLOSING = ("session closed", "connection closed")
LIBC = ctypes.CDLL(None, use_errno=True)


SHORT = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


def unescape(text):
    """The logger's escapes; any other backslash is an error."""
    return re.sub(r"\\(x[0-9a-f]{2}|.)", lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else SHORT[m[1]], text)


def parse_logfmt(line):
    """Strict: the whole line is key=value pairs, quoted where needed; anything else is an error."""
    record, at = {}, 0
    while at < len(line):
        found = PAIR.match(line, at)
        if not found:
            raise ValueError(f"not logfmt at {at}: {line!r}")
        key, quoted, bare = found.groups()
        if key in record:
            raise ValueError(f"{key} comes twice: {line!r}")
        record[key] = unescape(quoted) if quoted is not None else bare
        at = found.end()
    return record


def parse_record(line):
    if line.startswith("{"):
        return {k: v if isinstance(v, str) else json.dumps(v) for k, v in json.loads(line).items()}
    return parse_logfmt(line)


def parse_metrics(text):
    """{(name, ((label, value), ...)): number}"""
    out = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        found = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
        assert found, f"not a metric line: {line!r}"
        labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or "")))
        out[(found[1], labels)] = float(found[3])
    return out


class Postern:
    def __init__(self, t, conf, *, args=None, env=None, wait=True, wrap=(), fds=(), name=None, preexec=None):
        self.t, self.conf = t, conf
        self.name = name or f"postern{len(t.daemons)}"
        self.path = conf if isinstance(conf, str) or conf is None else t.file(f"{self.name}.toml", conf.text())
        self.out_path, self.err_path = f"{t.folder}/{self.name}.log", f"{t.folder}/{self.name}.err"
        options = os.environ.get("POSTERN_RUN_OPTIONS", "").split()  # a whole run may try one
        command = [*wrap, t.binary, *(args if args is not None else ["run", *options, self.path])]
        environment = {k: v for k, v in os.environ.items()
                       if k not in ("RUST_LOG", "PROXY_CONFIG", "PROXY_ADMIN_TOKEN", "NOTIFY_SOCKET")}
        environment.update(ASAN_OPTIONS="exitcode=99:detect_leaks=1", UBSAN_OPTIONS="print_stacktrace=1",
                           TSAN_OPTIONS="exitcode=99", SSL_CERT_FILE=t.pki.ca)
        environment.update(env or {})
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                                            env=environment, pass_fds=fds, preexec_fn=preexec)
        t.daemons.append(self)
        self.stopped = False
        self.offset, self.tail, self.cache = 0, "", []
        if wait:
            self.wait("proxy started", timeout=t.scaled(10))

    # what it says --------------------------------------------------------------------------------------

    @property
    def pid(self):
        return self.process.pid

    def stderr(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stdout(self):
        with open(self.out_path, encoding="utf-8", errors="surrogateescape", newline="\n") as f:
            return f.read()

    def records(self):
        with open(self.out_path, "rb") as f:
            f.seek(self.offset)
            data = f.read()
        self.offset += len(data)
        *lines, self.tail = (self.tail + data.decode("utf-8", "surrogateescape")).split("\n")
        self.cache += [parse_record(line) for line in lines]
        return self.cache

    def find(self, message=None, **fields):
        return [r for r in self.records() if (message is None or r.get("msg") == message)
                and all(r.get(k) == str(v) for k, v in fields.items())]

    def wait(self, message, count=1, timeout=None, **fields):
        """The count-th record with this message and these fields."""
        deadline = time.monotonic() + (self.t.scaled(5) if timeout is None else timeout)
        while True:
            found = self.find(message, **fields)
            if len(found) >= count:
                return found[count - 1]
            code = self.process.poll()
            if code is not None and len(self.find(message, **fields)) < count:
                raise AssertionError(f"postern ended with {code} before {message!r} came; stderr: {self.stderr()[-2000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {message!r} record with {fields} (number {count})")
            time.sleep(0.004)

    def closings(self):
        return [r for r in self.records() if r.get("msg") in CLOSING]

    def closing(self, count=1, timeout=None):
        """The count-th closing record, in order of time."""
        deadline = time.monotonic() + (self.t.scaled(5) if timeout is None else timeout)
        while len(found := self.closings()) < count:
            assert time.monotonic() < deadline, f"only {len(found)} of {count} closing records: {found}"
            time.sleep(0.004)
        return found[count - 1]

    # addresses -----------------------------------------------------------------------------------------

    def port(self, listener):
        bind = self.conf[f"listener.{listener}.bind"]
        return int((bind if isinstance(bind, str) else bind[0]).rsplit(":", 1)[1])

    # metrics -------------------------------------------------------------------------------------------

    def http(self, path, method="GET", timeout=5):
        host, port = self.conf["metrics.bind"].rsplit(":", 1)
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=self.t.scaled(timeout))
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode(), dict(response.getheaders())
        finally:
            connection.close()

    def metrics(self):
        status, body, _ = self.http("/metrics")
        assert status == 200, f"/metrics answered {status}"
        return parse_metrics(body)

    def metric(self, wanted, **labels):
        """The sum over everything that carries these labels; 0 if there is none."""
        labels = {(k, str(v)) for k, v in labels.items()}
        return sum(v for (name, have), v in self.metrics().items() if name == wanted and labels <= set(have))

    def await_metric(self, wanted, value, timeout=5, **labels):
        deadline = time.monotonic() + self.t.scaled(timeout)
        while (got := self.metric(wanted, **labels)) != value:
            assert time.monotonic() < deadline, f"{wanted}{labels} is {got}, not {value}"
            time.sleep(0.02)

    # /proc ---------------------------------------------------------------------------------------------

    def resident(self):
        # Counted page by page; what "status" says is off by some dozen pages a processor and thread.
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as f:
            return int(re.search(r"Rss:\s+(\d+) kB", f.read())[1]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def await_descriptors(self, at_most, timeout=5):
        deadline = time.monotonic() + self.t.scaled(timeout)
        while (now := self.descriptors()) > at_most:
            assert time.monotonic() < deadline, f"{now} descriptors open, expected at most {at_most}"
            time.sleep(0.02)

    def sockets(self):
        """The daemon's own TCP sockets, duplicated into this process (pidfd_getfd, needs root)."""
        pidfd = os.pidfd_open(self.pid)
        out = []
        try:
            for fd in sorted(int(n) for n in os.listdir(f"/proc/{self.pid}/fd")):
                try:
                    if not os.readlink(f"/proc/{self.pid}/fd/{fd}").startswith("socket:"):
                        continue
                except FileNotFoundError:
                    continue
                copy = LIBC.syscall(438, pidfd, fd, 0)
                if copy < 0:
                    raise OSError(ctypes.get_errno(), "pidfd_getfd")
                sock = socket.socket(fileno=copy)
                if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                    out.append(sock)
                else:
                    sock.close()
        finally:
            os.close(pidfd)
        return out

    def listening(self, port):
        return [s for s in self.sockets() if s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                and s.getsockname()[1] == port]

    def accepted(self, port):
        return [s for s in self.sockets() if not s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                and s.getsockname()[1] == port]

    # life ----------------------------------------------------------------------------------------------

    def signal(self, number):
        self.process.send_signal(number)

    def rewrite(self, conf=None):
        """Puts a changed configuration in place as an operator would: whole, by rename."""
        text = conf if isinstance(conf, str) else (conf or self.conf).text()
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(self.path + ".new", self.path)

    def reload(self, conf=None, good=True):
        """SIGHUP, and wait until the outcome is counted."""
        if conf is not None:
            self.rewrite(conf)
        before = self.metrics()
        self.signal(signal.SIGHUP)
        deadline = time.monotonic() + self.t.scaled(5)
        while True:
            now = self.metrics()
            moved = {dict(k[1]).get("result"): v - before.get(k, 0) for k, v in now.items()
                     if k[0] == "postern_reloads_total" and v != before.get(k, 0)}
            if moved:
                assert set(moved) == ({"ok"} if good else set(moved) - {"ok"}), f"reload ended as {moved}"
                return
            assert time.monotonic() < deadline, "no reload was counted"
            time.sleep(0.01)

    def wait_exit(self, timeout=10):
        try:
            code = self.process.wait(self.t.scaled(timeout))
        except subprocess.TimeoutExpired as e:
            raise AssertionError(f"still running {timeout} s later") from e
        self.stopped = True
        return code

    def stop(self, expect=0):
        """SIGTERM, then a second one for sessions a test left open; the exit status must be right."""
        if not self.stopped:
            if self.process.poll() is None:
                self.signal(signal.SIGTERM)
                try:
                    self.process.wait(self.t.scaled(0.5))
                except subprocess.TimeoutExpired:
                    self.signal(signal.SIGTERM)
            code = self.wait_exit()
            assert code == expect, f"postern ended with {code}, not {expect}; stderr: {self.stderr()[-2000:]}"
        self.check()

    def check(self):
        """What must hold for every run: readable records, one closing record a session, no report."""
        report = SANITIZER.search(self.stderr())
        assert not report, f"sanitizer report:\n{self.stderr()[-6000:]}"
        ids = collections.Counter(r.get("session") for r in self.closings())
        twice = [i for i, n in ids.items() if i is not None and n > 1]
        assert not twice, f"more than one closing record for {twice[:5]}"
        assert not self.tail, f"the last record is not complete: {self.tail!r}"
