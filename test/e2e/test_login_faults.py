# SPDX-License-Identifier: GPL-3.0-or-later
"""Backends that let a login down, at every stage and in every way: the client always hears the protocol's temporary
failure and never that its password was wrong, nor a bare end (scenarios 65 to 76, 95, 97, 112, 130). One that had the
credentials and fell silent or left counts as a failed login all the same: a guess may have done that."""
import time

import logins
import wire
from harness import test
from logins import World, end, lines


def stages(speech):
    """What a backend has said when it falls silent, by name; `CREDENTIALS` stands for taking them."""
    ready = speech.ready
    out = {"accepted": "", "half a greeting": ready[:-4]}
    if speech is logins.SUBMISSION:
        out["greeted"] = ready
        out["half an EHLO answer"] = ready + "250-backend\r\n250-SI"
    out["credentials taken"] = "CREDENTIALS"
    out["half an answer"] = "CREDENTIALS" + speech.accept[:-3]
    return out


def stage(server, words):
    """A backend up to this point."""
    if words.startswith("CREDENTIALS"):
        server.greet().taken()
        words = words.removeprefix("CREDENTIALS")
    elif words.startswith(server.speech.ready) and words != server.speech.ready:
        server.stream.send(server.speech.ready)
        server.stream.line()  # what is asked for behind the greeting
        words = words.removeprefix(server.speech.ready)
    server.stream.send(words)


def unavailable(w, protocol, misbehave, reasons, speech=None, counts=False):
    """One login toward a backend that misbehaves, its closing record checked."""
    speech = speech or w.speech(protocol)
    client = w.client(protocol).attempt()
    server = w.server(protocol)
    misbehave(server)
    client.hear(speech.said_unavailable)
    client.stream.expect_eof()
    record = w.record(client)
    assert record["reason"] in reasons, (protocol, record)
    counts = counts or record["reason"] == "backend_silent"
    assert record.get("refused_logins") == ("1" if counts else None), record
    assert bool(w.daemon.find("login refused", peer=client.name)) == counts
    server.close()
    return record


# --- silence ----------------------------------------------------------------------------------------


@test(quick=True, limit=60)
def test_a_backend_that_falls_silent_at_any_stage_is_unavailable_when_its_window_is_over(t):
    """Scenarios 75 and 76; all stages of all protocols wait at the same time."""
    w = World(t, server__backend_timeout="1s", server__backend_connect_retries=5, server__host_down_threshold=0)
    waiting, began = [], time.monotonic()
    for protocol, speech in w.each():
        for name, words in stages(speech).items():
            client = w.client(protocol).attempt()
            server = w.server(protocol)
            stage(server, words)
            waiting.append((protocol, name, client, server))
    assert time.monotonic() - began < t.scaled(0.9), "too slow to say anything"
    for protocol, name, client, server in waiting:
        client.stream.expect(lines(client.speech.said_unavailable)).expect_eof()
        assert name and protocol and server
    took = time.monotonic() - began
    assert 0.9 < took < t.scaled(2.5), f"{took:.2f} s"
    w.daemon.closing(len(waiting))
    reasons = {r["reason"] for r in w.daemon.closings()}
    assert reasons == {"backend_timeout", "backend_silent"}, reasons
    asked = sum(name in ("credentials taken", "half an answer") for _, name, _, _ in waiting)
    assert len(w.daemon.find("login refused")) == asked, "a backend that was not asked has refused nobody"
    assert w.daemon.metric("postern_auth_total", result="unanswered") == asked
    assert w.daemon.metric("postern_auth_total", result="unavailable") == len(waiting) - asked
    assert w.daemon.metric("postern_auth_total", result="rejected") == 0


@test(quick=True)
def test_a_slow_drip_from_a_backend_does_not_prolong_its_window(t):
    w = World(t, server__backend_timeout="1s", protocols=("imap",) if t.quick else ("imap", "submission"))
    for protocol, speech in w.each():
        for words in (speech.ready, "CREDENTIALS* OK still here and so on and on\r\n"):
            client = w.client(protocol).attempt()
            server = w.server(protocol)
            if words.startswith("CREDENTIALS"):
                server.greet().taken()
            drip = words.removeprefix("CREDENTIALS")
            began = time.monotonic()
            for byte in drip[:-1]:
                try:
                    server.stream.send(byte)
                except wire.Reset:
                    break
                if client.stream.readable(0.1):
                    break
            client.stream.expect(lines(speech.said_unavailable)).expect_eof()
            assert 0.7 < time.monotonic() - began < t.scaled(1.8), words
            server.close()


