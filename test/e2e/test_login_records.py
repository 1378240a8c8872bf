# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written and counted of logins: the closing record, the `login refused` line, metrics and their stages;
and what never is, at any level: passwords, tokens, SASL messages, whole account names."""
import json
import re
import time

import logins
from harness import test
from logins import PASSWORD, Server, World, b64, bearer, end, plain, xoauth2


def rejected(w, protocol, client=None, user="alice@example.com", password="wrong"):
    client = client or w.client(protocol)
    client.attempt(user, password)
    server = w.server(protocol).greet().taken(user, password).reject()
    client.hear(w.speech(protocol).reject)
    server.stream.expect_eof()
    return client


# --- records ----------------------------------------------------------------------------------------


@test(quick=True)
def test_the_closing_record_tells_the_login_and_how_long_its_parts_took(t):
    w = World(t, second=True, mapping="alice@example.com legacy2\n")
    for i, (protocol, speech) in enumerate(w.each()):
        client = w.client(protocol)
        time.sleep(0.12)
        client.attempt()
        server = w.server(protocol, second=True)
        time.sleep(0.22)
        server.greet().taken()
        time.sleep(0.32)
        server.accept()
        client.hear(speech.accept)
        end(client, server)
        r = w.daemon.closing(i + 1)
        assert (r["msg"], r["listener"], r["protocol"], r["destination"]) == ("session closed", protocol, protocol, "legacy2"), r
        assert re.fullmatch(r"al\*\*\*#[0-9a-f]{4}", r["account"]), r
        assert (r["mechanism"], r["reason"], r["backend"]) == ("PLAIN", "eof", f"127.0.0.1:{w.second[protocol].port}"), r
        assert "refused_logins" not in r, r
        for part, least in (("dialogue_secs", 0.12), ("connect_secs", 0.22), ("auth_secs", 0.32)):
            assert least - 0.03 < float(r[part]) < t.scaled(least + 0.3), (part, r)
        assert float(r["secs"]) >= 0.6, r
    accounts = {r["account"] for r in w.daemon.closings()}
    assert len(accounts) == 1, "one account is one account, whatever it logs in to"


@test(quick=True)
def test_the_mechanism_in_the_record_is_how_the_client_did_it(t):
    w = World(t, protocols=("imap", "pop3"), capabilities__imap__sasl=["PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"])
    logs = []
    for text, mechanism in (("a LOGIN alice@example.com s3", "command"), (f"a AUTHENTICATE PLAIN {plain('a@b')}", "PLAIN"),
                            (f"a AUTHENTICATE OAUTHBEARER {bearer('t', 'c@d')}", "OAUTHBEARER"),
                            (f"a AUTHENTICATE XOAUTH2 {xoauth2('t', 'c@d')}", "XOAUTH2")):
        client = w.client("imap").say(text)
        server = w.server("imap").greet()
        server.take()
        server.accept()
        end(client.hear(logins.IMAP.accept), server)
        logs.append(mechanism)
    client = w.client("imap").say(f"a AUTHENTICATE LOGIN {b64('alice@example.com')}").hear("+ UGFzc3dvcmQ6").say(b64("s3"))
    server = w.server("imap").greet().taken(password="s3").accept()
    end(client.hear(logins.IMAP.accept), server)
    client = w.client("pop3").say("USER alice@example.com").hear("+OK").say("PASS s3")
    server = w.server("pop3").greet().taken(password="s3").accept()
    end(client.hear(logins.POP3.accept), server)
    w.daemon.closing(6)
    assert [r["mechanism"] for r in w.daemon.closings()] == logs + ["LOGIN", "command"], w.daemon.closings()


@test(quick=True)
def test_a_refused_login_is_one_line_with_the_clients_address(t):
    for log_format in ("logfmt", "json"):
        w = World(t, each__max_auth_attempts=9, server__log_format=log_format)
        for protocol, speech in w.each():
            client = rejected(w, protocol)
            client.say(speech.attempt.format("PLAIN", "!!!!")).stream.line()
            client.say(speech.attempt.format("FROB", "AAAA")).stream.line()
            client.close()
        w.daemon.closing(4)
        refused = w.daemon.find("login refused")
        assert [(r["protocol"], r["result"], r["mechanism"]) for r in refused] == [
            (p, *what) for p in w.protocols
            for what in (("rejected", "PLAIN"), ("malformed", "PLAIN"), ("malformed", "unknown"))], refused
        for r in refused:
            assert (r["level"], r["address"], r["listener"]) == ("info", "127.0.0.1", r["protocol"]), r
            assert re.fullmatch(r"127\.0\.0\.1:\d+", r["peer"]) and r["session"].startswith("P"), r
        assert all(re.fullmatch(r"al\*\*\*#[0-9a-f]{4}", r["account"]) for r in refused if r["result"] == "rejected")
        assert {r["refused_logins"] for r in w.daemon.closings()} == {"3"}
        if log_format == "json":
            for line in w.daemon.stdout().splitlines():
                json.loads(line)
        w.reset_legs()


@test(quick=True)
def test_the_address_in_the_line_is_the_clients_behind_a_proxy(t):
    import wire  # pylint: disable=import-outside-toplevel
    w = World(t, each__proxy_protocol="required", each__proxy_trusted=["127.0.0.0/8"], destination__legacy__forwarding="proxy")
    for source in ("203.0.113.9", "2001:db8::9"):
        for protocol, speech in w.each():
            stream = w.connect(protocol)
            stream.send(wire.v2(source=source, destination="2001:db8::1" if ":" in source else "198.51.100.7"))
            client = logins.Client(stream, speech).attempt(password="wrong")
            leg = w.legs[protocol].accept()
            assert wire.ProxySeen(leg).source == (source, 40123)
            Server(leg, speech).greet().taken(password="wrong").reject()
            client.hear(speech.reject).close()
            line = w.daemon.wait("login refused", protocol=protocol, address=source)
            assert line["peer"] == (f"[{source}]" if ":" in source else source) + ":40123", line


@test(quick=True)
def test_a_backend_that_says_later_has_refused_nobody(t):
    """It goes to the client as it is, and no ban may come of it."""
    later = {"imap": "a NO [UNAVAILABLE] later\r\n", "pop3": "-ERR [SYS/TEMP] later\r\n",
             "managesieve": 'NO (TRYLATER) "later"\r\n', "submission": "454-4.7.0 later\r\n454 4.7.0 really\r\n"}
    w = World(t)
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        server = w.server(protocol).greet().taken()
        server.stream.send(later[protocol])
        client.stream.expect(later[protocol])
        client, server = w.logged_in(protocol, client=client)
        end(client, server)
        assert "refused_logins" not in w.record(client) and speech
        assert w.daemon.metric("postern_auth_total", protocol=protocol, result="unavailable") == 1
    assert not w.daemon.find("login refused")


# --- secrets ----------------------------------------------------------------------------------------


@test(quick=True)
def test_no_secret_is_in_any_record_at_the_finest_level(t):
    for log_format in ("logfmt", "json"):
        w = World(t, server__log_level="trace", server__log_format=log_format, each__max_auth_attempts=20,
                  each__proxy_trusted=["127.0.0.1/32"], mapping="secretive.name@example.com legacy\n")
        user, password, token = "secretive.name@example.com", "Pa55phrase-most-secret", "tok3n-" + "q" * 300
        for protocol, speech in w.each():
            client = rejected(w, protocol, user=user, password=password)
            for said in (speech.attempt.format("PLAIN", b64(f"{user}\0{password}")),
                         speech.attempt.format("OAUTHBEARER", b64(f"n,,\x01nothing={token}\x01\x01")),
                         speech.attempt.format("PLAIN", "!!!" + b64(password))):
                client.say(said).stream.line()
            client.say(speech.attempt.format("XOAUTH2", xoauth2(token, user)))
            server = w.server(protocol).greet()
            server.take()
            server.stream.send(f"{password} {token}\r\n" if protocol in ("pop3", "submission") else "* BYE\r\n").finish()
            server.stream.rest()
            server.close()
            client.close()
            client = w.client(protocol).attempt(user + " x", password)
            client.hear(speech.said_hidden).close()
            client, server = w.logged_in(protocol, user)
            client.stream.send(f"{password} again\r\n")
            server.stream.line()
            end(client, server)
        client = w.client("imap").say(f"a LOGIN {user} {password} {password}")
        server = w.server("imap").greet().taken(user, password).reject()
        client.hear(logins.IMAP.reject).close()
        client = w.client("pop3").say(f"USER {user}").hear("+OK").say(f"PASS {password}")
        w.server("pop3").greet().taken(user, password).close()
        client.stream.rest()
        w.daemon.stop()
        everything = w.daemon.stdout() + w.daemon.stderr()
        assert len(everything) > 5000 and '"login"' in everything or "msg=login" in everything
        for secret in (user, "secretive", password, "Pa55phrase", token[:40], PASSWORD, plain(user, password)[:24],
                       b64(password)[:16], xoauth2(token, user)[:40], b64(f"{user}\0{password}")[:24], plain(user)):
            at = everything.find(secret)
            assert at < 0, f"{secret} in {everything[max(0, at - 300):at + 60]}"
        w.reset_legs()


# --- metrics ----------------------------------------------------------------------------------------


@test(quick=True)
def test_logins_are_counted_by_protocol_mechanism_and_result_from_the_start(t):
    w = World(t, each__max_auth_attempts=9, server__host_down_threshold=0)
    metrics = w.daemon.metrics()
    for protocol in w.protocols:
        for result in ("ok", "rejected"):
            key = ("postern_auth_total", (("mechanism", "PLAIN"), ("protocol", protocol), ("result", result)))
            assert metrics[key] == 0, f"{key} is there before the first login"
    for protocol, speech in w.each():
        client = rejected(w, protocol)
        client.say(speech.attempt.format("PLAIN", "!!!!")).stream.line()
        client, server = w.logged_in(protocol, client=client)
        end(client, server)
        client = w.client(protocol).attempt()
        w.server(protocol).greet().taken().close()
        client.told_unavailable()
    for protocol in w.protocols:
        for result in ("ok", "rejected", "malformed", "unanswered"):
            got = w.daemon.metric("postern_auth_total", protocol=protocol, mechanism="PLAIN", result=result)
            assert got == 1, (protocol, result, got)
        for result, count in (("ok", 2), ("unanswered", 1)):
            got = w.daemon.metric("postern_backend_attempts_total", protocol=protocol, destination="legacy", result=result)
            assert got == count, (protocol, result, got)
        assert w.daemon.metric("postern_sessions_total", protocol=protocol, destination="legacy", reason="eof") == 1
    for stage in ("connect", "conversation", "authentication"):
        count = w.daemon.metric("postern_backend_stage_seconds_count", stage=stage)
        assert count == (12 if stage != "authentication" else 8), (stage, count)
    assert w.daemon.metric("postern_cache_hits_total") == 11
    assert w.daemon.metric("postern_cache_misses_total") == 1
    assert w.daemon.metric("postern_store_lookups_total", result="absent") == 1
    assert w.daemon.metric("postern_store_lookup_seconds_count") == 1
    assert w.daemon.metric("postern_cache_entries") == 1
    body = w.daemon.http("/metrics")[1]
    assert "alice" not in body and "127.0.0.1" not in body, "no account and no client address in a label"


@test(quick=True)
def test_a_stages_time_is_in_its_own_histogram(t):
    w = World(t, protocols=("imap",))
    client = w.client("imap").attempt()
    server = w.server("imap")
    time.sleep(0.2)
    server.greet().taken()
    time.sleep(0.5)
    server.accept()
    end(client.hear(logins.IMAP.accept), server)

    def spent(stage):
        return w.daemon.metric("postern_backend_stage_seconds_sum", stage=stage)

    assert spent("connect") < t.scaled(0.1), spent("connect")
    assert 0.18 < spent("conversation") < t.scaled(0.4), spent("conversation")
    assert 0.48 < spent("authentication") < t.scaled(0.8), spent("authentication")
