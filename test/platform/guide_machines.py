# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide for Dovecot and Postfix, walked to its end: an edge, a mail server and a client, each with a network of its own
and the addresses of the guide. What stands in /etc there is bound over this machine's in each one's own view of files, so
that commands, ports and paths are those that are printed."""
import contextlib
import glob
import os
import re
import shutil
import subprocess
import time

import guide_dovecots

ACCOUNT, PASSWORD = "alice@example.com", "wonderland"
EDGE, SERVER, CLIENT = "10.0.0.10", "10.0.0.5", "192.0.2.9"
OUTSIDE = "192.0.2.1"  # the edge's address on the client's side
NAMES = f"127.0.0.1 localhost\n{OUTSIDE} mail.example.com\n{SERVER} mail.internal.example.com\n"
# A mail server as Debian leaves it, with one user; her mail goes to a folder.
SITE = """log_path = /run/site/dovecot.log
mail_location = maildir:/run/site/mail/%u
first_valid_uid = 1
passdb {
  driver = static
  args = password=PASSWORD
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/run/site/home
}
"""
SITE_NOW = """log_path = /run/site/dovecot.log
mail_driver = maildir
mail_path = /run/site/mail/%{user}
mail_inbox_path =
first_valid_uid = 1
passdb static {
  password = PASSWORD
}
userdb static {
  fields {
    uid = nobody
    gid = nogroup
    home = /run/site/home
  }
}
"""
POSTFIX = {"maillog_file": "/dev/stdout", "inet_interfaces": "all", "smtpd_peername_lookup": "no",
           "mynetworks": "127.0.0.0/8", "mydestination": "", "myhostname": "mail.internal.example.com", "alias_maps": "",
           "alias_database": "", "local_recipient_maps": "", "virtual_mailbox_domains": "example.com",
           "virtual_mailbox_base": "/run/site", "virtual_mailbox_maps": "static:posted/", "virtual_minimum_uid": "1",
           "virtual_uid_maps": "static:65534", "virtual_gid_maps": "static:65534", "smtpd_tls_cert_file": "/run/site/cert.pem",
           "smtpd_tls_key_file": "/run/site/key.pem"}
# Every door of the edge, as a client goes through it.
TALK = """
import imaplib, poplib, smtplib, socket, ssl, sys
who, password = sys.argv[1:3]
trust = ssl.create_default_context(cafile=sys.argv[3])
imap = imaplib.IMAP4_SSL("mail.example.com", ssl_context=trust, timeout=20)
imap.login(who, password)
imap.append("INBOX", None, None, b"Subject: kept\\r\\n\\r\\ntext\\r\\n")
imap.logout()
pop3 = poplib.POP3_SSL("mail.example.com", context=trust, timeout=20)
pop3.user(who)
pop3.pass_(password)
assert pop3.stat()[0] >= 1
pop3.quit()
def sieve(stream, line=None):
    if line:
        stream.write(line + b"\\r\\n")
        stream.flush()
    while True:
        said = stream.readline()
        assert said and not said.startswith((b"NO", b"BYE")), said
        if said.startswith(b"OK"):
            return
plain = socket.create_connection(("mail.example.com", 4190), 20)
stream = plain.makefile("rwb")
sieve(stream)
sieve(stream, b"STARTTLS")
stream = trust.wrap_socket(plain, server_hostname="mail.example.com").makefile("rwb")
sieve(stream)
import base64
sieve(stream, b'AUTHENTICATE "PLAIN" "%s"' % base64.b64encode(b"\\0" + who.encode() + b"\\0" + password.encode()))
sieve(stream, b"LISTSCRIPTS")
with smtplib.SMTP_SSL("mail.example.com", 465, "laptop.example.com", context=trust, timeout=20) as submission:
    submission.login(who, password)
    submission.sendmail(who, [who], "Subject: submitted\\r\\n\\r\\ntext\\r\\n")
with smtplib.SMTP("mail.example.com", 25, "mx.example.org", timeout=20) as mx:
    mx.sendmail("bob@example.org", [who], "Subject: arrived\\r\\n\\r\\ntext\\r\\n")
