# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running Postern has given up: privileges, users, and system calls it has no use for. The other tests
run with the filter as well: POSTERN_RUN_OPTIONS=--seccomp."""
import errno
import os
import pwd
import re
import signal
import subprocess

import wire
from harness import need, test

HERE = os.path.dirname(os.path.abspath(__file__))
DEADLY = ("execve", "fork", "ptrace", "packet socket", "writable code", "code from data", "code from a file", "a library",
          "uevent socket", "setuid", "namespace", "memory of others")


def smuggled(t):
    need("cc")
    path = f"{t.folder}/confined.so"
    if not os.path.exists(path):
        subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", path, f"{HERE}/confined.c"], check=True)
    return path


def attempt(t, call, *options):
    """The daemon with these options makes the call: how it ended, and what the call said."""
    backend = t.backend()
    daemon = t.postern(t.base(backend.port), args=["run", *options, t.file("p.toml", t.base(backend.port).text())],
                       env={"LD_PRELOAD": smuggled(t), "CALL": call})
    daemon.signal(signal.SIGUSR2)
    t.await_that(lambda: daemon.process.poll() is not None or "survived" in daemon.stderr(), about=call)
    if daemon.process.poll() is None:
        return daemon, None
    daemon.stopped = True
    return daemon, daemon.process.returncode


def status(daemon, key):
    with open(f"/proc/{daemon.pid}/status", encoding="ascii") as f:
        return re.search(rf"^{key}:\s+(.*)$", f.read(), re.MULTILINE)[1].split()


def threads(daemon, key):
    """What each thread says of itself."""
    found = set()
    for task in os.listdir(f"/proc/{daemon.pid}/task"):
        with open(f"/proc/{daemon.pid}/task/{task}/status", encoding="ascii") as f:
            found.add(re.search(rf"^{key}:\s+(.*)$", f.read(), re.MULTILINE)[1])
    return found


def executable(daemon):
    """The files whose code the process has mapped."""
    with open(f"/proc/{daemon.pid}/maps", encoding="ascii") as f:
        return {line.split()[-1] for line in f if "x" in line.split()[1] and line.split()[-1].startswith("/")}


def traffic(t, daemon, backend):
    client = wire.connect(daemon.port("smtp"))
    server = backend.accept()
    client.send(b"hello")
    server.expect(b"hello")
    server.send(b"and back")
    client.expect(b"and back")
    client.close()
    server.close()


@test(quick=True, plain=True, limit=60)
def test_a_call_that_leads_out_of_the_process_ends_it(t):
    for call in DEADLY:
        _, code = attempt(t, call, "--seccomp")
        assert code == -signal.SIGSYS, (call, code)


@test(plain=True)
def test_a_call_it_does_not_know_is_answered_as_by_an_older_kernel(t):
    for call in ("unheard of", "ring", "signal to another", "raw socket"):
        daemon, code = attempt(t, call, "--seccomp")
        assert code is None and os.strerror(errno.ENOSYS) in daemon.stderr(), (call, code, daemon.stderr())
        daemon.stop()


@test(plain=True)
def test_the_list_of_this_machines_addresses_may_be_asked_for(t):
    daemon, code = attempt(t, "route socket", "--seccomp")
    assert code is None and "survived route socket: done" in daemon.stderr(), (code, daemon.stderr())
    daemon.stop()


@test(plain=True)
def test_without_the_filter_or_with_one_that_only_reports_the_call_is_made(t):
    for options in ((), ("--seccomp=log",), ("--seccomp", "--seccomp=off")):
        daemon, code = attempt(t, "fork", *options)
        assert code is None and "survived fork: done" in daemon.stderr(), (options, code, daemon.stderr())
        daemon.stop()


@test(quick=True, plain=True)
def test_filtered_it_serves_reloads_and_stops(t):
    backend = t.backend()
    conf = t.base(backend.port)
    conf["metrics.bind"] = f"127.0.0.1:{t.port()}"
    conf["destination.relay.host"] = "localhost"  # a name, for the resolver's sake
    conf["server.threads"] = 2
    path = t.file("p.toml", conf.text())
    daemon = t.postern(conf, args=["--seccomp", path])
    daemon.path = path
    loaded = executable(daemon)
    for _ in range(2):
        traffic(t, daemon, backend)
        daemon.reload(conf)
    assert executable(daemon) == loaded, "looking up a name needed code that was not there"
    assert threads(daemon, "Seccomp") == {"2"} and threads(daemon, "NoNewPrivs") == {"1"}
    daemon.stop()


@test(root=True)
def test_filtered_names_are_asked_of_every_service_that_the_machine_lists(t):
    """A module that is loaded at the first lookup would be refused: each is loaded before the filter is there."""
    conf = t.base(t.port())
    conf["destination.relay.host"] = "no-such-host.invalid"
    conf["server.backend_timeout"] = "2s"
    path = t.file("p.toml", conf.text())
    switch = t.file("nsswitch.conf", "hosts: files [NOTFOUND=continue] hesiod no_such # dns\n")
    inside = f"mount --bind {switch} /etc/nsswitch.conf && exec \"$@\""
    need("unshare")
    daemon = t.postern(conf, args=["--seccomp", path], wrap=("unshare", "--mount", "sh", "-c", inside, "-"))
    wire.connect(daemon.port("smtp")).expect_eof()
    daemon.stop()


@test(quick=True)
def test_new_privileges_are_out_of_reach_without_being_asked(t):
    daemon = t.postern(t.base(t.port()))
    assert status(daemon, "NoNewPrivs") == ["1"]
    daemon.stop()


@test(quick=True, root=True, plain=True)
def test_the_user_is_somebody_else_with_low_ports_bound_and_nothing_kept(t):
    backend = t.backend()
    conf = t.base(backend.port)
    conf["listener.smtp.bind"] = ["127.0.0.63:24"]
    os.chmod(t.folder, 0o755)
    path = t.file("p.toml", conf.text())
    nobody = pwd.getpwnam("nobody")
    for user, gid, more in (("nobody", nobody.pw_gid, []), ("nobody:1", 1, ["--seccomp"]), ("54321:54322", 54322, [])):
        daemon = t.postern(conf, args=["run", f"--user={user}", *more, path])
        uid = 54321 if user.startswith("5") else nobody.pw_uid
        assert status(daemon, "Uid") == [str(uid)] * 4 and status(daemon, "Gid") == [str(gid)] * 4
        assert {key: int(status(daemon, key)[0], 16) for key in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == \
            {"CapPrm": 0, "CapEff": 0, "CapInh": 0, "CapAmb": 0}
        assert threads(daemon, "Seccomp") == {"2" if more else "0"} and len(threads(daemon, "Uid")) == 1
        client = wire.connect(24, host="127.0.0.63")
        server = backend.accept()
        client.send(b"low")
        server.expect(b"low")
        client.close()
        server.close()
        daemon.stop()


@test(quick=True, root=True)
def test_what_the_user_cannot_read_is_missed_at_the_start(t):
    conf = t.base(t.port())
    pair = t.pki.leaf("mail.example.com")
    closed = t.file("closed.pem", open(pair.key, encoding="ascii").read(), mode=0o600)
    conf["tls.certificate.a"] = {"cert": pair.chain, "key": closed}
    path = t.file("p.toml", conf.text())
    code, _, err = t.command("run", "--user", "nobody", path)
    assert code == 1 and "closed.pem" in err, (code, err)
    assert t.command("check", path)[0] == 0


@test(quick=True)
def test_options_that_are_none_are_refused(t):
    path = t.file("p.toml", t.base(t.port()).text())
    for options in (("--seccomp=yes",), ("--user",), ("--user=",), ("--confine",), ("-x",)):
        code, _, err = t.command("run", path, *options)
        assert code == 2 and "usage:" in err, (options, code, err)
    assert t.command("check", "--seccomp", path)[0] != 0
    for user, why in (("nobody-of-this-name", "no user"), ("54321", "UID:GID"), ("nobody:no-such-group", "no group"), ("root", "root")):
        code, _, err = t.command("run", f"--user={user}", path)
        assert code == 1 and why in err, (user, code, err)


@test(root=True)
def test_who_is_not_root_changes_to_nobody(t):
    done = subprocess.run(["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", t.binary, "run", "--user=nobody", "none"],
                          capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1 and "only root" in done.stderr, done
