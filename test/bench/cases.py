# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured. A case is a row: the set-up, what the generator does, and the unit of the figure."""
from dataclasses import dataclass

from peers import Setup

SUITES = {
    ("1.3", "ecdsa"): "TLS_AES_256_GCM_SHA384",
    ("1.3", "rsa"): "TLS_AES_256_GCM_SHA384",
    ("1.2", "ecdsa"): "ECDHE-ECDSA-AES256-GCM-SHA384",
    ("1.2", "rsa"): "ECDHE-RSA-AES256-GCM-SHA384",
}
SIGNATURES = {"ecdsa": "ECDSA+SHA256", "rsa": "rsa_pss_rsae_sha256"}
MB = 1_000_000


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    verb: str = "echo"         # bye: a new session each time; get, put, echo: on standing sessions
    size: int = 64             # bytes of payload of one exchange
    sessions: int = 32
    threads: int = 2           # of the generator
    tls: str = "1.3"           # client leg; empty: plain
    back_tls: bool = False
    certificate: str = "ecdsa"
    resume: bool = False
    unit: str = "session"      # session, MB, round trip, idle session
    heavy: bool = False        # left out of --quick

    @property
    def memory(self):
        return self.unit == "idle session"

    @property
    def setup(self):
        return Setup(bool(self.tls), self.back_tls, self.certificate)

    @property
    def figure(self):
        return "bytes of memory" if self.memory else "us of CPU"

    def units(self, answer):
        return answer["bytes"] / MB if self.unit == "MB" else answer["units"]

    def load_options(self, port, certificates):
        options = {"port": port, "verb": self.verb, "size": self.size, "threads": self.threads,
                   "resume": "yes" if self.resume else "no", "warm": 16384 if self.memory else 64}
        if self.tls:
            options |= {"tls": self.tls, "cipher": SUITES[self.tls, self.certificate],
                        "signature": SIGNATURES[self.certificate],
                        "certificate": certificates.chain(self.certificate)}
        return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


def handshake(name, title, **more):
    return Case(name, title + ": connect, shake hands, take 64 bytes, end", verb="bye", **more)


def bulk(name, title, verb, **more):
    return Case(name, title, verb=verb, size=1 << 20, sessions=8, unit="MB", **more)


def idle(name, title, sessions, **more):
    return Case(name, title, sessions=sessions, unit="idle session", **more)


TABLE = [
    Case("session-plain", "no TLS: connect, take 64 bytes, end", verb="bye", tls=""),
    handshake("handshake", "full TLS 1.3 handshake, ECDSA P-256"),
    handshake("handshake-rsa", "full TLS 1.3 handshake, RSA-2048", certificate="rsa"),
    handshake("handshake-tls12", "full TLS 1.2 handshake, ECDSA P-256", tls="1.2"),
    handshake("resumed", "TLS 1.3 handshake resumed by ticket", resume=True),
    bulk("download", "8 sessions receive, TLS client, plain backend", "get"),
    bulk("upload", "8 sessions send, TLS client, plain backend", "put"),
    bulk("download-tls", "8 sessions receive, TLS on both legs", "get", back_tls=True),
    bulk("upload-tls", "8 sessions send, TLS on both legs", "put", back_tls=True),
    bulk("download-plain", "8 sessions receive, no TLS", "get", tls=""),
    bulk("upload-plain", "8 sessions send, no TLS", "put", tls=""),
    Case("round-trip-1", "64 bytes and back, 1 session, TLS client", sessions=1, threads=1, unit="round trip"),
    Case("round-trip-64", "64 bytes and back, 64 sessions, TLS client", sessions=64, unit="round trip"),
    idle("idle-2000", "2,000 idle sessions, TLS client", 2000),
    idle("idle-10000", "10,000 idle sessions, TLS client", 10000, heavy=True),
    idle("idle-tls-2000", "2,000 idle sessions, TLS on both legs", 2000, back_tls=True),
    idle("idle-tls-10000", "10,000 idle sessions, TLS on both legs", 10000, back_tls=True, heavy=True),
]
ALL = {case.name: case for case in TABLE}
