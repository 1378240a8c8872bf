# SPDX-License-Identifier: GPL-3.0-or-later
"""The four interactive protocols by hand, one interface for all: what a login, a refusal and a sign of life look like."""
import base64
import re

import wire

BACKEND_NAME = "backend.test"


def encode(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class Talk:
    """tls: plain, starttls or implicit. Logins answer (accepted, last line)."""

    protocol = ""

    def __init__(self, t, port, tls="plain", *, source=None, name="mail.example.com"):
        self.t, self.name = t, name
        self.stream = wire.connect(port, source=source)
        self.address = self.stream.local
        if tls == "implicit":
            self.secure()
        self.greeting = self.welcome()
        if tls == "starttls":
            self.starttls()

    def secure(self):
        assert not self.stream.buffer, f"bytes behind the go-ahead for TLS: {self.stream.buffer!r}"
        self.stream = wire.TlsStream(self.stream, self.t.pki.client(), server_name=self.name).handshake()

    def send(self, line):
        self.stream.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")

    def line(self):
        return self.stream.line()

    def sasl(self, mechanism, message, ir=True):
        raise NotImplementedError

    def plain(self, user, password, ir=True):
        return self.sasl("PLAIN", f"\0{user}\0{password}", ir)

    def oauthbearer(self, user, token, ir=True):
        return self.sasl("OAUTHBEARER", f"n,a={user},\1host=mail.example.com\1auth=Bearer {token}\1\1", ir)

    def xoauth2(self, user, token, ir=True):
        return self.sasl("XOAUTH2", f"user={user}\1auth=Bearer {token}\1\1", ir)

    def close(self):
        self.stream.close()


class Imap(Talk):
    protocol = "imap"
    count = 0

    def welcome(self):
        line = self.line()
        assert line.startswith("* OK"), line
        return line

    def command(self, text):
        """(lines before the tagged one, the rest of the tagged one)"""
        Imap.count += 1
        tag = f"a{Imap.count}"
        self.send(f"{tag} {text}")
        return self.until(tag)

    def until(self, tag):
        lines = []
        while not (line := self.line()).startswith(f"{tag} "):
            lines.append(line)
        return lines, line[len(tag) + 1:]

    def ok(self, text):
        lines, final = self.command(text)
        assert final.startswith("OK"), (text, final)
        return lines

    def starttls(self):
        self.ok("STARTTLS")
        self.secure()

    def sasl(self, mechanism, message, ir=True):
        Imap.count += 1
        tag = f"a{Imap.count}"
        self.send(f"{tag} AUTHENTICATE {mechanism}" + (f" {encode(message)}" if ir else ""))
        if not ir:
            line = self.line()
            assert line.startswith("+"), line
            self.send(encode(message))
        final = self.until(tag)[1]
        return final.startswith("OK"), final

    def login(self, user, password):
        final = self.command(f'LOGIN "{user}" "{password}"')[1]
        return final.startswith("OK"), final

    def alive(self):
        assert any(line.endswith("EXISTS") for line in self.ok("SELECT INBOX"))

    def quit(self):
        lines = self.ok("LOGOUT")
        assert any(line.startswith("* BYE") for line in lines), lines
        self.stream.expect_eof()
        self.close()


class Pop3(Talk):
    protocol = "pop3"

    def welcome(self):
        line = self.line()
        assert line.startswith("+OK"), line
        return line

    def command(self, text):
        self.send(text)
        return self.line()

    def ok(self, text):
        line = self.command(text)
        assert line.startswith("+OK"), (text, line)
        return line

    def lines(self, text):
        self.ok(text)
        return list(iter(self.line, "."))

    def starttls(self):
        self.ok("STLS")
        self.secure()

    def sasl(self, mechanism, message, ir=True):
        line = self.command(f"AUTH {mechanism}" + (f" {encode(message)}" if ir else ""))
        if not ir:
            assert line.startswith("+ "), line
            line = self.command(encode(message))
        return line.startswith("+OK"), line

    def login(self, user, password):
        self.ok(f"USER {user}")
        line = self.command(f"PASS {password}")
        return line.startswith("+OK"), line

    def alive(self):
        assert re.match(r"\+OK \d+ \d+", self.command("STAT"))

    def quit(self):
        self.ok("QUIT")
        self.stream.expect_eof()
        self.close()


class Submission(Talk):
    protocol = "submission"

    def welcome(self):
        line = self.line()
        assert line.startswith("220 "), line
        return line + "\n" + self.ehlo()

    def ehlo(self):
        return self.ok("EHLO client.test", "250")

    def command(self, text):
        self.send(text)
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def ok(self, text, code="2"):
        reply = self.command(text)
        assert reply.startswith(code), (text, reply)
        return reply

    def starttls(self):
        self.ok("STARTTLS", "220")
        self.secure()
        self.ehlo()

    def sasl(self, mechanism, message, ir=True):
        reply = self.command(f"AUTH {mechanism}" + (f" {encode(message)}" if ir else ""))
        if not ir:
            assert reply.startswith("334"), reply
            reply = self.command(encode(message))
        return reply.startswith("235"), reply

    def login(self, user, password):
        for text in ("AUTH LOGIN", encode(user)):
            self.ok(text, "334")
        reply = self.command(encode(password))
        return reply.startswith("235"), reply

    def mail(self, sender, recipient, body):
        self.ok(f"MAIL FROM:<{sender}>")
        self.ok(f"RCPT TO:<{recipient}>")
        self.ok("DATA", "354")
        self.send(body + b"\r\n.")
        reply = self.line()
        assert reply.startswith("250"), reply

    def alive(self):
        self.ehlo()
        self.ok("NOOP")

    def quit(self):
        self.ok("QUIT", "221")
        self.stream.expect_eof()
        self.close()


class ManageSieve(Talk):
    protocol = "managesieve"

    def welcome(self):
        return self.reply()[0]

    def reply(self):
        """(lines before the final one, the final one); literals count as lines."""
        lines = []
        while not re.match(r"(OK|NO|BYE)\b", line := self.line()):
            literal = re.search(r"\{(\d+)\+?\}$", line)
            lines.append(self.stream.exactly(int(literal[1])).decode() if literal else line)
        literal = re.search(r"\{(\d+)\+?\}$", line)
        if literal:
            line += self.stream.exactly(int(literal[1])).decode() + self.line()
        return lines, line

    def command(self, text):
        self.send(text)
        return self.reply()

    def ok(self, text):
        lines, final = self.command(text)
        assert final.startswith("OK"), (text, final)
        return lines

    def starttls(self):
        self.ok("STARTTLS")
        self.secure()
        lines, final = self.reply()
        assert final.startswith("OK"), (lines, final)

    def sasl(self, mechanism, message, ir=True):
        if ir:
            final = self.command(f'AUTHENTICATE "{mechanism}" "{encode(message)}"')[1]
        else:
            self.send(f'AUTHENTICATE "{mechanism}"')
            line = self.line()
            if line == "{0}":
                assert self.line() == ""
            else:
                assert line == '""', line
            final = self.command(f'"{encode(message)}"')[1]
        return final.startswith("OK"), final

    def login(self, user, password):
        """There is no login command: PLAIN with its message in a literal instead."""
        message = encode(f"\0{user}\0{password}")
        final = self.command(f'AUTHENTICATE "PLAIN" {{{len(message)}+}}\r\n{message}')[1]
        return final.startswith("OK"), final

    def alive(self):
        self.ok("LISTSCRIPTS")

    def quit(self):
        self.ok("LOGOUT")
        self.stream.expect_eof()
        self.close()


TALKS = {talk.protocol: talk for talk in (Imap, Pop3, Submission, ManageSieve)}


def edge(t, ways, *, listeners=("plain", "starttls", "implicit"), protocols=tuple(TALKS)):
    """A configuration for logins. ways: {destination: (ports by protocol, leg TLS, forwarding[, more keys])};
    the first is the default. Listeners are named protocol-tls. Accounts: t.folder/accounts."""
    conf = t.base(0)
    for gone in ("destination.relay", "listener.smtp", "routing.smtp_passthrough_destination"):
        del conf[gone]
    conf["server.hostname"] = "mail.example.com"
    conf["mapping.file.path"] = t.file("accounts", "")
    conf["routing.default_destination"] = next(iter(ways))
    for name, (ports, tls, forwarding, *more) in ways.items():
        conf[f"destination.{name}"] = {"host": "127.0.0.1", "forwarding": forwarding, "tls_server_name": BACKEND_NAME,
                                       "allow_plaintext_auth": tls == "plain", **(more[0] if more else {})}
        for protocol, port in ports.items():
            conf[f"destination.{name}.protocol.{protocol}"] = {"port": port, "tls": tls}
    for protocol in protocols:
        for tls in listeners:
            conf[f"listener.{protocol}-{tls}"] = {"protocol": protocol, "bind": [f"127.0.0.1:{t.port()}"], "tls": tls,
                                                  "max_auth_attempts": 5}
        conf[f"capabilities.{protocol}"] = {"sasl": ["PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"],
                                            "allow_plain_auth_without_tls": "plain" in listeners}
    pair = t.pki.leaf("mail.example.com", "localhost", "127.0.0.1")
    conf["tls.certificate.main"] = {"cert": pair.chain, "key": pair.key, "default": True}
    return conf