# --- an end -----------------------------------------------------------------------------------------


@test(quick=True, limit=40)
def test_a_backend_that_closes_or_resets_at_any_stage_is_unavailable_at_once(t):
    w = World(t, server__host_down_threshold=0)
    for protocol, speech in w.each():
        for name, words in stages(speech).items():
            for leave in ("close", "finish", "reset"):
                def misbehave(server, words=words, leave=leave):
                    stage(server, words)
                    time.sleep(0.02)  # the words before the reset
                    getattr(server.stream, leave)()

                record = unavailable(w, protocol, misbehave, {"backend_closed", "backend_greeting", "backend_protocol"},
                                     counts=words.startswith("CREDENTIALS"))
                assert record["secs"] and float(record["secs"]) < t.scaled(2), (name, leave, record)


@test(quick=True)
def test_a_backend_that_closes_after_the_greeting_is_tried_again_but_not_with_the_credentials(t):
    w = World(t, server__backend_connect_retries=1)
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        w.server(protocol).close()
        client.stream.silent(0.1)
        second = w.server(protocol).greet().taken()
        second.close()
        client.told_unavailable()
        w.nothing(protocol, 0.3)
        assert speech


@test(quick=True)
def test_scenario_65_two_attempts_200_ms_apart_where_nobody_listens(t):
    w = World(t, server__backend_connect_retries=1, server__host_down_threshold=0)
    w.reset_legs()
    for protocol, _ in w.each():
        began = time.monotonic()
        w.client(protocol).attempt().told_unavailable()
        assert 0.18 < time.monotonic() - began < t.scaled(1.2)
    assert set(w.reasons(4)) == {"connect"}


@test(quick=True)
def test_a_backend_that_starts_a_moment_later_is_reached_by_the_retry(t):
    w = World(t, server__backend_connect_retries=2)
    ports = {p: w.legs[p].port for p in w.protocols}
    w.reset_legs()
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        time.sleep(0.1)
        w.legs[protocol] = t.backend(port=ports[protocol])
        server = w.server(protocol).greet().taken().accept()
        client.hear(speech.accept)
        end(client, server)


@test(quick=True)
def test_without_courtesy_the_words_are_those_of_the_replaced_system(t):
    w = World(t, server__extended_replies=False, server__host_down_threshold=0)
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        w.server(protocol).close()
        client.hear(speech.said_unavailable_tersely)
        client.stream.expect_eof()


# --- nonsense ---------------------------------------------------------------------------------------


GREETINGS = {
    "imap": ("* BYE overloaded\r\n", "* PREAUTH welcome\r\n", "+OK wrong protocol\r\n", "220 smtp\r\n", "\r\n"),
    "pop3": ("-ERR busy\r\n", "* OK imap\r\n", "220 smtp\r\n", "\r\n"),
    "managesieve": ('BYE "down"\r\n', 'NO "not now"\r\n'),
    "submission": ("554 go away\r\n", "421 later\r\n", "220-first\r\n554 second\r\n", "* OK imap\r\n", "+OK pop\r\n"),
}


@test(quick=True)
def test_a_greeting_that_refuses_or_is_another_protocols_gets_no_credentials(t):
    w = World(t, server__backend_connect_retries=3, server__host_down_threshold=0)
    for protocol, _ in w.each():
        for greeting in GREETINGS[protocol]:
            seen = []

            def misbehave(server, greeting=greeting, seen=seen):
                server.stream.send(greeting)
                seen.append(server.stream.rest())

            unavailable(w, protocol, misbehave, {"backend_greeting", "backend_protocol"})
            assert b"AUTH" not in seen[0] and b"PASS" not in seen[0], (protocol, greeting, seen)
            w.nothing(protocol, 0.02)  # a refusal is not retried


@test(quick=True)
def test_an_ehlo_that_is_refused_is_unavailable(t):
    w = World(t, protocols=("submission",))

    def misbehave(server):
        server.stream.send(server.speech.ready)
        server.stream.line()
        server.stream.send("502 no\r\n")

    unavailable(w, "submission", misbehave, {"backend_greeting", "backend_protocol"})


