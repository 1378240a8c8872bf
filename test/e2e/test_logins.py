# SPDX-License-Identifier: GPL-3.0-or-later
"""A login and what follows it, for each of the four protocols: the bridge behind it, a rejection and the next
attempt (protocols.md 1.7), failures up to the limit, and what a client sends ahead of its time (scenarios 58 to
62, 84, 88, 92, 94, 102, 110, 121, 126, 127)."""
import threading
import time

import logins
import wire
from harness import test
from logins import PASSWORD, World, b64, bridged, end, lines, plain


@test(quick=True)
def test_a_login_is_repeated_to_the_backend_and_its_answer_to_the_client_then_bytes_flow(t):
    w = World(t)
    for protocol, _ in w.each():
        client, server = w.logged_in(protocol)
        bridged(client, server)
        end(client, server)


@test(quick=True)
def test_a_login_over_tls_on_both_legs_from_the_first_byte_and_by_upgrade(t):
    pair = t.pki.leaf("backend.test", key=1)
    for client_tls in ("implicit", "starttls"):
        for leg in ("implicit", "starttls"):
            settings = {f"destination__legacy__protocol__{p}__tls": leg for p in logins.ALL}
            w = World(t, tls=client_tls, destination__legacy__tls_server_name="backend.test", **settings)
            for protocol, speech in w.each():
                if client_tls == "implicit":
                    client = w.tls_client(protocol)
                else:
                    client = w.client(protocol).upgrade(t.pki.client())
                client.attempt()
                server = w.server(protocol)
                if leg == "starttls":
                    offer_upgrade(server)
                server.stream = wire.TlsStream(server.stream, t.pki.server(pair), server_side=True).handshake()
                if leg == "implicit":
                    server.greet()
                elif speech is logins.MANAGESIEVE:
                    server.stream.send(speech.ready)
                elif speech is logins.SUBMISSION:
                    server.ehlo()
                server.taken().accept()
                client.hear(speech.accept)
                bridged(client, server)
                end(client, server)
            w.daemon.closing(4)
            for record in w.daemon.closings():
                assert record["tls"] and record["backend_tls"], record
            w.reset_legs()


def offer_upgrade(server):
    """A backend's part in clear before an upgrade, to the letter of what Postern may say in clear."""
    speech, stream = server.speech, server.stream
    if speech is logins.IMAP:
        stream.send("* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\r\n").expect("P1 STARTTLS\r\n")
        stream.send("P1 OK go\r\n")
    elif speech is logins.POP3:
        stream.send("+OK hi\r\n").expect("CAPA\r\n").send("+OK\r\nTOP\r\nSTLS\r\n.\r\n").expect("STLS\r\n").send("+OK go\r\n")
    elif speech is logins.MANAGESIEVE:
        stream.send('"SASL" ""\r\n"STARTTLS"\r\nOK "hi"\r\n').expect("STARTTLS\r\n").send('OK "go"\r\n')
    else:
        stream.send(speech.ready)
        server.ehlo("STARTTLS")
        stream.expect("STARTTLS\r\n").send("220 go\r\n")


# --- ahead of the answer ----------------------------------------------------------------------------


@test(quick=True)
def test_what_is_sent_behind_a_login_reaches_the_backend_only_after_its_yes_and_in_order(t):
    w = World(t)
    for protocol, speech in w.each():
        client = w.client(protocol)
        client.say(client.words() + "\r\nnext one\r\nnext two")
        server = w.server(protocol).greet().taken()
        server.stream.silent(0.1)
        server.accept(b"and residue\r\n")
        server.stream.expect("next one\r\nnext two\r\n")
        client.stream.expect(speech.accept + "and residue\r\n")
        end(client, server)
        record = w.daemon.closing(w.protocols.index(protocol) + 1)
        assert (record["bytes_to_backend"], record["bytes_to_client"]) == ("20", "13"), record


@test(quick=True)
def test_an_end_of_input_right_behind_a_pipelined_login_is_no_break(t):
    w = World(t)
    for protocol, speech in w.each():
        client = w.client(protocol)
        client.say(client.words() + "\r\nlast words")
        client.stream.finish()
        server = w.server(protocol).greet().taken()
        server.stream.silent(0.05)
        server.accept()
        server.stream.expect("last words\r\n").expect_eof().send("an answer\r\n").finish()
        client.stream.expect(speech.accept + "an answer\r\n").expect_eof()
    assert set(w.reasons(4)) == {"eof"}


