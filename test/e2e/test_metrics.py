# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus sees is exactly what was done: counters, probes, and a real Prometheus that scrapes them."""
import json
import re
import signal
import ssl
import subprocess
import urllib.parse
import urllib.request

import wire
from harness import program, test

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
NAME = "mail.example.com"


def session(daemon, backend, up=b"12345", down=b"123", context=None, **more):
    """One bridged session, of that many bytes each way, that ends in order."""
    done = len(daemon.closings())
    port = daemon.port("smtp")
    client = wire.tls_connect(port, context, NAME, **more) if context else wire.connect(port)
    stream = backend.accept()
    client.send(up)
    stream.expect(up).send(down)
    client.expect(down).finish()
    stream.expect_eof().finish()
    client.expect_eof()
    last = client.tls.session if context else None
    client.close(), stream.close()
    daemon.closing(done + 1)
    return last


@test(quick=True)
def test_connections_sessions_bytes_and_attempts_count_what_was_done(t):
    backend = t.backend()
    daemon = t.postern(t.base(backend))
    assert daemon.metric("postern_connections_total", listener="smtp", protocol="smtp") == 0
    for i in range(5):
        session(daemon, backend, b"u" * (i + 1), b"d" * 10 * (i + 1))
    open_one = wire.connect(daemon.port("smtp"))
    backend.accept()
    daemon.await_metric("postern_sessions_active", 1, destination="relay", protocol="smtp")
    for name, value, labels in (
            ("postern_connections_total", 6, {"listener": "smtp", "protocol": "smtp"}),
            ("postern_connections_active", 1, {"listener": "smtp", "protocol": "smtp"}),
            ("postern_connections_rejected_total", 0, {"listener": "smtp"}),
            ("postern_sessions_total", 5, {"destination": "relay", "protocol": "smtp", "reason": "eof"}),
            ("postern_sessions_total", 5, {}),
            ("postern_session_seconds_count", 5, {"protocol": "smtp"}),
            ("postern_relayed_bytes_total", 15, {"protocol": "smtp", "direction": "to_backend"}),
            ("postern_relayed_bytes_total", 150, {"protocol": "smtp", "direction": "to_client"}),
            ("postern_backend_attempts_total", 6, {"destination": "relay", "protocol": "smtp", "result": "ok"}),
            ("postern_backend_attempts_total", 6, {}),
            ("postern_backend_connect_seconds_count", 6, {"destination": "relay"}),
            ("postern_tls_handshakes_total", 0, {}),
            ("postern_destination_down", 0, {"destination": "relay"})):
        assert (got := daemon.metric(name, **labels)) == value, f"{name}{labels}: {got}, not {value}"
    open_one.close()
    daemon.await_metric("postern_connections_active", 0)
    daemon.await_metric("postern_sessions_active", 0)


@test(quick=True)
def test_handshakes_groups_and_resumptions_are_counted_by_what_was_agreed(t):
    backend = t.backend()
    conf = t.base(backend, tls=True)
    conf["server.threads"] = 1
    daemon = t.postern(conf)

    def seen():
        return [daemon.metric("postern_tls_handshakes_total", side="client", version="1.2", result="ok"),
                daemon.metric("postern_tls_handshakes_total", side="client", version="1.3", result="ok"),
                daemon.metric("postern_tls_resumptions_total", side="client"),
                daemon.metric("postern_tls_groups_total", side="client", group="SECP384R1")]

    assert seen() == [0, 0, 0, 0]
    for _ in range(2):
        session(daemon, backend, context=t.pki.client(minimum=TLS13))
    assert seen() == [0, 2, 0, 0], seen()
    context = t.pki.client(maximum=TLS12)
    ticket = session(daemon, backend, context=context)
    assert seen() == [1, 2, 0, 0], seen()
    session(daemon, backend, context=context, session=ticket)
    assert seen() == [2, 2, 1, 0], seen()
    context = t.pki.client(minimum=TLS13)
    context.set_ecdh_curve("secp384r1")
    ticket = session(daemon, backend, context=context)
    assert seen() == [2, 3, 1, 1], seen()
    session(daemon, backend, context=context, session=ticket)
    assert seen()[:3] == [2, 4, 2], seen()
    assert daemon.metric("postern_tls_handshakes_total", side="backend") == 0


