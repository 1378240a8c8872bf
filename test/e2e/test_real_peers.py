# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail that really travels: Postfix, Dovecot, HAProxy, aiosmtpd and swaks on both sides of Postern."""
import json
import re
import smtplib
import socket
import ssl
import subprocess
import time

import wire
from harness import program, test
from peers import AioSmtpd, Dovecot, HaProxy, Postfix, SmtpSink, listens

HAPROXY = "-o smtpd_upstream_proxy_protocol=haproxy"
NAME = "mail.example.com"


def front(t, port, protocol="smtp", **more):
    """A base configuration whose backend wants PROXY."""
    conf = t.base(**{protocol: port}, **more)
    conf["destination.relay.forwarding"] = "proxy"
    return conf


def message(subject, body="hello\r\n.\r\nafter a lone dot\r\n"):
    return f"From: <a@sender.test>\r\nTo: <b@example.test>\r\nSubject: {subject}\r\n\r\n{body}"


class Introduced(smtplib.SMTP):
    """A client that sends a PROXY header first, from an address of its own choice."""

    def __init__(self, *args, header=b"", **more):
        self.header = header
        super().__init__(*args, **more)

    def _get_socket(self, *args):
        sock = super()._get_socket(*args)
        sock.sendall(self.header)
        return sock


@test(limit=60, root=True, needs=("postfix",))
def test_postfix_behind_postern_sees_the_true_client_whoever_introduced_it(t):
    port = t.port()
    postfix = Postfix(t, {port: HAPROXY})
    conf = front(t, port)
    conf["listener.smtp"].update(proxy_protocol="optional", proxy_trusted=["127.0.0.1"])
    daemon = t.postern(conf)
    # An untrusted client is itself; a trusted proxy speaks for others, in either version and family.
    for address, header, source in (("127.0.0.55", b"", "127.0.0.55"),
                                    ("203.0.113.9", wire.v1("203.0.113.9"), "127.0.0.1"),
                                    ("198.51.100.77", wire.v2("198.51.100.77", tlvs=wire.tlv(wire.NOOP, b"x")), "127.0.0.1"),
                                    ("2001:db8::9", wire.v2("2001:db8::9", "2001:db8::1"), "127.0.0.1")):
        with Introduced("127.0.0.1", daemon.port("smtp"), local_hostname="client.test", timeout=t.scaled(10),
                        source_address=(source, 0), header=header) as client:
            client.sendmail("a@sender.test", ["b@example.test"], message(f"from {address}"))
        postfix.await_log(f"connect from unknown[{address}]")
        mails = t.await_that(lambda a=address: [m for m in postfix.messages() if f"Subject: from {a}" in m], 20, 0.05, "delivery")
        assert re.search(rf"Received: from client\.test \(unknown \[(IPv6:)?{re.escape(address)}\]\)", mails[0]), mails[0][:600]
        assert ".\nafter a lone dot" in mails[0], "the body"
    assert "connect from unknown[127.0.0.1]" not in postfix.log()