print("all doors")
"""


def missing():
    """What this machine lacks, or None."""
    if os.getuid() != 0:
        return "not root"
    for program in ("ip", "nft", "unshare", "nsenter", "dovecot", "postfix", "openssl"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            return f"{program} is not installed"
    return None


class Machine:
    """Namespaces for files, network and processes: /etc is this machine's and may be changed, /run is empty. What it starts
    and what it writes goes when it does."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        steps = ("mount --make-rprivate /", "mount -t tmpfs -o mode=755 run /run", "mkdir -p /run/etc/upper /run/etc/work /run/site",
                 "mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work etc /etc",
                 "ip link set lo up", "echo ready", "exec sleep 600")
        self.holder = subprocess.Popen(["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
                                        "bash", "-euc", "\n".join(steps)], stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "ready\n", "a machine could not be made"
        with open(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children", encoding="ascii") as f:
            self.inside = f.read().split()[0]
        self.root = f"/proc/{self.inside}/root"
        self.write("/etc/hosts", NAMES)
        self.enter = ["nsenter", "--target", self.inside, "--mount", "--net", "--uts", "--pid"]
        self.paths = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def run(self, *command, **more):
        more.setdefault("timeout", 60)
        return subprocess.run([*self.enter, *command], capture_output=True, text=True, check=False,
                              env=os.environ | {"PATH": self.paths}, **more)

    def sh(self, text, **more):
        done = self.run("bash", "-euo", "pipefail", "-c", text, **more)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command, log):
        with open(f"{self.folder}/{log}", "ab") as f:
            return subprocess.Popen([*self.enter, *command], stdin=subprocess.DEVNULL, stdout=f, stderr=f,
                                    env=os.environ | {"PATH": self.paths})

    def write(self, path, text, mode="w"):
        with open(self.root + path, mode, encoding="utf-8") as f:
            f.write(text)

    def read(self, path):
        with contextlib.suppress(OSError), open(self.root + path, encoding="utf-8", errors="replace") as f:
            return f.read()
        return ""

    def said(self, log):
        with open(f"{self.folder}/{log}", encoding="utf-8", errors="replace") as f:
            return f.read()

    def await_ports(self, *ports):
        deadline = time.monotonic() + 30
        while not all(f":{port} " in self.run("ss", "-ltn").stdout for port in ports):
            assert time.monotonic() < deadline, f"nobody listens on one of {ports}: {self.run('ss', '-ltn').stdout}"
            time.sleep(0.2)

    def end(self):
        self.holder.kill()
        self.holder.wait(20)
        self.holder.stdout.close()


def pair(folder, name, key, cert):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{folder}/{key}",
                    "-out", f"{folder}/{cert}"], check=True, capture_output=True)


def cable(one, its, other, others, name):
    """`name` on both ends, with an address each."""
    one.sh(f"ip link add {name} type veth peer name far{name}")
    subprocess.run(["nsenter", "--target", one.inside, "--net", "ip", "link", "set", f"far{name}", "netns", other.inside], check=True)
    other.sh(f"ip link set far{name} name {name}; ip address add {others}/24 dev {name}; ip link set {name} up")
    one.sh(f"ip address add {its}/24 dev {name}; ip link set {name} up")


def mail_server(machine, fences):
    """Debian's own configuration, a user, a certificate that nobody signed, and the lines of the guide."""
    pair(f"{machine.root}/run/site", "mail.internal.example.com", "key.pem", "cert.pem")
    old = guide_dovecots.words.old()
    # Who may log in stands in the site's own lines.
    machine.write("/etc/dovecot/conf.d/10-auth.conf", re.sub(r"^!include auth-.*", "", machine.read("/etc/dovecot/conf.d/10-auth.conf"), flags=re.M))
    certificate = ("ssl_cert = </run/site/cert.pem\nssl_key = </run/site/key.pem\n" if old else
                   "ssl_server_cert_file = /run/site/cert.pem\nssl_server_key_file = /run/site/key.pem\n")
    machine.write("/etc/dovecot/conf.d/zz-site.conf", (SITE if old else SITE_NOW).replace("PASSWORD", PASSWORD) + certificate)
    machine.write("/etc/dovecot/local.conf", fences["dovecot"] + "\n")
    machine.run("postconf", "-e", *(f"{name} = {value}" for name, value in POSTFIX.items()))
    machine.write("/etc/postfix/master.cf", fences["postfix"] + "\n", "a")
    # Postfix has its queue to itself, too; the folders in it are made by its own script.
    machine.sh("""
mkdir -p /run/site/mail /run/site/home /run/site/posted /run/dovecot && chown nobody:nogroup /run/site/mail /run/site/home /run/site/posted
mkdir /run/site/queue /run/site/data && chown postfix: /run/site/data
mount --bind /run/site/queue /var/spool/postfix && mount --bind /run/site/data /var/lib/postfix
postfix set-permissions create-missing >/dev/null 2>&1 || postfix check""")
    machine.start("postfix", "start-fg", log="postfix.log")
    machine.await_ports(10465, 10025)
    machine.start("dovecot", "-F", log="dovecot.out")
    machine.await_ports(10993, 10995, 14190)


def edge(machine, fences, binary):
    os.makedirs(f"{machine.root}/etc/postern/tls")
    pair(f"{machine.root}/etc/postern/tls", "mail.example.com", "privkey.pem", "fullchain.pem")
    machine.write("/etc/postern/accounts", "")
    machine.write("/etc/postern/postern.toml", fences["check"])
    shutil.copy(binary, f"{machine.root}/run/postern")


