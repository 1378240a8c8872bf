# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays the conversations of test/transcripts against a daemon over loopback: every byte Postern says is in the
file, and nothing else comes. The format is described beside the files."""
import os
import queue
import re
import threading
import tomllib

import wire
from config import Conf
from logins import SPEECHES

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "transcripts")
PLACE = re.compile(rb"<(cport|lport|hex)>")


def unescape(text):
    """(bytes, whether the line ends): `\\xHH`, `\\\\`, and a backslash at the end."""
    open_end = re.search(r"(?<!\\)(?:\\\\)*\\$", text) is not None
    text = text[:-1] if open_end else text

    def one(match):
        return bytes([int(match[1][1:], 16)]).decode("latin-1") if match[1] != "\\" else "\\"

    data = re.sub(r"\\(x[0-9a-fA-F]{2}|\\)", one, text.encode().decode("latin-1")).encode("latin-1")
    return data, not open_end


class Transcript:
    def __init__(self, path):
        self.name = os.path.basename(path).removesuffix(".txt")
        self.listener, self.leg, self.sets, self.mapping, self.greeting, self.steps = "plain", "plain", [], [], None, []
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f.read().splitlines(), 1):
                if line and not line.startswith("#"):
                    try:
                        self.read(line)
                    except Exception as e:
                        raise AssertionError(f"{path}:{number}: {e}") from e

    def read(self, line):
        if found := re.fullmatch(r"([CSPB]):(?: (.*))?", line):
            self.steps.append((found[1], *unescape(found[2] or "")))
        elif re.fullmatch(r"[CP]<tls>|[SPB]<eof>", line):
            self.steps.append((line, b"", False))
        else:
            word, _, rest = line.partition(" ")
            if word == "greeting":
                self.greeting = (self.greeting or "") + (rest + "\r\n" if rest else "")
            elif word == "mapping":
                self.mapping.append(rest.replace(" ", "\t", 1))
            elif word == "set":
                key, _, value = rest.partition("=")
                self.sets.append((key.strip(), value.strip()))
            else:
                assert word in ("protocol", "listener", "leg"), f"not a line of a transcript: {line}"
                setattr(self, word, rest)

    @property
    def group(self):
        """What one daemon can serve: everything but the listener's own settings."""
        return (self.listener, self.leg, tuple(self.mapping),
                tuple(sorted(s for s in self.sets if not s[0].startswith("listener.l."))))


class Leg:
    """Takes every connection and greets on it at once."""

    def __init__(self, t, pair):
        self.t, self.pair, self.greeting, self.tls = t, pair, "", False
        self.backend, self.came = t.backend(), queue.Queue()
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                stream = self.backend.accept(3600)
                if self.tls:
                    stream = self.secured(stream)
                self.came.put(stream)  # before the greeting: it may be all there is to this connection
                stream.send(self.greeting)
            except OSError:
                return
            except AssertionError:
                continue

    def secured(self, stream):
        return wire.TlsStream(stream, self.t.pki.server(self.pair), server_side=True).handshake()

    def next(self):
        try:
            return self.came.get(timeout=wire.PATIENCE)
        except queue.Empty:
            raise AssertionError("no connection came to the backend") from None


def configuration(t, protocol, members, leg):
    listener, mode, mapping, sets = members[0].group
    modes = {"tls": "implicit"}
    conf = Conf()
    conf["server"] = {"threads": 2, "hostname": "mail.example.com", "max_connections_per_client": 1_000_000}
    conf["mapping"] = {"source": "file", "normalize": "lowercase",
                       "file": {"path": t.file(f"mapping{leg.backend.port}", "".join(m + "\n" for m in mapping))}}
    conf["routing"] = {"default_destination": "legacy"}
    conf["destination.legacy"] = {"host": "127.0.0.1", "forwarding": "none"}
    conf[f"destination.legacy.protocol.{protocol}"] = {"port": leg.backend.port, "tls": modes.get(mode, mode)}
    for elsewhere in {m.rsplit("\t", 1)[1] for m in mapping} - {"legacy"}:  # nobody is to come there
        conf[f"destination.{elsewhere}"] = {"host": "127.0.0.1", "forwarding": "none", "allow_plaintext_auth": True}
        conf[f"destination.{elsewhere}.protocol.{protocol}"] = {"port": t.port(), "tls": "plain"}
    if mode == "plain":
        conf["destination.legacy.allow_plaintext_auth"] = True
    else:
        conf["destination.legacy.tls_server_name"] = "backend.test"
    if listener == "plain":
        conf[f"capabilities.{protocol}.allow_plain_auth_without_tls"] = True
    else:
        pair = t.pki.leaf("mail.example.com")
        conf["tls.certificate.main"] = {"cert": pair.chain, "key": pair.key, "default": True}
    for number, member in enumerate(members):
        conf[f"listener.l{number}"] = {"protocol": protocol, "bind": [f"127.0.0.1:{t.port()}"],
                                       "tls": modes.get(listener, listener)}
        for key, value in member.sets:
            if key.startswith("listener.l."):
                conf[f"listener.l{number}.{key.removeprefix('listener.l.')}"] = tomllib.loads(f"v = {value}")["v"]
    for key, value in sets:
        if value:
            conf[key] = tomllib.loads(f"v = {value}")["v"]
        elif key in conf:
            del conf[key]
    return conf


