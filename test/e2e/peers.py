# SPDX-License-Identifier: GPL-3.0-or-later
"""Real mail servers and proxies, each with its configuration, queues and logs in the test's folder, on loopback."""
import os
import pwd
import shutil
import subprocess
import sys

import dovecot_words as words
from harness import need, program

# Every service a small Postfix needs, none of them in a chroot.
SERVICES = """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Peer:
    """A program in the foreground whose output is its log."""

    def log(self):
        with open(self.process.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def await_log(self, text, timeout=15):
        self.t.await_that(lambda: text in self.log(), timeout, 0.05, f"{text!r} in the log of {type(self).__name__}")


class Postfix(Peer):
    """smtpd: {port: "-o option=value ..."}. Mail to example.test lands in self.inbox."""

    def __init__(self, t, smtpd, name="postfix", **main):
        need("postfix", "smtpd")
        self.t, folder = t, t.folder_for(name)
        for part in ("etc", "queue", "data", "mail"):
            t.folder_for(f"{name}/{part}")
        user = pwd.getpwnam("postfix")
        os.chown(f"{folder}/data", user.pw_uid, user.pw_gid)
        os.chown(f"{folder}/mail", user.pw_uid, user.pw_gid)
        self.etc, self.inbox = f"{folder}/etc", f"{folder}/mail/inbox/new"
        settings = {
            "compatibility_level": "3.6", "queue_directory": f"{folder}/queue", "data_directory": f"{folder}/data",
            "command_directory": "/usr/sbin", "daemon_directory": os.path.dirname(program("cleanup")),
            "mail_owner": "postfix", "setgid_group": "postdrop", "maillog_file": "/dev/stdout",
            "myhostname": f"{name}.test", "mydestination": "", "mynetworks": "127.0.0.0/8", "inet_interfaces": "127.0.0.1",
            "inet_protocols": "all", "disable_dns_lookups": "yes", "smtpd_peername_lookup": "no", "alias_maps": "",
            "alias_database": "", "local_recipient_maps": "", "biff": "no", "virtual_mailbox_domains": "example.test",
            "virtual_mailbox_base": f"{folder}/mail", "virtual_mailbox_maps": "static:inbox/",
            "virtual_minimum_uid": "1", "virtual_uid_maps": f"static:{user.pw_uid}", "virtual_gid_maps": f"static:{user.pw_gid}",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject_unauth_destination",
            "smtpd_client_connection_count_limit": "0", "default_process_limit": "60", "in_flow_delay": "0s",
            "smtpd_forbid_bare_newline": "no", **main}
        t.file(f"{name}/etc/main.cf", "".join(f"{k} = {v}\n" for k, v in settings.items()))
        t.file(f"{name}/etc/master.cf", SERVICES + "".join(
            f"127.0.0.1:{port} inet n - n - - smtpd {options}\n" for port, options in smtpd.items()))
        self.process = t.spawn(program("postfix"), "-c", self.etc, "start-fg", name=name)
        t.cleanups.append(self.stop)
        for port in smtpd:
            if "proxy" in smtpd[port]:
                self.await_log("daemon started")
            else:
                t.await_port(port, process=self.process)

    def stop(self):
        subprocess.run([program("postfix"), "-c", self.etc, "stop"], capture_output=True, check=False, timeout=20)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def messages(self):
        names = os.listdir(self.inbox) if os.path.isdir(self.inbox) else []
        out = []
        for name in names:
            with open(f"{self.inbox}/{name}", encoding="utf-8", errors="replace") as f:
                out.append(f.read())
        return out

    def await_messages(self, count, timeout=20):
        self.t.await_that(lambda: os.path.isdir(self.inbox) and len(os.listdir(self.inbox)) >= count, timeout, 0.05,
                          f"delivery of {count} messages")
        return self.messages()


class Dovecot(Peer):
    """LMTP with `haproxy = yes`; mail of every user lands under self.mail."""

    def __init__(self, t, port):
        need("dovecot", "doveadm")
        self.t, folder = t, t.folder_for("dovecot")
        self.mail = t.folder_for("dovecot/mail")
        user = pwd.getpwnam("nobody")
        os.chown(self.mail, user.pw_uid, user.pw_gid)
        conf = t.file("dovecot/dovecot.conf", f"""{words.opening()}base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
