# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins in the test's hands: how each interactive protocol words them, a daemon with a listener and a scripted
backend for each of the four, and both ends of a login step by step."""
import base64
import re
from dataclasses import dataclass

import wire
from config import Conf

PASSWORD = "cor-rect Horse%7"


def b64(message):
    return base64.b64encode(message.encode() if isinstance(message, str) else message).decode()


def plain(user, password=PASSWORD, authzid=""):
    return b64(f"{authzid}\0{user}\0{password}")


def bearer(token, user=""):
    return b64(f"n,{'a=' + user if user else ''},\x01auth=Bearer {token}\x01\x01")


def xoauth2(token, user):
    return b64(f"user={user}\x01auth=Bearer {token}\x01\x01")


@dataclass(frozen=True)
class Speech:
    """A protocol's words. `said_*` are Postern's, with courtesy lines where the protocol has one."""
    name: str
    last_greeting: str  # how the last line of Postern's greeting begins
    attempt: str        # mechanism and base64 go in
    noop: tuple         # what a client says to be answered by whoever is there, and Postern's answer
    ready: str          # a backend's greeting
    challenge: str      # how a backend asks for more
    accept: str
    reject: str
    starttls: tuple
    said_hidden: str
    said_unavailable: str
    said_unavailable_tersely: str
    said_timeout: str
    said_failures: str
    said_shutdown: str


IMAP = Speech("imap", "* OK ", "a AUTHENTICATE {} {}", ("n NOOP", "n OK NOOP completed."),
              "* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] ready\r\n", "+ \r\n", "a OK in\r\n",
              "a NO [AUTHENTICATIONFAILED] wrong for 42\r\n", ("s STARTTLS", "s OK Begin TLS negotiation now."),
              "a NO [AUTHENTICATIONFAILED] Authentication failed.",
              "a NO [UNAVAILABLE] backend unavailable", "a NO [UNAVAILABLE] backend unavailable",
              "* BYE Autologout; idle for too long.", "* BYE Too many authentication failures.",
              "* BYE Server shutting down.")
POP3 = Speech("pop3", "+OK ", "AUTH {} {}", ("NOOP", "+OK"), "+OK ready\r\n", "+ \r\n", "+OK in\r\n",
              "-ERR [AUTH] wrong for 42\r\n", ("STLS", "+OK Begin TLS negotiation"),
              "-ERR [AUTH] Authentication failed.",
              "-ERR [SYS/TEMP] backend unavailable", "-ERR backend unavailable", "", "", "")
MANAGESIEVE = Speech("managesieve", "OK ", 'AUTHENTICATE "{}" "{}"', ("NOOP", 'OK "NOOP completed."'),
                     '"IMPLEMENTATION" "x"\r\n"SASL" "PLAIN OAUTHBEARER XOAUTH2"\r\nOK "ready"\r\n', '""\r\n',
                     'OK "in"\r\n', 'NO "wrong for 42"\r\n', ("STARTTLS", 'OK "Begin TLS negotiation now."'),
                     'NO "Authentication failed."', 'NO (TRYLATER) "backend unavailable"',
                     'NO "backend unavailable"', 'BYE "Connection timed out"', 'BYE "Too many authentication failures"',
                     'BYE (TRYLATER) "Server shutting down"')
SUBMISSION = Speech("submission", "220 ", "AUTH {} {}", ("NOOP", "250 2.0.0 OK"), "220 backend ESMTP\r\n", "334 \r\n",
                    "235 2.7.0 in\r\n", "535 5.7.8 wrong for 42\r\n", ("STARTTLS", "220 2.0.0 Ready to start TLS"),
                    "535 5.7.8 Authentication failed.",
                    "421 4.3.0 backend unavailable", "421 4.3.0 backend unavailable",
                    "421 4.4.2 Connection timed out", "421 4.7.0 Too many authentication failures",
                    "421 4.3.2 Server shutting down")
SPEECHES = {s.name: s for s in (IMAP, POP3, MANAGESIEVE, SUBMISSION)}
ALL = tuple(SPEECHES)
GOODBYES = {"imap": "P9 LOGOUT", "pop3": "QUIT", "managesieve": "LOGOUT", "submission": "QUIT"}


def lines(text):
    """Words as they stand on the wire; nothing for nothing."""
    return f"{text}\r\n" if text else ""


class Client:
    """A client that has read Postern's greeting."""

    def __init__(self, stream, speech, greeted=True):
        self.stream, self.speech = stream, speech
        self.name = "%s:%d" % stream.local
        if greeted:
            self.greeting()

    def greeting(self):
        while not self.stream.line().startswith(self.speech.last_greeting):
            pass
        return self

    def say(self, text):
        self.stream.send(text + "\r\n" if isinstance(text, str) else text)
        return self

    def hear(self, *texts):
        for text in texts:
            self.stream.expect(text if text.endswith("\r\n") else lines(text))
        return self

    def attempt(self, user="alice@example.com", password=PASSWORD):
        return self.say(self.words(user, password))

    def words(self, user="alice@example.com", password=PASSWORD):
        return self.speech.attempt.format("PLAIN", plain(user, password))

    def noop(self):
        """Postern itself answers."""
        return self.say(self.speech.noop[0]).hear(self.speech.noop[1])

    def told_unavailable(self):
        """The temporary failure in the protocol's own words, to the letter, then the end in order."""
        self.hear(self.speech.said_unavailable)
        self.stream.expect_eof()
        return self

    def upgrade(self, context):
        self.say(self.speech.starttls[0]).hear(self.speech.starttls[1])
        self.stream = wire.TlsStream(self.stream, context, server_name="mail.example.com").handshake()
        return self.greeting() if self.speech is MANAGESIEVE else self

    def close(self):
        self.stream.close()


