# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backend a login reaches and what that backend learns: names, tokens, master users, the mapping file and
its changes, the cache, TTL and loops (scenarios 29, 41 to 57, 163, 166 to 176; `postern explain`)."""
import json
import os
import re
import time

import logins
import wire
from harness import test
from logins import Server, World, b64, bearer, end, plain, xoauth2


def url64(text):
    return b64(text).rstrip("=").replace("+", "-").replace("/", "_")


def jwt(**claims):
    return f"{url64(json.dumps({'alg': 'none'}))}.{url64(json.dumps(claims))}.c2ln"


def reaches(w, second, *, protocol="imap", mechanism="PLAIN", message=None, user="alice@example.com"):
    """One login that must come to `legacy` or, with `second`, to `legacy2`, byte for byte."""
    message = plain(user) if message is None else message
    client = w.client(protocol).say(client_words(w, protocol, mechanism, message))
    server = w.server(protocol, second).greet()
    got = server.take()
    assert got[0] == mechanism and b64(got[1]) == message, (got, message)
    server.accept()
    client.hear(w.speech(protocol).accept)
    end(client, server)


def client_words(w, protocol, mechanism, message):
    return w.speech(protocol).attempt.format(mechanism, message)


MAPPING = """# a comment
alice@example.com legacy2
carol@example.com	legacy2
dave@example.com legacy2
erin@example.com legacy2
frank@example.com legacy2
grace@example.com legacy2
heidi legacy2
o,ne@example.com legacy2
"""


# --- by what ----------------------------------------------------------------------------------------


@test(quick=True)
def test_scenario_41_a_mapped_name_in_any_case_keeps_its_case_on_the_way(t):
    w = World(t, second=True, mapping=MAPPING)
    for protocol in w.protocols:
        reaches(w, True, protocol=protocol, user="Alice@EXAMPLE.com")
        reaches(w, False, protocol=protocol, user="bob@example.com")


@test(quick=True)
def test_scenarios_29_and_43_to_52_what_a_login_is_routed_by(t):
    w = World(t, second=True, mapping=MAPPING, oauth__jwt_username_claim="login", routing__master_user_separators=["%", "*"])
    oauth = {"mechanism": "OAUTHBEARER"}
    boss = plain("alice@example.com", authzid="boss@example.com")
    reaches(w, True, message=boss)
    reaches(w, False, message=plain("boss@example.com", authzid="alice@example.com"))
    reaches(w, True, **oauth, message=bearer("tok-1", "carol@example.com"))
    reaches(w, True, mechanism="XOAUTH2", message=xoauth2("tok-2", "dave@example.com"))
    reaches(w, True, **oauth, message=bearer("sw1.AAAA." + url64("erin@example.com")))
    reaches(w, True, **oauth, message=bearer(jwt(sub="12345", upn="frank@example.com", preferred_username="frank")))
    reaches(w, True, **oauth, message=bearer(jwt(login="grace@example.com", email="other@example.com")))
    reaches(w, False, **oauth, message=bearer(jwt(sub="12345")))
    reaches(w, False, **oauth, message=bearer("opaque-token"))
    reaches(w, True, **oauth, message=bearer("opaque-token", "heidi"))
    reaches(w, True, **oauth, message=bearer("t", "o=2Cne@example.com"))
    reaches(w, True, user="alice@example.com%admin")
    reaches(w, True, user="heidi*root%x")
    for protocol in ("pop3", "managesieve", "submission"):
        reaches(w, True, protocol=protocol, **oauth, message=bearer(jwt(email="Frank@Example.com")))
        reaches(w, True, protocol=protocol, user="alice@example.com%admin")


@test(quick=True)
def test_scenario_42_without_normalisation_the_case_counts(t):
    w = World(t, second=True, mapping="Alice@Example.COM legacy2\n", mapping__normalize="none")
    reaches(w, False, user="alice@example.com")
    reaches(w, True, user="Alice@Example.COM")


@test(quick=True)
def test_scenario_53_names_nobody_may_look_up_are_wrong_passwords_and_no_backend_hears_of_them(t):
    w = World(t, second=True, mapping=MAPPING, each__max_auth_attempts=9)
    for protocol, speech in w.each():
        client = w.client(protocol)
        for user in ("alice smith", 'al"ice', "al\x01ice", "al\x7fice", "%admin", "alice\t@example.com", "a" * 321):
            client.attempt(user).hear(speech.said_hidden)
        client.noop().attempt("dora@example.com")  # it may go on
        w.server(protocol).greet().taken("dora@example.com").accept()
        client.stream.expect(speech.accept)
        client.close()
    w.daemon.closing(4)
    assert {r["refused_logins"] for r in w.daemon.closings()} == {"7"}, w.daemon.closings()
    refused = [r for r in w.daemon.records() if r["msg"] == "login refused"]
    assert len(refused) == 28 and {(r["result"], r.get("account", ""), r["address"]) for r in refused} == {("name", "", "127.0.0.1")}, refused
    assert w.daemon.metric("postern_auth_total", result="name") == 28
    assert w.daemon.metric("postern_cache_entries") == 1  # dora, looked up once
    assert w.daemon.metric("postern_store_lookups_total") == 1


@test(quick=True)
def test_scenarios_54_and_56_a_mapping_that_leads_nowhere_is_found_when_the_file_is_read(t):
    w = World(t, second=True, mapping=MAPPING + "zoe@example.com ghost\n", start=False)
    del w.conf["destination.legacy2.protocol.pop3"]
    code, _, err = t.command("check", t.file("nowhere.toml", w.conf.text()))
    assert code == 1 and re.search(r"M:10:\d+: .*ghost", err) and re.search(r"M:2:\d+: .*no pop3 leg", err), err


# --- the mapping file and the cache -----------------------------------------------------------------


def replace(w, text):
    """As an editor does it: a new file in the old one's place."""
    with open(w.mapping + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(w.mapping + ".new", w.mapping)


@test(quick=True, limit=30)
def test_a_changed_mapping_file_is_taken_up_by_itself_and_a_bad_one_is_not(t):
    w = World(t, second=True, mapping__positive_ttl="1h", mapping__negative_ttl="1s")
    reaches(w, False)
    before = w.daemon.metric("postern_reloads_total", result="ok")
    replace(w, "alice@example.com legacy2\n")
    w.daemon.await_metric("postern_reloads_total", before + 1, result="ok", timeout=8)
    assert w.daemon.metric("postern_mappings") == 1
    t.await_that(lambda: lands(w) == "legacy2", 5, 0.1, "the new mapping")
    failed = w.daemon.metric("postern_reloads_total", result="failed") or 0
    replace(w, "alice@example.com ghost\nwhat is this line here\n")
    t.await_that(lambda: w.daemon.metric("postern_reloads_total") > before + 1 + failed, 8, 0.1, "the bad file's reload")
    problems = [r["problem"] for r in w.daemon.find("configuration")]
    assert any("ghost" in p and re.search(r"M:1\b", p) for p in problems), problems
    assert any(re.search(r"M:2\b", p) for p in problems), problems
    reaches(w, True)
    assert w.daemon.metric("postern_mappings") == 1
    replace(w, "bob@example.com legacy2\n")
    w.daemon.await_metric("postern_mappings", 1, timeout=8)
    t.await_that(lambda: lands(w, "bob@example.com") == "legacy2", 8, 0.1, "the good file")


def lands(w, user="alice@example.com", protocol="imap"):
    """The destination a login reaches, from its closing record."""
    client = w.client(protocol).attempt(user)
    while True:
        for second in (False, True):
            try:
                server = w.server(protocol, second, timeout=0.05).greet()
            except wire.Silence:
                continue
            server.take()
            server.accept()
            client.hear(w.speech(protocol).accept)
            end(client, server)
            return w.record(client)["destination"]


@test(quick=True)
def test_a_reload_on_sighup_takes_the_mapping_and_the_default_and_leaves_live_sessions_alone(t):
    w = World(t, second=True, mapping__negative_ttl="1h")
    client, server = w.logged_in("pop3")
    reaches(w, False, user="carol@example.com")
    with open(w.mapping, "a", encoding="utf-8") as f:
        f.write("dave@example.com legacy2\ncarol@example.com legacy2\n")
    w.daemon.reload()
    reaches(w, True, user="dave@example.com")
    reaches(w, False, user="carol@example.com")  # remembered: its time is not over
    reaches(w, False, user="bob@example.com")
    w.conf["routing.default_destination"] = "legacy2"
    w.daemon.reload(w.conf)
    reaches(w, True, user="bob@example.com")
    logins.bridged(client, server)
    w.conf["destination.legacy2.protocol.imap"] = {"port": -1, "tls": "plain"}
    w.daemon.reload(w.conf, good=False)
    reaches(w, True, user="bob@example.com")
    logins.bridged(client, server)
    end(client, server)


@test(quick=True)
def test_the_cache_counts_its_hits_and_its_entries_live_as_long_as_they_may(t):
    """Scenario 57 with the file as the store: what ends an entry's life is its own time or a changed answer."""
    w = World(t, second=True, mapping=MAPPING, mapping__positive_ttl="2s", mapping__negative_ttl="1s")
    for _ in range(3):
        reaches(w, True)
    reaches(w, False, user="bob@example.com")
    daemon = w.daemon

    def counted(name, **labels):
        return daemon.metric(f"postern_{name}", **labels)

    assert (counted("cache_hits_total"), counted("cache_misses_total")) == (2, 2)
    assert (counted("store_lookups_total", result="found"), counted("store_lookups_total", result="absent")) == (1, 1)
    assert counted("cache_entries") == 2
    time.sleep(1.2)
    reaches(w, False, user="bob@example.com")
    assert counted("store_lookups_total", result="absent") == 2, "the negative answer lived one second"
    time.sleep(1.0)
    reaches(w, True)
    assert counted("store_lookups_total", result="found") == 2, "the positive one two"
    reaches(w, False, message=bearer("opaque"), mechanism="OAUTHBEARER")
    assert counted("cache_hits_total") + counted("cache_misses_total") == 6, "no name, no lookup"


# --- what the backend learns ------------------------------------------------------------------------


@test(quick=True)
def test_scenario_163_a_proxy_header_comes_before_the_conversation_unless_told_otherwise(t):
    w = World(t, start=False)
    del w.conf["destination.legacy.forwarding"]
    w.daemon = t.postern(w.conf)
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        stream = w.legs[protocol].accept()
        seen = wire.ProxySeen(stream)
        assert (seen.source, seen.destination) == (client.stream.local, client.stream.peer), seen.raw
        server = Server(stream, speech).greet().taken().accept()
        client.hear(speech.accept)
        end(client, server)


def forwarded(w, protocol, client, greeting=None):
    """The line in which the backend is told of the client."""
    stream = w.legs[protocol].accept()
    if protocol == "imap":
        stream.send(greeting or "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN ID] ready\r\n")
    elif protocol == "pop3":
        stream.send("+OK [XCLIENT] ready\r\n")
    elif protocol == "managesieve":
        stream.send('"SASL" "PLAIN"\r\n"XCLIENT" "ADDR PORT"\r\nOK "hi"\r\n')
    else:
        stream.send("220 x\r\n")
        stream.line()
        stream.send("250-x\r\n250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT TTL SESSION\r\n")
    server = Server(stream, w.speech(protocol))
    return server, stream.line(), client.stream.local[1], client.stream.peer[1]


@test(quick=True)
def test_scenarios_166_171_to_173_id_and_xclient_tell_the_clients_address_and_the_hops_left(t):
    w = World(t, destination__legacy__forwarding="xclient")
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        server, line, source, local = forwarded(w, protocol, client)
        session = re.search(r"P[0-9a-f]{4,30}", line)[0]
        assert line == {
            "imap": 'F1 ID ("x-originating-ip" "127.0.0.1" "x-originating-port" "%d" "x-connected-ip" "127.0.0.1" '
                    '"x-connected-port" "%d" "x-proxy-ttl" "6" "x-session-id" "%s" "x-client-transport" "insecure")',
            "submission": "XCLIENT ADDR=127.0.0.1 PORT=%d DESTADDR=127.0.0.1 DESTPORT=%d SESSION=%s TTL=6 PROTO=ESMTP",
        }.get(protocol, "XCLIENT ADDR=127.0.0.1 PORT=%d DESTADDR=127.0.0.1 DESTPORT=%d SESSION=%s TTL=6 "
                        "CLIENT-TRANSPORT=insecure") % (source, local, session), line
        server.stream.send({"imap": "* ID NIL\r\nF1 OK done\r\n", "pop3": "+OK\r\n", "managesieve": 'OK "Updated"\r\n',
                            "submission": "220 x\r\n"}[protocol])
        if speech is logins.SUBMISSION:
            server.ehlo()
        server.taken().accept()
        client.hear(speech.accept)
        end(client, server)
        assert w.record(client)["session"] == session


@test(quick=True)
def test_what_is_told_is_the_address_from_the_proxy_header_and_whether_the_client_used_tls(t):
    w = World(t, tls="implicit", destination__legacy__forwarding="xclient", each__proxy_protocol="required",
              each__proxy_trusted=["127.0.0.0/8"], server__host_down_threshold=0)
    for source, destination, smtp in (("2001:db8::9", "2001:db8::1", "IPV6:"), ("203.0.113.9", "198.51.100.7", ""),
                                      ("::ffff:203.0.113.9", "::ffff:198.51.100.7", "")):
        for protocol, speech in w.each():
            stream = wire.tls_connect(w.daemon.port(protocol), t.pki.client(), "mail.example.com",
                                      wire.v2(source=source, destination=destination))
            client = logins.Client(stream, speech).attempt()
            _, line, _, _ = forwarded(w, protocol, client)
            shown = source.removeprefix("::ffff:"), destination.removeprefix("::ffff:")
            if protocol == "imap":
                assert f'"x-originating-ip" "{shown[0]}" "x-originating-port" "40123" "x-connected-ip" "{shown[1]}" ' \
                    '"x-connected-port" "993"' in line and '"x-client-transport" "TLS"' in line, line
            elif protocol == "submission":
                assert f"ADDR={smtp}{shown[0]} PORT=40123 DESTADDR={smtp}{shown[1]} DESTPORT=993 " in line, line
            else:
                assert f"ADDR={shown[0]} PORT=40123 DESTADDR={shown[1]} DESTPORT=993 " in line and \
                    line.endswith("CLIENT-TRANSPORT=TLS"), line
            client.close()


@test(quick=True)
def test_a_refused_xclient_is_a_temporary_failure_and_a_refused_id_is_none(t):
    w = World(t, destination__legacy__forwarding="xclient")
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        server, _, _, _ = forwarded(w, protocol, client)
        server.stream.send({"imap": "F1 NO\r\n", "pop3": "-ERR\r\n", "managesieve": "NO\r\n", "submission": "550 no\r\n"}[protocol])
        if speech is logins.IMAP:
            server.taken().accept()
            client.hear(speech.accept)
        else:
            client.told_unavailable()
            assert server.stream.rest() == b""
        client.close()
        server.close()
    assert w.reasons(4).count("backend_forwarding") == 3


@test(quick=True)
def test_scenario_169_hops_run_out(t):
    w = World(t, server__proxy_ttl=3, destination__legacy__forwarding="xclient")
    for protocol in w.protocols:
        _, line, _, _ = forwarded(w, protocol, w.client(protocol).attempt())
        assert re.search(r'TTL=2|"x-proxy-ttl" "2"', line), line
    w = World(t, server__proxy_ttl=1, destination__legacy__forwarding="xclient")
    for protocol in w.protocols:
        w.client(protocol).attempt().told_unavailable()
        w.nothing(protocol, 0.02)
    assert set(w.reasons(4)) == {"loop"}
    assert w.daemon.metric("postern_destination_consecutive_failures", destination="legacy") == 0
    w = World(t, server__proxy_ttl=1, destination__legacy__forwarding="none")
    client, server = w.logged_in("imap")
    end(client, server)


@test(quick=True)
def test_scenario_170_a_trusted_upstream_may_shorten_the_way(t):
    for trusted in (["127.0.0.0/8"], ["192.0.2.0/24"]):
        w = World(t, protocols=("imap",), destination__legacy__forwarding="xclient", each__proxy_protocol="optional",
                  each__proxy_trusted=trusted, server__proxy_header_timeout="50ms")
        believed = trusted[0].startswith("127")
        for said, told in (("3", "2"), ("99", "6"), ("x", "6"), ("1", None)):
            client = w.client("imap").say(f'x ID ("x-proxy-ttl" "{said}")').hear("* ID NIL", "x OK ID completed.").attempt()
            if told is None and believed:
                client.told_unavailable()
                continue
            _, line, _, _ = forwarded(w, "imap", client)
            assert f'"x-proxy-ttl" "{told if believed else 6}"' in line, (trusted, said, line)
            client.close()
        w.reset_legs()


@test(quick=True)
def test_scenario_175_a_destination_that_is_this_process_is_a_loop(t):
    for host, bind in (("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("localhost", "127.0.0.1")):
        w = World(t, start=False, destination__legacy__host=host)
        for protocol in w.protocols:
            port = t.port()
            w.conf[f"listener.{protocol}.bind"] = [f"{bind}:{port}"]
            w.conf[f"destination.legacy.protocol.{protocol}.port"] = port
        w.daemon = t.postern(w.conf)
        for protocol in w.protocols:
            w.client(protocol).attempt().told_unavailable()
        assert set(w.reasons(4)) == {"loop"}, (host, bind)
        assert w.daemon.metric("postern_destination_consecutive_failures", destination="legacy") == 0
        assert w.daemon.metric("postern_connections_total") == 4, "it went around"


@test(quick=True)
def test_scenario_176_source_addresses_take_turns(t):
    w = World(t, destination__legacy__source_ips=["127.0.0.77", "127.0.0.78"])
    seen = []
    for protocol in w.protocols:
        client = w.client(protocol).attempt()
        server = w.server(protocol)
        seen.append(server.stream.peer[0])
        client.close()
    assert sorted(seen) == ["127.0.0.77", "127.0.0.77", "127.0.0.78", "127.0.0.78"], seen
    w = World(t, protocols=("imap",), destination__legacy__source_ips=["2001:db8::1"])
    w.client("imap").attempt().told_unavailable()
    assert w.reasons(1) == ["source_address"]


# --- explain ----------------------------------------------------------------------------------------


@test(quick=True)
def test_explain_says_where_an_account_goes_as_the_daemon_does_it(t):
    w = World(t, second=True, mapping=MAPPING)
    for user, second, word in (("Alice@EXAMPLE.com%admin", True, "M:2"), ("bob@example.com", False, "default_destination")):
        code, out, err = t.command("explain", w.daemon.path, user)
        assert code == 0 and not err, err
        found = re.search(r"^destination: +(\S+)$", out, re.M)
        assert found and found[1] == ("legacy2" if second else "legacy") and word in out, out
        reaches(w, second, user=user)
    code, out, _ = t.command("explain", w.daemon.path, "alice smith")
    assert code == 1 and "refused:" in out, out
