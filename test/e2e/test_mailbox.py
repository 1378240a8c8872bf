# SPDX-License-Identifier: GPL-3.0-or-later
"""What sessions behind a login carry: odd names, literals, large messages and crowds, byte for byte as without Postern."""
import concurrent.futures
import hashlib
import random
import re
import time

from harness import test
from mailtalk import Imap, ManageSieve, Pop3, Submission, edge
from servers import PASSWORD, PROTOCOLS, DovecotServer

LARGE = 50 << 20


def world(t, users=("alice", "bob"), leg="starttls", **more):
    dovecot = DovecotServer(t, users, **more)
    ports = {p: dovecot.ports[p, "plain-proxy"] for p in PROTOCOLS}
    return dovecot, t.postern(edge(t, {"dovecot": (ports, leg, "proxy")}))


def entered(talk, user):
    accepted, words = talk.plain(f"{user}@example.org", PASSWORD)
    assert accepted, words
    return talk


def both(t, dovecot, daemon, kind, way="implicit"):
    """The same conversation directly as alice and through Postern as bob."""
    return (entered(kind(t, dovecot.ports[kind.protocol, way], way, name="localhost"), "alice"),
            entered(kind(t, daemon.port(f"{kind.protocol}-{way}"), way), "bob"))


def settled(text):
    """Without what differs from one run to the next: times, numbers made of them, names of the two users."""
    text = re.sub(r"\(\d+\.\d+ \+ \d+\.\d+( \+ \d+\.\d+)? secs\)", "(secs)", text)
    text = re.sub(r"(UIDVALIDITY|APPENDUID|COPYUID) \d+", r"\1 N", text)
    return re.sub(r"\balice\b|\bbob\b", "user", text)


ODD = ['"Entw&APw-rfe"', '"with space"', '"quote\\"and\\\\slash"', '"&ZeVnLIqe-/&U,BTFw-"', '"a&-b"', '"brackets [x] {1} (2) %"',
       '"' + "long " * 40 + '"', "{9}\r\nliteral x", '"*"']