@test(limit=60, root=True, needs=("postfix",))
def test_tls_in_front_of_postfix_and_starttls_through_an_opaque_listener(t):
    port, pair = t.port(), t.pki.leaf(NAME, key=1)
    postfix = Postfix(t, {port: HAPROXY}, smtpd_tls_security_level="may", smtpd_tls_cert_file=pair.chain,
                      smtpd_tls_key_file=pair.key, smtpd_tls_received_header="yes")
    conf = front(t, port, tls=True)
    daemon = t.postern(conf)
    context = ssl.create_default_context(cafile=t.pki.ca)
    with socket.create_connection(("127.0.0.1", daemon.port("smtp")), 10) as raw:
        client = smtplib.SMTP(local_hostname="client.test", timeout=t.scaled(10))
        client.sock = context.wrap_socket(raw, server_hostname=NAME)
        assert client.getreply()[0] == 220
        client.sendmail("a@sender.test", ["b@example.test"], message("inside implicit TLS"))
        assert client.docmd("QUIT")[0] == 221 and client.sock.recv(1) == b""  # quit() would not wait: that may be a reset
        client.close()
    plain = t.base(port)
    plain["destination.relay.forwarding"] = "proxy"
    opaque = t.postern(plain)
    with smtplib.SMTP("127.0.0.1", opaque.port("smtp"), local_hostname="client.test", timeout=t.scaled(10)) as client:
        client._host = NAME  # the name to expect in Postfix's own certificate
        assert client.starttls(context=context)[0] == 220
        client.sendmail("a@sender.test", ["b@example.test"], message("inside STARTTLS of Postfix"))
    mails = "\n".join(postfix.await_messages(2))
    assert "Subject: inside implicit TLS" in mails and "Subject: inside STARTTLS of Postfix" in mails
    assert mails.count("(using TLSv1.3") == 1, "only the second conversation was encrypted by Postfix"
    records = [daemon.closing(), opaque.closing()]
    assert [r["reason"] for r in records] == ["eof", "eof"], records
    assert records[0]["tls"] == "TLSv1.3" and "tls" not in records[1]


@test(limit=60, root=True, needs=("postfix",))
def test_postfix_as_the_client_verifies_and_delivers_through_postern(t):
    inner, entry = t.port(), t.port()
    receiver = Postfix(t, {inner: HAPROXY}, name="receiver")
    daemon = t.postern(front(t, inner, tls=True))
    sender = Postfix(t, {entry: ""}, name="sender", virtual_mailbox_domains="", relayhost=f"[127.0.0.1]:{daemon.port('smtp')}",
                     smtp_tls_wrappermode="yes", smtp_tls_security_level="secure", smtp_tls_secure_cert_match=NAME,
                     smtp_tls_CAfile=t.pki.ca, smtp_tls_loglevel="1", smtp_bind_address="127.0.0.66")
    with smtplib.SMTP("127.0.0.1", entry, local_hostname="client.test", timeout=t.scaled(10)) as client:
        for number in range(3):
            client.sendmail("a@sender.test", ["b@example.test"], message(f"relayed {number}"))
    receiver.await_messages(3)
    sender.await_log("status=sent")
    sender.await_log("Verified TLS connection established to 127.0.0.1")
    receiver.await_log("connect from unknown[127.0.0.66]")
    assert "status=deferred" not in sender.log() and "status=bounced" not in sender.log()


@test(limit=120, root=True, needs=("postfix", "smtp-source", "smtp-sink"))
def test_five_hundred_messages_over_twenty_connections_are_all_delivered(t):
    port, count = t.port(), 100 if t.sanitized else 500
    sink = SmtpSink(t, port)
    daemon = t.postern(t.base(port))
    done = subprocess.run([program("smtp-source"), "-s", "20", "-l", "4096", "-m", str(count), "-f", "a@sender.test", "-t",
                           "b@example.test", f"127.0.0.1:{daemon.port('smtp')}"], capture_output=True, text=True,
                          timeout=t.scaled(60), check=False)
    assert done.returncode == 0, done.stderr
    t.await_that(lambda: sink.count() == count, 20, 0.05, f"{count} messages in the sink")
    daemon.closing(count, timeout=10)
    # smtp-source leaves by a reset, to keep clear of TIME_WAIT; nothing else may have gone wrong.
    ends = {(r["reason"], r.get("fault")) for r in daemon.closings()}
    assert ends <= {("eof", None), ("error", "client_reset")}, ends
    relayed = sum(int(r["bytes_to_backend"]) for r in daemon.closings())
    assert relayed > count * 4096