protocols = lmtp
listen = 127.0.0.1
ssl = no
auth_verbose = yes
haproxy_trusted_networks = 127.0.0.0/8
{words.maildir(f"{self.mail}/{words.user()}")}first_valid_uid = 1
first_valid_gid = 1
{words.any_password()}{words.users(user.pw_uid, user.pw_gid, f"{self.mail}/{words.user()}")}
service lmtp {{
  inet_listener lmtp {{
    {words.address()} = 127.0.0.1
    port = {port}
    haproxy = yes
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
protocol lmtp {{
  mail_plugins =
}}
""")
        self.process = t.spawn(program("dovecot"), "-F", "-c", conf, name="dovecot-daemon")
        t.await_that(lambda: listens(port), 10, 0.05, "Dovecot's LMTP port")

    def messages(self, user):
        return maildir(f"{self.mail}/{user}")


class HaProxy(Peer):
    """sections: the text behind `defaults`; log-format lines go to this peer's log."""

    def __init__(self, t, sections, ports):
        need("haproxy")
        self.t = t
        conf = t.file("haproxy.cfg", f"""
global
  log stdout format raw local0
  stats socket {t.folder}/haproxy.sock
defaults
  mode tcp
  log global
  timeout connect 5s
  timeout client 30s
  timeout server 30s
{sections}
""")
        self.socket = f"{t.folder}/haproxy.sock"
        self.process = t.spawn(program("haproxy"), "-db", "-f", conf, name="haproxy")
        for port in ports:
            t.await_that(lambda p=port: listens(p), 10, 0.05, "HAProxy's port")


class SmtpSink(Peer):
    """Takes everything; one file a message in self.folder."""

    def __init__(self, t, port):
        need("smtp-sink")
        self.t, self.folder = t, t.folder_for("sink", 0o777)
        shutil.chown(self.folder, "nobody")
        self.process = t.spawn(program("smtp-sink"), "-u", "nobody", "-d", f"{self.folder}/%H%M%S.", f"127.0.0.1:{port}",
                               "1000", name="smtp-sink")
        t.await_that(lambda: listens(port), 10, 0.05, "smtp-sink's port")

    def count(self):
        return sum(len(files) for _, _, files in os.walk(self.folder))


class AioSmtpd(Peer):
    """A server that understands version 2 TLVs: one JSON line a connection in its log."""

    SCRIPT = """
import asyncio, json, sys
try:
    from aiosmtpd.smtp import SMTP
except ImportError:
    sys.exit(77)
class Handler:
    async def handle_PROXY(self, server, session, envelope, data):
        tlv = data.tlv
        facts = {"valid": data.valid, "error": data.error, "version": data.version, "source": str(data.src_addr),
                 "source_port": data.src_port, "destination": str(data.dst_addr), "destination_port": data.dst_port}
        if tlv is not None:
            facts["tlv"] = {k: bytes(v).decode("latin-1") if isinstance(v, (bytes, bytearray)) else str(v) for k, v in tlv.items()}
        print(json.dumps(facts), flush=True)
        return data.valid
    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({"data": envelope.content.decode()}), flush=True)
        return "250 kept"
async def main(port):
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: SMTP(Handler(), proxy_protocol_timeout=5.0, hostname="aio.test", loop=loop),
                             "127.0.0.1", port)
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main(int(sys.argv[1])))
"""

    def __init__(self, t, port):
        self.t = t
        try:
            import aiosmtpd  # pylint: disable=import-outside-toplevel
            del aiosmtpd
        except ImportError:
            need("python3-aiosmtpd (package)")
        script = t.file("aio.py", self.SCRIPT)
        self.process = t.spawn(sys.executable, "-W", "ignore", script, str(port), name="aiosmtpd")
        self.await_log("ready")


def maildir(path):
    out = []
    for box in ("new", "cur"):
        if os.path.isdir(f"{path}/{box}"):
            for name in os.listdir(f"{path}/{box}"):
                with open(f"{path}/{box}/{name}", encoding="utf-8", errors="replace") as f:
                    out.append(f.read())
    return out


def listens(port):
    """Whether somebody listens, without a connection: a peer that wants PROXY would complain about one."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as f:
            for line in f:
                fields = line.split()
                if len(fields) > 3 and fields[1].endswith(wanted) and fields[3] == "0A":
                    return True
    return False
