# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration leaves behind when the next one takes its place: nothing that nobody uses."""
import copy
import os
import re
import signal
import ssl
import threading
import time

import wire
from config import Conf
from harness import test
from logins import SPEECHES, Client, Server, World, bridged, end

ACCOUNTS = 200_000
CHANGES = 25
TABLE = "".join(f"user{n:06d}@mail.example.com legacy\n" for n in range(ACCOUNTS))


def proportional(daemon):
    """Memory of this process in bytes, shared pages by their share."""
    with open(f"/proc/{daemon.pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"Pss:\s+(\d+) kB", f.read())[1]) * 1024


def settled(daemon):
    """The same once what was let go has gone back: the least of several looks."""
    found = []
    for _ in range(8):
        time.sleep(0.1)
        found.append(proportional(daemon))
    return min(found)


def remap(world, number):
    """Another table of the same size, put in place by rename and taken over by a reload."""
    with open(world.mapping + ".new", "w", encoding="utf-8") as f:
        f.write(TABLE + f"changed{number:02d}@example.com legacy2\n")
    os.rename(world.mapping + ".new", world.mapping)
    world.daemon.reload()


@test(limit=150, alone=True)
def test_sessions_and_clients_that_wait_for_their_login_keep_no_table_of_accounts(t):
    world = World(t, protocols=("imap",), tls="implicit", second=True, each__preauth_timeout="10m",
                  mapping__cache_max_entries=0)
    for number in range(3):  # the allocator has seen what comes
        remap(world, number)
    sessions, waiting = [], []
    before = settled(world.daemon)
    for number in range(CHANGES):
        sessions.append(world.logged_in("imap", client=world.tls_client("imap")))
        waiting.append(world.tls_client("imap"))
        remap(world, number + 10)
    after = settled(world.daemon)
    print(f"{before >> 10} kB became {after >> 10} kB with {CHANGES} sessions, {CHANGES} waiting and {CHANGES} changes")
    assert t.sanitized or after < before * 1.1, f"{before >> 10} kB became {after >> 10} kB"
    for client, server in sessions:
        bridged(client, server)
        end(client, server)
    # Whoever waited is routed by the table that is there now.
    for client in waiting:
        client.noop()
    last = f"changed{CHANGES + 9:02d}@example.com"
    end(*world.logged_in("imap", last, second=True, client=waiting[0]))
    for client in waiting[1:]:
        client.close()


# --- tickets ----------------------------------------------------------------------------------------


@test(limit=60, quick=True)
def test_no_handshake_fails_while_tickets_are_turned_off_and_on(t):
    world = World(t, protocols=("imap",), tls="implicit")
    port, failed, done = world.daemon.port("imap"), [], threading.Event()
    count = [0, 0]

    def handshakes(which, minimum, maximum):
        context = t.pki.client(minimum=minimum, maximum=maximum)
        session = None
        while not done.is_set():
            try:
                stream = wire.tls_connect(port, context, "mail.example.com", session=session)
                stream.line()
                session = stream.tls.session
                stream.close()
                count[which] += 1
            except (OSError, AssertionError) as e:
                failed.append(repr(e))

    threads = [threading.Thread(target=handshakes, args=(0, ssl.TLSVersion.TLSv1_3, None)),
               threading.Thread(target=handshakes, args=(1, None, ssl.TLSVersion.TLSv1_2))]
    for thread in threads:
        thread.start()
    for number in range(12):
        world.conf["tls.tickets"] = {"enable": number % 2 == 1}
        world.daemon.reload(world.conf)
        if number % 3 == 0:  # and one that is refused has changed nothing
            world.conf["tls.tickets"] = {"enable": number % 2 == 0}
            world.conf["mapping.file.path"] = t.folder
            world.daemon.reload(world.conf, good=False)
            world.conf["mapping.file.path"] = world.mapping
        time.sleep(0.1)
    done.set()
    for thread in threads:
        thread.join()
    assert not failed, f"{len(failed)} of {sum(count) + len(failed)} handshakes failed: {failed[:3]}"
    assert min(count) > 5, count


# --- reloads ----------------------------------------------------------------------------------------


class Files:
    """A daemon whose every file can be spoiled: TLS on both legs, a client certificate, roots, tickets, accounts."""

    def __init__(self, t):
        self.t = t
        own, shown, back = t.pki.leaf("mail.example.com"), t.pki.leaf("client", key=1), t.pki.leaf("backend.example.com")
        self.paths = {"certificate": own.chain, "key": own.key, "client certificate": shown.chain, "client key": shown.key,
                      "roots": t.file("roots.pem", read(t.pki.ca)), "accounts": t.file("A", "bob@example.com one\n"),
                      "tickets": t.file("tickets", os.urandom(48).hex() + "\n", 0o600)}
        self.backends = [t.backend(), t.backend()]
        self.server = t.pki.server(back)
        conf = self.conf = Conf()
        conf["server"] = {"threads": 2, "hostname": "mail.example.com", "shutdown_grace": "2s"}
        conf["mapping"] = {"source": "file", "file": {"path": self.paths["accounts"]}, "cache_max_entries": 0}
        conf["routing"] = {"default_destination": "one"}
        conf["metrics"] = {"bind": f"127.0.0.1:{t.port()}"}
        conf["tls.tickets"] = {"file": self.paths["tickets"]}
        conf["tls.certificate.main"] = {"cert": own.chain, "key": own.key, "default": True}
        for name, backend in zip(("one", "two"), self.backends):
            conf[f"destination.{name}"] = {"host": "127.0.0.1", "forwarding": "none", "tls_server_name": "backend.example.com",
                                           "tls_client_cert": shown.chain, "tls_client_key": shown.key}
            conf[f"destination.{name}.protocol.imap"] = {"port": backend.port, "tls": "implicit"}
        conf["listener.imap"] = {"protocol": "imap", "bind": [f"127.0.0.1:{t.port()}"], "tls": "implicit"}
        self.daemon = t.postern(conf, env={"SSL_CERT_FILE": self.paths["roots"], "SSL_CERT_DIR": ""})
        self.context, self.session = t.pki.client(), None
        self.own = own

    def login(self, user="alice@example.com", backend=0):
        """A whole login: what it saw of the certificate, and whether the handshake resumed the one before."""
        stream = wire.tls_connect(self.daemon.port("imap"), self.context, "mail.example.com", session=self.session)
        resumed, der = stream.tls.session_reused, stream.tls.getpeercert(True)
        client = Client(stream, SPEECHES["imap"])
        client.attempt(user)
        server = Server(self.backends[backend].accept_tls(self.server), SPEECHES["imap"]).greet().taken(user).accept()
        client.hear(SPEECHES["imap"].accept)
        bridged(client, server)
        self.session = stream.tls.session
        end(client, server)
        return resumed, der

    def put(self, name, text):
        path = self.paths[name]
        with open(path + ".new", "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(path + ".new", 0o600)
        os.rename(path + ".new", path)

    def series(self):
        return {k for k, v in self.daemon.metrics().items() if k[0] != "postern_stale"}


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read()


@test(limit=90, quick=True)
def test_a_refused_reload_changes_no_handshake_no_resumption_and_no_login(t):
    files = Files(t)
    _, der = files.login()
    assert files.login() == (True, der)
    known = files.series()
    good, conf = files.conf.text(), files.conf

    def refused(text, what):
        """Told apart from reloads of watched files, which may come in between."""
        before = len(files.daemon.find("reload failed, nothing changed", scope="everything"))
        files.daemon.rewrite(text)
        files.daemon.signal(signal.SIGHUP)
        files.daemon.wait("reload failed, nothing changed", count=before + 1, scope="everything")
        assert files.login() == (True, der), what
        assert files.series() - known == set(), (what, files.series() - known)

    conf["destination.three"] = {"host": "127.0.0.1", "forwarding": "none", "allow_plaintext_auth": True,
                                 "protocol": {"imap": {"port": 1, "tls": "plain"}}}
    for name, path in files.paths.items():
        if name in ("roots", "tickets"):
            continue
        conf["tls.tickets"] = {"enable": False}
        text = conf.text().replace(path, path + ".bad")
        with open(path + ".bad", "w", encoding="ascii") as f:
            f.write("nonsense\n")
        refused(text, name)
    for name in ("roots", "tickets"):  # these are where they are
        conf["tls.tickets"] = {"file": files.paths["tickets"]}
        text = read(files.paths[name])
        with open(files.paths[name], "w", encoding="ascii") as f:
            f.write("nonsense\n")
        refused(conf, name)
        files.put(name, text)
        time.sleep(0.5)
    assert len(files.daemon.find("reload failed, nothing changed")) >= len(files.paths)
    # Listeners that cannot be bound wait for a restart, whatever else is taken over.
    conf["listener.added"] = {"protocol": "imap", "bind": ["192.0.2.1:1"], "tls": "implicit"}
    files.daemon.reload(conf)
    assert files.login() == (True, der)
    files.daemon.reload(good)
    assert files.login() == (True, der)


@test(limit=90, quick=True)
def test_one_bad_file_holds_back_nothing_but_itself(t):
    files = Files(t)
    daemon, good = files.daemon, dict(files.paths)
    _, old = files.login()
    files.login("bob@example.com", 0)
    items = {"accounts": "mapping", "tickets": "ticket_keys", "client key": "client_certificate"}
    for number, (name, item) in enumerate(items.items()):
        text = read(good[name])
        files.put(name, "nonsense\n")
        daemon.await_metric("postern_stale", 2 if item == "client_certificate" else 1, item=item)
        fresh = t.pki.leaf("mail.example.com", key=number % 2 + 1)
        files.put("key", read(fresh.key))
        files.put("certificate", read(fresh.chain))
        files.session = None
        t.await_that(lambda f=fresh: files.login()[1] == f.der, 10, 0.1, "the renewed certificate")
        if name != "accounts":
            where = number % 2
            files.put("accounts", f"bob@example.com {('one', 'two')[where]}\n")
            daemon.wait("reloaded", count=len(daemon.find("reloaded")) + 1)
            files.login("bob@example.com", where)
        assert daemon.find("bad files, what they last held stays in use"), daemon.records()
        assert item in daemon.find("bad files, what they last held stays in use")[-1]["items"]
        assert item in daemon.http("/")[1]
        files.put(name, text)
        daemon.await_metric("postern_stale", 0, item=item)
    # And the other way round: a bad certificate, and accounts that move.
    files.put("certificate", "nonsense\n")
    daemon.await_metric("postern_stale", 1, item="certificate")
    assert "certificate main" in daemon.http("/")[1]
    files.put("accounts", "bob@example.com two\n")
    daemon.wait("reloaded", count=len(daemon.find("reloaded")) + 1)
    files.login("bob@example.com", 1)
    assert daemon.metric("postern_reloads_total", result="failed") == 0
    assert old != files.login()[1]


# --- who may read a secret --------------------------------------------------------------------------


@test(quick=True)
def test_a_secret_that_others_can_read_is_named_at_start_by_check_and_by_a_reload(t):
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    conf["tls.tickets.file"] = t.file("tickets", os.urandom(48).hex() + "\n", 0o600)
    secrets = {"tls.certificate.main.key": conf["tls.certificate.main.key"], "tls.tickets.file": conf["tls.tickets.file"]}
    for path in secrets.values():
        os.chmod(path, 0o600)
    daemon = t.postern(copy.deepcopy(conf))
    assert not daemon.find("configuration"), daemon.records()
    status, _, said = t.command("check", daemon.path)
    assert (status, said) == (0, ""), said
    for mode, words in ((0o604, "can be read by every user of this machine"), (0o640, "can be read by everybody in group")):
        for key, path in secrets.items():
            os.chmod(path, mode)
            status, _, said = t.command("check", daemon.path)
            lines = [line for line in said.splitlines() if words in line]
            assert status == 0 and len(lines) == 1, said
            assert re.match(rf"warning: {re.escape(daemon.path)}:\d+:\d+: {re.escape(key)}: .*{re.escape(path)}", lines[0]), lines
            before = len(daemon.find("configuration", level="warn"))
            daemon.reload()
            found = daemon.find("configuration", level="warn")[before:]
            assert any(words in r["problem"] and re.search(rf":\d+:\d+: {re.escape(key)}: ", r["problem"]) for r in found), found
            conf["listener.smtp.bind"], conf["metrics.bind"] = f"127.0.0.1:{t.port()}", f"127.0.0.1:{t.port()}"
            other = t.postern(conf)
            assert any(words in r["problem"] for r in other.find("configuration", level="warn")), other.records()
            other.stop()
            os.chmod(path, 0o600)


# --- what is trusted --------------------------------------------------------------------------------


@test(limit=90)
def test_an_intermediate_that_was_shown_once_is_not_trusted_past_its_end(t):
    ends = time.time() + 8
    leaf = t.pki.leaf("backend.example.com", issuer=t.pki.short_lived_issuer(8))
    backend = t.backend()
    conf = t.base(backend)
    conf["destination.relay.tls_server_name"] = "backend.example.com"
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    conf["server.backend_connect_retries"] = 0
    conf["server.host_down_threshold"] = 0
    daemon = t.postern(conf)

    def accepted(chain):
        """Whether the backend that shows this is believed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        context.load_cert_chain(chain, leaf.key)
        client = wire.connect(daemon.port("smtp"))
        try:
            backend.accept_tls(context).send("220 relay\r\n")
            client.expect("220 relay\r\n")
            return True
        except (OSError, AssertionError):
            return False
        finally:
            client.close()

    assert accepted(leaf.chain)
    assert accepted(leaf.cert), "learned: the rest of this test shows what becomes of it"
    time.sleep(max(0, ends - time.time()) + 1)
    daemon.wait("a certificate that backends were verified by has expired", timeout=t.scaled(20))
    daemon.wait("reloaded", scope="files")
    assert not accepted(leaf.cert)
