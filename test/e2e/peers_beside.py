# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose packages cannot be installed beside Postfix and Dovecot: deploy/setup --tests unpacks them below
/opt/postern-peers, and they run from there, in a mount namespace where they miss something of their own."""
import os
import pwd
import shutil
import signal
import socket
import struct
import threading

from harness import Skip, descendants
from peers import Peer, listens
from servers import PASSWORD

BESIDE = "/opt/postern-peers"


def unpacked(name, path):
    if not os.path.exists(f"{BESIDE}/{name}/{path}"):
        raise Skip(f"not unpacked below {BESIDE}: {name} (deploy/setup --tests)")
    return f"{BESIDE}/{name}"


def mounts_with_user(t, folder, user):
    """Shell commands for a namespace where the user exists that a program has built in; it need not be anybody."""
    nobody, out = pwd.getpwnam("nobody"), []
    for name, line in (("passwd", f"{user}:x:{nobody.pw_uid}:{nobody.pw_gid}::{t.folder}/{folder}:/bin/false\n"),
                       ("group", f"{user}:x:{nobody.pw_gid}:\n")):
        with open(f"/etc/{name}", encoding="utf-8") as f:
            out.append(f"mount --bind {t.file(f'{folder}/{name}', f.read() + line)} /etc/{name}")
    return " && ".join(out)


class Exim(Peer):
    """Submission with PLAIN for one user; messages stay in the queue. ways: {port: PROXY header wanted}."""

    def __init__(self, t, ways, user="alice@example.org"):
        root = unpacked("exim", "usr/sbin/exim4")
        self.t, self.folder = t, t.folder_for("exim", 0o777)
        pair = t.pki.leaf("backend.test", key=2)
        self.log_file = f"{self.folder}/mainlog"
        known = mounts_with_user(t, "exim", "Debian-exim")
        t.file("exim/key.pem", open(pair.key, "rb").read(), 0o644)
        for port, proxy in ways.items():
            conf = t.file(f"exim/{port}.conf", f"""
primary_hostname = exim.test
exim_path = {root}/usr/sbin/exim4
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/%slog
pid_file_path = {self.folder}/{port}.pid
local_interfaces = <; 127.0.0.1
daemon_smtp_ports = {port}
log_selector = +incoming_port +smtp_connection +proxy
queue_only = true
host_lookup =
rfc1413_hosts =
keep_environment =
tls_advertise_hosts = *
tls_certificate = {pair.chain}
tls_privatekey = {self.folder}/key.pem
{'hosts_proxy = 127.0.0.0/8' if proxy else ''}
acl_smtp_rcpt = check
begin acl
check:
  accept authenticated = *
  deny message = log in first
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
""")
            self.process = t.spawn("unshare", "-m", "sh", "-c", f"{known} && exec {root}/usr/sbin/exim4 -bdf -C {conf}", name=f"exim{port}")
            t.await_that(lambda p=port: listens(p) or self.process.poll() is not None, 10, 0.05, "Exim's port")

    def log(self):
        return self.t.tail(self.log_file, 1 << 20)


class Saslauthd:
    """Answers Cyrus' question whether a password is right, as saslauthd would, from a thread of the test."""

    def __init__(self, path, users):
        self.users, self.sock = users, socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        os.chmod(path, 0o777)
        self.sock.listen(50)
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            conn, _ = self.sock.accept()
            with conn, conn.makefile("rb") as stream:
                user, password, *_ = (stream.read(struct.unpack(">H", stream.read(2))[0]).decode() for _ in range(4))
                answer = b"OK" if self.users.get(user) == password else b"NO"
                conn.sendall(struct.pack(">H", len(answer)) + answer)


class SysLog:
    """What programs say to syslog: a socket to stand in for /dev/log, the lines, and a file with them."""

    def __init__(self, path, log):
        self.lines, self.log, self.sock = [], log, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        os.chmod(path, 0o777)
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            self.lines.append(self.sock.recv(65536).decode(errors="replace").strip("\0"))
            with open(self.log, "a", encoding="utf-8") as f:
                f.write(self.lines[-1] + "\n")

    def text(self):
        return "\n".join(self.lines)