class Server:
    """A scripted backend's side of one connection."""

    def __init__(self, stream, speech):
        self.stream, self.speech = stream, speech
        self.helo = None

    def greet(self):
        """All it says up to the credentials."""
        self.stream.send(self.speech.ready)
        if self.speech is SUBMISSION:
            self.ehlo()
        return self

    def ehlo(self, *keywords):
        self.helo = self.stream.line()
        assert self.helo.startswith("EHLO "), self.helo
        said = ["backend", *keywords, "AUTH PLAIN OAUTHBEARER XOAUTH2"]
        self.stream.send("".join(f"250{'-' if k is not said[-1] else ' '}{k}\r\n" for k in said))
        return self

    def take(self):
        """The credentials, in whatever form they come: (mechanism, decoded message)."""
        line = self.stream.line()
        if line == "P2 CAPABILITY":  # its greeting, or what it said inside TLS, did not tell
            self.stream.send("* CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN\r\nP2 OK done\r\n")
            line = self.stream.line()
        found = re.fullmatch(r'(?:\S+ AUTHENTICATE|AUTH|AUTHENTICATE) "?([A-Z0-9]+)"?(?: "?([^"]*)"?)?', line)
        assert found, f"no authentication: {line[:200]!r}"
        mechanism, text = found[1], found[2]
        if text is None:
            self.stream.send(self.speech.challenge)
            text = self.stream.line()
        elif text.startswith("{"):
            text = self.stream.exactly(int(text[1:-2])).decode()
            assert self.stream.line() == ""
        return mechanism, base64.b64decode(text, validate=True)

    def taken(self, user="alice@example.com", password=PASSWORD, authzid=""):
        """Exactly this PLAIN login, and nothing behind it."""
        got = self.take()
        assert got == ("PLAIN", f"{authzid}\0{user}\0{password}".encode()), got
        return self

    def tried(self):
        """Not a client's connection: a trial of Postern's own, which says goodbye where credentials would go."""
        self.greet()
        goodbye = self.stream.line()
        assert goodbye == GOODBYES[self.speech.name], f"not a trial: {goodbye[:200]!r}"
        self.stream.expect_eof()
        self.close()
        return self

    def accept(self, more=b""):
        self.stream.send(self.speech.accept.encode() + more)
        return self

    def reject(self):
        self.stream.send(self.speech.reject)
        return self

    def close(self):
        self.stream.close()


