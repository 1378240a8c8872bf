# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers for the interactive protocols, on loopback and unprivileged ports, everything in the test's folder."""
import base64
import hashlib
import hmac
import json
import os
import pwd
import re
import socket
import socketserver
import threading
import time

import dovecot_words as words
from harness import need, program
from peers import Peer, listens

PROTOCOLS = ("imap", "pop3", "submission", "managesieve")
PASSWORD = "correct horse"
MASTER, MASTER_PASSWORD = "admin", "battery staple"
TOKEN_KEY = b"a key only this test knows, as long as HS256 likes it"


def token(email, **claims):
    """A JWT the Dovecot below believes."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    body = {"iss": "https://id.test", "sub": email, "email": email, "iat": now - 60, "nbf": now - 60, "exp": now + 3600, **claims}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(body).encode())
    return (signed + b"." + part(hmac.new(TOKEN_KEY, signed, hashlib.sha256).digest())).decode()


class Relay:
    """Where submitted mail ends: a small SMTP server in a thread of the test; (sender, recipients, bytes) each."""

    def __init__(self):
        self.messages, relay = [], self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.reply("220 relay.test ESMTP")
                sender, recipients = "", []
                for line in iter(self.rfile.readline, b""):
                    text = line.decode(errors="replace").strip()
                    verb = text.upper()
                    if verb.startswith("EHLO"):
                        self.reply("250-relay.test\r\n250-8BITMIME\r\n250-PIPELINING\r\n250-SIZE 100000000\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES")
                        continue
                    if verb.startswith("MAIL"):
                        sender, recipients = re.search(r"<(.*?)>", text)[1], []
                    elif verb.startswith("RCPT"):
                        recipients.append(re.search(r"<(.*?)>", text)[1])
                    elif verb == "DATA":
                        self.reply("354 go on")
                        body = b"".join(l[1:] if l.startswith(b"..") else l for l in iter(self.rfile.readline, b".\r\n"))
                        relay.messages.append((sender, recipients, body))
                    elif verb == "QUIT":
                        self.reply("221 2.0.0 bye")
                        return
                    self.reply("250 2.0.0 fine")

            def reply(self, text):
                self.wfile.write(text.encode() + b"\r\n")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


class DovecotServer(Peer):
    """IMAP, POP3, submission, ManageSieve and LMTP in one. ports[protocol, way]: way is `plain` (with STARTTLS),
    `implicit`, and each of them with `-proxy` for a listener that wants a PROXY header; ports["lmtp"]."""

    WAYS = ("plain", "implicit", "plain-proxy", "implicit-proxy")

    def __init__(self, t, users=("alice", "bob"), *, name="dovecot-full", trusted="127.0.0.0/8", domain="example.org", crowd=False):
        need("dovecot", "doveadm")
        self.t, self.folder, self.domain = t, t.folder_for(name), domain
        self.pair = t.pki.leaf("backend.test", "localhost", "127.0.0.1", key=2)
        self.relay = Relay()
        self.user = pwd.getpwnam("nobody")
        self.home = t.folder_for(f"{name}/home")
        os.chown(self.home, self.user.pw_uid, self.user.pw_gid)
        self.ports = {(p, way): t.port() for p in PROTOCOLS for way in self.WAYS}
        self.ports["lmtp"] = t.port()
        t.file(f"{name}/keys/default/HS256/default", base64.b64encode(TOKEN_KEY))
        t.file(f"{name}/masters", "".join(f"{m}:{{PLAIN}}{MASTER_PASSWORD}\n" for m in (MASTER, f"{MASTER}@{domain}")))
        self.add_users(users)
        self.conf = t.file(f"{name}/dovecot.conf", self.text(trusted, crowd))
        self.process = None
        self.start()

    def add_users(self, users):
        self.t.file(f"{os.path.basename(self.folder)}/users", "".join(f"{u}@{self.domain}:{{PLAIN}}{PASSWORD}\n" for u in users))

    def start(self):
        self.process = self.t.spawn(program("dovecot"), "-F", "-c", self.conf, name=f"dovecot{len(self.t.children)}")
        for port in self.ports.values():
            self.t.await_that(lambda p=port: listens(p) or self.process.poll() is not None, 15, 0.02, "Dovecot's ports")
        if self.process.poll() is not None:
            raise AssertionError(f"Dovecot did not start: {self.log()}")

    def stop(self):
        self.process.terminate()
        self.process.wait(15)

    def listeners(self, protocol):
        return "".join(f"""
  inet_listener {protocol}_{way.replace('-', '_')} {{
    {words.address()} = 127.0.0.1
    port = {self.ports[protocol, way]}
    ssl = {'yes' if way.startswith('implicit') else 'no'}
    haproxy = {'yes' if way.endswith('proxy') else 'no'}
  }}""" for way in self.WAYS)

    def text(self, trusted, crowd):
        # A crowd shares processes: thousands of them would be a test of this machine's memory.
        shared = f"  {words.reused()}  client_limit = 250\n  process_limit = 100\n  vsz_limit = 2G\n" if crowd else "  process_limit = 2000\n"
        standard = {"imap": ("imap", "imaps"), "pop3": ("pop3", "pop3s"), "submission": ("submission", "submissions"),
                    "managesieve": ("sieve",)}
        services = ""
        for protocol in PROTOCOLS:
            off = "".join(f"\n  inet_listener {n} {{\n    port = 0\n  }}" for n in standard[protocol])
            services += f"""
