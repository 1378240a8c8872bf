# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured. A case is a row: the set-up, what the generator does, and the unit of the figure."""
from dataclasses import dataclass

from peer import Setup

# What Postern prefers, and the client offers nothing else.
SUITES = {
    ("1.3", "ecdsa"): "TLS_AES_256_GCM_SHA384",
    ("1.3", "rsa"): "TLS_AES_256_GCM_SHA384",
    ("1.2", "ecdsa"): "ECDHE-ECDSA-AES256-GCM-SHA384",
    ("1.2", "rsa"): "ECDHE-RSA-AES256-GCM-SHA384",
}
SIGNATURES = {"ecdsa": "ECDSA+SHA256", "rsa": "rsa_pss_rsae_sha256"}
MB = 1_000_000
USERS = 1000
HYBRID = "X25519MLKEM768"


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    # race: rounds of work.  rate: the same, open loop.  idle, storm: a crowd of standing sessions.
    # growth: rounds of work beside a crowd.  scale: rounds of work with more and more of `scale`.
    kind: str = "race"
    verb: str = "echo"         # bye, login: a new session each time; get, put, echo: on standing sessions
    size: int = 64             # bytes of payload of one exchange
    sessions: int = 32
    threads: int = 2           # of the generator
    tls: str = "1.3"           # client leg; empty: plain
    back_tls: bool = False
    certificate: str = "ecdsa"
    group: str = "X25519"
    imap: bool = False         # sessions log in first
    forwarded: bool = False
    names: int = 0             # server names, each with a certificate
    mappings: int = 0          # accounts that are mapped
    scale: str = ""
    levels: tuple = ()
    resume: bool = False
    rate: int = 0              # sessions a second
    unit: str = "session"      # session, MB, round trip ...
    peers: tuple = ()          # empty: all that can
    heavy: bool = False        # left out of --quick

    @property
    def setup(self):
        return Setup(bool(self.tls), self.back_tls, self.certificate, self.imap, self.forwarded, self.names,
                     self.mappings, self.group)

    @property
    def standing(self):
        return self.verb not in ("bye", "login")

    @property
    def crowded(self):
        return self.kind in ("idle", "storm", "growth")

    def admits(self, peer):
        return peer.supports(self.setup) and (not self.peers or peer.name in self.peers)

    def units(self, answer):
        return answer["bytes"] / MB if self.unit == "MB" else answer["units"]

    def load_options(self, port, certificates):
        options = {"port": port, "verb": self.verb, "size": self.size, "threads": self.threads,
                   "resume": "yes" if self.resume else "no", "warm": 16384 if self.kind == "idle" else 64,
                   "imap": "yes" if self.imap else "no", "users": self.mappings or USERS, "names": self.names}
        if self.tls:
            options |= {"tls": self.tls, "cipher": SUITES[self.tls, self.certificate], "group": self.group,
                        "signature": SIGNATURES[self.certificate]}
            if not self.names:
                options["certificate"] = certificates.chain(self.certificate)
        return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


def handshake(name, title, **more):
    return Case(name, title + ": connect, shake hands, take 64 bytes, end", verb="bye", **more)


def login(name, title, **more):
    return Case(name, title, verb="login", imap=True, **more)


def bulk(name, title, verb, **more):
    return Case(name, title, verb=verb, size=1 << 20, sessions=8, unit="MB", **more)


def idle(name, title, sessions, **more):
    return Case(name, title, kind="idle", sessions=sessions, imap=True, unit="idle session", **more)


def growth(name, title, **more):
    return Case(name, title, kind="growth", imap=True, heavy=True, peers=("postern", "haproxy"), **more)


LEVELS = (10, 1000, 10000)  # live sessions of the growth cases
CROWDED = ("postern", "haproxy", "nginx-mail", "dovecot", "direct")
# The crowds come first: they take as long as they take, and the rounds of the others have what time is left.
TABLE = [
    idle("idle-2000", "2,000 idle sessions, logged in, TLS client", 2000),
    idle("idle-10000", "10,000 idle sessions, logged in, TLS client", 10000, peers=CROWDED, heavy=True),
    Case("storm", "the backend of 10,000 idle sessions is replaced, all come back at once", kind="storm",
         sessions=10000, imap=True, peers=CROWDED, unit="return", heavy=True),
    idle("idle-tls-2000", "2,000 idle sessions, logged in, TLS on both legs", 2000, back_tls=True, heavy=True),
    idle("idle-tls-10000", "10,000 idle sessions, logged in, TLS on both legs", 10000, back_tls=True,
         peers=CROWDED, heavy=True),
    growth("growth-login", "login sessions beside others that are idle", verb="login"),
    growth("growth-round-trip", "64 bytes and back on 64 sessions beside others that are idle", sessions=64,
           unit="round trip"),
    growth("growth-download", "8 sessions receive beside others that are idle", verb="get", size=1 << 20, sessions=8,
           unit="MB"),
    Case("session-plain", "no TLS: connect, take 64 bytes, end", verb="bye", tls=""),
    handshake("handshake", "full TLS 1.3 handshake, ECDSA P-256"),
    handshake("handshake-rsa", "full TLS 1.3 handshake, RSA-2048", certificate="rsa"),
    handshake("handshake-hybrid", f"full TLS 1.3 handshake, ECDSA P-256, {HYBRID}", group=HYBRID),
    handshake("handshake-tls12", "full TLS 1.2 handshake, ECDSA P-256", tls="1.2"),
    handshake("resumed", "TLS 1.3 handshake resumed by ticket", resume=True),
    login("login", "TLS 1.3, IMAP greeting, LOGIN, NOOP, LOGOUT, plain backend"),
    login("login-forwarded", "the same, the backend told the client's address by a PROXY header", forwarded=True,
          heavy=True),
    login("login-latency", "400 login sessions a second; from the moment each is due to its LOGIN's OK",
          kind="rate", rate=400, threads=1, sessions=0),
    bulk("download", "8 IMAP sessions receive, TLS client, plain backend", "get", imap=True),
    bulk("upload", "8 IMAP sessions send, TLS client, plain backend", "put", imap=True),
    bulk("download-tls", "8 IMAP sessions receive, TLS on both legs", "get", imap=True, back_tls=True),
    bulk("upload-tls", "8 IMAP sessions send, TLS on both legs", "put", imap=True, back_tls=True),
    bulk("download-plain", "8 opaque sessions receive, no TLS", "get", tls=""),
    bulk("upload-plain", "8 opaque sessions send, no TLS", "put", tls=""),
    Case("round-trip-1", "64 bytes and back, 1 IMAP session, TLS client", imap=True, sessions=1, threads=1,
         unit="round trip"),
    Case("round-trip-64", "64 bytes and back, 64 IMAP sessions, TLS client", imap=True, sessions=64,
         unit="round trip"),
    handshake("names", "full TLS 1.3 handshake, a server name and certificate out of many", kind="scale", scale="names",
              levels=(1, 100, 10000), peers=("postern", "haproxy"),
              heavy=True),
    login("mappings", "login session, an account out of many that are mapped", kind="scale", scale="mappings",
          levels=(1, 1000, 1_000_000), peers=("postern",)),
]
ALL = {case.name: case for case in TABLE}