def waiting(stream):
    """What has come and is unread; b"" is an end. None: nothing, or TLS talking to itself."""
    if not stream.readable():
        return None
    try:
        return stream.recv(timeout=0.02)
    except wire.Silence:
        return None
    except wire.Reset:
        return b""


class Play:
    """One transcript on its own connections."""

    def __init__(self, t, script, speech, port, leg):
        self.t, self.script, self.speech, self.leg = t, script, speech, leg
        leg.greeting = speech.ready if script.greeting is None else script.greeting
        leg.tls = script.leg == "tls"
        self.server, self.ended = None, False
        self.client = wire.connect(port)
        self.ports = {b"cport": b"%d" % self.client.local[1], b"lport": b"%d" % self.client.peer[1]}

    def run(self):
        steps, at = self.script.steps, 0
        greeted = False
        while at < len(steps):
            kind, data, whole = steps[at]
            if not greeted and kind != "C<tls>":
                greeted = True
                if kind != "S":
                    while not self.client.line().startswith(self.speech.last_greeting):
                        pass
            if kind in "CB":
                said = b""
                while at < len(steps) and steps[at][0] == kind:
                    said += steps[at][1] + (b"\r\n" if steps[at][2] else b"")
                    at += 1
                self.quiet()
                (self.client if kind == "C" else self.backend()).send(said)
                continue
            at += 1
            if kind == "S":
                self.hear(self.client, data, whole)
            elif kind == "P":
                self.hear(self.backend(), data, whole)
            else:
                getattr(self, {"C<tls>": "client_tls", "P<tls>": "backend_tls", "S<eof>": "client_eof",
                               "P<eof>": "backend_eof", "B<eof>": "backend_leaves"}[kind])()
                greeted = greeted or self.script.listener != "tls"

    def backend(self):
        """The connection under way, or, when Postern has ended it, the one that follows."""
        if self.server and (data := waiting(self.server)) is not None:
            if data:
                self.server.buffer = data + self.server.buffer
            else:
                self.server = None
        if not self.server:
            self.server = self.leg.next()
        return self.server

    def hear(self, stream, data, whole):
        wanted = data + (b"\r\n" if whole else b"")
        if not PLACE.search(wanted):
            stream.expect(wanted)
            return
        pattern = b"".join(re.escape(part) if i % 2 == 0 else self.ports.get(part, b"[0-9a-f]+")
                           for i, part in enumerate(PLACE.split(wanted)))
        got = stream.line().encode() + b"\r\n"
        assert re.fullmatch(pattern, got), f"expected {wanted!r}, got {got!r}"

    def quiet(self):
        """Postern has said nothing that is not written down."""
        if not self.ended and (data := waiting(self.client)) is not None:
            raise AssertionError(f"not written down: {data!r} to the client")
        if self.server and (data := waiting(self.server)):
            raise AssertionError(f"not written down: {data!r} to the backend")

    def client_tls(self):
        self.quiet()
        self.client = wire.TlsStream(self.client, self.t.pki.client(), server_name="mail.example.com").handshake()

    def backend_tls(self):
        if not self.leg.tls:
            self.server = self.leg.secured(self.backend())

    def client_eof(self):
        self.client.expect_eof()
        self.ended = True

    def backend_eof(self):
        self.backend_is_over()
        self.server = None

    def backend_is_over(self):
        stream = self.server or self.leg.next()
        stream.expect_gone()

    def backend_leaves(self):
        self.quiet()
        self.backend().finish()

    def over(self):
        self.quiet()
        self.client.close()
        if self.server:
            self.server.close()


def play_all(t, protocol, count):
    """Every file of a protocol's folder, a daemon for each set of settings."""
    folder = os.path.join(FOLDER, protocol)
    scripts = [Transcript(os.path.join(folder, name)) for name in sorted(os.listdir(folder)) if name.endswith(".txt")]
    assert len(scripts) >= count, f"only {len(scripts)} transcripts of {protocol}"
    groups, failures = {}, []
    for script in scripts:
        groups.setdefault(script.group, []).append(script)
    pair = t.pki.leaf("backend.test", key=1)
    for members in groups.values():
        leg = Leg(t, pair)
        daemon = t.postern(configuration(t, protocol, members, leg))
        plays = []
        for number, script in enumerate(members):
            play = Play(t, script, SPEECHES[protocol], daemon.port(f"l{number}"), leg)
            plays.append(play)
            try:
                play.run()
                while not leg.came.empty():  # dialled, and nobody was to say a word
                    play.server = leg.came.get()
            except Exception as e:  # pylint: disable=broad-except
                failures.append(f"{protocol}/{script.name}: {type(e).__name__}: {e}")
                play.ended, play.server = True, None
                play.client.close()
                continue
        settle(plays, failures, protocol)
        daemon.stop()
        leg.backend.close()
    assert not failures, "\n".join(failures)


def settle(plays, failures, protocol):
    """A moment in which nothing more may come, for all of them together."""
    if plays and not plays[0].ended:
        plays[0].client.readable(0.05)
    for play in plays:
        try:
            if play.client.sock.fileno() >= 0:
                play.over()
        except AssertionError as e:
            failures.append(f"{protocol}/{play.script.name}: {e}")