@test(quick=True)
def test_backend_handshakes_are_counted_on_their_own_side(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["destination.relay.tls_server_name"] = "backend.test"
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"))
    stream = backend.accept_tls(t.pki.server(t.pki.leaf("backend.test")))
    stream.send("220\r\n")
    client.expect("220\r\n")
    assert daemon.metric("postern_tls_handshakes_total", side="backend", version="1.3", result="ok") == 1
    assert daemon.metric("postern_tls_handshakes_total", side="client") == 0


@test(quick=True)
def test_each_rejection_is_counted_under_its_reason(t):
    backend = t.backend()
    conf = t.base(backend, tls=True)
    conf["listener.smtp"].update(max_connections=1, preauth_timeout="1s", proxy_protocol="required",
                                 proxy_trusted=["127.0.0.0/8"])
    daemon = t.postern(conf)
    counted = {"proxy_header": 0, "tls": 0, "timeout": 0, "limit": 0}

    def check(reason):
        counted[reason] += 1
        t.await_that(lambda: {r: daemon.metric("postern_connections_rejected_total", listener="smtp", reason=r)
                              for r in counted} == counted, about=f"the count of {reason}")
        daemon.await_metric("postern_connections_active", 0)

    port = daemon.port("smtp")
    wire.connect(port).send("NO HEADER AT ALL\r\n").expect_gone()
    check("proxy_header")
    client = wire.connect(port).send(wire.CLASSIC + b"EHLO this is not TLS\r\n")
    try:
        client.rest()
    except wire.Reset:
        pass
    client.close()
    check("tls")
    wire.connect(port).expect_gone(t.scaled(6))
    check("timeout")
    first = wire.tls_connect(port, t.pki.client(), NAME, before=wire.CLASSIC)
    silent = backend.accept()  # it has to end as well: a client that left nothing unread may have closed its half only
    wire.connect(port).expect_gone()
    first.close()
    silent.close()
    check("limit")


@test(quick=True)
def test_failed_attempts_and_a_destination_that_is_down_are_visible(t):
    conf = t.base(t.port())
    conf["server"].update(backend_connect_retries=0, host_down_threshold=2, host_down_min_clients=0,
                          host_down_cooldown="60s")
    daemon = t.postern(conf)
    for i in range(3):
        wire.connect(daemon.port("smtp")).expect_gone()
        daemon.closing(i + 1)
        daemon.await_metric("postern_destination_down", 1 if i else 0, destination="relay")
    assert daemon.metric("postern_destination_consecutive_failures", destination="relay") == 2
    assert daemon.metric("postern_backend_attempts_total", destination="relay", result="connect") == 2
    assert daemon.metric("postern_backend_attempts_total", destination="relay", result="ok") == 0
    assert daemon.metric("postern_connections_total", listener="smtp") == 3


@test(quick=True)
def test_a_failure_after_the_connection_counts_as_later(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["server.backend_connect_retries"] = 0
    conf["destination.relay.protocol.smtp.tls"] = "implicit"
    conf["destination.relay.tls_server_name"] = "backend.test"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"))
    backend.accept().send("220 not TLS\r\n")
    client.expect_gone()
    daemon.closing()
    assert daemon.metric("postern_backend_attempts_total", destination="relay", result="later") == 1
    assert daemon.metric("postern_tls_handshakes_total", side="backend", result="ok") == 0


@test(quick=True)
def test_the_probes_answer_their_paths_and_methods(t):
    daemon = t.postern(t.base(t.port()))
    for path, method, status, body in (("/healthz", "GET", 200, "ok\n"), ("/readyz", "GET", 200, "ready\n"),
                                       ("/healthz", "HEAD", 200, ""), ("/metrics", "HEAD", 200, ""),
                                       ("/", "GET", 200, None), ("/", "POST", 405, None), ("/metricsx", "GET", 404, "not found\n"),
                                       ("/healthz", "POST", 405, None), ("/metrics", "DELETE", 405, None)):
        got = daemon.http(path, method)
        assert got[0] == status and (body is None or got[1] == body), (path, method, got)
    headers = daemon.http("/metrics")[2]
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4"), headers
    whole, head = daemon.http("/healthz")[2], daemon.http("/healthz", "HEAD")[2]
    assert head["Content-Length"] == whole["Content-Length"] == "3", (head, whole)
    raw = wire.connect(int(daemon.conf["metrics.bind"].rsplit(":", 1)[1]))
    raw.send("HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = raw.rest()
    assert answer.endswith(b"\r\n\r\n") and b"ok" not in answer.split(b"\r\n", 1)[1].lower(), answer


@test(quick=True)
def test_while_draining_it_is_healthy_but_not_ready(t):
    backend = t.backend()
    conf = t.base(backend)
    conf["server.shutdown_grace"] = "10s"
    daemon = t.postern(conf)
    client = wire.connect(daemon.port("smtp"))
    stream = backend.accept()
    daemon.signal(signal.SIGTERM)
    t.await_that(lambda: daemon.http("/readyz")[0] == 503, about="not being ready")
    assert daemon.http("/readyz")[1] == "draining\n"
    assert daemon.http("/healthz")[:2] == (200, "ok\n")
    url = f"http://{conf['metrics.bind']}"
    assert t.command("healthcheck", url + "/healthz")[0] == 0
    code, _, err = t.command("healthcheck", url + "/readyz")
    assert code == 1 and "503" in err, (code, err)
    client.finish()
    stream.expect_eof().finish()
    client.expect_eof()
    daemon.wait_exit()


@test(quick=True)
def test_healthcheck_says_by_its_status_whether_a_postern_serves(t):
    daemon = t.postern(t.base(t.port()))
    url = f"http://{daemon.conf['metrics.bind']}"
    for arguments, env, status in (([url + "/healthz"], {}, 0), ([url], {}, 0), ([url + "/nothing"], {}, 1),
                                   ([f"http://127.0.0.1:{t.port()}/healthz"], {}, 1),
                                   (["ftp://127.0.0.1/healthz"], {}, 1), ([], {"PROXY_CONFIG": daemon.path}, 0)):
        code, _, err = t.command("healthcheck", *arguments, env=env)
        assert code == status, (arguments, env, code, err)
        assert bool(err) == bool(status), "a reason is given for every failure, and only for failures"
    assert t.command("healthcheck")[0] != 0, "there is nothing to ask"


@test(quick=True)
def test_no_label_carries_an_address_or_a_name_that_a_client_chose(t):
    backend = t.backend()
    conf = t.base(backend, tls=True)
    conf["listener.smtp"].update(proxy_protocol="required", proxy_trusted=["127.0.0.0/8"])
    daemon = t.postern(conf)
    tlvs = wire.tlv(wire.AUTHORITY, b"chosen-by-peer")
    for source in ("203.0.113.9", "2001:db8::9"):
        target = "198.51.100.7" if "." in source else "2001:db8::1"
        session(daemon, backend, context=t.pki.client(), before=wire.v2(source, target, tlvs=tlvs))
    text = daemon.http("/metrics")[1]
    values = set(re.findall(r'(?<==")((?:[^"\\]|\\.)*)(?=")', "\n".join(re.findall(r"\{.*\}", text))))
    assert "smtp" in values and "relay" in values, values
    for value in values:
        assert not re.search(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f]*:|chosen|203\.0\.113", value), value
    assert "chosen-by-peer" not in text and "203.0.113.9" not in text and "2001:db8" not in text


@test(quick=True, needs=("promtool",))
def test_promtool_finds_nothing_to_object_to(t):
    backend = t.backend()
    daemon = t.postern(t.base(backend, tls=True))
    session(daemon, backend, context=t.pki.client())
    wire.connect(daemon.port("smtp")).send("noise, not TLS\r\n").finish()
    daemon.closing(2)
    page = daemon.http("/metrics")[1]
    done = subprocess.run([program("promtool"), "check", "metrics"], input=page, text=True, capture_output=True,
                          timeout=t.scaled(10), check=False)
    assert done.returncode == 0 and not done.stderr.strip(), f"{done.returncode}: {done.stdout}{done.stderr}"


def query(port, expression):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return {json.dumps(r["metric"].get("listener")): float(r["value"][1])
                    for r in json.load(reply)["data"]["result"]}
    except OSError:
        return {}


@test(limit=40, needs=("prometheus",))
def test_a_real_prometheus_scrapes_it_and_answers_with_the_right_number(t):
    backend, port = t.backend(), t.port()
    daemon = t.postern(t.base(backend))
    for _ in range(7):
        session(daemon, backend)
    conf = t.file("prometheus.yml", "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n"
                  f"  - job_name: postern\n    static_configs:\n      - targets: ['{daemon.conf['metrics.bind']}']\n")
    process = t.spawn(program("prometheus"), f"--config.file={conf}", f"--storage.tsdb.path={t.folder}/tsdb",
                      f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn")
    t.await_port(port, timeout=20, process=process)
    t.await_that(lambda: query(port, "up").get("null") == 1, 15, 0.2, "a good scrape")
    assert query(port, "postern_connections_total") == {'"smtp"': 7}
    for _ in range(3):
        session(daemon, backend)
    t.await_that(lambda: query(port, "postern_connections_total") == {'"smtp"': 10}, 10, 0.2, "the next scrape")
    assert query(port, 'sum(postern_relayed_bytes_total{direction="to_backend"})') == {"null": 50}
    assert query(port, "count(postern_session_seconds_bucket)")["null"] > 3