@test(quick=True, limit=40)
def test_lines_without_end_and_replies_without_end_are_unavailable(t):
    """A line of 65,537 bytes, 257 lines of capabilities, 65 lines of answer, an endless stream of either."""
    w = World(t, server__host_down_threshold=0, server__backend_timeout="5s")
    too_long = b"x" * 65537 + b"\r\n"

    def flood(server, chunk):
        try:
            while True:
                server.stream.send(chunk)
        except (wire.Reset, OSError):
            pass

    openings = {"imap": b"* OK ", "pop3": b"+OK ", "managesieve": b'"X" "', "submission": b"220 "}
    several = {"managesieve": (b'"X%d" "y"\r\n', b'OK "ready"\r\n'), "submission": (b"220-x%d\r\n", b"220 x\r\n")}
    untagged = {"imap": b"* OK %d\r\n", "managesieve": b'"x%d"\r\n', "submission": b"535-%d\r\n"}
    bad = {"backend_greeting", "backend_protocol", "backend_closed"}
    for protocol, _ in w.each():
        unavailable(w, protocol, lambda s, p=protocol: s.stream.send(openings[p] + too_long), bad)
        unavailable(w, protocol, lambda s, p=protocol: flood(s, openings[p] + b"y" * 4000), bad)
        unavailable(w, protocol, lambda s: s.greet().taken().stream.send(too_long), bad)
        unavailable(w, protocol, lambda s: flood(s.greet().taken(), b"z" * 4000), bad)
        if protocol in several:
            each, last = several[protocol]
            many = b"".join(each % i for i in range(256))
            unavailable(w, protocol, lambda s, m=many + last: s.stream.send(m), bad)
            unavailable(w, protocol, lambda s, e=each: flood(s, b"".join(e % i for i in range(100))), bad)
        if protocol in untagged:
            many = b"".join(untagged[protocol] % i for i in range(70))
            unavailable(w, protocol, lambda s, m=many: s.greet().taken().stream.send(m), bad | {"backend_silent"})
    assert w.daemon.resident() < 200 << 20


@test(quick=True)
def test_256_lines_and_65536_bytes_are_still_a_reply(t):
    w = World(t)
    full = {"imap": b"* OK " + b"x" * 65531 + b"\r\n", "pop3": b"+OK " + b"x" * 65532 + b"\r\n",
            "managesieve": b"".join(b'"X%d" "y"\r\n' % i for i in range(255)) + b'OK "x"\r\n',
            "submission": b"220-" + b"x" * 65532 + b"\r\n220 x\r\n"}
    for protocol, speech in w.each():
        client = w.client(protocol).attempt()
        server = w.server(protocol)
        server.stream.send(full[protocol])
        if speech is logins.SUBMISSION:
            server.ehlo(*[f"X{i}" for i in range(254)])
        server.taken().accept()
        client.hear(speech.accept)
        end(client, server)


@test(quick=True)
def test_an_answer_to_the_credentials_that_is_no_answer_is_not_taken_for_a_no(t):
    w = World(t, server__host_down_threshold=0)
    answers = {"pop3": "what?\r\n", "submission": "Good Day\r\n"}
    for protocol, answer in answers.items():
        unavailable(w, protocol, lambda s, a=answer: s.greet().taken().stream.send(a), {"backend_protocol"})
    assert not w.daemon.find("login refused")


@test(quick=True)
def test_a_backend_that_says_bye_instead_of_judging_a_login_has_not_refused_it(t):
    w = World(t, protocols=("imap",))
    unavailable(w, "imap", lambda s: s.greet().taken().stream.send("* BYE too busy\r\n").finish(), {"backend_closed"})
    assert not w.daemon.find("login refused")


# --- the upgrade ------------------------------------------------------------------------------------


GO = {"imap": ("* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", ["P1 STARTTLS"], "P1 OK go\r\n", "P1 NO not now\r\n"),
      "pop3": ("+OK hi\r\n", ["CAPA", "STLS"], "+OK go\r\n", "-ERR not now\r\n"),
      "managesieve": ('"STARTTLS"\r\nOK "hi"\r\n', ["STARTTLS"], 'OK "go"\r\n', 'NO "not now"\r\n'),
      "submission": ("220 hi\r\n", ["EHLO mail.example.com", "STARTTLS"], "220 go\r\n", "454 not now\r\n")}
