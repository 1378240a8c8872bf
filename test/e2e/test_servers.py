# SPDX-License-Identifier: GPL-3.0-or-later
"""Other servers than Dovecot behind Postern: Postfix and Exim for submission, Cyrus for IMAP and ManageSieve, Courier
for IMAP and POP3."""
import concurrent.futures
import os
import re
import subprocess
import tomllib

import wire
from harness import Skip, program, test
from mailtalk import TALKS, Submission, edge
from peers import Postfix
from peers_beside import Courier, Cyrus, Exim
from servers import PASSWORD, DovecotServer

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy")
SOURCES = ("127.0.0.61", "127.0.0.62", "127.0.0.63")


def refused_then_accepted(talk, user, password=PASSWORD):
    """A wrong password is the server's to refuse, and the client may try again."""
    accepted, words = talk.plain(user, "wrong")
    assert not accepted and "backend unavailable" not in words, words
    accepted, words = talk.plain(user, password)
    assert accepted, words


@test(limit=90, root=True, needs=("postfix", "dovecot"))
def test_postfix_takes_submissions_and_knows_the_client_by_proxy_and_by_xclient(t):
    dovecot = DovecotServer(t)
    pair = t.pki.leaf("backend.test", key=2)
    ports = {"proxy": t.port(), "xclient": t.port(), "none": t.port(), "implicit": t.port()}
    header = "-o smtpd_upstream_proxy_protocol=haproxy "
    postfix = Postfix(t, {ports["proxy"]: header, ports["xclient"]: "-o smtpd_authorized_xclient_hosts=127.0.0.0/8", ports["none"]: "",
                          ports["implicit"]: header + "-o smtpd_tls_wrappermode=yes"},
                      smtpd_sasl_auth_enable="yes", smtpd_sasl_type="dovecot", smtpd_sasl_path=f"{dovecot.folder}/postfix-auth",
                      smtpd_tls_security_level="may", smtpd_tls_cert_file=pair.chain, smtpd_tls_key_file=pair.key, mynetworks="192.0.2.0/24",
                      smtpd_error_sleep_time="0", smtpd_recipient_restrictions="permit_sasl_authenticated, reject")
    ways = {}
    for name, port in ports.items():
        forwarding = name if name in ("xclient", "none") else "proxy"
        for tls in (("implicit",) if name == "implicit" else ("plain", "starttls")):
            ways[f"{name}-{tls}"] = ({"submission": port}, tls, forwarding, {"source_ips": ["127.0.0.77"]})
    conf = edge(t, ways, protocols=("submission",))
    daemon = t.postern(conf)
    t.file("accounts", "")
    for number, (name, way) in enumerate(ways.items(), 1):
        conf["routing.default_destination"] = name
        daemon.reload(conf)
        source = f"127.0.0.{100 + number}"
        talk = Submission(t, daemon.port("submission-starttls"), "starttls", source=source)
        refused_then_accepted(talk, "alice@example.org")
        talk.mail("alice@example.org", "bob@example.test", f"Subject: by {name}\r\n\r\nhello\r\n".encode())
        talk.quit()
        mail = t.await_that(lambda n=name: [m for m in postfix.messages() if f"Subject: by {n}\n" in m], 20, 0.05, "delivery")[0]
        wanted = "127.0.0.77" if way[2] == "none" else source
        assert f"[{wanted}]" in mail, (name, mail[:600])
        postfix.await_log(f"client=unknown[{wanted}], sasl_method=PLAIN, sasl_username=alice@example.org")
        if way[2] == "xclient":
            assert re.search(r"Received: from client\.test", mail), mail[:400]  # the name the client gave
    t.await_that(lambda: postfix.log().count("SASL PLAIN authentication failed") == len(ways), about="the wrong passwords in Postfix' log")
    assert daemon.metric("postern_auth_total", result="ok") == daemon.metric("postern_auth_total", result="rejected") == len(ways)


