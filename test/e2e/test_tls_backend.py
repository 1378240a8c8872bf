# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS toward backends (scenarios 234 to 237): who is believed, who is refused, what is sent, what is resumed."""
import ssl
import threading
import warnings

import wire
from harness import test

TLS12 = ssl.TLSVersion.TLSv1_2


def secured(t, backend, **destination):
    conf = t.base(backend)
    conf["destination.relay"].update(destination)
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    return conf


def serve(backend, context, outcome, resumed=None):
    """Accepts one connection as a TLS server: "ok" or the error goes to `outcome`."""
    def run():
        try:
            stream = backend.accept_tls(context)
            if resumed is not None:
                resumed.append(stream.tls.session_reused)
            stream.send("220 secure\r\n")
            outcome.append("ok")
            while stream.recv():
                pass
            stream.finish()
        except (AssertionError, ssl.SSLError, OSError) as e:
            outcome.append(str(e))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def attempt(t, daemon, backend, context, works, name=""):
    """One session: greeted, or closed without a byte."""
    outcome = []
    thread = serve(backend, context, outcome)
    client = wire.connect(daemon.port("smtp")).send("SECRET\r\n")
    try:
        if works:
            client.expect("220 secure\r\n")
        else:
            client.expect_gone()
    except AssertionError as e:
        raise AssertionError(f"{name}: {e}; the backend saw {outcome}") from e
    client.close()
    thread.join(wire.PATIENCE)


@test(quick=True, limit=60)
def test_scenario_234_only_a_trusted_current_certificate_of_the_right_name_is_believed(t):
    cases = {
        "good": (t.pki.leaf("mx.backend.test"), True),
        "good wildcard": (t.pki.leaf("*.backend.test"), True),
        "second name": (t.pki.leaf("other.test", "mx.backend.test"), True),
        "RSA": (t.pki.leaf("mx.backend.test", kind="rsa"), True),
        "self-signed": (t.pki.leaf("mx.backend.test", issuer=None), False),
        "unknown issuer": (t.pki.leaf("mx.backend.test", issuer="other-ca"), False),
        "expired": (t.pki.leaf("mx.backend.test", expired=True), False),
        "wrong name": (t.pki.leaf("elsewhere.test"), False),
        "name only in the common name beside another": (t.pki.leaf("elsewhere.test", cn="mx.backend.test"), False),
        "wildcard too deep": (t.pki.leaf("*.mx.backend.test"), False),
    }
    for name, (pair, works) in cases.items():
        backend = t.backend()
        conf = secured(t, backend, tls_server_name="mx.backend.test")
        conf["server.backend_connect_retries"] = 0
        daemon = t.postern(conf)
        attempt(t, daemon, backend, t.pki.server(pair), works, name)
        if not works:
            backend.nothing(0.3)  # a refused certificate is not retried
            record = daemon.closing()
            assert record["reason"] == "backend_certificate", (name, record)
            assert daemon.metric("postern_tls_handshakes_total", side="backend", result="certificate") == 1, name
            assert daemon.metric("postern_backend_attempts_total", destination="relay", result="later") == 1, name
        backend.close()
        daemon.stop()


@test(quick=True)
def test_no_client_byte_goes_to_a_backend_that_is_not_believed(t):
    backend = t.backend()
    daemon = t.postern(secured(t, backend, tls_server_name="backend.test"))
    context = t.pki.server(t.pki.leaf("backend.test", issuer="other-ca"))
    client = wire.connect(daemon.port("smtp")).send("SECRET WORDS\r\n")
    stream = wire.TlsStream(backend.accept(), context, server_side=True)
    seen = b""
    try:
        stream.handshake()
        while data := stream.recv():
            seen += data
    except (ssl.SSLError, wire.Reset):
        pass
    assert seen == b"", seen
    client.expect_gone()


@test(quick=True, limit=60)
def test_scenario_235_a_pin_decides_alone(t):
    odd = t.pki.leaf("elsewhere.test", expired=True)
    colons = ":".join(odd.sha256[i:i + 2] for i in range(0, 64, 2))
    ca_sha = __import__("hashlib").sha256(ssl.PEM_cert_to_DER_cert(open(t.pki.ca, encoding="ascii").read())).hexdigest()
    other = t.pki.leaf("elsewhere.test", key=1)
    cases = [(odd.sha256, odd, True, {}), (odd.sha256.upper(), odd, True, {}), (f"  {colons} ", odd, True, {}),
             (odd.sha256, other, False, {}), (ca_sha, t.pki.leaf("backend.test"), False, {}),
             (odd.sha256, other, False, {"tls_allow_invalid_certs": True}),
             (odd.sha256, odd, True, {"tls_allow_invalid_certs": True})]
    for pin, pair, works, more in cases:
        backend = t.backend()
        conf = secured(t, backend, tls_server_name="backend.test", tls_pinned_cert_sha256=pin, **more)
        daemon = t.postern(conf)
        attempt(t, daemon, backend, t.pki.server(pair), works, f"{pin[:12]} {more}")
        backend.close()
        daemon.stop()


@test(quick=True)
def test_scenario_236_the_server_name_that_is_sent(t):
    for destination, want, names in (({"tls_server_name": "mail7.example.net"}, "mail7.example.net", ["mail7.example.net"]),
                                     ({"host": "localhost"}, "localhost", ["localhost"])):
        backend = t.backend()
        daemon = t.postern(secured(t, backend, **destination))
        context = t.pki.server(t.pki.leaf(*names))
        attempt(t, daemon, backend, context, True, want)
        assert context.names == [want], context.names
        daemon.stop()


