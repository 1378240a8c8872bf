# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that people read and send mail with: what they get through Postern is what they get without it."""
import email.utils
import hashlib
import imaplib
import os
import poplib
import re
import shutil
import smtplib
import subprocess

from harness import test
from mailtalk import TALKS, edge
from servers import PASSWORD, PROTOCOLS, DovecotServer

USER = "alice@example.org"


class Way:
    """Where a program is to connect to: Dovecot itself, or Postern in front of it."""

    def __init__(self, t, name, implicit, starttls):
        self.t, self.name, self.implicit, self.starttls = t, name, implicit, starttls
        self.folder = t.folder_for(f"client-{name}", 0o777)

    def run(self, *command, stdin=None, status=0, limit=60):
        environment = {**os.environ, "HOME": self.folder, "SSL_CERT_FILE": self.t.pki.ca, "TERM": "dumb"}
        done = subprocess.run(command, capture_output=True, input=stdin, env=environment, check=False, cwd=self.folder,
                              timeout=self.t.scaled(limit))
        words = (done.stdout + done.stderr).decode(errors="replace")
        assert status is None or done.returncode == status, f"{command[0]} {self.name}: {done.returncode}: {words[-2000:]}"
        return words

    def file(self, name, text, mode=0o600):
        return self.t.file(f"client-{self.name}/{name}", text, mode)

    def tree(self, folder, skip=()):
        """{folder below this one: sorted digests of its messages}, without header lines that begin with `skip`."""
        out = {}
        for path, _, files in os.walk(f"{self.folder}/{folder}"):
            if os.path.basename(path) in ("cur", "new"):
                for name in files:
                    with open(f"{path}/{name}", "rb") as f:
                        head, _, body = f.read().replace(b"\r\n", b"\n").partition(b"\n\n")
                    lines = [line for line in head.split(b"\n") if not line.startswith(skip)] if skip else [head]
                    box = os.path.relpath(os.path.dirname(path), f"{self.folder}/{folder}")
                    out.setdefault(box, []).append(hashlib.sha256(b"\n".join(lines) + b"\n\n" + body).hexdigest())
        return {box: sorted(digests) for box, digests in out.items()}


def letters(count, first=0):
    return [f"From: <bob@example.org>\r\nTo: <{USER}>\r\nSubject: letter {n}\r\nMessage-ID: <{n}@sender.test>\r\n"
            f"Date: {email.utils.formatdate(1700000000 + n)}\r\n\r\nBody {n}: {'äöü €' * (n % 7)}\r\n.\r\n..dots\r\n"
            .encode() + b"line\r\n" * (n * 13 % 400) for n in range(first, first + count)]


def both(t, mail=True):
    """A Dovecot with some mail, and the two ways to it."""
    dovecot = DovecotServer(t)
    if mail:
        dovecot.fill(USER, letters(30))
        dovecot.fill(USER, letters(5, 100), "Archive")
        dovecot.fill(USER, letters(3, 200), "Archive.2023 &AOQ- odd")
    daemon = t.postern(edge(t, {"dovecot": ({p: dovecot.ports[p, "plain-proxy"] for p in PROTOCOLS}, "starttls", "proxy")}))
    ways = [Way(t, "direct", {p: dovecot.ports[p, "implicit"] for p in PROTOCOLS}, {p: dovecot.ports[p, "plain"] for p in PROTOCOLS}),
            Way(t, "postern", {p: daemon.port(f"{p}-implicit") for p in PROTOCOLS}, {p: daemon.port(f"{p}-starttls") for p in PROTOCOLS})]
    return dovecot, daemon, ways


def same(ways, what):
    """what(way) for both ways; the results must be equal and something."""
    direct, through = (what(way) for way in ways)
    assert direct == through, f"directly: {str(direct)[:1500]}\nthrough Postern: {str(through)[:1500]}"
    assert direct
    return direct


def orderly(daemon, at_least):
    """Every session was one behind a login, and ended by its client or its server; some leave by a reset."""
    daemon.closing(at_least)
    bad = [(r["msg"], r["reason"], r.get("fault")) for r in daemon.closings()
           if r["msg"] != "session closed" or (r["reason"], r.get("fault")) not in (("eof", None), ("error", "client_reset"), ("error", "backend_reset"))]
    assert not bad, bad[:10]


