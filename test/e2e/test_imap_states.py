# SPDX-License-Identifier: GPL-3.0-or-later
"""What imaptest looks for, in commands of our own: in every state of IMAP, and on a random way through it with two
connections at one mailbox, every answer is the same with and without Postern. The server is a real Dovecot."""
import random
import re

from harness import test
from mailtalk import Imap, edge
from servers import PASSWORD, DovecotServer

MESSAGE = ("From: {0}@example.org\r\nTo: all@example.org\r\nSubject: =?utf-8?q?n=C2=B0?= {0}\r\nMessage-ID: <{0}@x>\r\n"
           "Date: Sat, 01 Jan 2022 10:0{0}:00 +0000\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext {0}\r\n--b\r\n"
           "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--b--\r\n")

# Before a login; each on a connection of its own, since Dovecot hangs up at the third mistake.
STRANGER = ["NOOP", "CAPABILITY", "LOGOUT", "SELECT INBOX", 'LIST "" *', "FETCH 1 FLAGS", "UID FETCH 1 FLAGS", "EXPUNGE", "IDLE",
            "FROB", "LOGIN", "LOGIN alice", "LOGIN {{", "LOGIN ()", "AUTHENTICATE", "AUTHENTICATE NO-SUCH", "LOGIN nobody@example.org wrong",
            "AUTHENTICATE PLAIN AG5vYm9keQB3cm9uZw==", 'ID ("name" "x")', "ID NIL"]

AT_HOME = ["CAPABILITY", "NOOP", "NAMESPACE", 'ID ("name" "x")', "ENABLE CONDSTORE", "ENABLE NO-SUCH", 'LIST "" ""', 'LIST "" "*"', 'LIST "" "%"',
           'LIST (SUBSCRIBED) "" "*" RETURN (CHILDREN STATUS (MESSAGES))', 'LSUB "" "*"', "CREATE one", "CREATE one", "CREATE one/two",
           "CREATE one.two", "SUBSCRIBE one", "UNSUBSCRIBE none", "RENAME one uno", "RENAME none x", "DELETE none", "STATUS uno (MESSAGES UIDNEXT UNSEEN)",
           "STATUS none (MESSAGES)", "STATUS uno (FROB)", "SELECT none", "EXAMINE none", "FETCH 1 FLAGS", "EXPUNGE", "CLOSE", "UNSELECT", "FROB", "SELECT",
           "LOGIN a b", "AUTHENTICATE PLAIN", "STARTTLS", "GETQUOTAROOT INBOX", 'SELECT "INBOX" (FROB)']

SELECTED = ["NOOP", "CHECK", "FETCH 1:* FLAGS", "FETCH 1 (UID INTERNALDATE RFC822.SIZE)", "FETCH 1:2 ENVELOPE", "FETCH 1 BODYSTRUCTURE", "FETCH 1 BODY",
            "FETCH 1 BODY[]", "FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)]", "FETCH 1 BODY[1]", "FETCH 1 BODY[2]<0.4>", "FETCH 1 BINARY[2]",
            "FETCH 1 BODY[9]", "FETCH 99 FLAGS", "UID FETCH 99 FLAGS", "FETCH 0 FLAGS", "FETCH x FLAGS", "FETCH 1 FROB", "FETCH 1 BODY[", "FETCH 1:* FAST",
            "STORE 1 FLAGS (\\Deleted)", "STORE 2 +FLAGS ($Label keyword)", "STORE 2 -FLAGS (keyword)", "STORE 3 FLAGS.SILENT (\\Flagged)",
            "STORE 1 FLAGS (\\Recent)", "STORE 1 FLAGS (\\Frob)", "STORE 99 FLAGS ()", "SEARCH ALL", "SEARCH UNSEEN SUBJECT 2", "UID SEARCH DELETED",
            "SEARCH RETURN (MIN MAX COUNT) ALL", "SEARCH CHARSET FROB ALL", 'SEARCH CHARSET UTF-8 SUBJECT "n\u00b0"', "SEARCH", "SEARCH SINCE 1-Foo-2020",
            "SORT (REVERSE SUBJECT) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "COPY 1:2 uno", "COPY 99 uno", "COPY 1 none", "UID COPY 1 uno", "MOVE 3 uno",
            "EXPUNGE", "FETCH 1:* (UID FLAGS)", "UID EXPUNGE 1:*", "APPEND none {1+}\r\nx", "APPEND uno {0+}\r\n", "APPEND uno (\\Seen {1+}\r\nx",
            "SELECT uno", "FETCH 1:* (UID FLAGS)", "EXAMINE uno", "STORE 1 +FLAGS (\\Deleted)", "EXPUNGE", "CLOSE", "FETCH 1 FLAGS", "LOGOUT"]


