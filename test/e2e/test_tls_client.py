# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS toward clients as openssl(1) and Python see it: certificates by name, versions, suites, groups, order
(scenarios 223 to 233). Rotation and resumption are in test_tls_life.py."""
import re
import ssl
import subprocess

import wire
from harness import test

NAME = "mail.example.com"
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SUITES13 = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]
SUITES12 = [f"ECDHE-{key}-{rest}" for key in ("ECDSA", "RSA")
            for rest in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")]
GROUPS = {"X25519": "X25519", "P-256": "ECDH, prime256v1", "P-384": "ECDH, secp384r1"}


def s_client(port, *args, name=NAME, feed=b"", timeout=15):
    """openssl s_client to the end: its whole output."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *args]
    command += ["-servername", name] if name else ["-noservername"]
    done = subprocess.run(command, input=feed, capture_output=True, timeout=timeout, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def shows(output, name):
    """Whether that is the subject it saw; OpenSSL 3.0 and 3.5 print it differently."""
    return re.search(rf"\bCN ?= ?{re.escape(name)}$", output, re.M) is not None


def negotiated(output):
    """(protocol, suite) of a completed handshake, or None."""
    found = re.search(r"^New, (\S+), Cipher is (\S+)$|^Reused, (\S+), Cipher is (\S+)$", output, re.M)
    if not found or (found[2] or found[4]) == "(NONE)":
        return None
    return found[1] or found[3], found[2] or found[4]


def front(t, *certificates, **settings):
    """A daemon with implicit TLS on `smtp`, a greeting backend behind it, and these certificate tables."""
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    del conf["tls.certificate"]
    for name, pair, *more in certificates:
        conf[("tls", "certificate", name)] = {"cert": pair.chain, "key": pair.key, **(more[0] if more else {})}
    for path, value in settings.items():
        conf[path.replace("__", ".")] = value
    return t.postern(conf)


def presented(t, port, name):
    """The leaf a client with this server name is shown (DER)."""
    context = t.pki.client(verify=False)
    return wire.tls_connect(port, context, name).tls.getpeercert(binary_form=True)


def check_names(t, daemon, table, listener="smtp"):
    for name, pair in table.items():
        der = presented(t, daemon.port(listener), name)
        assert der == pair.der, f"{name!r} is shown another certificate"


@test(quick=True)
def test_scenario_223_certificates_are_chosen_by_name(t):
    a, w, d = t.pki.leaf("alpha.test"), t.pki.leaf("*.wild.test", key=1), t.pki.leaf("default.test", key=2)
    daemon = front(t, ("a", a), ("w", w), ("d", d, {"default": True}))
    check_names(t, daemon, {"alpha.test": a, "ALPHA.test": a, "host.alpha.test": a, "x.wild.test": w, "wild.test": w,
                            "a.b.alpha.test": d, "unknown.example": d, None: d})
    out = s_client(daemon.port("smtp"), "-showcerts", name="alpha.test.")
    assert shows(out, "alpha.test"), "one trailing dot is removed"


@test(quick=True)
def test_scenario_224_one_entry_with_two_names_serves_every_name(t):
    pair = t.pki.leaf("alpha.test", "beta.test")
    daemon = front(t, ("only", pair))
    check_names(t, daemon, {"alpha.test": pair, "beta.test": pair, "else.example": pair, None: pair})


@test(quick=True)
def test_scenario_225_without_a_match_a_self_signed_certificate_stays_the_same_across_reloads(t):
    a, b = t.pki.leaf("alpha.test"), t.pki.leaf("beta.test", key=1)
    daemon = front(t, ("a", a), ("b", b))
    ders = {presented(t, daemon.port("smtp"), name) for name in ("unknown.example", None, "other.example")}
    assert len(ders) == 1 and not ders & {a.der, b.der}
    daemon.reload()
    assert presented(t, daemon.port("smtp"), None) in ders, "a reload made another self-signed certificate"
    text = s_client(daemon.port("smtp"), name="unknown.example")
    assert shows(text, "localhost"), text[:500]
    check_names(t, daemon, {"alpha.test": a, "beta.test": b})
    bare = front(t)
    assert presented(t, bare.port("smtp"), None) not in (a.der, b.der), "no entry at all works, too"


@test(quick=True)
def test_scenario_226_subjects_override_the_names_inside(t):
    a, d = t.pki.leaf("alpha.test"), t.pki.leaf("default.test", key=1)
    daemon = front(t, ("a", a, {"subjects": ["renamed.test"]}), ("d", d, {"default": True}))
    check_names(t, daemon, {"renamed.test": a, "alpha.test": d})


@test()
def test_a_common_name_counts_only_without_alternative_names(t):
    old, d = t.pki.leaf("ignored", cn="old.test", san=False), t.pki.leaf("default.test", key=1)
    daemon = front(t, ("old", old), ("d", d, {"default": True}))
    check_names(t, daemon, {"old.test": old, "else.test": d})


@test(quick=True)
def test_ecdsa_and_rsa_stand_side_by_side_for_one_name(t):
    ec, rsa = t.pki.leaf(NAME), t.pki.leaf(NAME, kind="rsa")
    daemon = front(t, ("ec", ec), ("rsa", rsa))
    for suite, pair in (("ECDHE-RSA-AES128-GCM-SHA256", rsa), ("ECDHE-ECDSA-AES128-GCM-SHA256", ec)):
        context = t.pki.client(verify=False, maximum=TLS12, ciphers=suite)
        stream = wire.tls_connect(daemon.port("smtp"), context, NAME)
        assert stream.tls.getpeercert(binary_form=True) == pair.der, suite
    out = s_client(daemon.port("smtp"), "-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256")
    assert negotiated(out) and re.search("Peer signature type: (RSA-PSS|rsa_pss_rsae_sha256)", out), out[-1500:]
    out = s_client(daemon.port("smtp"), "-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256")
    assert negotiated(out) and re.search("Peer signature type: (ECDSA|ecdsa_secp256r1_sha256)", out), out[-1500:]


@test(quick=True)
def test_scenario_227_versions(t):
    pair = t.pki.leaf(NAME)
    for settings, served in (({}, {"-tls1_2", "-tls1_3"}), ({"tls__protocols": {"min_version": "1.3"}}, {"-tls1_3"})):
        daemon = front(t, ("main", pair), **settings)
        for version in ("-tls1_1", "-tls1", "-tls1_2", "-tls1_3"):
            out = s_client(daemon.port("smtp"), version, "-cipher", "ALL:@SECLEVEL=0")
            assert bool(negotiated(out)) == (version in served), f"{version} with {settings}: {out[-800:]}"
        daemon.stop()


@test(quick=True, limit=60)
def test_scenario_228_each_suite_and_each_group_alone_and_nothing_weak(t):
    daemon = front(t, ("ec", t.pki.leaf(NAME)), ("rsa", t.pki.leaf(NAME, kind="rsa")))
    port = daemon.port("smtp")
    for suite in SUITES13:
        got = negotiated(s_client(port, "-tls1_3", "-ciphersuites", suite))
        assert got == ("TLSv1.3", suite), (suite, got)
    for suite in SUITES12:
        got = negotiated(s_client(port, "-tls1_2", "-cipher", suite))
        assert got and got[1] == suite, (suite, got)
    for group, label in GROUPS.items():
        for version in ("-tls1_2", "-tls1_3"):
            out = s_client(port, version, "-groups", group)
            assert negotiated(out) and re.search(f"(Server|Peer) Temp Key: {label}", out), (group, version, out[-600:])
    for weak in ("AES128-SHA", "AES256-SHA256", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384",
                 "DHE-RSA-AES256-GCM-SHA384", "aNULL", "NULL", "ECDHE-RSA-AES256-SHA"):
        out = s_client(port, "-tls1_2", "-cipher", weak + ":@SECLEVEL=0")
        assert not negotiated(out), f"{weak} was negotiated"
    assert not negotiated(s_client(port, "-tls1_3", "-groups", "P-521")), "a group nobody configured"
    assert not negotiated(s_client(port, "-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"))


@test(quick=True)
def test_scenario_229_a_disabled_suite_is_passed_over_in_any_spelling(t):
    for spelling in ("tls13-aes-256-gcm-sha384", "TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384",
                     "TLS13-AES256-GCM-SHA384"):
        daemon = front(t, ("main", t.pki.leaf(NAME)), tls__protocols={"disable_cipher_suites": [spelling]})
        got = negotiated(s_client(daemon.port("smtp"), "-ciphersuites", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"))
        assert got == ("TLSv1.3", "TLS_AES_128_GCM_SHA256"), (spelling, got)
        assert not negotiated(s_client(daemon.port("smtp"), "-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"))
        daemon.stop()


@test(quick=True)
def test_scenario_230_whose_order_counts(t):
    pair = t.pki.leaf(NAME)
    offers = [("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", "-tls1_3",
               "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384"),
              ("-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
               "-tls1_2", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384")]
    for ignore in (False, True):
        daemon = front(t, ("main", pair), tls__protocols={"ignore_client_order": ignore})
        for option, offer, version, by_client, by_server in offers:
            got = negotiated(s_client(daemon.port("smtp"), version, option, offer))
            assert got and got[1] == (by_server if ignore else by_client), (ignore, offer, got)
        daemon.stop()
    daemon = front(t, ("main", pair), server__tls={
        "ignore_client_order": True, "ciphers": ["TLS13_CHACHA20_POLY1305_SHA256", "TLS13_AES_128_GCM_SHA256"]})
    got = negotiated(s_client(daemon.port("smtp"), "-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"))
    assert got == ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"), got
    assert not negotiated(s_client(daemon.port("smtp"), "-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"))


@test(quick=True)
def test_scenario_233_listeners_have_their_own_options(t):
    a, b = t.pki.leaf("a.test"), t.pki.leaf("b.test", key=1)
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, backend, tls=True)
    conf["tls.certificate"] = {"a": {"cert": a.chain, "key": a.key, "default": True}, "b": {"cert": b.chain, "key": b.key}}
    conf["listener.lmtp.tls_options"] = {"protocols": ["TLSv1.3"], "groups": ["SECP384R1"],
                                         "sni": [{"subject": "one.test", "certificate": "b"},
                                                 {"subject": "*.two.test", "certificate": "b"}]}
    daemon = t.postern(conf)
    smtp, lmtp = daemon.port("smtp"), daemon.port("lmtp")
    assert negotiated(s_client(smtp, "-tls1_2")) and negotiated(s_client(smtp, "-tls1_3"))
    assert not negotiated(s_client(lmtp, "-tls1_2")) and negotiated(s_client(lmtp, "-tls1_3"))
    assert not negotiated(s_client(lmtp, "-groups", "X25519")) and negotiated(s_client(smtp, "-groups", "X25519"))
    for name, here, there in (("one.test", b, a), ("x.two.test", b, a), ("b.test", b, b), ("a.test", a, a), (None, a, a)):
        assert presented(t, lmtp, name) == here.der, name
        assert presented(t, smtp, name) == there.der, name


@test(quick=True)
def test_tls_as_a_table_and_the_certificate_key_of_a_listener(t):
    a, b = t.pki.leaf("a.test"), t.pki.leaf("b.test", key=1)
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    conf["tls.certificate"] = {"a": {"cert": f"file://{a.chain}", "key": f"file://{a.key}", "default": True},
                               "b": {"cert": b.chain, "private_key": b.key}}
    conf["listener.smtp.tls"] = {"enable": True, "implicit": True, "certificate": "b", "timeout": "5s"}
    daemon = t.postern(conf)
    assert presented(t, daemon.port("smtp"), None) == b.der
    assert presented(t, daemon.port("smtp"), "unknown.test") == b.der
    assert presented(t, daemon.port("smtp"), "a.test") == a.der


@test(quick=True)
def test_inline_pem_is_a_certificate_too(t):
    pair = t.pki.leaf(NAME)
    with open(pair.chain, encoding="ascii") as chain, open(pair.key, encoding="ascii") as key:
        inline = {"cert": chain.read(), "key": "\n  " + key.read()}
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    conf["tls.certificate"] = {"main": inline}
    daemon = t.postern(conf)
    check_names(t, daemon, {NAME: pair})
    with open(pair.key, encoding="ascii") as key:
        secret = key.read().splitlines()[1]
    assert secret not in daemon.stdout() + daemon.stderr(), "key material in the log"