@test(limit=90, root=True, needs=("dovecot", "mbsync"))
def test_mbsync_fetches_and_pushes_the_same_mailbox(t):
    dovecot, daemon, ways = both(t)

    def sync(way, security):
        port = way.implicit["imap"] if security == "IMAPS" else way.starttls["imap"]
        name = f"mail-{security}"
        os.makedirs(f"{way.folder}/{name}", exist_ok=True)
        rc = way.file("mbsyncrc", f"""
IMAPAccount a
Host localhost
Port {port}
User {USER}
Pass "{PASSWORD}"
SSLType {security}
CertificateFile {t.pki.ca}
AuthMechs {'PLAIN' if security == 'IMAPS' else 'LOGIN'}

IMAPStore far
Account a

MaildirStore near
Path {way.folder}/{name}/
Inbox {way.folder}/{name}/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
SyncState *
""")
        way.run("mbsync", "-c", rc, "-a")
        return way.tree(name, skip=(b"X-TUID",)), rc, name

    for security in ("IMAPS", "STARTTLS"):
        tree = same(ways, lambda way, s=security: sync(way, s)[0])
        assert sum(map(len, tree.values())) == 38, tree
    # A message put into the local folder travels to the server.
    _, rc, name = sync(ways[1], "IMAPS")
    ways[1].file(f"{name}/INBOX/new/1700009999.new.client", letters(1, 900)[0].replace(b"\r\n", b"\n").decode())
    ways[1].run("mbsync", "-c", rc, "-a")
    assert any(b"letter 900" in open(f"{dovecot.home}/{USER}/Maildir/{box}/{f}", "rb").read() for box in ("cur", "new")
               for f in os.listdir(f"{dovecot.home}/{USER}/Maildir/{box}")), "the new message did not arrive"
    orderly(daemon, 4)


@test(limit=90, root=True, needs=("dovecot", "offlineimap"))
def test_offlineimap_fetches_the_same_mailbox(t):
    _, daemon, ways = both(t)

    def sync(way):
        rc = way.file("offlineimaprc", f"""
[general]
accounts = a
metadata = {way.folder}/meta
ui = quiet
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {way.folder}/offline
[Repository far]
type = IMAP
remotehost = localhost
remoteport = {way.implicit['imap']}
remoteuser = {USER}
remotepass = {PASSWORD}
ssl = yes
sslcacertfile = {t.pki.ca}
readonly = True
maxconnections = 3
""")
        way.run("offlineimap", "-o", "-c", rc)
        return way.tree("offline", skip=(b"X-OfflineIMAP",))

    assert sum(map(len, same(ways, sync).values())) == 38
    orderly(daemon, 1)


@test(limit=90, root=True, needs=("dovecot", "fetchmail"))
def test_fetchmail_over_imap_and_pop3_fetches_the_same_messages(t):
    _, daemon, ways = both(t)

    def fetch(way, protocol, tls):
        box = f"{way.folder}/fetchmail-{protocol}-{tls}"
        os.makedirs(f"{box}/new", exist_ok=True)
        port = (way.implicit if tls == "ssl" else way.starttls)[protocol]
        deliver = way.file("deliver", f"#!/bin/sh\nexec cat > $(mktemp {box}/new/XXXXXXXX)\n", 0o755)
        rc = way.file("fetchmailrc", f"""
set invisible
set no syslog
poll localhost service {port} protocol {protocol}{' auth password' if protocol == 'pop3' else ''}
  user "{USER}" password "{PASSWORD}" is root here
  {'ssl' if tls == 'ssl' else 'sslproto TLS1.2+'} sslcertck sslcertfile {t.pki.ca}
  fetchall keep no rewrite mda "{deliver}"
""")
        way.run("fetchmail", "-f", rc, "--pidfile", f"{way.folder}/fetchmail.pid", "-i", f"{way.folder}/ids")
        return way.tree(os.path.basename(box))

    for protocol in ("imap", "pop3"):
        for tls in ("ssl", "starttls"):
            tree = same(ways, lambda way, p=protocol, s=tls: fetch(way, p, s))
            assert sum(map(len, tree.values())) == 30, tree
    orderly(daemon, 4)