def settled(text):
    """Without what differs from one run to the next: tags, times, and numbers made of them."""
    text = re.sub(r'\(TAG "a\d+"\)', "(TAG)", text)
    text = re.sub(r"\(\d+\.\d+ \+ \d+\.\d+( \+ \d+\.\d+)? secs\)", "(secs)", text)
    text = re.sub(r"(UIDVALIDITY|APPENDUID|COPYUID) \d+", r"\1 N", text)
    return re.sub(r"(\d\d-\w{3}-\d{4} \d\d:\d\d:\d\d [+-]\d{4})", "TIME", text)


class Ways:
    """A Dovecot with a mailbox for each way to it, and a Postern in front."""

    def __init__(self, t):
        self.t, self.dovecot = t, DovecotServer(t, ("one", "two"))
        ports = {"imap": self.dovecot.ports["imap", "plain-proxy"]}
        self.daemon = t.postern(edge(t, {"dovecot": (ports, "starttls", "proxy")}, protocols=("imap",)))

    def talk(self, through):
        if through:
            return Imap(self.t, self.daemon.port("imap-implicit"), "implicit")
        return Imap(self.t, self.dovecot.ports["imap", "implicit"], "implicit", name="localhost")

    def entered(self, through):
        talk = self.talk(through)
        accepted, words = talk.plain(("two" if through else "one") + "@example.org", PASSWORD)
        assert accepted, words
        return talk

    def same(self, tour):
        """The tour on both ways; what it returns are lists of (command, answer...)."""
        direct, through = tour(False), tour(True)
        for one, two in zip(direct, through, strict=True):
            assert list(map(settled, one)) == list(map(settled, two)), f"without Postern: {one}\nwith Postern: {two}"
        return len(direct)


def said(talk, text):
    lines, final = talk.command(text)
    return (text, *lines, final)


def append(talk, box, number):
    text = MESSAGE.format(number)
    return said(talk, f'APPEND {box} (\\Seen) "01-Jan-2022 10:00:00 +0000" {{{len(text.encode())}+}}\r\n{text}')


@test(limit=90, root=True, needs=("dovecot",))
def test_a_stranger_hears_the_same_verdicts(t):
    ways = Ways(t)
    for text in STRANGER:
        verdicts = []
        for through in (False, True):
            talk = ways.talk(through)
            verdicts.append(said(talk, text)[-1].split()[0])
            talk.close()
        assert verdicts[0] == verdicts[1], f"{text}: {verdicts[0]} without Postern, {verdicts[1]} with it"


@test(limit=90, root=True, needs=("dovecot",))
def test_every_command_has_the_same_answer_in_every_state(t):
    ways = Ways(t)

    def tour(through):
        talk = ways.entered(through)
        out = [said(talk, text) for text in AT_HOME]
        out += [append(talk, "INBOX", number) for number in range(1, 6)]
        out.append(said(talk, "SELECT INBOX"))
        out += [said(talk, text) for text in SELECTED]
        talk.stream.expect_eof()
        return out

    assert ways.same(tour) == len(AT_HOME) + len(SELECTED) + 6


@test(limit=120, root=True, needs=("dovecot",))
def test_a_random_way_with_two_connections_at_one_mailbox_is_the_same(t):
    ways = Ways(t)
    for seed in range(3):

        def tour(through, seed=seed):
            chance, out = random.Random(seed), []
            talks = [ways.entered(through), ways.entered(through)]
            for talk in talks:
                out.append(said(talk, "SELECT INBOX"))
            for step in range(120):
                talk = chance.choice(talks)
                number = chance.randint(1, 9)
                what = chance.choice(["append", f"FETCH {number} (UID FLAGS)", f"STORE {number} +FLAGS (\\Deleted)", f"STORE {number} FLAGS (\\Seen k{number})",
                                      "EXPUNGE", f"UID FETCH {number}:* FLAGS", "SEARCH ALL", f"COPY {number} INBOX", "NOOP", "CHECK",
                                      f"FETCH {number} BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "STATUS INBOX (MESSAGES UIDNEXT)", "FROB"])
                out.append((f"{step}",))
                out.append(append(talk, "INBOX", number) if what == "append" else said(talk, what))
                if chance.random() < 0.5:  # what the other one did is seen here
                    out.append(said(talks[0] if talk is talks[1] else talks[1], "NOOP"))
            for talk in talks:
                talk.quit()
            return out

        ways.same(tour)
