# SPDX-License-Identifier: GPL-3.0-or-later
"""More bytes than fit around a login: ahead of the backend, behind its yes, behind its no, and toward a client that
is late to read. Nothing is lost, mixed or piled up (protocols.md 1.3 and 1.9)."""
import threading
import time

import logins
import wire
from harness import test
from logins import World, end, lines


def pump(stream, data):
    """Sends in the background; the thread ends when all is out."""
    thread = threading.Thread(target=stream.send, args=(data,), daemon=True)
    thread.start()
    return thread


def numbered(size):
    return b"".join(b"%08d pipelined\r\n" % i for i in range(size // 20))


@test(quick=True, limit=40)
def test_megabytes_ahead_of_the_backend_wait_outside_and_arrive_in_order(t):
    early = numbered(12_000_000)
    for tls in ("plain", "implicit"):
        w = World(t, tls=tls, protocols=("imap", "submission"))
        for protocol, speech in w.each():
            client = (w.client if tls == "plain" else w.tls_client)(protocol)
            before = w.daemon.resident()
            client.attempt()
            sender = pump(client.stream, early)
            server = w.server(protocol).greet().taken()
            time.sleep(0.3)
            grown = w.daemon.resident() - before
            assert grown < 4 << 20, f"{grown >> 10} KiB while the backend thinks"
            assert sender.is_alive(), "Postern must not read it all"
            server.accept()
            server.stream.expect(early)
            sender.join()
            client.hear(speech.accept)
            end(client, server)
        w.reset_legs()


@test(quick=True)
def test_what_waited_behind_a_rejected_login_is_read_on(t):
    """Ninety kilobytes: more than is read ahead, so reading must begin again."""
    w = World(t, protocols=("submission", "managesieve"))
    for protocol, speech in w.each():
        filler = "y" * 92
        noop = f"NOOP {filler}\r\n" if speech is logins.SUBMISSION else f'NOOP "{filler}"\r\n'
        answer = "250 2.0.0 OK\r\n" if speech is logins.SUBMISSION else f'OK (TAG {{{len(filler)}}}\r\n{filler}) "Done"\r\n'
        client = w.client(protocol)
        pump(client.stream, client.words(password="wrong") + "\r\n" + noop * 900 + client.words() + "\r\nbehind\r\n")
        w.server(protocol).greet().taken(password="wrong").reject()
        client.stream.expect(speech.reject + answer * 900)
        server = w.server(protocol).greet().taken().accept()
        server.stream.expect("behind\r\n")
        client.hear(speech.accept)
        end(client, server)


@test(quick=True, limit=40)
def test_megabytes_behind_the_backends_yes_arrive_whole_at_a_slow_reader(t):
    w = World(t)
    late = numbered(6_000_000)
    for protocol, speech in w.each():
        client = logins.Client(wire.connect(w.daemon.port(protocol), receive_buffer=8192), speech).attempt()
        server = w.server(protocol).greet().taken()
        before = w.daemon.resident()
        sender = pump(server.stream, speech.accept.encode() + late)
        time.sleep(0.2)
        assert w.daemon.resident() - before < 4 << 20
        client.stream.expect(speech.accept.encode() + late)
        sender.join()
        end(client, server)


@test(quick=True)
def test_a_client_late_to_read_gets_the_answers_and_the_login_in_order(t):
    w = World(t, each__socket={"send_buffer_size": 4096})
    asked = {"imap": "c CAPABILITY\r\n", "pop3": "CAPA\r\n", "managesieve": "CAPABILITY\r\n", "submission": "EHLO me\r\n"}
    for protocol, speech in w.each():
        client = w.client(protocol).say(asked[protocol].strip())
        one = client.stream.line() + "\r\n"
        while not one.endswith(("completed.\r\n", "\r\n.\r\n", 'ready"\r\n')) and not one.split("\r\n")[-2].startswith("250 "):
            one += client.stream.line() + "\r\n"
        client.close()
        client = logins.Client(wire.connect(w.daemon.port(protocol), receive_buffer=4096), speech)
        client.stream.send(asked[protocol] * 300 + client.words(password="wrong") + "\r\n" + asked[protocol] * 300 +
                           client.words() + "\r\nlast\r\n")
        time.sleep(0.2)
        w.nothing(protocol, 0.05)
        reader = threading.Thread(target=client.stream.expect, args=(one * 300 + speech.reject + one * 300 + speech.accept,),
                                  daemon=True)
        reader.start()
        w.server(protocol).greet().taken(password="wrong").reject()
        server = w.server(protocol).greet().taken().accept(b"residue\r\n")
        server.stream.expect("last\r\n")
        reader.join()
        client.stream.expect("residue\r\n")
        end(client, server)


@test(quick=True)
def test_the_last_words_reach_a_client_that_reads_late(t):
    w = World(t, each__socket={"send_buffer_size": 4096}, server__backend_connect_retries=0)
    for protocol, speech in w.each():
        client = logins.Client(wire.connect(w.daemon.port(protocol), receive_buffer=4096), speech)
        client.stream.send((speech.noop[0] + "\r\n") * 900 + client.words() + "\r\n")
        reader = []
        thread = threading.Thread(target=lambda c=client, r=reader: r.append(c.stream.rest()), daemon=True)
        time.sleep(0.05)
        thread.start()
        w.server(protocol).close()
        thread.join()
        wanted = (lines(speech.noop[1]) * 900 + lines(speech.said_unavailable)).encode()
        assert reader == [wanted], (protocol, len(reader and reader[0]), len(wanted))


@test(quick=True)
def test_a_tls_client_may_end_its_side_right_behind_a_login(t):
    w = World(t, tls="implicit")
    for protocol, speech in w.each():
        client = w.tls_client(protocol)
        client.stream.send(client.words() + "\r\nlast words\r\n")
        client.stream.finish()
        server = w.server(protocol).greet().taken()
        server.stream.silent(0.05)
        server.accept()
        server.stream.expect("last words\r\n").expect_eof().send("an answer\r\n").finish()
        client.stream.expect(speech.accept + "an answer\r\n")
        client.stream.expect_notified_eof()
    assert set(w.reasons(4)) == {"eof"}


@test(limit=90, alone=True, plain=True)
def test_sixty_kilobytes_a_byte_at_a_time_cost_no_more_than_their_length(t):
    """Backends and clients alike: whatever is read again with every byte would cost seconds."""
    w = World(t, server__backend_timeout="60s", server__host_down_threshold=0)
    size = 60_000
    long = {"imap": ("a LOGIN alice@example.com ", 'a LOGIN alice@example.com "', "a LOGIN alice@example.com {60000+}\r\n"),
            "managesieve": ('AUTHENTICATE "PLAIN" "', "AUTHENTICATE {5+}\r\nPLAIN {60000+}\r\n"),
            "pop3": ("AUTH PLAIN ",), "submission": ("AUTH PLAIN ", "NOOP ")}

    def drip(stream, begin):
        """The processor time the daemon needs beyond what a byte a segment costs by itself."""
        stream.send(begin)
        time.sleep(0.05)
        before = w.daemon.cpu_seconds()
        for _ in range(size):
            stream.sock.send(b"A")
        time.sleep(0.05)
        return w.daemon.cpu_seconds() - before

    spent = {}
    for protocol, speech in w.each():
        for begin in long[protocol]:
            client = w.client(protocol)
            spent[begin] = drip(client.stream, begin)
            client.close()
        client = w.client(protocol).attempt()
        server = w.server(protocol)
        spent[f"greeting of {protocol}"] = drip(server.stream, speech.ready[:5])
        client.close()
        client = w.client(protocol).attempt()
        server = w.server(protocol).greet().taken()
        spent[f"answer of {protocol}"] = drip(server.stream, speech.accept[:3])
        client.close()
    slow = {begin: seconds for begin, seconds in spent.items() if seconds > 0.7}
    assert not slow, (slow, spent)