@test(quick=True)
def test_a_rejected_login_with_an_end_of_input_behind_it_is_answered_before_the_end(t):
    w = World(t)
    for protocol, speech in w.each():
        client = w.client(protocol)
        client.say(client.words() + "\r\n" + speech.noop[0])
        client.stream.finish()
        server = w.server(protocol).greet().taken().reject()
        server.stream.expect_eof()
        client.stream.expect(speech.reject + lines(speech.noop[1])).expect_eof()
    assert set(w.reasons(4)) == {"no_login"}


@test(quick=True)
def test_seventy_kilobytes_behind_a_login_are_kept_and_delivered(t):
    w = World(t, protocols=("imap", "submission"))
    early = b"x" * 997 + b"\r\n"
    early = early * 70
    for protocol, speech in w.each():
        client = w.client(protocol)
        client.say(client.words())
        client.stream.send(early)
        server = w.server(protocol).greet().taken().accept()
        server.stream.expect(early)
        client.hear(speech.accept)
        bridged(client, server)
        end(client, server)


# --- rejected ---------------------------------------------------------------------------------------


@test(quick=True)
def test_after_a_rejection_the_client_stays_and_the_next_attempt_has_a_backend_connection_of_its_own(t):
    w = World(t)
    for protocol, speech in w.each():
        client = w.client(protocol).attempt("alice@example.com", "wrong")
        first = w.server(protocol).greet().taken("alice@example.com", "wrong").reject()
        client.hear(speech.reject)
        first.stream.expect_eof().close()
        client.noop().attempt()
        second = w.server(protocol).greet().taken().accept()
        client.hear(speech.accept)
        bridged(client, second)
        end(client, second)
        record = w.daemon.closing(w.protocols.index(protocol) + 1)
        assert (record["refused_logins"], record["reason"]) == ("1", "eof"), record


@test(quick=True)
def test_the_next_attempt_is_routed_anew(t):
    w = World(t, second=True, mapping="bob@example.com legacy2\n")
    for protocol, speech in w.each():
        client = w.client(protocol).attempt("alice@example.com", "wrong")
        w.server(protocol).greet().taken("alice@example.com", "wrong").reject()
        client.hear(speech.reject).attempt("Bob@Example.com")
        server = w.server(protocol, second=True).greet().taken("Bob@Example.com").accept()
        client.hear(speech.accept)
        bridged(client, server)
        end(client, server)
        record = w.daemon.closing(w.protocols.index(protocol) + 1)
        assert record["destination"] == "legacy2", record


@test(quick=True)
def test_what_is_pipelined_behind_a_rejected_login_is_answered_by_postern_and_no_backend_sees_it(t):
    w = World(t)
    for protocol, speech in w.each():
        client = w.client(protocol)
        client.say(client.words(password="wrong") + "\r\n" + speech.noop[0] + "\r\n" + client.words())
        first = w.server(protocol).greet().taken("alice@example.com", "wrong")
        first.stream.silent(0.05)
        first.reject()
        first.stream.expect_eof()
        second = w.server(protocol).greet().taken().accept()
        client.stream.expect(speech.reject + lines(speech.noop[1]) + speech.accept)
        bridged(client, second)
        end(client, second)


@test(quick=True)
def test_rejections_count_and_the_last_one_is_followed_by_the_courtesy_line(t):
    for attempts in (1, 3):
        w = World(t, each__max_auth_attempts=attempts)
        for protocol, speech in w.each():
            client = w.client(protocol)
            for _ in range(attempts):
                client.attempt(password="wrong")
                server = w.server(protocol).greet().taken(password="wrong").reject()
                client.hear(speech.reject)
                server.stream.expect_eof()
            client.stream.expect(lines(speech.said_failures)).expect_eof()
            w.nothing(protocol, 0.05)
        w.daemon.closing(4)
        for record in w.daemon.closings():
            assert (record["reason"], record["refused_logins"]) == ("auth_failures", str(attempts)), record