@test(limit=180, root=True, needs=("dovecot", "getmail"))
def test_getmail_over_imap_and_pop3_fetches_the_same_messages(t):
    _, daemon, ways = both(t)

    def fetch(way, protocol):
        # It forks for each message, and now and then does not notice that the child has ended: it waits for minutes.
        for attempt in range(4):
            try:
                return fetch_once(way, protocol)
            except subprocess.TimeoutExpired:
                shutil.rmtree(f"{way.folder}/getmail-{protocol}")
                if attempt == 3:
                    raise

    def fetch_once(way, protocol):
        box = f"{way.folder}/getmail-{protocol}"
        for part in ("cur", "new", "tmp"):
            os.makedirs(f"{box}/{part}", exist_ok=True)
        kind = "SimpleIMAPSSLRetriever" if protocol == "imap" else "SimplePOP3SSLRetriever"
        rc = way.file("getmailrc", f"""
[retriever]
type = {kind}
server = localhost
port = {way.implicit[protocol]}
username = {USER}
password = {PASSWORD}
ca_certs = {t.pki.ca}
[destination]
type = Maildir
path = {box}/
[options]
read_all = true
delete = false
received = false
delivered_to = false
""")
        for path in (rc, box, *(f"{box}/{part}" for part in ("cur", "new", "tmp"))):
            shutil.chown(path, "nobody")  # getmail delivers nothing as root
        way.run("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "getmail", "--getmaildir", way.folder, "--rcfile", rc,
                limit=15)
        return way.tree(os.path.basename(box), skip=(b"X-getmail",))

    for protocol in ("imap", "pop3"):
        assert sum(map(len, same(ways, lambda way, p=protocol: fetch(way, p)).values())) == 30
    orderly(daemon, 2)


@test(limit=60, root=True, needs=("dovecot", "curl"))
def test_curl_reads_over_imap_and_pop3_and_sends_over_smtp(t):
    dovecot, daemon, ways = both(t)
    credentials = ("--user", f"{USER}:{PASSWORD}", "-sS")

    def read(way):
        out = []
        for port, scheme, more in ((way.implicit["imap"], "imaps", ()), (way.starttls["imap"], "imap", ("--ssl-reqd",))):
            base = f"{scheme}://localhost:{port}"
            for path in ("/", "/INBOX;MAILINDEX=7", "/Archive;MAILINDEX=2;SECTION=HEADER"):
                out.append(way.run("curl", "--cacert", t.pki.ca, *credentials, *more, base + path))
            out.append(way.run("curl", "--cacert", t.pki.ca, *credentials, *more, "-X", "SEARCH SUBJECT \"letter 1\"", base + "/INBOX"))
        for port, scheme, more in ((way.implicit["pop3"], "pop3s", ()), (way.starttls["pop3"], "pop3", ("--ssl-reqd",))):
            for path in ("", "3"):
                out.append(way.run("curl", "--cacert", t.pki.ca, *credentials, *more, f"{scheme}://localhost:{port}/{path}"))
        return out

    assert "letter 6" in str(same(ways, read))
    mail = ways[0].file("mail", letters(1, 500)[0].decode(), 0o644)
    for way in ways:
        for port, scheme, more in ((way.implicit["submission"], "smtps", ()), (way.starttls["submission"], "smtp", ("--ssl-reqd",))):
            way.run("curl", "--cacert", t.pki.ca, *credentials, *more, "--mail-from", USER, "--mail-rcpt", "bob@example.org",
                    "--upload-file", mail, f"{scheme}://localhost:{port}/client.test")
    assert len(dovecot.relay.messages) == 4
    bodies = {body.split(b"Subject:")[1] for _, _, body in dovecot.relay.messages}
    assert len(bodies) == 1, bodies
    orderly(daemon, 8)