@test(limit=60, root=True, needs=("unshare",))
def test_exim_takes_submissions_and_knows_the_client_by_proxy(t):
    ports = {"proxy": t.port(), "none": t.port()}
    exim = Exim(t, {ports["proxy"]: True, ports["none"]: False})
    for forwarding, port in ports.items():
        for tls in ("plain", "starttls"):
            daemon = t.postern(edge(t, {"exim": ({"submission": port}, tls, forwarding, {"source_ips": ["127.0.0.77"]})}, protocols=("submission",)))
            source = f"127.0.1.{port % 250}"
            talk = Submission(t, daemon.port("submission-implicit"), "implicit", source=source)
            refused_then_accepted(talk, "alice@example.org")
            talk.mail("alice@example.org", "bob@example.test", b"Subject: x\r\n\r\nhello\r\n")
            talk.quit()
            wanted = source if forwarding == "proxy" else "127.0.0.77"
            letter = "esmtpsa" if tls == "starttls" else "esmtpa"
            t.await_that(lambda w=wanted, p=letter: re.search(rf"<= alice@example\.org H=\S*(\(\S+\) )?\[{re.escape(w)}\].* P={p} .*A=plain:alice@example\.org",
                                                              exim.log()), 10, 0.05, "Exim's line: " + exim.log()[-1500:])
    t.await_that(lambda: exim.log().count("plain authenticator failed") == 4, about="the wrong passwords in Exim's log")


@test(limit=60, root=True, needs=("unshare",))
def test_cyrus_serves_imap_and_managesieve_and_hears_of_the_client_by_id(t):
    cyrus = Cyrus(t)
    plain = {"imap": cyrus.ports["imap"], "managesieve": cyrus.ports["managesieve"]}
    legs = {"plain": plain, "starttls": plain, "implicit": {"imap": cyrus.ports["imaps"]}}
    for tls, ports in legs.items():
        daemon = t.postern(edge(t, {"cyrus": (ports, tls, "xclient", {"tls_pinned_cert_sha256": cyrus.pair.sha256})}, protocols=tuple(ports)))
        for protocol in ports:
            talk = TALKS[protocol](t, daemon.port(f"{protocol}-starttls"), "starttls", source="127.0.0.61")
            refused_then_accepted(talk, "alice")
            talk.alive()
            if protocol == "imap":
                message = "Subject: x\r\n\r\nhello\r\n"
                talk.ok(f"APPEND INBOX {{{len(message)}+}}\r\n{message}")
                assert any(line.endswith("EXISTS") for line in talk.ok("SELECT INBOX"))
            else:
                talk.ok('PUTSCRIPT "one" {7+}\r\nkeep;\r\n')
                assert '"one"' in " ".join(talk.ok("LISTSCRIPTS"))
            talk.quit()
        assert {r["reason"] for r in daemon.closings()} <= {"eof"}, daemon.closings()
    t.await_that(lambda: cyrus.syslog.text().count('"x-originating-ip" "127.0.0.61"') == 6, about="Cyrus' log")
    log = cyrus.syslog.text()
    assert log.count("badlogin") == 5, log[-4000:]
    assert log.count('"x-originating-ip" "127.0.0.61"') == 6, log[-4000:]


@test(limit=60, root=True, needs=("unshare",))
def test_courier_serves_imap_and_pop3_without_an_initial_response(t):
    courier = Courier(t)
    daemons = {tls: t.postern(edge(t, {"courier": (courier.ports, tls, "none", {"source_ips": ["127.0.0.77"]})}, protocols=("imap", "pop3")))
               for tls in ("plain", "starttls")}

    def one(tls, protocol):
        talk = TALKS[protocol](t, daemons[tls].port(f"{protocol}-implicit"), "implicit", source="127.0.0.61")
        refused_then_accepted(talk, "alice@example.org")
        talk.alive()
        talk.quit()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:  # Courier lets a wrong password wait for five seconds
        list(pool.map(one, ("plain", "plain", "starttls", "starttls"), ("imap", "pop3") * 2))
    for daemon in daemons.values():
        daemon.closing(2)
        assert {r["reason"] for r in daemon.closings()} == {"eof"}, daemon.closings()
    t.await_that(lambda: courier.log().count("INFO: LOGIN, ") == 4, about="four logins: " + courier.log()[-2000:])
    t.await_that(lambda: courier.log().count("LOGIN FAILED") >= 2, about="the wrong passwords in Courier's log")
    assert "127.0.0.77" in courier.log(), courier.log()[-2000:]


