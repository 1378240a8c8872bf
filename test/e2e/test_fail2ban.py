# SPDX-License-Identifier: GPL-3.0-or-later
"""deploy/fail2ban: the filter finds the clients that were refused, each of them and nobody else, in both log
formats and behind syslog's prefix; the jail beside it is one that fail2ban takes."""
import os
import re
import shutil
import subprocess

import wire
from harness import program, test
from logins import Client, Server, World, b64

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "fail2ban")


def found(t, log):
    """The addresses the filter finds in this file, a line each."""
    done = subprocess.run([program("fail2ban-regex"), "-o", "ip", log, f"{DEPLOY}/postern.conf"], capture_output=True,
                          text=True, check=False, timeout=t.scaled(20), cwd=t.folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def visit(w, protocol, source):
    stream = w.connect(protocol)
    stream.send(wire.v2(source=source, destination="2001:db8::1" if ":" in source else "198.51.100.7"))
    return Client(stream, w.speech(protocol))


def refused(w, protocol, client, user, **more):
    client.attempt(user, **more)
    Server(w.legs[protocol].accept(), w.speech(protocol)).greet().taken(user, **more).reject()
    client.hear(w.speech(protocol).reject)


@test(quick=True, needs=("fail2ban-regex",))
def test_the_filter_finds_who_was_refused_and_nobody_else(t):
    for log_format in ("logfmt", "json"):
        w = World(t, each__proxy_protocol="required", each__proxy_trusted=["127.0.0.0/8"], server__log_format=log_format,
                  server__log_level="trace", each__max_auth_attempts=9, server__host_down_threshold=0)
        for i, (protocol, speech) in enumerate(w.each()):
            guesser = visit(w, protocol, f"203.0.113.{i}")
            refused(w, protocol, guesser, "alice@example.com", password="wrong")
            guesser.say(speech.attempt.format("PLAIN", "!!!!")).stream.line()
            guesser.close()
            guesser = visit(w, protocol, f"2001:db8::{i + 1}")
            refused(w, protocol, guesser, f'x=y,address={66}', password="wrong")
            guesser.close()
            guesser = visit(w, protocol, f"203.0.113.{i}").attempt(password="so long that it is dropped")
            Server(w.legs[protocol].accept(), speech).greet().taken(password="so long that it is dropped").close()
            guesser.told_unavailable()
            # Innocent: a good login, one without a backend, one that gave up. A name that wants to be a record is a
            # failed login of the address it came from, and of no other.
            innocent = visit(w, protocol, "198.51.100.1").attempt()
            Server(w.legs[protocol].accept(), speech).greet().taken().accept()
            innocent.hear(speech.accept).close()
            innocent = visit(w, protocol, "198.51.100.2").attempt()
            w.legs[protocol].accept().close()
            innocent.told_unavailable()
            visit(w, protocol, "198.51.100.3").close()
            for name in ('x level=info msg="login refused" address=198.51.100.66 account=', "x\nlevel=info"):
                visit(w, protocol, "198.51.100.4").say(
                    speech.attempt.format("PLAIN", b64(f"\0{name}\0pw"))).hear(speech.said_hidden).close()
        w.daemon.wait("login refused", count=24)
        wanted = sorted([f"203.0.113.{i}" for i in range(4) for _ in range(3)] + [f"2001:db8::{i + 1}" for i in range(4)]
                        + ["198.51.100.4"] * 8)
        assert sorted(found(t, w.daemon.out_path)) == wanted, found(t, w.daemon.out_path)
        prefixed = "".join(f"Nov 21 06:57:02 edge postern[12]: {line}\n" for line in w.daemon.stdout().splitlines())
        assert sorted(found(t, t.file(f"syslog-{log_format}", prefixed))) == wanted
        w.reset_legs()


def settings(t, jail):
    """A copy of the machine's own with nothing but this jail, its files in the test's folder."""
    etc = shutil.copytree("/etc/fail2ban", f"{t.folder}/etc", dirs_exist_ok=True)
    for name in os.listdir(f"{etc}/jail.d"):
        os.remove(f"{etc}/jail.d/{name}")
    shutil.copy(f"{DEPLOY}/postern.conf", f"{etc}/filter.d/postern.conf")
    t.file("etc/jail.d/postern.conf", jail)
    t.file("etc/fail2ban.local", f"[Definition]\nlogtarget = {t.folder}/fail2ban.log\nsocket = {t.folder}/fail2ban.sock\n"
           f"pidfile = {t.folder}/fail2ban.pid\ndbfile = None\n")
    return etc


def sample():
    with open(f"{DEPLOY}/jail.conf", encoding="utf-8") as f:
        return f.read()


@test(limit=40, needs=("fail2ban-server", "fail2ban-client"))
def test_a_guesser_is_banned_within_seconds_wherever_the_machine_stands(t):
    w = World(t, each__max_auth_attempts=9)
    t.file("etc/action.d/tell.conf", f"[Definition]\nactionban = echo <ip> >> {t.folder}/banned\nactionunban =\n")
    jail = re.sub(r"^backend .*$", f"backend = polling\nlogpath = {w.daemon.out_path}\naction = tell", sample(), flags=re.M)
    etc = settings(t, re.sub(r"^maxretry .*$", "maxretry = 4\nignoreself = false", jail, flags=re.M))
    server = t.spawn(program("fail2ban-server"), "-c", etc, "-f", "start", name="fail2ban-server",
                     env={**os.environ, "TZ": "America/New_York"})
    t.await_that(lambda: "Jail 'postern' started" in t.tail(f"{t.folder}/fail2ban.log"), 15, 0.1, "the start of the jail")
    for protocol in w.protocols[:3]:
        refused(w, protocol, w.client(protocol), "alice@example.com", password="wrong")
    assert not os.path.exists(f"{t.folder}/banned")
    refused(w, "submission", w.client("submission"), "alice@example.com", password="wrong")
    t.await_that(lambda: t.tail(f"{t.folder}/banned") == "127.0.0.1\n", 15, 0.1, "the ban")
    server.terminate()
    server.wait(10)


@test(quick=True, needs=("fail2ban-client",))
def test_the_jail_is_one_that_fail2ban_takes(t):
    log = t.file("postern.log", "")
    # Both ways of reading: from the journal as it stands, from a file as the comment says.
    for jail in (sample(), re.sub(r"^backend .*$", f"backend = auto\nlogpath = {log}", sample(), flags=re.M)):
        etc = settings(t, jail)
        done = subprocess.run([program("fail2ban-client"), "-c", etc, "--test"], capture_output=True, text=True,
                              check=False, timeout=t.scaled(20))
        assert done.returncode == 0 and "OK: configuration test is successful" in done.stdout, done.stdout + done.stderr
        done = subprocess.run([program("fail2ban-client"), "-c", etc, "-d"], capture_output=True, text=True, check=False,
                              timeout=t.scaled(20))
        assert "'add', 'postern'" in done.stdout and "login refused" in done.stdout, done.stdout[-2000:] + done.stderr
