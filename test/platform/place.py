#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place for a packaged Postern: FOLDER/etc gets a configuration, a real Dovecot stands behind it, and COMMAND, which
starts Postern on what it finds mounted or linked there, is proved by mail logins and ended by a signal.

place.py [--etc PATH] [--reload] [--while WORDS] [--stop WORDS] FOLDER COMMAND...
  --etc: where COMMAND sees FOLDER/etc (default: there); --while: a command that must succeed while it serves;
  --stop: a command after which COMMAND ends, instead of a signal to Postern
"""
import argparse
import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/e2e")
import harness  # noqa: E402  pylint: disable=wrong-import-position
import mailtalk  # noqa: E402  pylint: disable=wrong-import-position
import pki  # noqa: E402  pylint: disable=wrong-import-position
import servers  # noqa: E402  pylint: disable=wrong-import-position
import wire  # noqa: E402  pylint: disable=wrong-import-position

HOST, METRICS = "127.0.0.77", 9090  # ports below 1024 at an address of loopback that nobody uses
LISTENERS = {"imap": (143, 993), "pop3": (110, 995)}


def configuration(etc, dovecot):
    text = f"""
[server]
hostname = "mail.example.com"
threads = 2
shutdown_grace = "3s"
[tls.certificate.mail]
cert = "{etc}/tls/tls.crt"
key = "{etc}/tls/tls.key"
[routing]
default_destination = "dovecot"
[mapping]
source = "file"
[mapping.file]
path = "{etc}/accounts"
[metrics]
bind = "{HOST}:{METRICS}"
[destination.dovecot]
host = "localhost"
forwarding = "proxy"
allow_plaintext_auth = true
"""
    for protocol, (upgraded, implicit) in LISTENERS.items():
        text += f"""
[destination.dovecot.protocol.{protocol}]
port = {dovecot.ports[protocol, 'plain-proxy']}
tls = "plain"
[listener.{protocol}]
protocol = "{protocol}"
bind = ["{HOST}:{upgraded}"]
tls = "starttls"
[listener.{protocol}s]
protocol = "{protocol}"
bind = ["{HOST}:{implicit}"]
tls = "implicit"
"""
    return text


def prepare(t, etc, dovecot):
    pair = t.pki.leaf("mail.example.com")
    for name, source in (("tls.crt", pair.chain), ("tls.key", pair.key)):
        with open(source, "rb") as f:
            t.file(f"etc/tls/{name}", f.read())
    t.file("etc/accounts", "")
    t.file("etc/postern.toml", configuration(etc, dovecot))


def page(path):
    with urllib.request.urlopen(f"http://{HOST}:{METRICS}{path}", timeout=2) as reply:
        return reply.read().decode()


def ready(t, process):
    def answer():
        assert process.poll() is None, f"it ended with {process.returncode}"
        try:
            return page("/readyz").strip() == "ready"
        except OSError:
            return False
    t.await_that(answer, 60, 0.05, "readiness")


def logins(t, dovecot, round_number):
    for protocol, talk in (("imap", mailtalk.Imap), ("pop3", mailtalk.Pop3)):
        for tls, port in zip(("starttls", "implicit"), LISTENERS[protocol]):
            stream = wire.connect
            wire.connect = lambda p, **more: stream(p, host=HOST, source="127.0.0.9")
            try:
                client = talk(t, port, tls)
            finally:
                wire.connect = stream
            accepted, words = client.login("alice@example.org", "not this")
            assert not accepted, words
            accepted, words = client.login("alice@example.org", servers.PASSWORD)
            assert accepted, words
            client.alive()
            client.quit()
    for protocol in LISTENERS:
        seen = dovecot.login("alice@example.org", protocol, 2 * round_number)
        assert seen["rip"] == "127.0.0.9", seen


def postern(process):
    """The process itself, below whatever COMMAND put around it."""
    family, parents = {process.pid}, {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                text = f.read()
            parents[int(entry)] = (int(text.rsplit(")", 1)[1].split()[1]), text[text.index("(") + 1:text.rindex(")")])
        except OSError:
            continue
    grown = True
    while grown:
        grown = {p for p, (parent, _) in parents.items() if parent in family} - family
        family |= grown
    found = [p for p in family if parents.get(p, (0, ""))[1] == "postern"]
    assert len(found) == 1, f"processes by the name of postern: {found}"
    return found[0]


def facts(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        text = f.read()

    def one(key):
        return re.search(rf"^{key}:\s+(.*)$", text, re.MULTILINE)[1].split()
    return (f"uid {one('Uid')[1]}, gid {one('Gid')[1]}, pid {one('NSpid')[-1]} in its namespace, capabilities {one('CapEff')[0]}, "
            f"no_new_privs {one('NoNewPrivs')[0]}, seccomp {one('Seccomp')[0]}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--etc")
    p.add_argument("--reload", action="store_true")
    p.add_argument("--while", dest="beside")
    p.add_argument("--stop")
    p.add_argument("folder")
    p.add_argument("command", nargs=argparse.REMAINDER)
    options = p.parse_args()
    folder = os.path.abspath(options.folder)
    ctypes.CDLL(None).prctl(36, 1)  # whatever loses its parent becomes a child, and is ended with the rest
    os.chmod(folder, 0o755)
    pki.prepare(f"{folder}/authority")
    t = harness.T(None, folder, f"{folder}/authority", 31000)
    dovecot = servers.DovecotServer(t, users=("alice",))
    prepare(t, options.etc or f"{folder}/etc", dovecot)
    with open(f"{folder}/postern.log", "wb") as out:
        process = subprocess.Popen(options.command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        ready(t, process)
        pid = postern(process)
        print(f"{os.path.basename(options.command[0])}: {facts(pid)}")
        logins(t, dovecot, 1)
        if options.beside:
            subprocess.run(shlex.split(options.beside), check=True, timeout=90)
        if options.reload:
            os.kill(pid, signal.SIGHUP)
            t.await_that(lambda: 'postern_reloads_total{result="ok"} 1' in page("/metrics"), about="the reload")
            logins(t, dovecot, 2)
        if options.stop:
            subprocess.run(shlex.split(options.stop), check=True, timeout=90)
        else:
            os.kill(pid, signal.SIGTERM)
        code = process.wait(30)
        assert code == 0, f"it ended with {code}"
    except BaseException:
        if process.poll() is None:
            process.terminate()
        time.sleep(1)
        print(t.tail(f"{folder}/postern.log", 4000))
        print(t.tail(dovecot.process.log, 2000))
        raise
    finally:
        t.finish(False)
    print("served IMAP and POP3 logins over STARTTLS and implicit TLS, ended with 0")


main()