@test(limit=120, root=True, needs=("postfix", "smtp-source"))
def test_postfix_takes_a_mass_of_mail_with_headers_and_loses_none(t):
    port, count = t.port(), 60 if t.sanitized else 200
    postfix = Postfix(t, {port: HAPROXY})
    daemon = t.postern(front(t, port))
    done = subprocess.run([program("smtp-source"), "-s", "20", "-d", "-l", "2000", "-m", str(count), "-f", "a@sender.test",
                           "-t", "b@example.test", f"127.0.0.1:{daemon.port('smtp')}"], capture_output=True, text=True,
                          timeout=t.scaled(60), check=False)
    assert done.returncode == 0, done.stderr
    postfix.await_messages(count, 60)
    assert daemon.metric("postern_backend_attempts_total", destination="relay", result="ok") == \
        daemon.metric("postern_connections_total", listener="smtp")


@test(limit=60, root=True, needs=("dovecot",))
def test_dovecot_lmtp_takes_mail_and_logs_the_introduced_address(t):
    port = t.port()
    dovecot = Dovecot(t, port)
    conf = front(t, port, "lmtp")
    conf["listener.lmtp"].update(proxy_protocol="optional", proxy_trusted=["127.0.0.1"])
    daemon = t.postern(conf)
    for address, header, source in (("127.0.0.57", b"", "127.0.0.57"), ("203.0.113.9", wire.v1(), "127.0.0.1"),
                                    ("2001:db8::9", wire.v2("2001:db8::9", "2001:db8::1"), "127.0.0.1")):
        client = IntroducedLmtp("127.0.0.1", daemon.port("lmtp"), local_hostname="client.test",
                                source_address=(source, 0), header=header)
        client.sendmail("a@sender.test", ["b"], message(f"from {address}"))
        client.quit()
        dovecot.await_log(f"Connect from {address}")
    t.await_that(lambda: len(dovecot.messages("b")) == 3, 15, 0.05, "delivery")
    assert "Connect from 127.0.0.1" not in dovecot.log()
    assert {r["reason"] for r in daemon.closings()} <= {"eof"}


class IntroducedLmtp(smtplib.LMTP):
    def __init__(self, *args, header=b"", **more):
        self.header = header
        super().__init__(*args, **more)

    def _get_socket(self, *args):
        sock = super()._get_socket(*args)
        sock.sendall(self.header)
        return sock

    def connect(self, host="localhost", port=0, source_address=None):
        return smtplib.SMTP.connect(self, host, port, source_address)


@test(limit=60, needs=("haproxy",))
def test_haproxy_in_front_introduces_its_clients_in_every_way_it_knows(t):
    backend, pair = t.backend().serve(wire.greeter()), t.pki.leaf(NAME)
    conf = t.base(backend)
    conf["listener.smtp"].update(proxy_protocol="required", proxy_trusted=["127.0.0.0/8"])
    daemon = t.postern(conf)
    pem = t.file("front.pem", open(pair.chain, encoding="ascii").read() + open(pair.key, encoding="ascii").read())
    options = {"v1": "send-proxy", "v2": "send-proxy-v2", "ssl": "send-proxy-v2-ssl", "cn": "send-proxy-v2-ssl-cn",
               "all": "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id"}
    ports = {name: t.port() for name in options}
    sections = "".join(f"""
listen {name}
  bind 127.0.0.1:{port}{'' if name.startswith('v') else f' ssl crt {pem} ca-file {t.pki.ca} verify optional alpn smtp'}
  unique-id-format id-%pid-%rt
  server postern 127.0.0.1:{daemon.port('smtp')} {options[name]}
""" for name, port in ports.items())
    HaProxy(t, sections, ports.values())
    mine = t.pki.leaf("client.test", key=1)
    for number, name in enumerate(options, 1):
        stream = wire.connect(ports[name], source=f"127.0.0.{70 + number}")
        local = stream.local
        if not name.startswith("v"):
            stream = wire.TlsStream(stream, t.pki.client(alpn=["smtp"], pair=mine), server_name=NAME).handshake()
        stream.expect("220 relay\r\n").send("ping").expect("ping")
        stream.finish()
        stream.expect_eof()
        stream.close()
        record = daemon.closing(number)
        assert record["peer"] == f"{local[0]}:{local[1]}" and record["via"].startswith("127.0.0.1:"), (name, record)
        assert record["proxy_version"] == ("1" if name == "v1" else "2"), (name, record)
        text = str(record)
        if not name.startswith("v"):
            assert "TLSv1.3" in text, (name, record)
        if name in ("cn", "all"):
            assert "client.test" in text, (name, record)
        if name == "all":
            assert record["proxy_authority"] == NAME and record["proxy_alpn"] == "smtp", record
            assert re.fullmatch(r"id-\d+-\d+", record["proxy_unique_id"]), record


