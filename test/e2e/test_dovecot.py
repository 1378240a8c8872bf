# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins that a real Dovecot takes or refuses: every protocol, every way to the backend, every way to say who one is."""
import concurrent.futures

from harness import test
from mailtalk import TALKS, edge, encode
from servers import MASTER, MASTER_PASSWORD, PASSWORD, PROTOCOLS, DovecotServer, token

FORWARDINGS, LEGS = ("proxy", "xclient", "none"), ("plain", "starttls", "implicit")
OWN = "127.0.0.77"  # where Postern connects from, to tell it from the clients


def legs(dovecot, tls, forwarding):
    way = ("implicit" if tls == "implicit" else "plain") + ("-proxy" if forwarding == "proxy" else "")
    return {protocol: dovecot.ports[protocol, way] for protocol in PROTOCOLS}


def every_way(t, dovecot):
    """A destination for each forwarding and leg, and the account of the same name on it. Implicit legs are pinned."""
    ways = {}
    for forwarding in FORWARDINGS:
        for tls in LEGS:
            more = {"source_ips": [OWN]}
            if tls == "implicit":
                more["tls_pinned_cert_sha256"] = dovecot.pair.sha256
            ways[f"{forwarding}-{tls}"] = (legs(dovecot, tls, forwarding), tls, forwarding, more)
    conf = edge(t, ways)
    t.file("accounts", "".join(f"{name}@example.org\t{name}\n" for name in ways))
    return conf


def refused_then_accepted(t, dovecot, daemon, protocol):
    """On one connection each: wrong, then right, through every listener, leg and forwarding. Dovecot 2.3 loses a
    command that reaches it while it writes a ManageSieve greeting inside implicit TLS, so that leg is left out."""
    ways = [(client, forwarding, leg) for client in ("plain", "starttls", "implicit") for forwarding in FORWARDINGS
            for leg in LEGS if (protocol, leg) != ("managesieve", "implicit")]

    def one(number, client_tls, forwarding, leg):
        user, source = f"{forwarding}-{leg}@example.org", f"127.0.1.{number}"
        talk = TALKS[protocol](t, daemon.port(f"{protocol}-{client_tls}"), client_tls, source=source)
        entry = talk.login if number % 3 == 0 else talk.plain
        more = {"ir": number % 3 == 1} if number % 3 else {}
        accepted, words = entry(user, "wrong", **more)
        assert not accepted and "unavailable" not in words, (user, words)
        accepted, words = entry(user, PASSWORD, **more)
        assert accepted, (user, client_tls, words)
        talk.alive()
        talk.quit()
        return talk.address

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        addresses = list(pool.map(lambda n: one(n + 1, *ways[n]), range(len(ways))))
    daemon.closing(len(ways))
    dovecot.await_logins(len(ways), protocol=protocol)
    for (client_tls, forwarding, leg), (ip, port) in zip(ways, addresses):
        name = f"{forwarding}-{leg}"
        wanted = OWN if forwarding == "none" else ip
        seen = [s for s in dovecot.logins(f"{name}@example.org", protocol)
                if s["rip"] == wanted and (forwarding == "none" or s["rport"] == str(port))]
        assert len(seen) == (3 if forwarding == "none" else 1), (name, wanted, port, dovecot.logins(protocol=protocol))
        assert all(s["method"] == "PLAIN" for s in seen), seen
        record = daemon.find("session closed", peer=f"{ip}:{port}")[0]
        assert record["reason"] == "eof" and record["destination"] == name and record["refused_logins"] == "1", record
        assert ("tls" in record, "backend_tls" in record) == (client_tls != "plain", leg != "plain"), record
    t.await_that(lambda: dovecot.log().count("auth failed, 1 attempts") >= len(ways), about="the wrong passwords in Dovecot's log")
    for secret in (PASSWORD, "wrong", encode(PASSWORD)):
        assert secret not in daemon.stdout()


def check(protocol):
    def function(t):
        dovecot = DovecotServer(t, [f"{f}-{leg}" for f in FORWARDINGS for leg in LEGS])
        daemon = t.postern(every_way(t, dovecot))
        refused_then_accepted(t, dovecot, daemon, protocol)

    function.__name__ = f"test_{protocol}_refuses_then_accepts_and_dovecot_knows_the_client_on_every_way"
    function.__module__ = __name__
    return test(limit=60, root=True, needs=("dovecot",), quick=protocol == "imap")(function)