# --- what the guides and samples say these servers can do ---------------------------------------------


def capabilities(name):
    """The tables of capabilities of a sample, or of the configuration in a guide."""
    with open(f"{DEPLOY}/{name}", encoding="utf-8") as f:
        text = f.read()
    if name.endswith(".md"):
        text = re.search(r"^```toml\n(.*?)^```", text, re.M | re.S)[1]
    return tomllib.loads(text)["capabilities"]


def told(port, *says, end):
    """What a server has said by the line that begins with `end`."""
    stream, out = wire.connect(port), []
    for text in says:
        stream.send(text)
    while not out or not re.match(end, out[-1]):
        out.append(stream.line())
    stream.close()
    return out


def imap_words(port):
    out = told(port, "a CAPABILITY\r\n", end="a OK")
    return {w for w in next(line for line in out if line.startswith("* CAPABILITY ")).split()[2:]
            if not w.startswith("AUTH=") and w not in ("STARTTLS", "LOGINDISABLED")}


def sieve_words(port):
    block = told(port, end="OK")
    assert '"NOTIFY" "mailto"' in block, block
    return set(re.search(r'^"SIEVE" "(.*)"$', "\n".join(block), re.M)[1].split())


def ehlo_words(port):
    return {line[4:] for line in told(port, "EHLO x\r\n", end="250 ")[2:]
            if not line[4:].startswith(("AUTH ", "AUTH=", "XCLIENT", "STARTTLS"))}


@test(limit=60, root=True, needs=("postfix", "dovecot"))
def test_the_lists_for_dovecot_and_postfix_are_what_they_say_themselves(t):
    version = subprocess.run([program("dovecot"), "--version"], capture_output=True, text=True, check=True).stdout
    if not version.startswith("2.3."):
        raise Skip(f"the lists are those of Dovecot 2.3, not of {version.strip()}")
    dovecot, smtp = DovecotServer(t), t.port()
    pair = t.pki.leaf("backend.test", key=2)
    Postfix(t, {smtp: ""}, smtpd_tls_security_level="may", smtpd_tls_cert_file=pair.chain, smtpd_tls_key_file=pair.key)
    guide, sample = capabilities("guides/dovecot-postfix.md"), capabilities("samples/dovecot-migration.toml")
    assert set(guide["imap"]["advertise"]) == set(sample["imap"]["advertise"]) == imap_words(dovecot.ports["imap", "plain"])
    assert set(guide["managesieve"]["sieve"]) == set(sample["managesieve"]["sieve"]) == sieve_words(dovecot.ports["managesieve", "plain"])
    own = {"SIZE" if w.startswith("SIZE ") else w for w in ehlo_words(dovecot.ports["submission", "plain"])}  # that of this test
    assert set(sample["submission"]["ehlo"]) == own, own
    assert set(guide["submission"]["ehlo"]) == ehlo_words(smtp)


@test(limit=60, root=True, needs=("unshare",))
def test_the_lists_for_cyrus_are_what_it_says_itself(t):
    cyrus = Cyrus(t)
    if "Cyrus IMAP 3.6." not in told(cyrus.ports["imap"], end=r"\* OK")[0]:
        raise Skip("the lists are those of Cyrus IMAP 3.6")
    sample = capabilities("samples/cyrus.toml")
    assert set(sample["imap"]["advertise"]) == imap_words(cyrus.ports["imap"])
    assert set(sample["managesieve"]["sieve"]) == sieve_words(cyrus.ports["managesieve"])
