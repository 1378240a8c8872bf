#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients of the proof of life, and the next hop of submitted mail. Ports and certificate stand in place.json
beside this file; every client comes from 127.0.0.9, which the backend can only know from Postern.

proof.py deliver [TEXT]   a message over LMTP and TLS        proof.py logins    IMAPS, POP3S, submission, ManageSieve
proof.py relay            the next hop: SMTP in, LMTP out     proof.py get PATH  a page of the metrics listener
proof.py await PORT...    until somebody listens there
"""
import base64
import imaplib
import json
import os
import poplib
import re
import smtplib
import socket
import socketserver
import ssl
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
with open(f"{HERE}/place.json", encoding="ascii") as file:
    PLACE = json.load(file)
CLIENT, USER, PASSWORD = "127.0.0.9", "alice@example.org", "wonderland"


def trust():
    return ssl.create_default_context(cafile=PLACE["cert"])


def connect(port, implicit=True):
    plain = socket.create_connection(("127.0.0.1", port), 10, source_address=(CLIENT, 0))
    return trust().wrap_socket(plain, server_hostname="localhost") if implicit else plain


class Lmtp(smtplib.LMTP):
    def _get_socket(self, host, port, timeout):
        return connect(port)


class Submission(smtplib.SMTP):
    def _get_socket(self, host, port, timeout):
        return connect(port)


class Imap(imaplib.IMAP4):
    def _create_socket(self, timeout):
        return connect(self.port)


class Pop3(poplib.POP3):
    def _create_socket(self, timeout):
        return connect(self.port)


def message(subject, text):
    date = time.strftime("%a, %d %b %Y %T +0000", time.gmtime())
    return f"From: bob@example.org\r\nTo: {USER}\r\nSubject: {subject}\r\nDate: {date}\r\n\r\n{text}\r\n"


def deliver(text):
    server = Lmtp("127.0.0.1", PLACE["lmtp"], "sender.example.org")
    print("{0[0]}, {1}".format(server.sock.cipher(), server.sock.version()))
    server.sendmail("bob@example.org", [USER], text if text.startswith("Received:") else message("quickstart", text))
    server.docmd("QUIT")
    server.sock.unwrap()  # both say goodbye in TLS, so that the log shows an orderly end
    server.close()


def refused(attempt, *errors):
    """A wrong password is refused by the backend; the connection to Postern stays."""
    try:
        attempt()
    except errors as error:
        return str(error.args[-1].decode() if isinstance(error.args[-1], bytes) else error.args[-1])
    sys.exit("a wrong password was accepted")


def say(protocol, what):
    print(f"{protocol:<12}{what}", flush=True)


def submission():
    client = Submission("127.0.0.1", PLACE["submission"], "laptop.example.org")
    words = refused(lambda: client.login(USER, "wrong"), smtplib.SMTPAuthenticationError)
    client.login(USER, PASSWORD)
    client.sendmail(USER, [USER], message("submitted", "Hello from a laptop."))
    client.quit()
    say("submission", f"first refused ({words}), then logged in; a message to {USER} submitted")


def imap():
    client = Imap("127.0.0.1", PLACE["imap"])
    words = refused(lambda: client.login(USER, "wrong"), imaplib.IMAP4.error)
    client.login(USER, PASSWORD)
    deadline = time.monotonic() + 10
    while int(client.select("INBOX")[1][0]) < 2:
        if time.monotonic() > deadline:
            sys.exit("the submitted message did not arrive")
        time.sleep(0.05)
    subjects = [re.search(rb"Subject: (\S+)", part[1])[1].decode() for part in client.fetch("1:*", "(BODY.PEEK[HEADER])")[1] if len(part) > 1]
    client.logout()
    say("IMAPS", f"first refused ({words}), then logged in; INBOX: {', '.join(subjects)}")
    if not {"quickstart", "submitted"} <= set(subjects):
        sys.exit("INBOX does not hold what was delivered")


def pop3():
    client = Pop3("127.0.0.1", PLACE["pop3"])
    client.user(USER)
    words = refused(lambda: client.pass_("wrong"), poplib.error_proto)
    client.user(USER)
    client.pass_(PASSWORD)
    count, size = client.stat()
    lines = client.retr(1)[1]
    client.quit()
    say("POP3S", f"first refused ({words}), then logged in; {count} messages, {size} bytes, the first of {len(lines)} lines")


def managesieve():
    sock = connect(PLACE["managesieve"], implicit=False)
    stream = sock.makefile("rwb")

    def reply():
        lines = []
        while not re.match(rb"(OK|NO|BYE)\b", line := stream.readline()):
            if not line:
                sys.exit("ManageSieve ended early")
            lines.append(line.decode().strip())
        return lines, line.decode().strip()

    def command(text):
        stream.write(text.encode() + b"\r\n")
        stream.flush()
        return reply()

    def login(password):
        return command('AUTHENTICATE "PLAIN" "%s"' % base64.b64encode(f"\0{USER}\0{password}".encode()).decode())[1]

    reply()
    if not command("STARTTLS")[1].startswith("OK"):
        sys.exit("no STARTTLS")
    sock = trust().wrap_socket(sock, server_hostname="localhost")
    stream = sock.makefile("rwb")
    reply()
    words = login("wrong")
    if words.startswith("OK") or not login(PASSWORD).startswith("OK"):
        sys.exit(f"ManageSieve: {words}")
    script = 'require "fileinto";\r\nif header :is "subject" "spam" { fileinto "Junk"; }\r\n'
    stored = command(f'PUTSCRIPT "filter" {{{len(script)}+}}\r\n{script}')[1]
    listed = command("LISTSCRIPTS")[0]
    command("LOGOUT")
    stream.read()  # until the server has closed
    say("ManageSieve", f"first refused ({words}), then logged in; PUTSCRIPT {stored.split()[0]}, stored: {', '.join(listed)}")
    if '"filter"' not in listed:
        sys.exit("the script was not stored")


class NextHop(socketserver.StreamRequestHandler):
    """Enough SMTP for Dovecot to hand a submitted message on."""

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.say("220 relay.example.org")
        for line in iter(self.rfile.readline, b""):
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say("354 go on")
                body = b"".join(part[1:] if part.startswith(b"..") else part for part in iter(self.rfile.readline, b".\r\n"))
                deliver(body.decode())
            self.say("250-relay.example.org\r\n250 8BITMIME" if verb == b"EHLO" else "221 bye" if verb == b"QUIT" else "250 fine")
            if verb == b"QUIT":
                return


def relay():
    socketserver.ThreadingTCPServer.daemon_threads = True
    socketserver.ThreadingTCPServer(("127.0.0.1", PLACE["relay"]), NextHop).serve_forever()


def patiently(what):
    deadline = time.monotonic() + 10
    while True:
        try:
            return what()
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(str(error))
            time.sleep(0.05)


def main(verb, *rest):
    if verb == "deliver":
        deliver(" ".join(rest) or "Hello through Postern.")
    elif verb == "logins":
        submission()
        imap()
        pop3()
        managesieve()
    elif verb == "relay":
        relay()
    elif verb == "await":
        for port in rest:
            patiently(lambda port=port: socket.create_connection(("127.0.0.1", int(port)), 1).close())
    elif verb == "get":
        page = patiently(lambda: urllib.request.urlopen(f"http://127.0.0.1:{PLACE['metrics']}{rest[0]}", timeout=2).read())
        print(page.decode(), end="")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["help"]))
