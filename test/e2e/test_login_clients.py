# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients before their login: too slow, too eager, too early, gone; what Postern says when time or the server ends,
and what it keeps to itself (scenarios 15, 39, 40, 82, 93, 100, 119; protocols.md 1.2, 1.3 and 1.12)."""
import signal
import time

import logins
import wire
from harness import test
from logins import PASSWORD, World, b64, bearer, end, lines, plain, xoauth2


# --- time -------------------------------------------------------------------------------------------


@test(quick=True)
def test_a_client_without_a_login_in_time_hears_why_unless_told_otherwise(t):
    """Scenarios 39, 40 and 93, with courtesy and without."""
    for courtesy in (True, False):
        w = World(t, each__preauth_timeout="1s", server__extended_replies=courtesy)
        began = time.monotonic()
        clients = [(speech, w.client(protocol)) for protocol, speech in w.each()]
        drips = [(speech, w.client(protocol)) for protocol, speech in w.each()]
        over = time.monotonic() + 0.85
        while time.monotonic() < over:  # a byte now and then buys no time
            for _, client in drips:
                client.stream.send("x")
            time.sleep(0.15)
        for speech, client in clients + drips:
            client.stream.expect(lines(speech.said_timeout if courtesy else "")).expect_eof()
            client.close()
        assert 0.9 < time.monotonic() - began < t.scaled(1.9)
        assert set(w.reasons(8)) == {"timeout"}
        assert w.daemon.metric("postern_connections_rejected_total", reason="timeout") == 8


@test(quick=True)
def test_half_an_exchange_does_not_stop_the_clock(t):
    w = World(t, each__preauth_timeout="1s")
    halves = {"imap": ("a AUTHENTICATE PLAIN", "+ "), "pop3": ("AUTH PLAIN", "+ "),
              "managesieve": ('AUTHENTICATE "PLAIN"', "{0}\r\n\r\n"), "submission": ("AUTH PLAIN", "334 ")}
    began = time.monotonic()
    clients = []
    for protocol, _ in w.each():
        asked, prompt = halves[protocol]
        clients.append(w.client(protocol).say(asked).hear(prompt))
    for client in clients:
        client.stream.expect(lines(client.speech.said_timeout)).expect_eof()
    assert 0.9 < time.monotonic() - began < t.scaled(1.8)


@test(quick=True)
def test_tls_and_the_dialogue_share_one_time(t):
    w = World(t, tls="implicit", each__preauth_timeout="1s")
    began = time.monotonic()
    streams = [(speech, w.connect(protocol)) for protocol, speech in w.each()]
    time.sleep(0.6)
    clients = []
    for speech, stream in streams:
        tls = wire.TlsStream(stream, t.pki.client(), server_name="mail.example.com").handshake()
        clients.append(logins.Client(tls, speech))
    for client in clients:
        client.stream.expect(lines(client.speech.said_timeout)).expect_notified_eof()
    assert 0.9 < time.monotonic() - began < t.scaled(1.6)


@test(quick=True)
def test_the_time_of_a_slow_backend_is_not_the_clients(t):
    w = World(t, each__preauth_timeout="1s", protocols=("imap", "managesieve"))
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        server = w.server(protocol)
        time.sleep(1.3)
        server.greet().taken()
        time.sleep(0.3)
        server.accept()
        client.hear(speech.accept)
        end(client, server)


# --- the end of the server --------------------------------------------------------------------------


@test(quick=True)
def test_clients_before_their_login_hear_of_the_shutdown_when_the_grace_is_over(t):
    for courtesy in (True,) if t.quick else (True, False):
        w = World(t, server__shutdown_grace="1s", server__extended_replies=courtesy)
        idle = [w.client(protocol) for protocol in w.protocols]
        asking, servers = [], []
        for protocol in w.protocols:
            asking.append(w.client(protocol).attempt())
            servers.append(w.server(protocol))
        w.daemon.signal(signal.SIGTERM)
        w.daemon.wait("shutdown signal received; draining")
        idle[0].noop()  # within the grace all is as ever
        for client in idle + asking:
            client.stream.expect(lines(client.speech.said_shutdown if courtesy else "")).expect_eof()
        for server in servers:
            server.stream.rest()
            server.close()
        assert w.daemon.wait_exit() == 0
        assert {r["reason"] for r in w.daemon.closings()} == {"shutdown"}
        assert len(w.daemon.closings()) == 8
        w.reset_legs()


@test(quick=True)
def test_a_login_begun_before_the_signal_may_be_finished_within_the_grace(t):
    w = World(t, server__shutdown_grace="3s")
    for protocol, speech in w.each():
        client = w.client(protocol)
        if protocol == w.protocols[0]:
            first = client
            continue
        client.close()
        assert speech
    w.daemon.signal(signal.SIGTERM)
    w.daemon.wait("shutdown signal received; draining")
    _, server = w.logged_in("imap", client=first)
    end(first, server)
    assert w.daemon.wait_exit(2) == 0
    assert w.daemon.find("all connections drained")


# --- STARTTLS ---------------------------------------------------------------------------------------


@test(quick=True)
def test_bytes_in_clear_behind_starttls_are_never_answered_and_are_reported(t):
    w = World(t, tls="starttls")
    for i, (protocol, speech) in enumerate(w.each()):
        client = w.client(protocol)
        injected = speech.noop[0].replace("n ", "z ") + "\r\n" + client.words() + "\r\n"
        client.stream.send(speech.starttls[0] + "\r\n" + injected)
        client.hear(speech.starttls[1])
        client.stream = wire.TlsStream(client.stream, t.pki.client(), server_name="mail.example.com").handshake()
        if speech is logins.MANAGESIEVE:
            client.greeting()
        client.stream.silent(0.1)
        client.noop()
        w.nothing(protocol, 0.05)
        if i == 0:  # at most one warning a second
            warning = w.daemon.wait("bytes behind STARTTLS discarded", listener=protocol)
            assert (warning["bytes"], warning["peer"], warning["level"]) == (str(len(injected)), client.name, "warn"), warning
        client.say(speech.starttls[0])
        answer = client.stream.line()
        assert "not available" in answer, answer
        client.close()


@test(quick=True)
def test_no_password_in_clear_is_taken_before_the_upgrade_and_the_refusals_do_not_count(t):
    w = World(t, tls="starttls", each__max_auth_attempts=2)
    refusals = {"imap": "a NO [PRIVACYREQUIRED] Cleartext authentication requires TLS.",
                "pop3": "-ERR cleartext authentication requires TLS",
                "managesieve": 'NO (ENCRYPT-NEEDED) "Cleartext authentication requires TLS"',
                "submission": "538 5.7.11 Encryption required for requested authentication mechanism"}
    for protocol, speech in w.each():
        client = w.client(protocol)
        for _ in range(5):
            client.attempt().hear(refusals[protocol])
        client.noop()
        w.nothing(protocol, 0.05)
        client.upgrade(t.pki.client()).attempt()
        server = w.server(protocol).greet().taken().accept()
        client.hear(speech.accept)
        end(client, server)
        assert w.daemon.metric("postern_auth_total", protocol=protocol, result="privacy") == 5
    assert not w.daemon.find("login refused"), "no password was judged"


# --- much -------------------------------------------------------------------------------------------


@test(quick=True)
def test_bearer_tokens_of_many_kilobytes_pass_and_beyond_the_line_limit_none_does(t):
    w = World(t, each__max_auth_attempts=9)
    for protocol, speech in w.each():
        for size in (16 << 10, 48_000 if protocol != "managesieve" else 46_000):
            token = "t" * size
            message = bearer(token, "carol@example.com")
            assert len(message) <= 65536
            if protocol == "imap":
                said = f"a AUTHENTICATE OAUTHBEARER {message}"
            elif protocol == "managesieve":
                said = f'AUTHENTICATE "OAUTHBEARER" {{{len(message)}+}}\r\n{message}'
            else:
                said = f"AUTH OAUTHBEARER {message}"
            client = w.client(protocol).say(said)
            server = w.server(protocol).greet()
            mechanism, got = server.take()
            assert (mechanism, b64(got)) == ("OAUTHBEARER", message), (protocol, size, mechanism, len(got))
            server.accept()
            client.hear(speech.accept)
            end(client, server)
    for protocol, speech in w.each():
        client = w.client(protocol)
        client.say(speech.attempt.format("OAUTHBEARER", "A" * 70_000))
        if speech in (logins.IMAP, logins.MANAGESIEVE):
            said = client.stream.line()
            assert said.startswith(("a BAD ", "NO ")) and ("65536" in said or "too long" in said), said
            client.noop()
        else:
            client.stream.expect_gone()
        client.close()
        w.nothing(protocol, 0.05)


@test(quick=True)
def test_xoauth2_and_oauthbearer_are_repeated_byte_for_byte_and_their_errors_answered(t):
    w = World(t)
    for protocol, speech in w.each():
        for mechanism, message in (("XOAUTH2", xoauth2("tok-2", "dave@example.com")),
                                   ("OAUTHBEARER", bearer("tok-1", "carol@example.com"))):
            client = w.client(protocol).say(speech.attempt.format(mechanism, message))
            server = w.server(protocol).greet()
            got, sent = server.take()
            assert (got, b64(sent)) == (mechanism, message), (got, sent)
            problem = b64('{"status":"401"}')
            server.stream.send({"imap": f"+ {problem}\r\n", "pop3": f"+ {problem}\r\n",
                                "managesieve": f'"{problem}"\r\n', "submission": f"334 {problem}\r\n"}[protocol])
            server.stream.expect('"AQ=="\r\n' if protocol == "managesieve" else "AQ==\r\n")
            server.reject()
            client.hear(speech.reject).noop().close()


@test(quick=True)
def test_clients_that_pipeline_and_never_read_hold_little_memory_and_go_with_their_time(t):
    w = World(t, each__preauth_timeout="2s", each__socket={"send_buffer_size": 4096})
    asked = {"imap": "a CAPABILITY\r\n", "pop3": "CAPA\r\n", "managesieve": "CAPABILITY\r\n", "submission": "EHLO x\r\n"}
    before, clients = w.daemon.resident(), []
    for protocol, speech in w.each():
        for _ in range(10):
            client = logins.Client(wire.connect(w.daemon.port(protocol), receive_buffer=4096), speech)
            client.stream.send((asked[protocol] * 5000)[:60_000])
            clients.append(client)
    time.sleep(0.3)
    grown = w.daemon.resident() - before
    assert grown < len(clients) * (300 << 10), f"{grown >> 10} KiB for {len(clients)} clients"
    busy = w.daemon.cpu_seconds()
    time.sleep(0.5)
    assert w.daemon.cpu_seconds() - busy < 0.25, "waiting is no work"
    w.daemon.closing(len(clients), timeout=t.scaled(8))
    assert {r["reason"] for r in w.daemon.closings()} == {"timeout"}, w.daemon.closings()
    for client in clients:
        client.close()


@test(quick=True)
def test_a_thousand_commands_are_answered_and_no_more(t):
    w = World(t)
    for i, (protocol, speech) in enumerate(w.each()):
        client = w.client(protocol)
        client.stream.send((speech.noop[0] + "\r\n") * 1001)
        client.stream.expect(lines(speech.noop[1]) * 1000).expect_eof()
        assert w.daemon.closing(i + 1)["reason"] == "input_limit"


@test(quick=True)
def test_so_many_errors_are_answered_and_no_more(t):
    w = World(t, each__max_auth_attempts=1)
    wrong = {"imap": ("n FROB", "n BAD Command not allowed in this state.", "* BYE Too many errors."),
             "pop3": ("FROB", "-ERR unknown command", ""),
             "managesieve": ("FROB", 'NO "Command not allowed in this state."', 'BYE "Too many errors"'),
             "submission": ("FROB", "500 5.5.2 Syntax error", "421 4.7.0 Too many errors")}
    for i, (protocol, speech) in enumerate(w.each()):
        say, hear, farewell = wrong[protocol]
        client = w.client(protocol)
        for _ in range(19):
            client.say(say).hear(hear).noop()
        client.say(say).say(speech.noop[0]).stream.expect(lines(hear) + lines(farewell)).expect_eof()
        record = w.daemon.closing(i + 1)
        assert record["reason"] == "command_errors" and "refused_logins" not in record, record
        assert w.daemon.metric("postern_connections_rejected_total", listener=protocol, reason="command_errors") == 1


# --- gone -------------------------------------------------------------------------------------------


@test(quick=True)
def test_a_client_that_vanishes_while_its_backend_is_asked_says_nothing_about_that_backend(t):
    w = World(t, server__host_down_threshold=1)
    count = 0
    for protocol, _ in w.each():
        for stage in ("dial", "replay"):
            client = w.client(protocol).attempt()
            server = w.server(protocol)
            if stage == "replay":
                server.greet().taken()
            client.stream.reset()
            server.stream.rest()
            server.close()
            count += 1
            record = w.daemon.closing(count)
            assert record["reason"] == "client_gone", (protocol, stage, record)
    for name in ("consecutive_failures", "down"):
        assert w.daemon.metric(f"postern_destination_{name}", destination="legacy") == 0
    client, server = w.logged_in("imap")
    end(client, server)


@test(quick=True)
def test_a_client_that_ends_before_its_login_is_let_go(t):
    w = World(t)
    for i, (protocol, speech) in enumerate(w.each()):
        client = w.client(protocol).say(speech.noop[0]).hear(speech.noop[1])
        client.stream.send("half a li")
        client.stream.finish().expect_eof()
        assert w.daemon.closing(i + 1)["reason"] == "no_login"
    assert PASSWORD not in w.daemon.stdout() and plain("alice@example.com") not in w.daemon.stdout()


# --- much, and little by little ---------------------------------------------------------------------


@test(quick=True)
def test_scenario_11_an_endless_line_costs_no_memory_and_the_next_command_is_answered(t):
    w = World(t, protocols=("imap",), each__max_auth_attempts=50)
    client = w.client("imap")
    for size in (70_000, 20 << 20):
        before = w.daemon.resident()
        client.stream.send("a LOGIN alice@example.com ")
        for _ in range(size // 1000):
            client.stream.send(b"A" * 1000)
        client.say("").hear("a BAD Argument exceeds maximum length of 65536 bytes.").noop()
        # a sanitized build keeps what was freed for a while
        assert t.sanitized or w.daemon.resident() - before < 1 << 20, f"{(w.daemon.resident() - before) >> 10} KiB more"
    client.close()
    w.nothing("imap", 0.02)


@test(quick=True)
def test_scenario_12_a_command_in_single_bytes_is_a_command(t):
    client = World(t, protocols=("imap",)).client("imap")
    for byte in b"zz NOOP\r\n":
        client.stream.send(bytes([byte]))
        time.sleep(0.005)
    client.hear("zz OK NOOP completed.").close()
