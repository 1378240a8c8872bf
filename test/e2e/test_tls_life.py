# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes while TLS is served: certificates that rotate, sessions that resume, tickets that are shared."""
import os
import ssl
import subprocess
import time

import wire
from harness import test
from test_tls_client import NAME, TLS12, TLS13, check_names, front, negotiated, presented, s_client, shows


def swap(pair, target):
    """Puts another pair in the place of `target`, each file by rename, as ACME clients do."""
    for source, place in ((pair.chain, target.chain), (pair.key, target.key)):
        with open(source, "rb") as f:
            data = f.read()
        with open(place + ".new", "wb") as f:
            f.write(data)
        os.rename(place + ".new", place)


def becomes(t, daemon, pair, name=NAME, timeout=5):
    t.await_that(lambda: presented(t, daemon.port("smtp"), name) == pair.der, timeout, 0.05, "the new certificate")


@test(quick=True)
def test_a_replaced_pair_is_served_without_restart_and_without_losing_a_session(t):
    old, new = t.pki.leaf(NAME), t.pki.leaf(NAME, key=1)
    served = t.pki.leaf(NAME)
    swap(old, served)
    daemon = front(t, ("main", served))
    live = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME).expect("220 relay\r\n")
    check_names(t, daemon, {NAME: old})
    swap(new, served)
    becomes(t, daemon, new)
    live.send("still here").expect("still here")
    assert daemon.metric("postern_reloads_total", result="ok") >= 1


@test(quick=True)
def test_the_kubernetes_way_of_swapping_a_directory_link(t):
    old, new = t.pki.leaf(NAME), t.pki.leaf(NAME, key=1)
    mount = t.folder_for("mount")

    def publish(version, pair):
        os.mkdir(f"{mount}/..{version}")
        for source, name in ((pair.chain, "tls.crt"), (pair.key, "tls.key")):
            with open(source, "rb") as f, open(f"{mount}/..{version}/{name}", "wb") as out:
                out.write(f.read())
        os.symlink(f"..{version}", f"{mount}/..data_tmp")
        os.rename(f"{mount}/..data_tmp", f"{mount}/..data")

    publish("one", old)
    for name in ("tls.crt", "tls.key"):
        os.symlink(f"..data/{name}", f"{mount}/{name}")
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    conf["tls.certificate.main"] = {"cert": f"{mount}/tls.crt", "key": f"{mount}/tls.key"}
    daemon = t.postern(conf)
    live = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME).expect("220 relay\r\n")
    for version, pair in (("two", new), ("three", old), ("four", new)):
        publish(version, pair)
        becomes(t, daemon, pair)
        live.send("x").expect("x")


@test(quick=True, limit=30)
def test_a_bad_pair_is_reported_and_the_last_good_one_stays(t):
    good, other = t.pki.leaf(NAME), t.pki.leaf(NAME, key=1)
    served = t.pki.leaf(NAME)
    swap(good, served)
    daemon = front(t, ("main", served))

    def replace(path, content):
        with open(path + ".new", "wb") as f:
            f.write(content)
        os.rename(path + ".new", path)

    with open(other.chain, "rb") as f:
        foreign = f.read()
    with open(t.pki.leaf(NAME, key=2, expired=True).chain, "rb") as f:
        expired = f.read()
    for what, content in (("no match", foreign), ("no certificate", b"hello\n"), ("empty", b""), ("expired", expired)):
        seen = len(daemon.records())
        replace(served.chain, content)
        t.await_that(lambda: [r for r in daemon.records()[seen:] if r["level"] in ("warn", "error")
                              and served.chain in str(r) or "tls.certificate.main" in str(r)],
                     about=f"a record about {what}")
        check_names(t, daemon, {NAME: good})
        assert daemon.http("/readyz")[0] == 200, what
    swap(other, served)
    becomes(t, daemon, other)


@test()
def test_an_expired_certificate_at_start_is_a_warning_and_not_ready(t):
    daemon = front(t, ("main", t.pki.leaf(NAME, expired=True)))
    status, body, _ = daemon.http("/readyz")
    assert status == 503, (status, body)
    assert daemon.http("/healthz")[0] == 200
    assert [r for r in daemon.records() if r["level"] == "warn" and "expired" in str(r)], daemon.records()
    assert negotiated(s_client(daemon.port("smtp"))), "it is served all the same"