@test(limit=60, root=True, needs=("dovecot",), quick=True)
def test_odd_folder_names_literals_and_pipelines_look_the_same_on_both_ways(t):
    dovecot, daemon = world(t)

    def tour(imap):
        out = []

        def say(text):
            lines, final = imap.command(text)
            out.append((text, *lines, final))

        for name in ODD:
            if name.startswith("{"):
                size, _, rest = name.partition("\r\n")
                Imap.count += 1
                imap.send(f"a{Imap.count} CREATE {size}")
                out.append(imap.line())
                imap.send(rest)
                out.append(imap.until(f"a{Imap.count}"))
                say(f"CREATE {{9+}}\r\n{rest}")  # again, without waiting: it exists
            else:
                say(f"CREATE {name}")
            say(f'STATUS {name} (MESSAGES UIDNEXT)' if not name.startswith("{") else 'STATUS "literal x" (MESSAGES)')
        say('LIST "" "*"')
        say('LIST "" {1+}\r\n%')
        say('ENABLE UTF8=ACCEPT')
        say('SEARCH CHARSET UTF-8 SUBJECT {5+}\r\näöü'.encode().decode("latin-1"))
        body = bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"") * 3
        head = b"Subject: =?utf-8?q?=C3=A4?= \r\nX-Odd: " + "ä€🜁".encode() + b"\r\n\r\n"
        for mailbox in ('INBOX', '"with space"'):
            message = head + body + b"\r\n" * 5
            Imap.count += 1
            imap.send(f"a{Imap.count} APPEND {mailbox} (\\Seen $odd) \"01-Jan-2024 12:00:00 +0000\" {{{len(message)}}}")
            out.append(imap.line())
            imap.send(message)
            out.append(imap.until(f"a{Imap.count}"))
        say("SELECT INBOX")
        for part in ("BODY.PEEK[]", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[TEXT]<10.100>", "FLAGS"):
            Imap.count += 1
            imap.send(f"a{Imap.count} FETCH 1 ({part})")
            got = b""
            while not re.search(rb"^a%d .*\r\n" % Imap.count, got, re.M):
                got += imap.stream.recv()
            out.append(got.replace(b"a%d " % Imap.count, b"TAG "))
        say("STORE 1 +FLAGS (\\Deleted)")
        say("EXPUNGE")
        imap.stream.send("".join(f"p{n} NOOP\r\n" for n in range(500)))  # far ahead of the answers
        out += [line.split(" (")[0] for line in (imap.line() for _ in range(500))]
        say("BOGUS command")
        say("LOGOUT")
        imap.stream.expect_eof()
        return [settled(str(part)) for part in out]

    direct, through = (tour(imap) for imap in both(t, dovecot, daemon, Imap))
    for one, other in zip(direct, through):
        # Tags count on from the first tour to the second.
        assert re.sub(r"\ba\d+\b", "tag", one) == re.sub(r"\ba\d+\b", "tag", other), f"directly {one[:900]}\nthrough  {other[:900]}"
    assert len(direct) == len(through) > 520
    assert daemon.closing()["reason"] == "eof"


def large_message():
    source = random.Random(7)
    lines = [b"From: <a@example.org>\r\nSubject: large\r\n\r\n"]
    block = b"".join(b"".join(b"%c" % source.randrange(33, 127) for _ in range(source.randrange(0, 78))) + b"\r\n" for _ in range(4000)) + b".\r\n..x\r\n"
    while sum(map(len, lines)) < LARGE:
        lines.append(b"%d\r\n" % len(lines) + block)
    return b"".join(lines)


def digest(data):
    return hashlib.sha256(data).hexdigest()


@test(limit=180, root=True, needs=("dovecot",))
def test_fifty_megabytes_travel_unchanged_over_every_protocol_that_carries_mail(t):
    dovecot, daemon = world(t)
    message = large_message()
    before = daemon.resident()
    for way in ("plain", "implicit"):
        imap = entered(Imap(t, daemon.port(f"imap-{way}"), way), "bob")
        imap.send(f"a APPEND INBOX {{{len(message)}}}")
        assert imap.line().startswith("+")
        imap.stream.send(message)
        imap.send(b"")
        assert imap.until("a")[1].startswith("OK")
        imap.ok("SELECT INBOX")
        imap.send("b UID FETCH * (BODY.PEEK[])")
        size = int(re.search(r"\{(\d+)\}$", imap.line())[1])
        assert digest(imap.stream.exactly(size, 60)) == digest(message)
        assert imap.until("b")[1].startswith("OK")
        imap.quit()
    pop = entered(Pop3(t, daemon.port("pop3-implicit"), "implicit"), "bob")
    size = int(pop.ok("LIST 1").split()[2])
    pop.ok("RETR 1")
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    assert digest(pop.stream.exactly(len(stuffed), 60)) == digest(stuffed) and size == len(message)
    assert pop.line() == "."
    pop.quit()
    submission = entered(Submission(t, daemon.port("submission-implicit"), "implicit"), "bob")
    submission.mail("bob@example.org", "alice@example.org", stuffed.removesuffix(b"\r\n"))
    submission.quit()
    body = dovecot.relay.messages[0][2]
    assert digest(body[body.index(b"From: <a@"):]) == digest(message)
    sieve = entered(ManageSieve(t, daemon.port("managesieve-starttls"), "starttls"), "bob")
    script = "# " + "x" * 900_000 + "\r\nkeep;\r\n"
    sieve.ok(f'PUTSCRIPT "large" {{{len(script)}+}}\r\n{script}')
    assert sieve.ok('GETSCRIPT "large"')[0] == script
    sieve.quit()
    daemon.closing(5)
    grown = daemon.resident() - before
    assert grown < 24 << 20 or t.sanitized, f"{grown >> 20} MiB more for messages of {LARGE >> 20} MiB"


@test(limit=90, root=True, needs=("dovecot",))
def test_a_crowd_like_thunderbird_idles_and_hears_of_every_delivery(t):
    users = [f"user{n}" for n in range(12)]
    dovecot, daemon = world(t, users, crowd=True)

    def person(user):
        """Five connections as Thunderbird holds them: one a folder, all idle; another program beside them."""
        folders = ["INBOX"] + [f"Folder {n}" for n in range(4)]
        first = entered(Imap(t, daemon.port("imap-implicit"), "implicit"), user)
        first.ok('ID ("name" "Thunderbird" "version" "115.0")')
        first.ok('LIST (SUBSCRIBED) "" "*" RETURN (SPECIAL-USE)')
        for name in folders[1:]:
            first.ok(f'CREATE "{name}"')
            first.ok(f'SUBSCRIBE "{name}"')
        lines = [first] + [entered(Imap(t, daemon.port("imap-starttls"), "starttls"), user) for _ in folders[1:]]
        for line, name in zip(lines, folders):
            line.ok(f'SELECT "{name}"')
            line.send("i IDLE")
            assert line.line().startswith("+ idling")
        other = entered(Imap(t, daemon.port("imap-implicit"), "implicit"), user)
        for round_ in range(3):
            for line, name in zip(lines, folders):
                message = f"Subject: {user} {name} {round_}\r\n\r\nhello\r\n"
                other.ok(f'APPEND "{name}" {{{len(message)}+}}\r\n{message}')
                while not (said := line.line()).endswith(" EXISTS"):
                    assert said.startswith("* "), said
                assert said == f"* {round_ + 1} EXISTS", (said, name)
        for line in lines:
            line.send("DONE")
            assert line.until("i")[1].startswith("OK")
            line.quit()
        other.quit()
        return len(lines) + 1

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(users)) as pool:
        count = sum(pool.map(person, users))
    assert count == 72
    daemon.closing(count)
    assert {r["reason"] for r in daemon.closings()} == {"eof"}
    assert len(dovecot.await_logins(count, protocol="imap")) == count
    print(f"{count} sessions in {time.monotonic() - started:.1f} s")