class Cyrus(Peer):
    """IMAP and ManageSieve; ports: imap, imaps, managesieve."""

    def __init__(self, t, users=("alice", "bob")):
        root = unpacked("cyrus", "usr/lib/cyrus/bin/imapd")
        self.t, self.folder = t, t.folder_for("cyrus")
        nobody, pair = pwd.getpwnam("nobody"), t.pki.leaf("backend.test", key=2)
        self.pair, self.ports = pair, {"imap": t.port(), "imaps": t.port(), "managesieve": t.port()}
        for part in ("conf", "conf/db", "conf/log", "conf/proc", "conf/socket", "conf/sieve", "spool", "run", "dev"):
            t.folder_for(f"cyrus/{part}")
        t.file("cyrus/key.pem", open(pair.key, "rb").read(), 0o644)
        self.auth = Saslauthd(f"{self.folder}/mux", dict.fromkeys(users, PASSWORD))
        self.syslog = SysLog(f"{self.folder}/dev/log", f"{t.folder}/cyrus-syslog.log")
        conf = t.file("cyrus/imapd.conf", f"""
configdirectory: {self.folder}/conf
partition-default: {self.folder}/spool
defaultpartition: default
sievedir: {self.folder}/conf/sieve
cyrus_user: nobody
servername: cyrus.test
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: {self.folder}/mux
sasl_mech_list: PLAIN
allowplaintext: yes
failedloginpause: 0
virtdomains: off
autocreate_post: yes
autocreate_quota: 0
autocreate_users: anyone
allowstarttls: yes
tls_server_cert: {pair.chain}
tls_server_key: {self.folder}/key.pem
tls_sessions_db_path: {self.folder}/conf/tls.db
idlesocket: {self.folder}/conf/socket/idle
proc_path: {self.folder}/conf/proc
mboxname_lockpath: {self.folder}/run
lmtpsocket: {self.folder}/conf/socket/lmtp
notifysocket: {self.folder}/conf/socket/notify
""")
        programs = f"{root}/usr/lib/cyrus/bin"
        services = "".join(f'  {name} cmd="{programs}/{cmd} -C {conf}" listen="127.0.0.1:{self.ports[name]}" prefork=0\n'
                           for name, cmd in (("imap", "imapd"), ("imaps", "imapd -s"), ("managesieve", "timsieved")))
        cyrus_conf = t.file("cyrus/cyrus.conf", f"START {{\n  recover cmd=\"{programs}/ctl_cyrusdb -C {conf} -r\"\n}}\nSERVICES {{\n{services}}}\nEVENTS {{\n}}\n")
        for path, folders, files in os.walk(self.folder):
            for entry in [path] + [f"{path}/{e}" for e in folders + files]:
                shutil.chown(entry, nobody.pw_uid, nobody.pw_gid)
        # Its own /dev, for the log alone.
        dev = f"{self.folder}/dev"
        script = (f"for d in null zero random urandom; do touch {dev}/$d; mount --bind /dev/$d {dev}/$d; done; mount --rbind {dev} /dev && "
                  f"exec {programs}/master -C {conf} -M {cyrus_conf} -p {self.folder}/run/master.pid")
        self.process = t.spawn("unshare", "-m", "sh", "-c", script, name="cyrus-master",
                               env={**os.environ, "LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu"})
        for port in self.ports.values():
            t.await_that(lambda p=port: listens(p) or self.process.poll() is not None, 15, 0.05, "Cyrus' port")
        assert self.process.poll() is None, self.log() + self.syslog.text()


class Authdaemon:
    """Answers Courier's question who somebody is, as authdaemond would, from a thread of the test."""

    def __init__(self, path, users, home, uid, gid):
        self.users, self.home, self.uid, self.gid = users, home, uid, gid
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        os.chmod(path, 0o777)
        self.sock.listen(50)
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            conn, _ = self.sock.accept()
            with conn, conn.makefile("rwb") as stream:
                while not (line := stream.readline()).startswith(b"AUTH ") and line:
                    pass  # where the client is
                fields = stream.read(int(line[5:] or 0)).decode().split("\n")
                good = len(fields) > 3 and fields[1] == "login" and self.users.get(fields[2]) == fields[3]
                stream.write(f"UID={self.uid}\nGID={self.gid}\nHOME={self.home}\nADDRESS={fields[2]}\n.\n".encode()
                             if good else b"FAIL\n")