service {protocol}-login {{
  chroot =
  {words.reused()}  client_limit = 12000
  process_limit = 4
  vsz_limit = 2G{off}{self.listeners(protocol)}
}}
service {protocol} {{
{shared}}}
"""
        return f"""{words.opening()}base_dir = {self.folder}/run
state_dir = {self.folder}/state
log_path = /dev/stderr
protocols = imap pop3 submission sieve lmtp
listen = 127.0.0.1
hostname = dovecot.test
ssl = yes
{words.certificate(self.pair.chain, self.pair.key)}{words.cleartext_logins()}auth_mechanisms = plain login oauthbearer xoauth2
auth_verbose = yes
auth_failure_delay = 0
auth_master_user_separator = %
{words.default_domain(self.domain)}mail_max_userip_connections = 0
haproxy_trusted_networks = 127.0.0.0/8
login_trusted_networks = {trusted}
{words.login_facts()}{words.maildir("~/Maildir")}mailbox_list_index = no
maildir_stat_dirs = no
imap_idle_notify_interval = 60 s
mailbox_idle_check_interval = 1 s
imap_hibernate_timeout = 0
first_valid_uid = 1
first_valid_gid = 1
default_client_limit = 12000
default_process_limit = 2000
submission_relay_host = 127.0.0.1
submission_relay_port = {self.relay.port}
submission_max_mail_size = 200M
submission_relay_trusted = no
recipient_delimiter = +
{words.password_file(f"{self.folder}/masters", master=True)}{words.password_file(f"{self.folder}/users", mechanisms="plain login")}
{words.tokens(self.folder, f"{self.folder}/keys")}
{words.users(self.user.pw_uid, self.user.pw_gid, f"{self.home}/{words.user()}")}
service lmtp {{
  inet_listener lmtp {{
    {words.address()} = 127.0.0.1
    port = {self.ports['lmtp']}
  }}
}}
service anvil {{
  chroot =
  client_limit = 12000
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
  client_limit = 12000
}}
service auth {{
  client_limit = 12000
  unix_listener {self.folder}/postfix-auth {{
    mode = 0666
  }}
}}
{words.sieve()}
{services}"""

    # what it has seen ----------------------------------------------------------------------------------

    def logins(self, user=None, protocol=None):
        """[{protocol, user, method, rip, ...}] of successful logins, in order."""
        out = []
        for line in self.log().splitlines():
            found = re.search(r" ?(imap|pop3|submission|managesieve)-login: Info: (?:Login|Logged in): (.*)", line)
            if found:
                facts = dict(re.findall(r"(\w+)=<?([^>, ]*)>?", found[2]))
                facts["protocol"] = found[1]
                if (user is None or facts["user"] == user) and (protocol is None or facts["protocol"] == protocol):
                    out.append(facts)
        return out

    def login(self, user, protocol, count=1):
        """The count-th login of this user."""
        return self.await_logins(count, user, protocol)[count - 1]

    def await_logins(self, count, user=None, protocol=None):
        """The same once there are so many: a process of Dovecot's own writes the log, when it comes to it."""
        self.t.await_that(lambda: len(self.logins(user, protocol)) >= count, 10, 0.02, f"{count} logins in Dovecot's log")
        return self.logins(user, protocol)

    def fill(self, user, messages, folder=""):
        """Puts messages (bytes) into a mailbox without any server."""
        box = f"{self.home}/{user}/Maildir" + (f"/.{folder}" if folder else "")
        for part in ("", "/new", "/cur", "/tmp"):
            os.makedirs(box + part, exist_ok=True)
        for number, message in enumerate(messages):
            with open(f"{box}/cur/{1700000000 + number}.M{number}.{socket.gethostname()}:2,S", "wb") as f:
                f.write(message)
        for path, folders, files in os.walk(f"{self.home}/{user}"):
            for entry in [path] + [f"{path}/{e}" for e in folders + files]:
                os.chown(entry, self.user.pw_uid, self.user.pw_gid)