def logs(server, front):
    return "\n".join(f"--- {name}\n{text[-1500:]}" for name, text in (
        ("postern", front.said("postern.log")), ("dovecot", server.read("/run/site/dovecot.log") + server.said("dovecot.out")),
        ("postfix", server.said("postfix.log"))))


def walk(fences, binary, folder):
    """Yields what was shown, step by step."""
    fences = {kind.removeprefix("machines, "): text for kind, text in fences.items()}
    os.chmod(folder, 0o755)
    with contextlib.ExitStack() as stack:
        def machine(name):
            made = Machine(f"{folder}/{name}")
            stack.callback(made.end)
            return made

        server, front, client = machine("server"), machine("edge"), machine("client")
        cable(front, EDGE, server, SERVER, "inside")
        cable(front, OUTSIDE, client, CLIENT, "outside")
        mail_server(server, fences)
        yield "Dovecot and Postfix of the guide are up"
        edge(front, fences, binary)
        own = f"{folder}/edge.pem"  # what the client trusts
        shutil.copy(f"{front.root}/etc/postern/tls/fullchain.pem", own)

        def with_postern(act):
            process = front.start("/run/postern", "/etc/postern/postern.toml", log="postern.log")
            try:
                front.await_ports(993, 995, 465, 4190, 25)
                return act()
            finally:
                front.run("pkill", "-TERM", "-x", "postern")
                process.wait(40)

        def doors():
            return client.run("python3", "-c", TALK, ACCOUNT, PASSWORD, own)

        # As the guide begins: the mail server's certificate is not one that anybody signed, and that is noticed.
        refused = with_postern(doors)
        assert "UNAVAILABLE" in refused.stderr and "reason=backend_certificate" in front.said("postern.log"), f"{refused.stderr}{logs(server, front)}"
        yield "a certificate nobody signed is refused"

        pins = server.sh(fences["pin"]).split()
        assert len(pins) == 2 and len(set(pins)) == 1 and re.fullmatch("[0-9a-f]{64}", pins[0]), pins
        line = fences["pinned"].replace("the 64 digits", pins[0]).strip()
        assert pins[0] in line, line
        front.write("/etc/postern/postern.toml", re.sub("^(tls_server_name = .*)$", rf"\1\n{line}", fences["check"], flags=re.M))
        front.sh("/run/postern check /etc/postern/postern.toml")
        server.sh(fences["firewall"])

        def look():
            done = doors()
            assert done.stdout == "all doors\n", f"{done.stdout}{done.stderr}{logs(server, front)}"
            typed = f"{{ sleep 1; echo 'a LOGIN {ACCOUNT} {PASSWORD}'; sleep 2; echo 'b LOGOUT'; sleep 1; }} | "
            said = client.run("bash", "-c", typed + fences["look"].split("#", maxsplit=1)[0].strip()).stdout
            assert re.search(r"^a OK.*Logged in", said, re.M), f"{said}{logs(server, front)}"

        with_postern(look)
        yield "every door of the edge leads to the mail server"
        dovecot = server.read("/run/site/dovecot.log")
        for service in ("imap", "pop3", "managesieve"):
            assert re.search(rf"{service}-login: .*(?:Login|Logged in): user=<{ACCOUNT}>.* rip={CLIENT},", dovecot), dovecot[-3000:]
        postfix = server.said("postfix.log")
        assert f"sasl_username={ACCOUNT}" in postfix and postfix.count(f"client=unknown[{CLIENT}]") >= 2, postfix[-3000:]
        yield "both know the client's own address"

        deadline = time.monotonic() + 20
        while len(glob.glob(f"{server.root}/run/site/posted/new/*")) < 2:
            assert time.monotonic() < deadline, f"no mail arrived{logs(server, front)}"
            time.sleep(0.2)
        yield "what was submitted and what came by SMTP arrived"

        # The firewall of the guide: the edge may, another machine of the same network may not.
        stranger = machine("stranger")
        cable(server, "10.0.1.5", stranger, "10.0.1.6", "aside")
        reach = "exec 3<>/dev/tcp/{}/{}"
        assert front.run("timeout", "3", "bash", "-c", reach.format(SERVER, 10993)).returncode == 0
        assert stranger.run("timeout", "3", "bash", "-c", reach.format("10.0.1.5", 25)).returncode == 0
        for port in (10025, 10465, 10993, 10995, 14190):
            assert stranger.run("timeout", "1", "bash", "-c", reach.format("10.0.1.5", port)).returncode != 0, port
        yield "the firewall lets nobody but the edge through"
