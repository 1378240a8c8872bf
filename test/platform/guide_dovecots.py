# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real Dovecots for what the guides do with them: a mailbox moves from one to the other, and the table of a proxy is
read from its passdb."""
import contextlib
import grp
import imaplib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/e2e")
import dovecot_words as words  # noqa: E402  pylint: disable=wrong-import-position

ACCOUNT, PASSWORD, MASTER = "alice@example.com", "wonderland", ("mover", "secret")
CONFIGURATION = """{opening}base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
auth_master_user_separator = *
{mail}{masters}{users}{userdb}service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
{more}
"""

class Dovecot:
    def __init__(self, folder, more=""):
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.folder = folder
        user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        for name in ("run", "mail", "home", "bin"):
            os.makedirs(f"{folder}/{name}")
        own = {"uid": user.pw_uid, "gid": user.pw_gid, "home": f"{folder}/home/{words.user()}"}
        self.write("dovecot.conf", CONFIGURATION.format(
            folder=folder, port=self.port, more=more, user=user.pw_name, group=grp.getgrgid(user.pw_gid).gr_name, opening=words.opening(),
            mail=words.maildir(f"{folder}/mail/{words.user()}"), masters=words.password_file(f"{folder}/masters", master=True),
            users=words.password_file(f"{folder}/users"), userdb=words.user_file(f"{folder}/users", own)))
        self.write("users", f"{ACCOUNT}:{{PLAIN}}{PASSWORD}::::::host=10.0.0.5\n")
        self.write("masters", f"{MASTER[0]}:{{PLAIN}}{MASTER[1]}\n")
        # `doveadm` on this one's own PATH is about this server.
        self.write("bin/doveadm", f'#!/bin/sh\nexec {shutil.which("doveadm")} -c {folder}/dovecot.conf "$@"\n')
        os.chmod(f"{folder}/bin/doveadm", 0o755)
        if os.getuid() == 0:
            subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", folder], check=True)
        self.process = subprocess.Popen(["dovecot", "-F", "-c", f"{folder}/dovecot.conf"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w", encoding="utf-8") as f:
            f.write(text)

    def client(self):
        deadline = time.monotonic() + 20
        while True:
            try:
                client = imaplib.IMAP4("127.0.0.1", self.port, timeout=20)
                break
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None, self.said()
                time.sleep(0.1)
        client.login(ACCOUNT, PASSWORD)
        return client

    def said(self):
        with contextlib.suppress(OSError), open(f"{self.folder}/log", encoding="utf-8") as f:
            return f.read()[-2000:]
        return "no log"

    def sh(self, text):
        result = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=self.folder, capture_output=True, text=True, timeout=60,
                                check=False, env=os.environ | {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"})
        assert result.returncode == 0, f"{text}\n{result.stdout}{result.stderr}{self.said()}"
        return result.stdout

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def subjects(client, folder="INBOX"):
    client.select(folder, readonly=True)
    _, found = client.search(None, "ALL")
    return sorted(client.fetch(n, "(BODY[HEADER.FIELDS (SUBJECT)])")[1][0][1].decode().strip() for n in found[0].split())


def moved(fences, folder):
    """`fences` of the guide to migration: settings, copy, kick, rest."""
    with contextlib.ExitStack() as stack:
        old = Dovecot(f"{folder}/old")
        stack.callback(old.stop)
        settings = fences["settings"]
        for there, here in (("old.example.com", "127.0.0.1"), ("imapc_port = 993", f"imapc_port = {old.port}"), ("imapc_ssl = imaps", "imapc_ssl = no")):
            assert there in settings, settings
            settings = settings.replace(there, here)
        new = Dovecot(f"{folder}/new", settings)
        stack.callback(new.stop)
        user = old.client()

        def arrives(subject, where):
            user.append(where, None, None, f"Subject: {subject}\r\n\r\ntext\r\n".encode())

        user.create("Work")
        arrives("one", "INBOX")
        arrives("two", "Work")
        new.client().logout()
        new.sh(fences["copy"])
        arrives("three", "INBOX")
        old.sh(fences["kick"])
        try:
            user.noop()
            raise AssertionError("a session on the old server goes on")
        except (imaplib.IMAP4.abort, OSError):
            pass
        new.sh(fences["rest"])
        there = new.client()
        assert subjects(there) == ["Subject: one", "Subject: three"] and subjects(there, "Work") == ["Subject: two"], subjects(there)
        there.logout()


def table(fences, folder):
    """`fences` of the guide for those who come from a Dovecot proxy: table."""
    proxy = Dovecot(f"{folder}/proxy")
    try:
        proxy.client().logout()
        proxy.sh(fences["table"])
        with open(f"{folder}/proxy/hosts", encoding="utf-8") as f:
            assert f.read() == f"{ACCOUNT}\t10.0.0.5\n"
    finally:
        proxy.stop()