@test(limit=60, needs=("haproxy",))
def test_health_checks_of_haproxy_find_postern_up_and_then_down(t):
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend)
    conf["listener.smtp"].update(proxy_protocol="required", proxy_trusted=["127.0.0.0/8"])
    daemon = t.postern(conf)
    port = t.port()
    peer = HaProxy(t, f"""
backend mail
  option tcp-check
  tcp-check connect send-proxy
  tcp-check expect string 220
  server postern 127.0.0.1:{daemon.port('smtp')} send-proxy-v2 check inter 200ms fall 2 rise 1
listen entry
  bind 127.0.0.1:{port}
  use-server postern if TRUE
  server postern 127.0.0.1:{daemon.port('smtp')} send-proxy-v2
""", [port])

    def status():
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(peer.socket)
            control.sendall(b"show stat\n")
            text = b"".join(iter(lambda: control.recv(65536), b"")).decode()
        return next(line.split(",")[17] for line in text.splitlines() if line.startswith("mail,postern,"))

    t.await_that(lambda: status() == "UP" and len(daemon.closings()) >= 3, 10, 0.1, "the state UP")
    assert {r["peer"].rsplit(":", 1)[0] for r in daemon.closings()} == {"127.0.0.1"}
    daemon.stop()
    t.await_that(lambda: status() == "DOWN", 10, 0.1, "the state DOWN")


@test(limit=60, needs=("haproxy",))
def test_haproxy_as_a_backend_accepts_our_headers_with_tlvs_before_tls(t):
    final, port, pair = t.backend().serve(wire.greeter()), t.port(), t.pki.leaf("backend.test", key=1)
    pem = t.file("back.pem", open(pair.chain, encoding="ascii").read() + open(pair.key, encoding="ascii").read())
    peer = HaProxy(t, f"""
frontend in
  bind 127.0.0.1:{port} accept-proxy ssl crt {pem}
  log-format "src=%ci:%cp dst=%[dst]:%[dst_port] authority=%[fc_pp_authority] unique=%[fc_pp_unique_id]"
  default_backend out
backend out
  server final 127.0.0.1:{final.port}
""", [port])
    conf = t.base(port, tls=True)
    conf["destination.relay"].update(forwarding="proxy", tls_server_name="backend.test",
                                     proxy_tlvs=["ssl", "authority", "alpn", "unique_id", "crc32c"])
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"), source="127.0.0.88")
    local = client.local
    client = wire.TlsStream(client, t.pki.client(alpn=["smtp"]), server_name=NAME).handshake()
    client.expect("220 relay\r\n").send("ping").expect("ping")
    client.finish()
    client.expect_eof()
    client.close()
    session = daemon.closing()["session"]
    peer.await_log(f"src={local[0]}:{local[1]} dst=127.0.0.1:{daemon.port('smtp')} authority={NAME} unique={session}")


