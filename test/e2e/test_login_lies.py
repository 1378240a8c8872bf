# SPDX-License-Identifier: GPL-3.0-or-later
"""Backends that answer before they are asked or say goodbye with their answer, clients that end while they are being
answered, names nobody has, and browsers: what fits no question is no answer (protocols.md 1.6 and 1.7)."""
import threading
import time

import logins
import wire
from harness import test
from logins import World, end


AHEAD = {"imap": "a OK in\r\n", "pop3": "+OK in\r\n", "managesieve": 'OK "in"\r\n', "submission": "235 2.7.0 in\r\n"}


@test(quick=True)
def test_a_yes_that_came_before_the_credentials_lets_nobody_in(t):
    """Else the answer to come, a no, would go by unseen and the session to the backend without a login."""
    w = World(t, server__host_down_threshold=0)
    for protocol, speech in w.each():
        client = w.client(protocol).attempt(password="wrong")
        server = w.server(protocol)
        if speech is logins.SUBMISSION:
            server.stream.send(speech.ready)
            server.stream.line()
            server.stream.send("250 AUTH PLAIN\r\n" + AHEAD[protocol])
        else:
            server.stream.send(speech.ready + AHEAD[protocol])
        got = server.stream.rest()
        assert b"AUTH" not in got, (protocol, got)
        client.told_unavailable()
        assert w.record(client)["reason"] == "backend_protocol"
        server.close()
    assert w.daemon.metric("postern_auth_total", result="ok") == 0


@test(quick=True)
def test_an_answer_that_came_before_any_question_ends_it_there(t):
    """One answer too many on the way, and the one to XCLIENT or EHLO would be heard as a yes to the password."""
    w = World(t, server__host_down_threshold=0, destination__legacy__forwarding="xclient")
    early = {"imap": ("* OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN] hi\r\nF1 OK done\r\n",),
             "pop3": ("+OK [XCLIENT] hi\r\n+OK more\r\n",),
             "managesieve": ('"SASL" "PLAIN"\r\n"XCLIENT"\r\nOK "hi"\r\nOK "more"\r\n',),
             "submission": ("220 hi\r\n250 AUTH PLAIN\r\n", "220 hi\r\n")}
    for protocol, _ in w.each():
        for said in early[protocol]:
            client = w.client(protocol).attempt()
            server = w.server(protocol)
            server.stream.send(said)
            if protocol == "submission" and said == "220 hi\r\n":
                server.stream.line()
                server.stream.send("250-XCLIENT ADDR\r\n250 AUTH PLAIN\r\n220 more\r\n")
            assert b"AUTH" not in server.stream.rest(), protocol
            client.told_unavailable()
            assert w.record(client)["reason"] == "backend_protocol"
            server.close()


@test(quick=True)
def test_an_imap_backend_may_say_more_behind_its_greeting(t):
    w = World(t, protocols=("imap",))
    client = w.client("imap").attempt()
    server = w.server("imap")
    server.stream.send(logins.IMAP.ready + "* OK [X] a word\r\n* OK half")
    server.taken()
    server.stream.send(" a word\r\n")
    server.accept()
    client.stream.expect("* OK [X] a word\r\n* OK half a word\r\n" + logins.IMAP.accept)
    end(client, server)


GOODBYE = {"imap": "* BYE too many\r\na NO [UNAVAILABLE] not now\r\n", "managesieve": 'BYE (TRYLATER) "not now"\r\n',
           "submission": "421-4.7.0 not\r\n421 4.7.0 now\r\n"}


@test(quick=True)
def test_a_goodbye_instead_of_a_verdict_is_the_end_for_the_client_as_well(t):
    """Whoever reads BYE or 421 knows that the connection is over; nobody's password was wrong."""
    w = World(t)
    for protocol, said in GOODBYE.items():
        client = w.client(protocol)
        client.say(client.words() + "\r\n" + w.speech(protocol).noop[0])
        server = w.server(protocol).greet().taken()
        server.stream.send(said)
        client.stream.expect(said).expect_eof()
        record = w.record(client)
        assert (record["reason"], "refused_logins" in record) == ("backend_closed", False), record
        server.close()
    assert not w.daemon.find("login refused")


@test(quick=True)
def test_a_hidden_goodbye_is_a_no_like_any_other(t):
    w = World(t, destination__legacy__hide_auth_errors=True)
    for protocol, said in GOODBYE.items():
        speech = w.speech(protocol)
        client = w.client(protocol).attempt()
        w.server(protocol).greet().taken().stream.send(said)
        client.hear(speech.said_hidden).noop().attempt()
        server = w.server(protocol).greet().taken().accept()
        client.hear(speech.accept)
        end(client, server)


@test(quick=True)
def test_a_tls_client_that_ends_while_it_reads_its_answers_late_is_answered_and_logged_in(t):
    w = World(t, tls="implicit", each__socket={"send_buffer_size": 4096})
    asked = {"imap": "c CAPABILITY\r\n", "pop3": "CAPA\r\n", "managesieve": "CAPABILITY\r\n", "submission": "EHLO me\r\n"}
    for protocol, speech in w.each():
        stream = wire.connect(w.daemon.port(protocol), receive_buffer=4096)
        tls = wire.TlsStream(stream, t.pki.client(), server_name="mail.example.com").handshake()
        client = logins.Client(tls, speech)
        tls.tls.write((asked[protocol] * 200 + client.words() + "\r\nlast words\r\n").encode())
        tls.finish()  # in one segment: the end is there before the first answer is out
        time.sleep(0.1)
        heard = []
        reader = threading.Thread(target=lambda c=client, h=heard: h.append(c.stream.rest()), daemon=True)
        reader.start()
        server = w.server(protocol).greet().taken().accept()
        server.stream.expect("last words\r\n").expect_eof().finish()
        reader.join()
        assert heard[0].endswith(speech.accept.encode()), heard[0][-200:]
        assert heard[0].count(b"LITERAL+") + heard[0].count(b"PIPELINING") + heard[0].count(b'"VERSION"') == 200
    assert set(w.reasons(4)) == {"eof"}


@test(quick=True)
def test_a_browser_that_posts_mail_commands_logs_nobody_in(t):
    w = World(t, protocols=logins.ALL)
    for protocol, _ in w.each():
        client = w.client(protocol)
        words = "USER alice@example.com\r\nPASS secret" if protocol == "pop3" else client.words()
        client.say(f"POST / HTTP/1.1\r\nHost: mail.example.com:110\r\nConnection: keep-alive\r\nContent-Length: 60\r\n"
                   f"User-Agent: Mozilla/5.0\r\n\r\n{words}")
        client.stream.rest()
        w.nothing(protocol, 0.05)
    assert set(w.reasons(4)) == {"command_errors"}


@test(quick=True, plain=True)
def test_names_that_no_mailbox_can_have_leave_nothing_in_the_cache(t):
    w = World(t, protocols=("pop3",), each__max_auth_attempts=1000, server__threads=1)

    def guess(count):
        client = w.client("pop3")
        for i in range(count):
            client.attempt(f"{i}" + "x" * 40000).hear(logins.POP3.said_hidden)
        client.close()

    guess(20)
    before = w.daemon.resident()
    guess(300)
    w.nothing("pop3", 0.05)
    assert w.daemon.metric("postern_cache_entries") == 0
    assert w.daemon.resident() - before < 4 << 20, f"{(w.daemon.resident() - before) >> 10} KiB more"