@test(quick=True)
def test_invalid_certificates_can_be_allowed_with_a_warning(t):
    backend = t.backend()
    daemon = t.postern(secured(t, backend, tls_server_name="backend.test", tls_allow_invalid_certs=True))
    attempt(t, daemon, backend, t.pki.server(t.pki.leaf("elsewhere.test", issuer=None)), True)
    found = [r for r in daemon.records() if r["level"] == "warn" and "tls_allow_invalid_certs" in str(r)]
    assert len(found) == 1, found
    daemon.reload()
    t.await_that(lambda: len([r for r in daemon.records() if r["level"] == "warn"
                              and "tls_allow_invalid_certs" in str(r)]) == 2, about="the warning at a reload")


@test(quick=True)
def test_scenario_237_a_client_certificate_is_presented_on_demand(t):
    mine, server = t.pki.leaf("postern.test", key=1), t.pki.leaf("backend.test")
    for with_pair in (True, False):
        for version in (None, TLS12):
            backend = t.backend()
            conf = secured(t, backend, tls_server_name="backend.test")
            conf["server.backend_connect_retries"] = 0
            if with_pair:
                conf["destination.relay"].update(tls_client_cert=mine.chain, tls_client_key=mine.key)
            daemon = t.postern(conf)
            context = t.pki.server(server, demand=True, maximum=version)
            outcome = []
            thread = serve(backend, context, outcome)
            client = wire.connect(daemon.port("smtp"))
            if with_pair:
                client.expect("220 secure\r\n")
                client.finish().expect_eof()
            else:
                client.expect_gone()
            client.close()
            thread.join(wire.PATIENCE)
            assert (outcome == ["ok"]) == with_pair, outcome
            backend.close()
            daemon.stop()


@test(limit=30)
def test_a_replaced_client_certificate_is_used_without_restart(t):
    from test_tls_life import swap
    first, second, mine = t.pki.leaf("one.test"), t.pki.leaf("two.test", key=1), t.pki.leaf("one.test")
    swap(first, mine)
    backend = t.backend()
    conf = secured(t, backend, tls_server_name="backend.test", tls_client_cert=mine.chain, tls_client_key=mine.key)
    daemon = t.postern(conf)
    context = t.pki.server(t.pki.leaf("backend.test", key=2), demand=True)

    def shown():
        client = wire.connect(daemon.port("smtp"))
        stream = backend.accept_tls(context)
        der = stream.tls.getpeercert(binary_form=True)
        client.close(), stream.close()
        return der

    assert shown() == first.der
    swap(second, mine)
    t.await_that(lambda: shown() == second.der, every=0.1, about="the new client certificate")


@test(quick=True)
def test_the_backend_sees_a_resumed_session(t):
    for version in (None, TLS12):
        backend = t.backend()
        conf = secured(t, backend, tls_server_name="backend.test")
        conf["server.threads"] = 1
        daemon = t.postern(conf)
        context, resumed, outcome = t.pki.server(t.pki.leaf("backend.test"), maximum=version), [], []
        for _ in range(3):
            thread = serve(backend, context, outcome, resumed)
            client = wire.connect(daemon.port("smtp")).expect("220 secure\r\n")
            client.send("x").finish().expect_eof()
            client.close()
            thread.join(wire.PATIENCE)
        assert resumed == [False, True, True], (version, resumed, outcome)
        daemon.closing(3)
        assert daemon.closings()[-1].get("backend_tls_resumed") == "true", daemon.closings()[-1]
        daemon.stop()


@test()
def test_a_resumed_backend_session_is_not_believed_after_a_reload_to_another_pin(t):
    backend = t.backend()
    pair = t.pki.leaf("backend.test")
    conf = secured(t, backend, tls_server_name="backend.test")
    conf["server.threads"] = 1
    daemon = t.postern(conf)
    context, outcome = t.pki.server(pair), []
    thread = serve(backend, context, outcome)
    client = wire.connect(daemon.port("smtp")).expect("220 secure\r\n").finish().expect_eof()
    client.close()
    thread.join(wire.PATIENCE)
    conf["destination.relay.tls_pinned_cert_sha256"] = "00" * 32
    daemon.reload(conf)
    attempt(t, daemon, backend, context, False, "the pin of nobody")


@test(quick=True)
def test_versions_toward_a_backend_are_1_2_and_1_3_whatever_the_listeners_say(t):
    for version, works in ((TLS12, True), (None, True), (ssl.TLSVersion.TLSv1_1, False)):
        backend = t.backend()
        conf = secured(t, backend, tls_server_name="backend.test")
        conf["tls.protocols"] = {"min_version": "1.3"}
        conf["server.backend_connect_retries"] = 0
        daemon = t.postern(conf)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context = t.pki.server(t.pki.leaf("backend.test"), maximum=version, minimum=None if works else version,
                                   ciphers=None if works else "ALL:@SECLEVEL=0")
        attempt(t, daemon, backend, context, works, str(version))
        backend.close()
        daemon.stop()


@test(quick=True)
def test_plain_noise_and_silence_instead_of_backend_tls(t):
    for noise, reason in ((b"220 plain smtp\r\n", "backend_handshake"), (b"\x15\x03\x03\x00\x02\x02\x28", "backend_handshake"),
                          (None, "backend_timeout")):
        backend = t.backend()
        conf = secured(t, backend, tls_server_name="backend.test")
        conf["server"].update(backend_connect_retries=0, backend_timeout="1s")
        daemon = t.postern(conf)
        client = wire.connect(daemon.port("smtp"))
        stream = backend.accept()
        if noise:
            stream.send(noise)
        client.expect_eof(t.scaled(4))
        record = daemon.closing()
        assert record["reason"] in (reason, "backend_handshake"), record
        backend.close()
        daemon.stop()