@test(limit=60)
def test_aiosmtpd_reads_our_tlvs(t):
    port = t.port()
    peer = AioSmtpd(t, port)
    conf = t.base(port, tls=True)
    conf["destination.relay"].update(forwarding="proxy", proxy_tlvs=["ssl", "authority", "alpn", "unique_id", "crc32c"])
    daemon = t.postern(conf)
    context = ssl.create_default_context(cafile=t.pki.ca)
    context.set_alpn_protocols(["smtp"])
    with socket.create_connection(("127.0.0.1", daemon.port("smtp")), 10, ("127.0.0.44", 0)) as raw:
        address = raw.getsockname()
        client = smtplib.SMTP(local_hostname="client.test", timeout=t.scaled(10))
        client.sock = context.wrap_socket(raw, server_hostname=NAME)
        assert client.getreply()[0] == 220
        client.sendmail("a@sender.test", ["b@example.test"], message("with TLVs"))
        client.quit()
    peer.await_log('"data"')
    facts = json.loads(next(line for line in peer.log().splitlines() if '"valid"' in line))
    assert facts["valid"] and facts["version"] == 2, facts
    assert (facts["source"], facts["source_port"]) == address and facts["destination_port"] == daemon.port("smtp"), facts
    tlv = facts["tlv"]
    assert tlv["AUTHORITY"] == NAME and tlv["ALPN"] == "smtp" and tlv["SSL_VERSION"] == "TLSv1.3", tlv
    assert tlv["UNIQUE_ID"] == daemon.closing()["session"], tlv


@test(limit=60, needs=("swaks", "smtp-sink"), root=True)
def test_swaks_delivers_plainly_and_with_a_header_of_its_own(t):
    port = t.port()
    sink = SmtpSink(t, port)
    conf = t.base(port)
    conf["listener.smtp"].update(proxy_protocol="optional", proxy_trusted=["127.0.0.0/8"])
    daemon = t.postern(conf)
    runs = [[], ["--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", "203.0.113.5", "--proxy-source-port", "4711",
                 "--proxy-dest", "198.51.100.7", "--proxy-dest-port", "25"],
            ["--proxy-version", "2", "--proxy-family", "AF_INET", "--proxy-protocol", "STREAM", "--proxy-command", "PROXY",
             "--proxy-source", "203.0.113.6", "--proxy-source-port", "4712", "--proxy-dest", "198.51.100.7",
             "--proxy-dest-port", "25"]]
    for number, more in enumerate(runs, 1):
        done = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(daemon.port("smtp")), "--from", "a@sender.test",
                               "--to", "b@example.test", "--helo", "client.test", "--timeout", "10", *more],
                              capture_output=True, text=True, timeout=t.scaled(30), check=False)
        assert done.returncode == 0 and "<-  221" in done.stdout, done.stdout + done.stderr
        t.await_that(lambda n=number: sink.count() == n, about="delivery")
    daemon.closing(3)
    peers = [r["peer"].rsplit(":", 1)[0] for r in daemon.closings()]
    assert peers == ["127.0.0.1", "203.0.113.5", "203.0.113.6"], peers


@test(limit=60, root=True, needs=("postfix",))
def test_postfix_that_restarts_meanwhile_delays_clients_and_loses_nothing(t):
    port = t.port()
    postfix = Postfix(t, {port: HAPROXY})
    conf = front(t, port)
    conf["server.host_down_threshold"] = 0
    daemon = t.postern(conf)

    def send(subject):
        with smtplib.SMTP("127.0.0.1", daemon.port("smtp"), local_hostname="client.test", timeout=t.scaled(10)) as client:
            client.sendmail("a@sender.test", ["b@example.test"], message(subject))

    send("before")
    postfix.await_messages(1)
    postfix.stop()
    t.await_that(lambda: not listens(port), about="the end of Postfix")
    try:
        send("into the void")
    except (smtplib.SMTPServerDisconnected, ConnectionError):
        pass
    else:
        raise AssertionError("nobody could have taken this message")
    postfix.process = t.spawn(program("postfix"), "-c", postfix.etc, "start-fg", name="postfix-again")
    t.await_that(lambda: listens(port), 10, about="Postfix again")
    time.sleep(0.2)
    send("after")
    subjects = {re.search(r"Subject: (.*)", m)[1].strip() for m in postfix.await_messages(2)}
    assert subjects == {"before", "after"}, subjects