@test(limit=60, root=True, needs=("dovecot", "swaks", "msmtp"))
def test_swaks_msmtp_and_smtplib_submit_the_same_message(t):
    dovecot, daemon, ways = both(t, mail=False)
    mail = letters(1, 500)[0]
    for way in ways:
        data = way.file("data", mail.decode(), 0o644)
        for tls, port in (("--tls", way.starttls["submission"]), ("--tls-on-connect", way.implicit["submission"])):
            words = way.run("swaks", "--server", "127.0.0.1", "--port", str(port), tls, "--auth", "PLAIN", "--auth-user", USER,
                            "--auth-password", PASSWORD, "--from", USER, "--to", "bob@example.org", "--helo", "client.test",
                            "--data", f"@{data}", "--timeout", "10")
            assert "<~  235" in words and "<~  221" in words, words
        wrong = way.run("swaks", "--server", "127.0.0.1", "--port", str(way.starttls["submission"]), "--tls", "--auth", "PLAIN", "--auth-user",
                        USER, "--auth-password", "wrong", "--from", USER, "--to", "b@example.org", "--timeout", "10", status=28)
        assert "<~* 535" in wrong, wrong
        rc = way.file("msmtprc", f"""
account a
host localhost
port {way.starttls['submission']}
from {USER}
user {USER}
password "{PASSWORD}"
auth plain
tls on
tls_starttls on
tls_trust_file {t.pki.ca}
""")
        way.run("msmtp", "-C", rc, "-a", "a", "bob@example.org", stdin=mail.replace(b"\r\n", b"\n"))
        with smtplib.SMTP_SSL("localhost", way.implicit["submission"], "client.test", timeout=10, context=t.pki.client()) as client:
            assert client.login(USER, PASSWORD)[0] == 235
            client.sendmail(USER, ["bob@example.org"], mail)
    got = dovecot.relay.messages
    assert len(got) == 8 and {(sender, *to) for sender, to, _ in got} == {(USER, "bob@example.org")}, [m[:2] for m in got]
    # Dovecot puts its Received line before what each program made of the message.
    bodies = [body[body.index(b"From:"):] for _, _, body in got]
    assert bodies[:4] == bodies[4:] and all(b"letter 500" in body for body in bodies), bodies
    daemon.closing(5)
    assert daemon.metric("postern_auth_total", protocol="submission", result="rejected") == 1


@test(limit=60, root=True, needs=("dovecot", "swaks", "msmtp"))
def test_swaks_and_msmtp_that_are_told_to_use_login_find_it_where_it_is_listed(t):
    dovecot, daemon, ways = both(t, mail=False)
    for way in ways:
        port = str(way.starttls["submission"])
        words = way.run("swaks", "--server", "127.0.0.1", "--port", port, "--tls", "--auth", "LOGIN", "--auth-user", USER, "--auth-password",
                        PASSWORD, "--from", USER, "--to", "bob@example.org", "--helo", "client.test", "--timeout", "10")
        assert "<~  235" in words and "~> AUTH LOGIN" in words, words
        rc = way.file("msmtprc", f"""
account a
host localhost
port {port}
from {USER}
user {USER}
password "{PASSWORD}"
auth login
tls on
tls_starttls on
tls_trust_file {t.pki.ca}
""")
        way.run("msmtp", "-C", rc, "-a", "a", "bob@example.org", stdin=b"Subject: x\n\nhello\n")
    assert len(dovecot.relay.messages) == 4, dovecot.relay.messages
    daemon.closing(2)
    assert daemon.metric("postern_auth_total", protocol="submission", mechanism="LOGIN", result="ok") == 2


@test(limit=60, root=True, needs=("dovecot", "sieve-connect"))
def test_sieve_connect_uploads_activates_and_lists_scripts(t):
    dovecot, daemon, ways = both(t, mail=False)
    script = ways[0].file("filter.sieve", 'require ["fileinto"];\r\nif header :contains "subject" "x" { fileinto "X"; }\r\n', 0o644)

    def manage(way):
        out = []
        for actions in (["--upload", "--localsieve", script, "--remotesieve", f"main-{way.name}"], ["--activate", "--remotesieve", f"main-{way.name}"],
                        ["--list"], ["--download", "--remotesieve", f"main-{way.name}", "--localsieve", f"{way.folder}/back.sieve"],
                        ["--deactivate"], ["--delete", "--remotesieve", f"main-{way.name}"]):
            words = way.run("sieve-connect", "--server", "localhost", "--port", str(way.starttls["managesieve"]), "--user", USER, "--passwordfd", "0",
                            "--tlscafile", t.pki.ca, "--noclearauth", *actions, stdin=PASSWORD.encode() + b"\n")
            out.append(words.replace(way.name, "WAY").replace(str(way.starttls["managesieve"]), "PORT"))
        with open(f"{way.folder}/back.sieve", "rb") as f:
            return out, f.read()

    result = same(ways, manage)
    assert b"fileinto" in result[1] and "ACTIVE" in str(result[0]), result
    assert len(dovecot.await_logins(12, USER, "managesieve")) == 12
    orderly(daemon, 6)