@test(quick=True)
def test_rejections_and_malformed_attempts_are_counted_together(t):
    w = World(t, each__max_auth_attempts=3, server__extended_replies=False)
    malformed = {"imap": "a NO Malformed credentials.", "pop3": "-ERR malformed credentials",
                 "managesieve": 'NO "Malformed credentials"', "submission": "535 5.7.8 Malformed credentials"}
    for protocol, speech in w.each():
        client = w.client(protocol)
        broken = speech.attempt.format("PLAIN", b64("nonulhere"))
        client.say(broken).hear(malformed[protocol])
        client.attempt(password="wrong")
        w.server(protocol).greet().taken(password="wrong").reject()
        client.hear(speech.reject).say(broken).hear(malformed[protocol])
        client.stream.expect_eof()
    w.daemon.closing(4)
    assert {r["refused_logins"] for r in w.daemon.closings()} == {"3"}, w.daemon.closings()


@test(quick=True)
def test_hidden_rejections_have_the_generic_words_and_nothing_of_the_backends(t):
    for courtesy in (True, False):
        w = World(t, destination__legacy__hide_auth_errors=True, server__extended_replies=courtesy)
        notes = {"imap": "* NO [ALERT] account 42 is frozen\r\n", "submission": "535-5.7.8 account 42\r\n"}
        for protocol, speech in w.each():
            client = w.client(protocol).attempt(password="wrong")
            server = w.server(protocol).greet().taken(password="wrong")
            server.stream.send(notes.get(protocol, ""))
            server.reject()
            hidden = speech.said_hidden if courtesy else speech.said_hidden.replace("-ERR [AUTH] ", "-ERR ")
            client.hear(hidden).noop().attempt()
            server = w.server(protocol).greet().taken()
            server.stream.send("* 42 EXISTS\r\n" if protocol == "imap" else "")
            server.accept()
            client.stream.expect(("* 42 EXISTS\r\n" if protocol == "imap" else "") + speech.accept)
            end(client, server)
        w.reset_legs()


@test(quick=True)
def test_a_rejection_of_many_lines_or_with_a_literal_arrives_whole(t):
    w = World(t)
    said = {"imap": "* OK [X] note\r\n* 1 EXISTS\r\na NO [ALERT] no\r\n", "pop3": "-ERR [SYS/TEMP] later\r\n",
            "managesieve": "NO {17}\r\naccount 42 frozen\r\n", "submission": "454-4.7.0 not\r\n454 4.7.0 now\r\n"}
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        server = w.server(protocol).greet().taken()
        for i in range(0, len(said[protocol]), 7):  # in small pieces
            server.stream.send(said[protocol][i:i + 7])
            time.sleep(0.002)
        client.stream.expect(said[protocol])
        client.noop().close()
        assert speech


@test(quick=True)
def test_a_rejection_grants_a_fresh_preauth_time(t):
    w = World(t, each__preauth_timeout="1s", protocols=("imap",) if t.quick else logins.ALL)
    for protocol, speech in w.each():
        client = w.client(protocol)
        time.sleep(0.6)
        client.attempt(password="wrong")
        server = w.server(protocol)
        time.sleep(0.6)  # the backend's time is not the client's
        server.greet().taken(password="wrong").reject()
        client.hear(speech.reject)
        time.sleep(0.7)
        began = time.monotonic()
        client.noop()
        client.stream.expect(lines(speech.said_timeout)).expect_eof()
        assert 0.1 < time.monotonic() - began < t.scaled(0.9), "one second from the rejection on"


