# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an account is asked of a store that may be slow, wrong or gone (stores.md): who gets in, who is told to come
later, and that nobody ever reaches a destination that is wrong for the account."""
import re
import signal
import socket
import threading
import time

import logins
from fakestore import FakeRedis
from harness import Skip, test
from logins import World, end

OLD, NEW = "legacy", "legacy2"
SAID = {**{p: s.said_unavailable for p, s in logins.SPEECHES.items()}, "submission": "454 4.7.0 Temporary authentication failure"}


def key(user):
    return f"route:{user}"


class StoreWorld(World):
    """A daemon that asks a store; `moved` accounts are at the new destination, all others at the old one."""

    def __init__(self, t, *, moved=(), mode="ok", start=True, protocols=("imap",), **settings):
        self.store = FakeRedis(t.port(), {key(a): NEW for a in moved}, mode)
        super().__init__(t, second=True, protocols=protocols, start=False, **settings)
        del self.conf["mapping.file"]
        self.conf["mapping.source"] = "redis"
        self.conf["mapping.redis"] = {"url": f"redis://127.0.0.1:{self.store.port}/0"}
        if "mapping.lookup_timeout" not in self.conf:
            self.conf["mapping.lookup_timeout"] = "2s"
        can_ask(t, self.conf)
        if start:
            self.daemon = t.postern(self.conf)

    def enters(self, user, second, protocol="imap"):
        end(*self.logged_in(protocol, user, second))

    def turned_away(self, user, protocol="imap", within=None):
        began = time.monotonic()
        client = self.client(protocol).attempt(user).hear(SAID[protocol])
        client.stream.expect_eof()
        client.close()
        took = time.monotonic() - began
        assert within is None or took < self.t.scaled(within), f"told after {took:.3f} s"

    def records_of(self, message):
        return [r for r in self.daemon.records() if r["msg"] == message]

    def ready(self):
        status, body, _ = self.daemon.http("/readyz")
        return status, body.strip()

    def store_up(self):
        return self.daemon.metric("postern_store_up") == 1

    def await_store(self, up=True):
        self.t.await_that(lambda: self.store_up() == up, about=f"store up: {up}")


def can_ask(t, conf):
    """Skips where the binary was made without the library."""
    code, _, err = t.command("check", t.file("can-ask.toml", conf.text()))
    if code and "was made without" in err:
        raise Skip(re.search(r"this build.*", err)[0])


# --- answers ------------------------------------------------------------------------------------------


@test(quick=True)
def test_an_account_goes_where_the_store_says_and_the_store_is_asked_once(t):
    w = StoreWorld(t, moved=["alice@example.com"], protocols=logins.ALL)
    for protocol in w.protocols:
        w.enters("Alice@Example.com", True, protocol)
        w.enters("bob@example.com", False, protocol)
    assert len(w.store.questions(key("alice@example.com"))) == 1, w.store.questions()
    assert len(w.store.questions(key("bob@example.com"))) == 1, w.store.questions()
    assert w.daemon.metric("postern_cache_hits_total") == 6 and w.daemon.metric("postern_cache_misses_total") == 2
    assert w.daemon.metric("postern_store_lookups_total", result="found") == 1
    assert w.store_up() and w.daemon.metric("postern_store_connections") >= 1


@test(quick=True)
def test_logins_of_one_account_at_the_same_time_share_one_question(t):
    w = StoreWorld(t, moved=["alice@example.com"])
    w.await_store()
    w.store.mode, w.store.delay = "slow", 0.5
    clients = [w.client("imap").attempt("alice@example.com") for _ in range(8)]
    servers = [w.server("imap", True).greet().taken("alice@example.com").accept() for _ in clients]
    for client in clients:
        client.hear(w.speech("imap").accept)
    for client, server in zip(clients, servers):
        client.stream.finish()
        server.stream.rest()
        server.close()
        client.close()
    assert len(w.store.questions(key("alice@example.com"))) == 1, w.store.questions()


@test(quick=True)
def test_a_destination_that_is_not_declared_is_no_mapping_and_is_said(t):
    w = StoreWorld(t)
    w.store.accounts[key("zoe@example.com")] = "nowhere"
    w.enters("zoe@example.com", False)
    assert [r["destination"] for r in w.records_of("mapping names an undeclared destination")] == ["nowhere"]


# --- failures -----------------------------------------------------------------------------------------


@test(quick=True)
def test_without_an_answer_nobody_is_sent_to_the_default_destination(t):
    w = StoreWorld(t, mode="error", protocols=logins.ALL, each__max_auth_attempts=1)
    for protocol in w.protocols:
        w.turned_away("alice@example.com", protocol)
        w.nothing(protocol, 0.05)
    w.daemon.closing(4)
    records = w.daemon.closings()
    assert {r["reason"] for r in records} == {"mapping_store"}, records
    assert all("LOADING" in r["error"] for r in records), records
    assert not w.records_of("login refused")
    assert w.daemon.metric("postern_auth_total", result="unavailable") == 4
    assert w.daemon.metric("postern_destination_consecutive_failures", destination=OLD) == 0


@test(limit=60)
def test_whatever_a_store_does_known_accounts_get_in_and_nobody_goes_astray(t):
    known = [f"known{i}@example.com" for i in range(4)]
    w = StoreWorld(t, moved=known, mapping__positive_ttl="1s", mapping__negative_ttl="1s", mapping__lookup_timeout="1s")
    w.enters("stays@example.com", False)
    for user in known:
        w.enters(user, True)
    for mode in ("silent", "nonsense", "wrong", "error", "closing", "slow"):
        w.store.delay = 3
        w.store.mode = mode
        time.sleep(1.2)  # every answer is past its life
        for user in known:
            w.enters(user, True)
        w.turned_away("stays@example.com", within=1.6)
        w.turned_away("unknown@example.com", within=1.6)
        w.await_store(up=False)
        for _ in range(3):
            w.turned_away("unknown@example.com", within=0.3)
        for user in known:
            w.enters(user, True)
        w.store.mode = "ok"
        w.await_store()
        w.enters("unknown@example.com", False)
        for user in known:
            w.enters(user, True)
    assert w.daemon.metric("postern_store_served_stale_total") > 0
    assert w.daemon.metric("postern_store_lookups_total", result="refused") > 0
    lost, back = w.records_of("mapping store does not answer"), w.records_of("mapping store answers again")
    assert len(lost) == len(back) == 6, (lost, back)
    assert all(int(r["refused"]) > 0 for r in back), back
    assert not w.records_of("login refused")


@test(limit=60)
def test_a_killed_store_and_its_return_are_noticed_within_a_second(t):
    w = StoreWorld(t, moved=["alice@example.com"], mapping__positive_ttl="1s")
    w.enters("alice@example.com", True)
    w.store.kill()
    w.await_store(up=False)
    time.sleep(1.1)
    w.enters("alice@example.com", True)
    w.turned_away("bob@example.com", within=0.3)
    w.store.listen()
    began = time.monotonic()
    w.await_store()
    assert time.monotonic() - began < t.scaled(1.5), "it took too long"
    w.enters("bob@example.com", False)


@test(limit=40)
def test_what_on_error_says_holds(t):
    refuse = StoreWorld(t, moved=["alice@example.com"], mapping__positive_ttl="1s", mapping__on_error="refuse")
    refuse.enters("alice@example.com", True)
    refuse.store.mode = "error"
    time.sleep(1.1)
    refuse.turned_away("alice@example.com")
    default = StoreWorld(t, moved=["alice@example.com"], mode="error", mapping__on_error="default")
    default.enters("alice@example.com", False)
    assert [r for r in default.daemon.records() if r["level"] == "warn" and "mapping.on_error" in r.get("problem", "")]


@test(limit=40)
def test_a_client_that_leaves_while_it_waits_costs_nothing_and_the_answer_is_kept(t):
    w = StoreWorld(t, moved=["alice@example.com"])
    w.await_store()
    w.store.mode, w.store.delay = "slow", 1
    client = w.client("imap").attempt("alice@example.com")
    time.sleep(0.2)
    client.stream.reset()
    assert w.reasons(1) == ["client_gone"]
    w.store.mode = "ok"
    t.await_that(lambda: w.daemon.metric("postern_cache_entries") == 1, about="the answer in the cache")
    w.enters("alice@example.com", True)
    assert len(w.store.questions(key("alice@example.com"))) == 1


@test(limit=40)
def test_a_wait_for_the_store_ends_with_the_grace_of_a_stop(t):
    w = StoreWorld(t, moved=["alice@example.com"], mapping__lookup_timeout="20s", server__shutdown_grace="1s")
    w.await_store()
    w.store.mode = "silent"
    client = w.client("imap").attempt("alice@example.com")
    time.sleep(0.2)
    w.daemon.signal(signal.SIGTERM)
    client.hear(w.speech("imap").said_shutdown)
    client.stream.expect_eof()
    assert w.daemon.wait_exit() == 0
    assert [r["reason"] for r in w.daemon.closings()] == ["shutdown"]


@test(limit=40)
def test_a_reload_to_another_store_or_a_file_asks_again(t):
    w = StoreWorld(t, mapping__lookup_timeout="20s")
    w.await_store()
    w.store.mode = "silent"
    client = w.client("imap").attempt("alice@example.com")
    time.sleep(0.2)
    other = FakeRedis(t.port(), {key("alice@example.com"): NEW})
    w.conf["mapping.redis.url"] = f"redis://127.0.0.1:{other.port}/0"
    w.daemon.reload(w.conf)
    server = w.server("imap", True).greet().taken("alice@example.com").accept()
    client.hear(w.speech("imap").accept)
    end(client, server)
    other.mode = "silent"
    client = w.client("imap").attempt("bob@example.com")
    time.sleep(0.2)
    w.conf["mapping.source"] = "file"
    w.conf["mapping.file"] = {"path": t.file("M", f"bob@example.com {NEW}\n")}
    w.daemon.reload(w.conf)
    server = w.server("imap", True).greet().taken("bob@example.com").accept()
    client.hear(w.speech("imap").accept)
    end(client, server)


# --- start, and the copy on disk ------------------------------------------------------------------------


@test(limit=40)
def test_a_restart_while_the_store_is_down_serves_whom_it_served_before(t):
    w = StoreWorld(t, moved=["alice@example.com"], mapping__positive_ttl="1s",
                   mapping__snapshot=f"{t.folder}/answers")
    w.enters("alice@example.com", True)
    w.enters("bob@example.com", False)
    w.daemon.stop()
    w.store.kill()
    time.sleep(1.1)
    w.daemon = t.postern(w.conf)
    assert w.ready() == (200, "ready")
    w.enters("alice@example.com", True)
    w.turned_away("bob@example.com")
    code, out, _ = t.command("explain", w.daemon.path, "alice@example.com")
    assert code == 0 and "snapshot" in out and NEW in out, out
    code, out, _ = t.command("explain", w.daemon.path, "bob@example.com")
    assert code == 1 and "temporary failure" in out, out
    w.daemon.stop()
    with open(f"{t.folder}/answers", "r+b") as f:
        f.seek(30)
        f.write(b"XX")
    w.daemon = t.postern(w.conf)
    assert [r["error"] for r in w.records_of("known answers on disk are not used")], w.daemon.records()
    assert w.ready() == (503, "mapping store not reached yet")
    w.turned_away("alice@example.com")
    w.store.listen()
    t.await_that(lambda: w.ready() == (200, "ready"), about="ready")
    w.enters("alice@example.com", True)


@test(limit=40)
def test_a_store_that_must_be_there_at_the_start_is_waited_for_and_no_longer(t):
    w = StoreWorld(t, mapping__require_at_start=True, start=False, mapping__lookup_timeout="1s")
    w.store.kill()
    code, _, err = t.command("run", t.file("must.toml", w.conf.text()))
    assert code == 1 and re.search(r"mapping.require_at_start: the mapping store cannot be reached: ", err), err
    w.store.listen()
    w.daemon = t.postern(w.conf)
    w.enters("alice@example.com", False)


@test(quick=True)
def test_explain_asks_the_store_itself(t):
    w = StoreWorld(t, moved=["alice@example.com"], start=False)
    path = t.file("explain.toml", w.conf.text())
    code, out, _ = t.command("explain", path, "Alice@example.com")
    assert code == 0 and re.search(r"mapping: +redis says legacy2", out) and re.search(r"source: +store", out), out
    code, out, _ = t.command("explain", path, "bob@example.com")
    assert code == 0 and "no mapping" in out and re.search(r"destination: +legacy$", out, re.M), out
    assert w.store.questions(key("alice@example.com")) and w.store.questions(key("bob@example.com"))


# --- many -----------------------------------------------------------------------------------------------


@test(limit=90, alone=True)
def test_under_many_logins_a_store_that_freezes_sends_nobody_astray(t):
    """Half the accounts were known before. Each login is counted by the destination it reached."""
    known = [f"known{i}@example.com" for i in range(40)]
    w = StoreWorld(t, moved=known, mapping__lookup_timeout="1s", mapping__positive_ttl="2s")
    tally, lock, stop = {"right": 0, "wrong": 0, "later": 0, "lost": 0}, threading.Lock(), threading.Event()

    def count(what):
        with lock:
            tally[what] += 1

    def backend(legs, right):
        while not stop.is_set():
            try:
                server = logins.Server(legs["imap"].accept(0.5), logins.IMAP).greet()
            except Exception:  # pylint: disable=broad-except
                continue
            threading.Thread(target=answer, args=(server, right), daemon=True).start()

    def answer(server, right):
        try:
            _, message = server.take()
            user = message.split(b"\0")[1].decode()
            count("right" if right(user) else "wrong")
            server.accept()
            server.stream.rest()
        except Exception:  # pylint: disable=broad-except
            pass
        finally:
            server.close()

    def clients(number):
        turn = 0
        while not stop.is_set():
            turn += 1
            user = known[(number * 7 + turn) % len(known)] if turn % 2 else f"new{number}-{turn}@example.com"
            try:
                client = w.client("imap").attempt(user)
                said = client.stream.line()
                if said.startswith("a NO [UNAVAILABLE]"):
                    count("later" if not user.startswith("known") else "lost")
                client.close()
            except Exception:  # pylint: disable=broad-except
                pass

    for user in known:
        w.enters(user, True)
    threads = [threading.Thread(target=backend, args=(w.second, lambda u: u.startswith("known")), daemon=True),
               threading.Thread(target=backend, args=(w.legs, lambda u: u.startswith("new")), daemon=True)]
    threads += [threading.Thread(target=clients, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    for mode in ("ok", "silent", "ok", "error", "ok"):
        w.store.mode = mode
        time.sleep(3)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert tally["wrong"] == 0, tally
    assert tally["lost"] == 0, tally
    assert tally["right"] > 100 and tally["later"] > 10, tally
    assert not w.records_of("login refused")


# --- real servers -----------------------------------------------------------------------------------------


class RedisServer:
    """redis-server on a port of its own, with nothing on disk; asked through a socket by hand."""

    def __init__(self, t, *options):
        self.t, self.port, self.options = t, t.port(), options
        self.start()

    def start(self):
        self.process = self.t.spawn("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
                                    "no", "--dir", self.t.folder, "--logfile", "", *self.options)
        self.t.await_port(self.port, process=self.process)

    def say(self, *words):
        """One command, and the first line of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words))
            return s.recv(4096).split(b"\r\n")[0].decode()

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        self.process.kill()
        self.process.wait()