class Courier(Peer):
    """IMAP, which knows no SASL-IR, and POP3."""

    def __init__(self, t, users=("alice@example.org",)):
        root = unpacked("courier", "usr/sbin/couriertcpd")
        self.t, self.folder = t, t.folder_for("courier")
        nobody, pair = pwd.getpwnam("nobody"), t.pki.leaf("backend.test", key=2)
        self.ports = {"imap": t.port(), "pop3": t.port()}
        box = t.folder_for("courier/home/Maildir")
        for part in ("cur", "new", "tmp"):
            os.chmod(t.folder_for(f"courier/home/Maildir/{part}"), 0o777)
        os.chmod(box, 0o777)
        for path, folders, _ in os.walk(f"{self.folder}/home"):
            for entry in [path] + [f"{path}/{e}" for e in folders]:
                shutil.chown(entry, nobody.pw_uid, nobody.pw_gid)
        pem = t.file("courier/server.pem", open(pair.chain, "rb").read() + open(pair.key, "rb").read(), 0o644)
        libraries = f"{root}/usr/lib:{root}/usr/lib/x86_64-linux-gnu"
        # The library has the daemon's socket below /run/courier built in, under either name.
        for name in ("authdaemon", "autthdaemon"):
            t.folder_for(f"courier/run/{name}")
            Authdaemon(f"{self.folder}/run/{name}/socket", dict.fromkeys(users, PASSWORD), f"{self.folder}/home", nobody.pw_uid, nobody.pw_gid)
        words = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=REFERENCES SORT QUOTA IDLE AUTH=PLAIN"
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "IMAP_CAPABILITY": words, "IMAP_CAPABILITY_TLS": words,
                       "IMAP_STARTTLS": "YES", "IMAP_TLS_REQUIRED": "0", "IMAPDSTART": "YES", "POP3_STARTTLS": "YES", "POP3_TLS_REQUIRED": "0",
                       "POP3AUTH": "PLAIN LOGIN", "POP3AUTH_TLS": "PLAIN LOGIN", "COURIERTLS": f"{root}/usr/bin/couriertls", "TLS_CERTFILE": pem,
                       "TLS_VERIFYPEER": "NONE", "MAILDIRPATH": "Maildir", "IMAP_IDLE_TIMEOUT": "60", "IMAP_USELOCKS": "1"}
        programs = f"{root}/usr/lib/courier/courier"
        known = mounts_with_user(t, "courier", "courier")
        for protocol, chain in (("imap", f"{programs}/imaplogin {root}/usr/bin/imapd Maildir"),
                                ("pop3", f"{programs}/courierpop3login {programs}/courierpop3d Maildir")):
            self.process = t.spawn("unshare", "-m", "sh", "-c", f"{known} && mount -t tmpfs none /run && mkdir /run/courier && mount --bind "
                                   f"{self.folder}/run /run/courier && exec {root}/usr/sbin/couriertcpd -address=127.0.0.1 -nodnslookup "
                                   f"-maxprocs=40 -maxperip=40 {self.ports[protocol]} {chain}", name=f"courier-{protocol}",
                                   env=environment)
        for port in self.ports.values():
            t.await_that(lambda p=port: listens(p) or self.process.poll() is not None, 10, 0.05, "Courier's port")
        t.cleanups.append(self.stop)

    def stop(self):
        """Its file monitor makes itself independent of it."""
        for child in [p for p in self.t.children if "courier-" in p.log]:
            child.terminate()
            child.wait(10)
        for pid, name, _ in descendants():
            if name == "gam_server":
                os.kill(pid, signal.SIGKILL)

    def log(self):
        return "".join(self.t.tail(f"{self.t.folder}/courier-{protocol}.log", 1 << 20) for protocol in self.ports)