@test(limit=60, root=True, needs=("dovecot", "mutt", "script"))
def test_mutt_reads_and_copies_the_same_mailbox(t):
    _, daemon, ways = both(t)

    def read(way):
        rc = way.file("muttrc", f"""
set imap_user="{USER}" imap_pass="{PASSWORD}" ssl_ca_certificates_file="{t.pki.ca}" certificate_file="{way.folder}/certs"
set ssl_verify_host=yes confirmappend=no confirmcreate=no quit=yes mbox_type=Maildir wait_key=no sleep_time=0 move=no
set header_cache="" sort=mailbox-order beep=no folder="{way.folder}"
push "<tag-pattern>~A<enter><tag-prefix><copy-message>{way.folder}/mutt-copy<enter><exit>"
""")
        way.run("script", "-qec", f"stty rows 24 columns 80; TERM=xterm mutt -n -F {rc} -f imaps://localhost:{way.implicit['imap']}/INBOX", "/dev/null", stdin=b"")
        return way.tree("mutt-copy", skip=(b"Status:", b"Content-Length:", b"Lines:"))

    assert sum(map(len, same(ways, read).values())) == 30
    orderly(daemon, 1)


@test(limit=60, root=True, needs=("dovecot", "gsasl"))
def test_gsasl_logs_in_over_imap_and_smtp(t):
    dovecot, _, ways = both(t, mail=False)
    for way in ways:
        for protocol, flag in (("imap", "--imap"), ("submission", "--smtp")):
            words = way.run("gsasl", flag, "--connect", f"localhost:{way.starttls[protocol]}", "-m", "PLAIN", "-a", USER, "-p", PASSWORD,
                            "--x509-ca-file", t.pki.ca, stdin=b"")
            assert "Client authentication finished" in words, words
    assert len(dovecot.await_logins(4, USER)) == 4


@test(limit=60, root=True, needs=("dovecot",))
def test_the_libraries_of_python_see_the_same_mailbox(t):
    _, daemon, ways = both(t)

    def look(way):
        with imaplib.IMAP4_SSL("localhost", way.implicit["imap"], ssl_context=t.pki.client()) as client:
            client.login(USER, PASSWORD)
            client.select("INBOX")  # from here on nothing is recent any more
        out = []
        with imaplib.IMAP4_SSL("localhost", way.implicit["imap"], ssl_context=t.pki.client()) as client:
            client.login(USER, PASSWORD)
            out += [client.list(), client.select("INBOX"), client.search(None, "ALL"), client.fetch("1:*", "(RFC822 FLAGS)")]
        with imaplib.IMAP4("localhost", way.starttls["imap"]) as client:
            client.starttls(t.pki.client())
            client.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode())
            out += [client.select("Archive", readonly=True), client.fetch("1:*", "(BODY.PEEK[])"), client.status("INBOX", "(MESSAGES UIDNEXT)")]
        client = poplib.POP3_SSL("localhost", way.implicit["pop3"], context=t.pki.client())
        client.user(USER)
        client.pass_(PASSWORD)
        out += [client.stat(), client.list(), client.uidl(), *(client.retr(n + 1) for n in range(30))]
        client.quit()
        client = poplib.POP3("localhost", way.starttls["pop3"])
        client.stls(context=t.pki.client())
        client.user(USER)
        client.pass_(PASSWORD)
        out += [client.capa(), client.top(1, 2)]
        client.quit()
        sieve = TALKS["managesieve"](t, way.starttls["managesieve"], "starttls", name="localhost")
        assert sieve.plain(USER, PASSWORD)[0]
        sieve.ok('PUTSCRIPT "one" {7+}\r\nkeep;\r\n')
        out += [sieve.ok('GETSCRIPT "one"'), sieve.command("LISTSCRIPTS"), sieve.command("CAPABILITY"), sieve.command('HAVESPACE "x" 100')]
        sieve.quit()
        return out

    assert len(same(ways, look)) > 40
    orderly(daemon, 5)