def ticket(t, command, store):
    """Runs s_client until it has written a session: TLS 1.3 tickets come after the handshake."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            t.await_that(lambda: os.path.exists(store) and os.path.getsize(store), about="a ticket")
            time.sleep(0.1)
        finally:
            process.stdin.close()
            process.wait(10)


def resume(t, first, second, version, first_name=NAME, second_name=NAME):
    """openssl s_client with a session from `first` toward `second`: the second output."""
    store = f"{t.folder}/session-{time.monotonic()}.pem"
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{first}", version, "-servername", first_name, "-sess_out", store]
    ticket(t, command, store)
    return s_client(second, version, "-sess_in", store, name=second_name)


def reused(output):
    return "Reused, TLS" in output


@test(quick=True, limit=30)
def test_sessions_resume_by_ticket_in_both_versions(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    port = daemon.port("smtp")
    for version in ("-tls1_2", "-tls1_3"):
        assert reused(resume(t, port, port, version)), f"{version}: no resumption"
        daemon.reload()
        assert reused(resume(t, port, port, version)), f"{version}: no resumption after a reload"
    records = daemon.closings()
    assert [r for r in records if r.get("tls_resumed") == "true"], records


@test(quick=True, limit=30)
def test_a_session_of_one_name_is_not_resumed_under_another_certificate(t):
    a, b = t.pki.leaf("alpha.test"), t.pki.leaf("beta.test", key=1)
    daemon = front(t, ("a", a), ("b", b))
    port = daemon.port("smtp")
    for version in ("-tls1_2", "-tls1_3"):
        out = resume(t, port, port, version, "alpha.test", "beta.test")
        assert negotiated(out) and not reused(out), f"{version}: resumed under another name"
        assert shows(out, "beta.test"), f"{version}: the certificate of the other name"
        assert reused(resume(t, port, port, version, "alpha.test", "alpha.test")), version


@test(quick=True, limit=30)
def test_two_posterns_share_tickets_through_a_file(t):
    key_file = t.file("tickets", os.urandom(48).hex() + "\n", mode=0o600)
    pair = t.pki.leaf(NAME)
    settings = {"tls__tickets": {"file": key_file}}
    one, two, stranger = front(t, ("main", pair), **settings), front(t, ("main", pair), **settings), front(t, ("main", pair))
    for version in ("-tls1_2", "-tls1_3"):
        assert reused(resume(t, one.port("smtp"), two.port("smtp"), version)), f"{version}: not shared"
        out = resume(t, one.port("smtp"), stranger.port("smtp"), version)
        assert negotiated(out) and not reused(out), f"{version}: a stranger opened the ticket"


@test(limit=30)
def test_a_new_key_in_the_ticket_file_is_picked_up_and_the_old_one_still_opens(t):
    old, new = os.urandom(48).hex(), os.urandom(48).hex()
    key_file = t.file("tickets", old + "\n", mode=0o600)
    pair = t.pki.leaf(NAME)
    daemon = front(t, ("main", pair), tls__tickets={"file": key_file})
    port = daemon.port("smtp")
    store = f"{t.folder}/kept.pem"
    ticket(t, ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-servername", NAME, "-sess_out", store],
           store)
    before = daemon.metric("postern_reloads_total")
    t.file("tickets.new", f"{new}\n{old}\n", mode=0o600)
    os.rename(f"{t.folder}/tickets.new", key_file)
    t.await_that(lambda: daemon.metric("postern_reloads_total") > before, about="a reload for the ticket file")
    assert reused(s_client(port, "-tls1_3", "-sess_in", store)), "a ticket under the old key"
    other = front(t, ("main", pair), tls__tickets={"file": t.file("only-new", new + "\n", mode=0o600)})
    assert reused(resume(t, port, other.port("smtp"), "-tls1_3")), "new tickets are under the new key"


@test()
def test_tickets_can_be_turned_off(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)), tls__tickets={"enable": False})
    for version in (TLS12, TLS13):
        context = t.pki.client(maximum=version)
        stream = wire.tls_connect(daemon.port("smtp"), context, NAME).expect("220 relay\r\n")
        session = stream.tls.session
        assert session is None or not session.has_ticket, version


@test(quick=True)
def test_python_resumes_too_and_carries_bytes_over_a_resumed_session(t):
    daemon = front(t, ("main", t.pki.leaf(NAME)))
    for version in (TLS12, TLS13):
        context = t.pki.client(maximum=version)
        first = wire.tls_connect(daemon.port("smtp"), context, NAME).expect("220 relay\r\n")
        session = first.tls.session
        first.close()
        again = wire.tls_connect(daemon.port("smtp"), context, NAME, session=session).expect("220 relay\r\n")
        assert again.tls.session_reused, version
        again.send(b"z" * 100_000).expect(b"z" * 100_000)


@test(limit=60)
def test_rotation_under_load_fails_no_handshake(t):
    pairs = [t.pki.leaf(NAME, key=i) for i in range(3)]
    served = t.pki.leaf(NAME)
    swap(pairs[0], served)
    daemon = front(t, ("main", served))
    ders, context = set(), t.pki.client(verify=False)
    deadline = time.monotonic() + 4
    count, turn, swapped = 0, 0, time.monotonic()
    while time.monotonic() < deadline:
        count += 1
        if time.monotonic() - swapped > 0.8:
            swapped, turn = time.monotonic(), turn + 1
            swap(pairs[turn % 3], served)
        stream = wire.tls_connect(daemon.port("smtp"), context, NAME).expect("220 relay\r\n")
        ders.add(stream.tls.getpeercert(binary_form=True))
        stream.close()
    assert ders <= {p.der for p in pairs} and len(ders) >= 2, f"{len(ders)} certificates over {count} handshakes"


@test(limit=240, needs=("testssl",))
def test_testssl_finds_nothing_weak(t):
    daemon = front(t, ("ec", t.pki.leaf(NAME)), ("rsa", t.pki.leaf(NAME, kind="rsa")))
    out = f"{t.folder}/testssl.csv"
    done = subprocess.run(["testssl", "--quiet", "--warnings", "off", "--color", "0", "--fast", "--ip", "127.0.0.1", "-p", "-s", "-f",
                           "-H", "-I", "-T", "-BB", "-R", "-C", "-Z", "-W", "-O", "-A", "-L", "-F", "-J", "-D", "-4",
                           "--csvfile", out, f"{NAME}:{daemon.port('smtp')}"], capture_output=True, text=True,
                          timeout=t.scaled(220), check=False)
    with open(out, encoding="utf-8") as f:
        rows = [line.strip('"\n').split('","') for line in f][1:]
    found = {r[0]: (r[3], r[4]) for r in rows if len(r) > 4}
    assert found.get("TLS1_3", ("",))[0] == "OK" and "TLS1_1" in found, done.stdout[-3000:]
    bad = {k: v for k, v in found.items() if v[0] in ("LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN")}
    # What testssl says about the local openssl, not about Postern.
    bad = {k: v for k, v in bad.items() if k.split(" ")[0] not in ("engine_problem", "scanTime", "optimal_proto", "RC4")}
    assert not bad, bad


@test(limit=60, needs=("sslscan",))
def test_sslscan_sees_only_the_nine_suites(t):
    daemon = front(t, ("ec", t.pki.leaf(NAME)), ("rsa", t.pki.leaf(NAME, kind="rsa")))
    # Its TLS 1.3 probe sends random bytes as an X25519 key. wolfSSL refuses half of those, the ones with the bit
    # that RFC 7748 has receivers ignore and that no real key has set.
    for _ in range(12):
        text = subprocess.run(["sslscan", "--no-colour", f"--sni-name={NAME}", f"127.0.0.1:{daemon.port('smtp')}"],
                              capture_output=True, text=True, timeout=t.scaled(20), check=False).stdout
        if "TLSv1.3   enabled" in text:
            break
        time.sleep(1)  # its random bytes are those of the second
    suites = {line.split()[4] for line in text.splitlines() if line.startswith(("Preferred", "Accepted"))}
    allowed = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"} | {
        f"ECDHE-{k}-{r}" for k in ("ECDSA", "RSA") for r in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")}
    assert suites and suites <= allowed, suites - allowed
    for line in ("SSLv2     disabled", "SSLv3     disabled", "TLSv1.0   disabled", "TLSv1.1   disabled", "TLSv1.2   enabled",
                 "TLSv1.3   enabled", "Session renegotiation not supported"):
        assert line in text, f"{line!r} is not in\n{text}"
    assert "nsecure" not in text, text