class World:
    """One daemon with a listener for each protocol, and a backend for each leg of the destination `legacy`."""

    def __init__(self, t, *, tls="plain", protocols=ALL, mapping="", second=False, start=True, **settings):
        self.t, self.protocols = t, protocols
        self.legs = {p: t.backend() for p in protocols}
        self.second = {p: t.backend() for p in protocols} if second else {}
        self.mapping = t.file("M", mapping)
        conf = self.conf = Conf()
        conf["server"] = {"threads": 2, "shutdown_grace": "2s", "hostname": "mail.example.com",
                          "backend_connect_retries": 0, "max_connections_per_client": 1_000_000}
        conf["mapping"] = {"source": "file", "normalize": "lowercase", "file": {"path": self.mapping}}
        conf["routing"] = {"default_destination": "legacy"}
        conf["metrics"] = {"bind": f"127.0.0.1:{t.port()}"}
        for name, backends in (("legacy", self.legs), ("legacy2", self.second)):
            if backends:
                conf[f"destination.{name}"] = {"host": "127.0.0.1", "forwarding": "none", "allow_plaintext_auth": True}
            for p, backend in backends.items():
                conf[f"destination.{name}.protocol.{p}"] = {"port": backend.port, "tls": "plain"}
        for p in protocols:
            conf[f"listener.{p}"] = {"protocol": p, "bind": [f"127.0.0.1:{t.port()}"], "tls": tls}
            if tls == "plain":
                conf[f"capabilities.{p}.allow_plain_auth_without_tls"] = True
        if tls != "plain":
            pair = t.pki.leaf("mail.example.com")
            conf["tls.certificate.main"] = {"cert": pair.chain, "key": pair.key, "default": True}
        for path, value in settings.items():
            path = path.replace("__", ".")
            if path.startswith("each."):  # a key of every listener
                for p in protocols:
                    conf[f"listener.{p}.{path[5:]}"] = value
            else:
                conf[path] = value
        self.daemon = t.postern(conf) if start else None

    def speech(self, protocol):
        return SPEECHES[protocol]

    def connect(self, protocol, source=None):
        return wire.connect(self.daemon.port(protocol), source=source)

    def client(self, protocol, source=None):
        return Client(self.connect(protocol, source), SPEECHES[protocol])

    def tls_client(self, protocol):
        stream = wire.tls_connect(self.daemon.port(protocol), self.t.pki.client(), "mail.example.com")
        return Client(stream, SPEECHES[protocol])

    def server(self, protocol, second=False, timeout=None):
        """The next connection at the leg."""
        legs = self.second if second else self.legs
        return Server(legs[protocol].accept(timeout), SPEECHES[protocol])

    def each(self):
        return [(p, SPEECHES[p]) for p in self.protocols]

    def nothing(self, protocol, seconds=0.1):
        for legs in (self.legs, self.second):
            if legs:
                legs[protocol].nothing(seconds)

    def logged_in(self, protocol, user="alice@example.com", second=False, client=None):
        """A whole login, up to the bridge: (client, server)."""
        client = client or self.client(protocol)
        client.attempt(user)
        server = self.server(protocol, second).greet().taken(user).accept()
        client.hear(self.speech(protocol).accept)
        return client, server

    def record(self, client):
        """The closing record of this client's connection."""
        return self.t.await_that(lambda: [r for r in self.daemon.closings() if r["peer"] == client.name],
                                 about="the closing record")[0]

    def reasons(self, count):
        """Why the connections ended, all `count` of them."""
        self.daemon.closing(count)
        return [r["reason"] for r in self.daemon.closings()]

    def reset_legs(self):
        for legs in (self.legs, self.second):
            for backend in legs.values():
                backend.close()


def bridged(client, server, words="x marks"):
    """Bytes pass both ways, untouched."""
    client.stream.send(f"{words} up\r\n")
    server.stream.expect(f"{words} up\r\n").send(f"{words} down\r\n")
    client.stream.expect(f"{words} down\r\n")


def end(client, server):
    """Both ends leave in order; the session is over."""
    client.stream.finish()
    server.stream.rest()
    server.close()
    client.stream.rest()
    client.close()