class RedisWorld(StoreWorld):
    def __init__(self, t, *, moved=(), options=(), **settings):
        self.redis = RedisServer(t, *options)
        for account in moved:
            assert self.redis.say("SET", key(account), NEW) == "+OK"
        settings.setdefault("mapping__positive_ttl", "1s")
        settings.setdefault("mapping__lookup_timeout", "1s")
        super().__init__(t, start=False, **settings)
        self.store.kill()
        self.conf["mapping.redis.url"] = f"redis://127.0.0.1:{self.redis.port}/0"
        self.daemon = t.postern(self.conf)

    def fares_without(self, known, unknown):
        """Known accounts get in, unknown ones are told to come later; once the store counts as down, at once."""
        for user in known:
            self.enters(user, True)
        self.turned_away(unknown, within=1.6)
        self.await_store(up=False)
        self.turned_away(unknown, within=0.3)
        for user in known:
            self.enters(user, True)

    def fares_again(self, known, unknown):
        self.await_store()
        self.enters(unknown, False)
        for user in known:
            self.enters(user, True)


@test(limit=60, needs=["redis-server"])
def test_redis_that_is_frozen_killed_full_or_locked_sends_nobody_astray(t):
    known = ["alice@example.com", "carol@example.com"]
    w = RedisWorld(t, moved=known)
    for user in known:
        w.enters(user, True)

    time.sleep(1.1)
    w.redis.signal(signal.SIGSTOP)
    w.fares_without(known, "u1@example.com")
    w.redis.signal(signal.SIGCONT)
    w.fares_again(known, "u1@example.com")

    time.sleep(1.1)
    w.redis.end()
    w.fares_without(known, "u2@example.com")
    w.redis.start()
    for user in known:
        assert w.redis.say("SET", key(user), NEW) == "+OK"
    w.fares_again(known, "u2@example.com")

    time.sleep(1.1)
    assert w.redis.say("CONFIG", "SET", "requirepass", "later") == "+OK"
    w.redis_port_closed = w.redis.say("PING")
    assert w.redis_port_closed.startswith("-NOAUTH"), w.redis_port_closed
    with socket.create_connection(("127.0.0.1", w.redis.port), 5) as s:
        s.sendall(b"AUTH later\r\nCLIENT KILL TYPE normal\r\n")
        s.recv(100)
        w.fares_without(known, "u3@example.com")
        s.sendall(b"CONFIG SET requirepass \"\"\r\n")
        s.recv(100)
    w.fares_again(known, "u3@example.com")
    assert not w.records_of("login refused")
    assert w.daemon.metric("postern_store_served_stale_total") > 0


@test(limit=60, needs=["redis-server"])
def test_every_byte_that_a_name_may_have_reaches_redis_as_it_is(t):
    w = RedisWorld(t)
    watch = socket.create_connection(("127.0.0.1", w.redis.port), 5)
    watch.sendall(b"MONITOR\r\n")
    assert watch.recv(100).startswith(b"+OK")
    names = [chr(c) for c in range(0x21, 0x7f) if chr(c) != '"'] + ["é", "ß", "€", "😀", "\u2028"]
    for char in names:
        w.enters(f"a{char}b@example.com", False)
    w.client("imap").attempt('a"b@example.com').hear(logins.IMAP.said_hidden).close()
    watch.settimeout(1)
    heard = b""
    try:
        while data := watch.recv(65536):
            heard += data
    except TimeoutError:
        pass
    asked = re.findall(rb'"GET" "route:(.*)"\r\n', heard)
    plain = [re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), a).replace(rb"\\", b"\\") for a in asked]
    want = [f"a{c}b@example.com".lower().encode() for c in names]
    missing = [x for x in want if x not in plain]
    assert not missing, missing
    assert all(x in want or x == b"postern trial" for x in plain), [x for x in plain if x not in want]