@test(quick=True)
def test_a_client_that_guesses_forever_sees_the_limit_and_leaves_nothing_behind(t):
    """Thirty clients at a time, three guesses each."""
    w = World(t, server__host_down_threshold=3)

    def handle(protocol):
        def one(stream):
            server = logins.Server(stream, w.speech(protocol)).greet()
            server.take()
            server.reject()
            stream.rest()
        return one

    for protocol, _ in w.each():
        w.legs[protocol].serve(handle(protocol))
    errors = []

    def guess(protocol, speech):
        try:
            client = w.client(protocol)
            for i in range(3):
                client.attempt(f"user{i}@example.com", "wrong").hear(speech.reject)
            client.stream.expect(lines(speech.said_failures)).expect_eof()
            client.close()
        except AssertionError as e:
            errors.append(e)

    def burst():
        jobs = [threading.Thread(target=guess, args=pair) for pair in w.each() for _ in range(8)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()

    burst()
    w.daemon.closing(32)
    baseline = w.daemon.descriptors()
    burst()
    assert not errors, errors[:3]
    w.daemon.closing(64)
    w.daemon.await_descriptors(baseline)
    assert w.daemon.metric("postern_auth_total", result="rejected") == 192
    assert w.daemon.metric("postern_destination_consecutive_failures", destination="legacy") == 0, "scenario 256"
    assert w.daemon.metric("postern_destination_down", destination="legacy") == 0


# --- how clients are slow, or odd -------------------------------------------------------------------


@test(quick=True, limit=30)
def test_a_byte_at_a_time_on_both_sides_changes_nothing(t):
    w = World(t)
    for protocol, speech in w.each():
        client = w.client(protocol)
        for byte in (speech.noop[0] + "\r\n" + client.words() + "\r\nmore\r\n").encode():
            client.stream.send(bytes([byte]))
            time.sleep(0.0005)
        server = w.server(protocol)
        ready = speech.ready.encode()
        for byte in ready:
            server.stream.send(bytes([byte]))
            time.sleep(0.0005)
        if speech is logins.SUBMISSION:
            server.ehlo()
        server.taken()
        for byte in speech.accept.encode():
            server.stream.send(bytes([byte]))
            time.sleep(0.0005)
        server.stream.expect("more\r\n")
        client.stream.expect(lines(speech.noop[1]) + speech.accept)
        end(client, server)


@test(quick=True)
def test_names_and_passwords_outside_ascii_arrive_as_they_are(t):
    user, password = "jürgen@пример.example", "pässwört ☃ 密码"
    w = World(t, second=True, mapping="jürgen@пример.example legacy2\n")
    for protocol, speech in w.each():
        client = w.client(protocol).attempt(user, password)
        server = w.server(protocol, second=True).greet().taken(user, password).accept()
        client.hear(speech.accept)
        end(client, server)


@test(quick=True)
def test_the_login_commands_of_imap_and_pop3_become_plain(t):
    w = World(t, protocols=("imap", "pop3"))
    for password in ("simple", ' a "quoted\\ one', "pässwört"):
        client = w.client("imap")
        client.say(f'a LOGIN "alice@example.com" {{{len(password.encode())}}}').hear(
            f"+ Ready for {len(password.encode())} bytes.").say(password)
        w.server("imap").greet().taken(password=password).accept()
        client.hear(logins.IMAP.accept).close()
        client = w.client("pop3").say("USER alice@example.com").hear("+OK").say(f"PASS {password}")
        w.server("pop3").greet().taken(password=password).accept()
        client.hear(logins.POP3.accept).close()


@test(quick=True)
def test_bytes_no_command_may_have_are_refused_and_reach_nobody(t):
    w = World(t, each__max_auth_attempts=50)
    for protocol, speech in w.each():
        client = w.client(protocol)
        for junk in (b"NO\0OP\r\n", b"\0\r\n", b"\xff\xfe\x80 \x81\r\n", b"\x1b[2J\r\n"):
            client.stream.send(junk)
            answer = client.stream.line()
            assert answer and "\0" not in answer and "\x1b" not in answer, (protocol, junk, answer)
        client.noop()
        for message in ("\0al\x01ice\0pw", "\0alice\0p\0w", "\0\0pw", "\0alice\0"):
            client.say(speech.attempt.format("PLAIN", b64(message)))
            answer = client.stream.line()
            assert not answer.startswith(("235", "+OK", "OK", "a OK")), (protocol, message, answer)
        client.say(speech.attempt.format("PLAIN", b64(b"\0\xff\xfe\0pw"))).stream.line()
        client.noop().close()
        w.nothing(protocol, 0.05)
    assert PASSWORD not in w.daemon.stdout() and plain("alice@example.com") not in w.daemon.stdout()
