# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything at once, for as long as one likes: clients and backends that close, reset, stall, half-close and lie at
random, while configurations, certificates and mappings change; beside them clients that behave, and must not notice.
Afterwards nothing may be left: no session, no descriptor, no memory to speak of, no report of a sanitizer.

What each actor does follows from the seed; in which order they meet, from the machine. Nothing here waits for a given
speed: limits of time are there to find what hangs."""
import collections
import os
import random
import re
import signal
import threading
import time
import traceback

import stress_backends
import stress_clients
import wire
from config import Conf
from stress_backends import HONEST, PROTOCOLS

# Where memory may be at the end, above what it was after the first tenth of the time, when all had been met once.
ROOM = {"release": 16 << 20, "sanitized": 96 << 20}
ROOM_DESCRIPTORS = 4
LEAVE = 20  # seconds until the last session is gone once the clients are; a kernel forgets a closed connection in that
PATIENCE = 60  # seconds of silence toward a client that behaves: then it hangs


class Stress:
    def __init__(self, t, *, seed, seconds, clients=16, steady=4, quiet=False, say=print):
        self.t, self.seed, self.seconds, self.say = t, seed, seconds, say
        self.steady, self.clients = steady, clients
        self.counts = collections.Counter()
        self.problems, self.lock = [], threading.Lock()
        self.stop, self.pause = threading.Event(), threading.Event()
        self.at_rest = 0
        wire.PATIENCE = self.patience = t.scaled(PATIENCE)
        self.server_tls = stress_backends.contexts(t)
        self.client_tls = t.pki.client()
        self.backends = stress_backends.Backends(self)
        self.conf = self.configuration(quiet)
        self.ports = {name: int(section["bind"][0].rsplit(":", 1)[1]) for name, section in self.conf["listener"].items()}
        environment = {"ASAN_OPTIONS": "exitcode=99:detect_leaks=1:quarantine_size_mb=16:malloc_context_size=20"}
        self.daemon = t.postern(self.conf, env=environment, wait=False, wrap=("setpriv", "--pdeathsig", "KILL"))
        t.await_port(self.ports["imap"], timeout=30, process=self.daemon.process)
        t.await_that(self.answers, 30, 0.2, "an answer of /metrics")

    def rng(self, *name):
        return random.Random(f"{self.seed}/{'/'.join(map(str, name))}")

    # the configuration ---------------------------------------------------------------------------------

    def configuration(self, quiet):
        t, conf = self.t, Conf()
        self.pairs = [t.pki.leaf("mail.example.com", key=k) for k in (0, 1)]
        self.cert, self.key = t.file("live/cert.pem", ""), t.file("live/key.pem", "")
        self.swap_certificate(0)
        self.accounts = t.file("accounts", self.mapping(0))
        conf["server"] = {"threads": 2, "shutdown_grace": "2s", "hostname": "mail.example.com", "backend_timeout": "20s",
                          "backend_connect_retries": 0, "log_level": "warn" if quiet else "info", "max_connections": 4000}
        conf["mapping"] = {"source": "file", "normalize": "lowercase", "positive_ttl": "1s", "negative_ttl": "1s",
                           "file": {"path": self.accounts}}
        conf["routing"] = {"default_destination": "honest", "smtp_passthrough_destination": "honest"}
        conf["metrics"] = {"bind": f"127.0.0.1:{t.port()}"}
        conf["tls.certificate.main"] = {"cert": self.cert, "key": self.key, "default": True}
        for name, legs in self.backends.legs.items():
            conf[f"destination.{name}"] = {"host": "127.0.0.1", "forwarding": "none", "allow_plaintext_auth": True,
                                           "tls_server_name": "backend.test"}
            for protocol, (port, tls) in legs.items():
                conf[f"destination.{name}.protocol.{protocol}"] = {"port": port, "tls": tls}
        for protocol, tls in (("imap", "implicit"), ("pop3", "implicit"), ("managesieve", "starttls"), ("submission", "starttls"),
                              ("smtp", "implicit")):
            conf[f"listener.{protocol}"] = {"protocol": protocol, "bind": [f"127.0.0.1:{t.port()}"], "tls": tls}
        conf["listener.imap-plain"] = {"protocol": "imap", "bind": [f"127.0.0.1:{t.port()}"], "tls": "starttls"}
        for name in conf["listener"]:
            conf[f"listener.{name}.preauth_timeout"] = "120s"
        for protocol in PROTOCOLS:
            conf[f"capabilities.{protocol}.allow_plain_auth_without_tls"] = True
        return conf

    @staticmethod
    def mapping(number):
        """Who goes where. Some change places with every number, between destinations that both are honest."""
        lines = [f"liar{n}@example.com\t{('lying', 'lying-tls')[n % 2]}\n" for n in range(16)]
        lines += [f"mover{n}@example.com\t{HONEST[(n + number) % 2]}\n" for n in range(8)]
        return "".join(lines)

    def swap_certificate(self, number):
        for path, source in ((self.key, self.pairs[number].key), (self.cert, self.pairs[number].chain)):
            with open(source, "rb") as new, open(path + ".new", "wb") as copy:
                copy.write(new.read())
            os.rename(path + ".new", path)

    # actors --------------------------------------------------------------------------------------------

    def count(self, what, number=1):
        with self.lock:
            self.counts[what] += number

    def wrong(self, text):
        with self.lock:
            self.problems.append(text)
        self.stop.set()

    def actor(self, name, number, act, pause):
        """Acts until the end; rests while the others are measured."""
        rng = self.rng(name, number)
        while not self.stop.is_set():
            if self.pause.is_set():
                with self.lock:
                    self.at_rest += 1
                while self.pause.is_set() and not self.stop.is_set():
                    time.sleep(0.05)
                with self.lock:
                    self.at_rest -= 1
                continue
            try:
                act(self, rng)
            except stress_clients.Wrong as e:
                self.wrong(f"{name} {number}: {e}")
            except Exception:  # pylint: disable=broad-except
                self.wrong(f"{name} {number}: {traceback.format_exc()}")
            self.stop.wait(rng.random() * pause)

    def change(self, rng):
        """Something an operator does, or does wrong; and often several times in a row."""
        what = rng.choice(("reload", "reload", "storm", "broken", "certificate", "half a certificate", "mapping", "mapping"))
        self.count("changes")
        if what in ("reload", "storm"):
            for _ in range(rng.randrange(3, 20) if what == "storm" else 1):
                conf = self.conf
                conf["capabilities.imap.banner"] = f"ready {rng.randrange(1000)}"
                conf["server.backend_timeout"] = f"{rng.randrange(15, 25)}s"
                conf["server.extended_replies"] = rng.random() < 0.5
                conf["server.host_down_threshold"] = rng.choice((0, 3, 5))
                conf["tls.tickets.enable"] = rng.random() < 0.8
                for name in self.ports:
                    conf[f"listener.{name}.max_auth_attempts"] = rng.randrange(2, 6)
                self.daemon.rewrite(conf)
                self.daemon.signal(signal.SIGHUP)
                time.sleep(rng.random() * 0.05)
        elif what == "broken":
            self.daemon.rewrite(rng.choice(("nonsense = [", "", "[server]\nthreads = 0\n")))
            self.daemon.signal(signal.SIGHUP)
            time.sleep(rng.random() * 0.2)
            self.daemon.rewrite(self.conf)
        elif what == "certificate":
            self.swap_certificate(rng.randrange(2))
        elif what == "half a certificate":
            with open(self.cert, "rb") as f:
                whole = f.read()
            with open(self.cert + ".new", "wb") as f:
                f.write(whole[:rng.randrange(len(whole))])
            os.rename(self.cert + ".new", self.cert)
            time.sleep(rng.random() * 0.5)
            self.swap_certificate(rng.randrange(2))
        else:
            with open(self.accounts + ".new", "w", encoding="utf-8") as f:
                f.write(self.mapping(rng.randrange(2)))
            os.rename(self.accounts + ".new", self.accounts)
            if rng.random() < 0.5:
                self.daemon.signal(signal.SIGHUP)

    # figures -------------------------------------------------------------------------------------------

    def answers(self):
        try:
            return self.daemon.metrics()
        except OSError:
            return None

    def figures(self):
        """What is there now: sessions, connections, memory, descriptors."""
        metrics = self.answers() or {}
        total = lambda wanted: int(sum(v for (name, _), v in metrics.items() if name == wanted))  # noqa: E731
        return {"sessions": total("postern_sessions_active"), "connections": total("postern_connections_active"),
                "accepted": total("postern_connections_total"), "reloads": total("postern_reloads_total"),
                "memory": self.daemon.resident(), "descriptors": self.daemon.descriptors()}

    def line(self, began, now):
        c = self.counts
        self.say(f"{time.monotonic() - began:6.0f} s  {now['accepted']} connections ({now['connections']} open, {now['sessions']} "
                 f"bridged), {c['steady']} logins that behaved, {c['chaos']} that did not, {c['lies']} lies, {now['reloads']} "
                 f"reloads, {now['memory'] >> 20} MB, {now['descriptors']} descriptors")

    def healthy(self):
        """Still running, and without a report."""
        code = self.daemon.process.poll()
        report = re.search(r"(?s)(==\d+==ERROR|WARNING: ThreadSanitizer|runtime error:).*", self.daemon.stderr())
        if report or code is not None:
            self.wrong(f"postern {'reported' if code is None else f'ended with {code}'}: "
                       f"{(report[0] if report else self.daemon.stderr())[:6000]}")
        return not self.problems

    def rest(self, actors):
        """Everybody stops; what is left once the last client is gone, and how long that took."""
        self.pause.set()
        limit = time.monotonic() + 2 * self.patience
        while self.at_rest < actors and not self.stop.is_set():
            if time.monotonic() > limit:
                self.wrong(f"{actors - self.at_rest} actors do not come to rest")
            time.sleep(0.05)
        began = time.monotonic()
        while (now := self.figures())["connections"]:
            if time.monotonic() - began > LEAVE * (3 if self.t.sanitized else 1):
                self.wrong(f"{now['connections']} connections and {now['sessions']} sessions are left "
                           f"{time.monotonic() - began:.0f} s after their clients")
                break
            time.sleep(0.1)
        took = time.monotonic() - began
        time.sleep(1)  # the last close of a descriptor and its memory
        return self.figures(), took

    # the whole -----------------------------------------------------------------------------------------

    def run(self):
        """True if nothing was wrong; says so in one line either way."""
        began = time.monotonic()
        cast = [("change", 0, Stress.change, 1.5)]
        cast += [("chaos", n, stress_clients.chaos, 0.05) for n in range(self.clients)]
        cast += [("steady", n, stress_clients.steady, 0.1) for n in range(self.steady)]
        threads = [threading.Thread(target=self.actor, args=part, daemon=True) for part in cast]
        for thread in threads:
            thread.start()
        first, _ = self.play(began, began + self.seconds * 0.3 if self.seconds < 600 else began + 60, len(cast))
        last, took = self.play(began, began + self.seconds, len(cast)) if not self.stop.is_set() else (first, 0)
        self.stop.set()
        for thread in threads:
            thread.join(self.patience)
        self.backends.close()
        if self.counts["steady"] == 0:
            self.wrong("no client that behaves got through")
        room = ROOM["sanitized" if self.t.sanitized else "release"]
        grown, more = last["memory"] - first["memory"], last["descriptors"] - first["descriptors"]
        if grown > room:
            self.wrong(f"{grown >> 20} MB more than after the beginning; {room >> 20} MB are allowed")
        if more > ROOM_DESCRIPTORS:
            self.wrong(f"{more} descriptors more than after the beginning")
        if self.healthy():
            try:
                self.daemon.stop()
            except AssertionError as e:
                self.wrong(str(e))
        verdict = "FAILED" if self.problems else "OK"
        self.say(f"stress: {verdict} after {time.monotonic() - began:.0f} s, seed {self.seed}: {self.counts['steady']} logins that "
                 f"behaved, {self.counts['chaos']} that did not, {self.counts['lies']} lies, {self.counts['changes']} changes; memory "
                 f"{grown / (1 << 20):+.1f} MB, descriptors {more:+d}, last session gone after {took:.1f} s")
        for problem in self.problems[:5]:
            self.say(f"stress: {problem}")
        return not self.problems

    def play(self, began, until, actors):
        """Until then, or until something is wrong; then a rest."""
        self.pause.clear()
        spoken = time.monotonic()
        while time.monotonic() < until and self.healthy():
            self.stop.wait(min(1.0, max(0.01, until - time.monotonic())))
            if time.monotonic() - spoken >= 60:
                spoken = time.monotonic()
                self.line(began, self.figures())
        now, took = self.rest(actors) if not self.stop.is_set() else (self.figures(), 0)
        self.line(began, now)
        return now, took