LISTS = {"CAPA": "+OK\r\nTOP\r\nSTLS\r\n.\r\n", "EHLO mail.example.com": "250-x\r\n250 STARTTLS\r\n"}
LACKING = {"imap": "* OK [CAPABILITY IMAP4rev1 SASL-IR] hi\r\n", "pop3": "+OK hi\r\n",
           "managesieve": '"SASL" "PLAIN"\r\nOK "hi"\r\n', "submission": "220 hi\r\n"}


def upgrading(t):
    settings = {f"destination__legacy__protocol__{p}__tls": "starttls" for p in logins.ALL}
    return World(t, destination__legacy__tls_server_name="backend.test", server__host_down_threshold=0,
                 server__backend_connect_retries=2, **settings)


def before_go(server, protocol, *more):
    greeting, commands, _, _ = GO[protocol]
    server.stream.send(greeting)
    for command in commands:
        server.stream.expect(command + "\r\n")
        if command in LISTS:
            server.stream.send(LISTS[command])
    server.stream.send("".join(more))
    return server


@test(quick=True)
def test_an_upgrade_that_is_not_offered_or_refused_or_garbage_ends_without_a_credential_in_clear(t):
    w = upgrading(t)
    for protocol, _ in w.each():
        seen = []

        def refused(server, seen=seen, protocol=protocol):
            before_go(server, protocol, GO[protocol][3])
            seen.append(server.stream.rest())

        def lacking(server, seen=seen, protocol=protocol):
            server.stream.send(LACKING[protocol])
            if protocol == "pop3":
                server.stream.expect("CAPA\r\n").send("+OK\r\nTOP\r\n.\r\n")
            if protocol == "submission":
                server.stream.expect("EHLO mail.example.com\r\n").send("250 SIZE\r\n")
            seen.append(server.stream.rest())

        def no_tls(server, seen=seen, protocol=protocol):
            before_go(server, protocol, GO[protocol][2])
            seen.append(server.stream.exactly(5))  # a ClientHello
            assert seen[-1][0] == 0x16, seen
            server.stream.send("* BAD what is this?\r\n").finish()
            server.stream.rest()

        unavailable(w, protocol, refused, {"backend_starttls"})
        unavailable(w, protocol, lacking, {"backend_starttls"})
        assert seen == [b"", b""], (protocol, seen)
        w.nothing(protocol, 0.02)
        retries = w.conf["server.backend_connect_retries"]
        client = w.client(protocol).attempt()
        for _ in range(retries + 1):  # a failed handshake may be tried again
            no_tls(w.server(protocol))
        client.told_unavailable()


@test(quick=True)
def test_scenario_72_bytes_glued_to_the_go_ahead_end_it(t):
    w = upgrading(t)
    forged = {"imap": "a OK forged\r\n", "pop3": "+OK forged\r\n", "managesieve": 'OK "forged"\r\n', "submission": "250 forged\r\n"}
    for protocol, _ in w.each():
        seen = []

        def glued(server, protocol=protocol, seen=seen):
            before_go(server, protocol, GO[protocol][2], forged[protocol])
            seen.append(server.stream.rest())

        unavailable(w, protocol, glued, {"backend_starttls"})
        assert b"AUTH" not in seen[0], seen


@test(quick=True)
def test_a_backend_certificate_nobody_vouches_for_gets_no_credentials(t):
    settings = {f"destination__legacy__protocol__{p}__tls": "implicit" for p in logins.ALL}
    w = World(t, destination__legacy__tls_server_name="backend.test", server__host_down_threshold=0, **settings)
    pairs = [t.pki.leaf("backend.test", issuer=None), t.pki.leaf("other.test"), t.pki.leaf("backend.test", expired=True)]
    for protocol, _ in w.each():
        for pair in pairs:
            client = w.client(protocol).attempt()
            stream = w.legs[protocol].accept()
            try:
                tls = wire.TlsStream(stream, t.pki.server(pair), server_side=True).handshake()
                tls.send(client.speech.ready)
                assert tls.rest() == b"", "something was said to a backend that is not trusted"
            except (wire.ssl.SSLError, wire.Reset, AssertionError) as e:
                assert "something" not in str(e), e
            client.told_unavailable()
    assert set(w.reasons(12)) == {"backend_certificate"}