for each in PROTOCOLS:
    check(each)


def simple(t, forwarding="proxy", leg="starttls", **more):
    """One Dovecot, one destination, and a daemon whose clients need no TLS."""
    dovecot = DovecotServer(t)
    conf = edge(t, {"dovecot": (legs(dovecot, leg, forwarding), leg, forwarding, more)})
    return dovecot, t.postern(conf)


@test(limit=60, root=True, needs=("dovecot",))
def test_master_users_get_into_the_mailbox_they_name(t):
    dovecot, daemon = simple(t)
    for protocol in PROTOCOLS:
        talk = TALKS[protocol](t, daemon.port(f"{protocol}-starttls"), "starttls", source="127.0.0.33")
        accepted, words = talk.plain(f"alice@example.org%{MASTER}", "not it")
        assert not accepted, words
        accepted, words = talk.login(f"alice@example.org%{MASTER}", MASTER_PASSWORD)
        assert accepted, words
        talk.alive()
        talk.quit()
        # authzid and authcid in one PLAIN message reach the same mailbox.
        talk = TALKS[protocol](t, daemon.port(f"{protocol}-plain"), "plain", source="127.0.0.34")
        accepted, words = talk.sasl("PLAIN", f"bob@example.org\0{MASTER}\0{MASTER_PASSWORD}")
        assert accepted, words
        talk.quit()
        assert dovecot.login("alice@example.org", protocol)["rip"] == "127.0.0.33"
        assert dovecot.login("bob@example.org", protocol)["rip"] == "127.0.0.34"


@test(limit=60, root=True, needs=("dovecot",))
def test_bearer_tokens_are_judged_by_dovecot_and_routed_by_their_claims(t):
    dovecot = DovecotServer(t, ["alice", "bob"])
    here, elsewhere = legs(dovecot, "plain", "xclient"), dict.fromkeys(PROTOCOLS, 9)
    daemon = t.postern(edge(t, {"nowhere": (elsewhere, "plain", "none"), "dovecot": (here, "plain", "xclient")},
                            listeners=("starttls",)))
    t.file("accounts", "alice@example.org dovecot\n")
    daemon.reload()
    good, late = token("alice@example.org"), token("alice@example.org", exp=1)
    forged = good[:-8] + "AAAAAAAA"
    for protocol in PROTOCOLS:
        talk = TALKS[protocol](t, daemon.port(f"{protocol}-starttls"), "plain")  # tokens may travel without TLS
        for entry, wrong in ((talk.oauthbearer, late), (talk.xoauth2, forged)):
            accepted, words = entry("alice@example.org", wrong)
            assert not accepted and "unavailable" not in words, (protocol, words)
        accepted, words = talk.xoauth2("alice@example.org", good, ir=False)
        assert accepted, (protocol, words)
        talk.alive()
        talk.quit()
        large = token("alice@example.org", note="x" * 3000)
        # The name in the GS2 header is no address: the token's claim routes.
        talk = TALKS[protocol](t, daemon.port(f"{protocol}-starttls"), "starttls")
        accepted, words = talk.sasl("OAUTHBEARER", f"n,a=alice,\1auth=Bearer {large}\1\1")
        assert accepted, (protocol, words)
        talk.alive()
        talk.quit()
        methods = [s["method"] for s in dovecot.await_logins(2, "alice@example.org", protocol)]
        assert methods == ["XOAUTH2", "OAUTHBEARER"], (protocol, methods)
        # A token whose account lives elsewhere never comes near this Dovecot.
        talk = TALKS[protocol](t, daemon.port(f"{protocol}-starttls"), "starttls")
        accepted, words = talk.xoauth2("bob@example.org", token("bob@example.org"))
        assert not accepted and "unavailable" in words, (protocol, words)
    assert not dovecot.logins("bob@example.org")
    assert good not in daemon.stdout() and encode(f"user=alice@example.org\1auth=Bearer {good}\1\1") not in daemon.stdout()
